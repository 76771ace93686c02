/*
 * What SET_IRQS does to the interrupts, as a guest's driver and its virtual machine see it: the
 * device is made to raise them, and the client's eventfds are looked at.
 *
 * That something does not fire is asserted by what the kernel says of its eventfds, and by a
 * counter that is still 0 after the device has carried out a later request.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    NONE = VFIO_USER_IRQ_SET_DATA_NONE,
    BOOL = VFIO_USER_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_USER_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_USER_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_USER_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_USER_IRQ_SET_ACTION_TRIGGER,

    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
};

/* A session with the device's registers reachable. */
struct guest {
    struct vfuc *c;
    int event, resample;
};

static struct guest *guest_begin(const struct harness *h)
{
    struct guest *g = calloc(1, sizeof(*g));
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_non_null(g);
    g->c = harness_client(h);
    g->event = event_create();
    g->resample = event_create();
    assert_int_equal(vfuc_region_write(g->c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    return g;
}

static void guest_end(struct guest *g)
{
    vfuc_close(g->c);
    fd_close(&g->event);
    fd_close(&g->resample);
    free(g);
}

/* One vector; fd -1: none comes along. */
static int set(struct guest *g, uint32_t index, uint32_t flags, int fd)
{
    return vfuc_set_irqs(g->c, index, flags, 0, 1, fd < 0 ? NULL : &fd, NULL);
}

static void assign(struct guest *g, uint32_t index, uint32_t action, int fd)
{
    assert_int_equal(set(g, index, EVENTFD | action, fd), 0);
}

static void raise_irq(struct guest *g, uint32_t bits)
{
    assert_int_equal(edu_write(g->c, EDU_REG_IRQ_RAISE, bits), 0);
}

static void acknowledge(struct guest *g, uint32_t bits)
{
    assert_int_equal(edu_write(g->c, EDU_REG_IRQ_ACK, bits), 0);
}

static void assert_fires(int event)
{
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);
}

static void assert_quiet(struct guest *g, int event)
{
    uint32_t id;

    assert_int_equal(edu_read(g->c, EDU_REG_ID, &id), 0);
    assert_int_equal(event_wait(event, 0), 0);
}

/* A level: masked as it fires, again there after an unmask until it is acknowledged. */
static void intx(void **state)
{
    struct guest *g = guest_begin(*state);

    assign(g, INTX, TRIGGER, g->event);
    raise_irq(g, 1);
    assert_fires(g->event);
    raise_irq(g, 2);
    assert_quiet(g, g->event);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);
    assert_fires(g->event);
    acknowledge(g, 3);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);
    assert_quiet(g, g->event);

    assert_int_equal(set(g, INTX, NONE | MASK, -1), 0);
    raise_irq(g, 1);
    assert_quiet(g, g->event);
    assert_int_equal(vfuc_set_irqs(g->c, INTX, BOOL | UNMASK, 0, 1, NULL, (uint8_t[]){0}), 0);
    assert_quiet(g, g->event);
    assert_int_equal(vfuc_set_irqs(g->c, INTX, BOOL | UNMASK, 0, 1, NULL, (uint8_t[]){1}), 0);
    assert_fires(g->event);
    guest_end(g);
}

/* As QEMU has it with KVM: the guest's end of interrupt unmasks through the resample eventfd. */
static void intx_with_resample(void **state)
{
    struct guest *g = guest_begin(*state);
    cleanup_close_ int other = event_create();

    assign(g, INTX, TRIGGER, g->event);
    assert_int_equal(set(g, INTX, NONE | MASK, -1), 0);
    assign(g, INTX, UNMASK, g->resample);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);
    for (int i = 0; i < 3; i++) {
        raise_irq(g, 1);
        assert_fires(g->event);
        acknowledge(g, 1);
        assert_int_equal(event_signal(g->resample), 0);
    }

    /* Another one takes its place. */
    assign(g, INTX, UNMASK, other);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);
    raise_irq(g, 1);
    assert_fires(g->event);
    assert_int_equal(event_signal(g->resample), 0);
    assert_quiet(g, g->event);
    assert_int_equal(event_signal(other), 0);
    assert_fires(g->event);
    acknowledge(g, 1);
    assign(g, INTX, UNMASK, g->resample);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);

    /* Taken away, it unmasks no more. */
    raise_irq(g, 1);
    assert_fires(g->event);
    assign(g, INTX, UNMASK, -1);
    assert_int_equal(event_signal(g->resample), 0);
    assert_quiet(g, g->event);
    assert_int_equal(set(g, INTX, NONE | UNMASK, -1), 0);
    assert_fires(g->event);
    guest_end(g);
}

static void msi(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    assign(g, MSI, TRIGGER, g->event);
    assert_int_equal(harness_device(h).msi_eventfds, 1);
    raise_irq(g, 1);
    assert_fires(g->event);
    raise_irq(g, 2);
    assert_fires(g->event);
    acknowledge(g, 3);

    assign(g, MSI, TRIGGER, -1);
    assert_int_equal(harness_device(h).msi_eventfds, 0);
    raise_irq(g, 1);
    assert_quiet(g, g->event);

    assign(g, MSI, TRIGGER, g->event);
    acknowledge(g, 1);
    raise_irq(g, 1);
    assert_fires(g->event);
    assert_int_equal(vfuc_irq_disable(g->c, MSI), 0);
    assert_int_equal(vfuc_irq_disable(g->c, MSI), 0);
    acknowledge(g, 1);
    raise_irq(g, 1);
    assert_quiet(g, g->event);
    guest_end(g);
}

