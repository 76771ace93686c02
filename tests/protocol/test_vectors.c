/*
 * Many vectors of MSI and MSI-X, as clients enable them: in chunks, out of order, with gaps, more
 * and more of them. Each vector is raised by the device, and must signal its own eventfd and no
 * other.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
    MSI_VECTORS = 8,
    MSIX_VECTORS = 64,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_TRIGGER = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,

    REG_RAISE = 4, /* of sim:testdev */
};

struct guest {
    struct vfuc *c;
    int events[MSIX_VECTORS]; /* one for each vector */
    bool given[MSIX_VECTORS]; /* to the server */
};

static int setup(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    harness_start(h);
    *state = h;
    return 0;
}

/* A kernel from 6.5 on. */
static int setup_dynamic(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    sim_set_dynamic_msix(h->machine.sim, true);
    harness_start(h);
    *state = h;
    return 0;
}

static void enable_bus_master(struct guest *g)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(vfuc_region_write(g->c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
}

static struct guest *guest_begin(const struct harness *h)
{
    struct guest *g = calloc(1, sizeof(*g));

    assert_non_null(g);
    g->c = harness_client(h);
    for (int i = 0; i < MSIX_VECTORS; i++)
        g->events[i] = event_create();
    enable_bus_master(g);
    return g;
}

static void guest_end(struct guest *g)
{
    vfuc_close(g->c);
    for (int i = 0; i < MSIX_VECTORS; i++)
        fd_close(&g->events[i]);
    free(g);
}

static int try_to_give(struct guest *g, uint32_t index, uint32_t start, uint32_t count)
{
    return vfuc_set_irqs(g->c, index, EVENTFD_TRIGGER, start, count, g->events + start, NULL);
}

static void give(struct guest *g, uint32_t index, uint32_t start, uint32_t count)
{
    assert_int_equal(try_to_give(g, index, start, count), 0);
    for (uint32_t i = start; i < start + count; i++)
        g->given[i] = true;
}

static void take(struct guest *g, uint32_t index, uint32_t start, uint32_t count)
{
    assert_int_equal(vfuc_set_irqs(g->c, index, EVENTFD_TRIGGER, start, count, NULL, NULL), 0);
    for (uint32_t i = start; i < start + count; i++)
        g->given[i] = false;
}

/* Those that were signalled, whatever by. */
static uint64_t collect(struct guest *g)
{
    uint64_t fired = 0;

    for (int i = 0; i < MSIX_VECTORS; i++)
        fired |= (uint64_t)(event_wait(g->events[i], 0) == 1) << i;
    return fired;
}

/* The simulated device signals before its register's write is answered. */
static void assert_each_fires_alone(struct guest *g, const struct harness *h)
{
    unsigned given = 0;

    for (uint32_t i = 0; i < MSIX_VECTORS; i++) {
        assert_int_equal(vfuc_region_write(g->c, 0, REG_RAISE, &i, sizeof(i)), 0);
        assert_true(collect(g) == (uint64_t)g->given[i] << i);
        given += g->given[i];
    }
    assert_int_equal(harness_device(h).msi_eventfds, given);
}

/* QEMU's way: one vector without eventfd, then chunks. */
static void chunks(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    take(g, MSIX, 0, 1);
    for (uint32_t start = 0; start < MSIX_VECTORS; start += 16) {
        give(g, MSIX, start, 16);
        assert_each_fires_alone(g, h);
    }
    assert_int_equal(vfuc_irq_disable(g->c, MSIX), 0);
    memset(g->given, 0, sizeof(g->given));
    assert_each_fires_alone(g, h);
    guest_end(g);
}

static void out_of_order_with_gaps(void **state)
{
    static const uint32_t order[] = {63, 5, 40, 0, 6, 62, 17};
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        give(g, MSIX, order[i], 1);
        assert_each_fires_alone(g, h);
    }
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        take(g, MSIX, order[i], 1);
        assert_each_fires_alone(g, h);
    }
    guest_end(g);
}