/* A new eventfd takes the old one's place. */
static void replaced(void **state)
{
    struct guest *g = guest_begin(*state);

    assign(g, MSI, TRIGGER, g->event);
    assign(g, MSI, TRIGGER, g->resample);
    raise_irq(g, 1);
    assert_fires(g->resample);
    assert_quiet(g, g->event);
    guest_end(g);
}

/* The array of indexes that Alioth sends: -1 for a vector without descriptor. */
static void index_array(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);
    const int32_t first = 0, none = -1;
    struct raw_message m = {
        MSG_SET_IRQS(.argsz = 24, .flags = EVENTFD | TRIGGER, .index = MSI, .count = 1),
        .data = &none,
        .data_len = sizeof(none),
    };

    raw_call(vfuc_socket(g->c), &m, NULL);
    assert_int_equal(harness_device(h).msi_eventfds, 0);
    m.data = &first;
    raw_send(vfuc_socket(g->c), &m, &g->event, 1);
    raw_expect_reply(vfuc_socket(g->c), &m, &(struct reply){0});
    raise_irq(g, 1);
    assert_fires(g->event);
    m.data = &none;
    raw_call(vfuc_socket(g->c), &m, NULL);
    assert_int_equal(harness_device(h).msi_eventfds, 0);
    guest_end(g);
}

/* The client asks for its own eventfd to be signalled. */
static void loopback(void **state)
{
    static const uint32_t indexes[] = {INTX, MSI, REQ};
    struct guest *g = guest_begin(*state);

    for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++) {
        assign(g, indexes[i], TRIGGER, g->event);
        assert_int_equal(set(g, indexes[i], NONE | TRIGGER, -1), 0);
        assert_fires(g->event);
        assert_int_equal(
            vfuc_set_irqs(g->c, indexes[i], BOOL | TRIGGER, 0, 1, NULL, (uint8_t[]){0}), 0);
        assert_quiet(g, g->event);
        assert_int_equal(
            vfuc_set_irqs(g->c, indexes[i], BOOL | TRIGGER, 0, 1, NULL, (uint8_t[]){1}), 0);
        assert_fires(g->event);
        assert_int_equal(vfuc_irq_disable(g->c, indexes[i]), 0);
        assert_int_equal(set(g, indexes[i], NONE | TRIGGER, -1), -EINVAL);
    }
    guest_end(g);
}

/* One descriptor for everything: each of them is the server's own. */
static void one_eventfd_for_all(void **state)
{
    struct guest *g = guest_begin(*state);

    assign(g, REQ, TRIGGER, g->event);
    assign(g, INTX, TRIGGER, g->event);
    assign(g, INTX, TRIGGER, g->event);
    raise_irq(g, 1);
    assert_fires(g->event);
    assert_int_equal(vfuc_irq_disable(g->c, INTX), 0);
    assert_int_equal(set(g, REQ, NONE | TRIGGER, -1), 0);
    assert_fires(g->event);
    assign(g, REQ, TRIGGER, -1);
    assert_int_equal(vfuc_irq_disable(g->c, REQ), 0);
    guest_end(g);
}

/* A write() to it would block, for ever: nothing of the server may. */
static void full_counter(void **state)
{
    const uint64_t full = UINT64_MAX - 1;
    struct harness *h = *state;
    struct guest *g = guest_begin(h);
    cleanup_close_ int blocking = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(write(blocking, &full, sizeof(full)), sizeof(full));
    assign(g, MSI, TRIGGER, blocking);
    raise_irq(g, 1);
    assert_int_equal(set(g, MSI, NONE | TRIGGER, -1), 0);
    raise_irq(g, 2);
    assign(g, REQ, TRIGGER, blocking);
    assert_int_equal(set(g, REQ, NONE | TRIGGER, -1), 0);
    raw_assert_in_step(vfuc_socket(g->c));
    guest_end(g);
    harness_assert_serves(h);
}

/* A reset of the device leaves the setup of its interrupts alone. */
static void survives_reset(void **state)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    assign(g, MSI, TRIGGER, g->event);
    assert_int_equal(vfuc_reset(g->c), 0);
    assert_int_equal(harness_device(h).msi_eventfds, 1);
    assert_int_equal(vfuc_region_write(g->c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    raise_irq(g, 1);
    assert_fires(g->event);
    guest_end(g);
}

/* The host is short of vectors. */
static void no_vectors(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    sim_set_vector_limit(h->machine.sim, 0);
    assert_int_equal(set(g, MSI, EVENTFD | TRIGGER, g->event), -ENOSPC);
    sim_set_vector_limit(h->machine.sim, 1);
    assign(g, MSI, TRIGGER, g->event);
    raise_irq(g, 1);
    assert_fires(g->event);
    guest_end(g);
}

static const struct CMUnitTest tests[] = {
    harness_test(intx),
    harness_test(intx_with_resample),
    harness_test(msi),
    harness_test(replaced),
    harness_test(index_array),
    harness_test(loopback),
    harness_test(one_eventfd_for_all),
    harness_test(full_counter),
    harness_test(survives_reset),
    harness_test(no_vectors),
};

HARNESS_MAIN(tests)