/* The set is made again: an interrupt may have been lost, so those of before are signalled once. */
static void msi_grows(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    give(g, MSI, 0, 2);
    assert_true(collect(g) == 0);
    give(g, MSI, 4, 2);
    assert_true(collect(g) == 0x3);
    assert_each_fires_alone(g, h);
    take(g, MSI, 1, 1);
    give(g, MSI, 7, 1);
    assert_true(collect(g) == 0x31);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

/* Where each vector is had when it is wanted, no set is taken down: nobody is signalled for it. */
static void msix_grows_dynamically(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    give(g, MSIX, 0, 2);
    give(g, MSIX, 40, 8);
    give(g, MSIX, 60, 1);
    take(g, MSIX, 41, 1);
    give(g, MSIX, 2, 30);
    assert_true(collect(g) == 0);
    assert_each_fires_alone(g, h);
    assert_int_equal(vfuc_irq_disable(g->c, MSIX), 0);
    memset(g->given, 0, sizeof(g->given));
    give(g, MSIX, 63, 1);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

/* What can't be had is without an eventfd, the rest of the set goes on. */
static void few_vectors_dynamically(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    sim_set_vector_limit(h->machine.sim, 8);
    give(g, MSIX, 0, 4);
    assert_int_equal(try_to_give(g, MSIX, 6, 4), -ENOSPC);
    assert_true(collect(g) == 0);
    assert_each_fires_alone(g, h);
    give(g, MSIX, 6, 2);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

/* A host short of vectors: as many as are asked for, and more when they are; else none is lost. */
static void few_vectors(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    sim_set_vector_limit(h->machine.sim, 8);
    give(g, MSIX, 0, 4);
    give(g, MSIX, 4, 4);
    assert_true(collect(g) == 0xf);
    assert_each_fires_alone(g, h);
    assert_int_equal(try_to_give(g, MSIX, 8, 1), -ENOSPC);
    assert_true(collect(g) == 0xff);
    assert_each_fires_alone(g, h);
    sim_set_vector_limit(h->machine.sim, MSIX_VECTORS);
    give(g, MSIX, 60, 4);
    assert_true(collect(g) == 0xff);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

/* In the middle of a block: its vectors have none then, the others keep theirs. */
static void wrong_descriptor_in_a_block(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);
    cleanup_close_ int memory = raw_memfd(PAGE);
    int right;

    give(g, MSIX, 0, 16);
    right = g->events[6];
    g->events[6] = memory;
    assert_int_equal(try_to_give(g, MSIX, 4, 4), -EINVAL);
    g->events[6] = right;
    memset(g->given + 4, 0, 4 * sizeof(*g->given));
    assert_each_fires_alone(g, h);
    give(g, MSIX, 4, 4);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

static void one_eventfd_for_many(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);
    int same[16];

    for (int i = 0; i < 16; i++)
        same[i] = g->events[0];
    assert_int_equal(vfuc_set_irqs(g->c, MSIX, EVENTFD_TRIGGER, 8, 16, same, NULL), 0);
    for (uint32_t i = 8; i < 24; i++) {
        assert_int_equal(vfuc_region_write(g->c, 0, REG_RAISE, &i, sizeof(i)), 0);
        assert_true(collect(g) == 1);
    }
    take(g, MSIX, 8, 15);
    assert_int_equal(harness_device(h).msi_eventfds, 1);
    assert_int_equal(vfuc_region_write(g->c, 0, REG_RAISE, &(uint32_t){23}, 4), 0);
    assert_true(collect(g) == 1);
    guest_end(g);
}

/* Nobody can write to it any more: the others go on. */
static void full_counter_among_many(void **state)
{
    const uint64_t full = UINT64_MAX - 1;
    struct harness *h = *state;
    struct guest *g = guest_begin(h);
    cleanup_close_ int blocking = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(write(blocking, &full, sizeof(full)), sizeof(full));
    give(g, MSI, 0, 2);
    assert_int_equal(vfuc_set_irqs(g->c, MSI, EVENTFD_TRIGGER, 1, 1, &blocking, NULL), 0);
    give(g, MSI, 4, 1); /* which signals all of before */
    g->given[1] = false;
    assert_true(collect(g) == 1);
    assert_int_equal(vfuc_set_irqs(g->c, MSI, NONE_TRIGGER, 0, 5, NULL, NULL), 0);
    assert_true(collect(g) == 0x11);
    guest_end(g);
}

/* A set that the kernel does not take back after the reset is the client's to know. */
static void re_armed_after_reset(void **state)
{
    struct harness *h = *state;
    struct guest *g = guest_begin(h);

    give(g, MSIX, 8, 16);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_SET_IRQS, 1, EIO);
    assert_int_equal(vfuc_reset(g->c), -EIO);
    assert_true(sim_fault_spent(h->machine.sim));
    assert_int_equal(vfuc_reset(g->c), 0);
    enable_bus_master(g);
    assert_true(collect(g) == 0);
    assert_each_fires_alone(g, h);
    guest_end(g);
}

#define vectors_test(f) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)
#define dynamic_test(f) cmocka_unit_test_setup_teardown(f, setup_dynamic, harness_teardown)

static const struct CMUnitTest tests[] = {
    vectors_test(chunks),
    vectors_test(out_of_order_with_gaps),
    vectors_test(msi_grows),
    vectors_test(few_vectors),
    vectors_test(wrong_descriptor_in_a_block),
    vectors_test(one_eventfd_for_many),
    vectors_test(full_counter_among_many),
    vectors_test(re_armed_after_reset),
    dynamic_test(chunks),
    dynamic_test(out_of_order_with_gaps),
    dynamic_test(msi_grows),
    dynamic_test(msix_grows_dynamically),
    dynamic_test(few_vectors_dynamically),
    dynamic_test(wrong_descriptor_in_a_block),
    dynamic_test(one_eventfd_for_many),
    dynamic_test(full_counter_among_many),
    dynamic_test(re_armed_after_reset),
};

HARNESS_MAIN(tests)
