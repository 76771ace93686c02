/*
 * DEVICE_RESET of a device that can't be reset on its own, by its bus; and of two such devices of
 * one group on one bus, each with its own socket.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "client-example/edu.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    BUS = 1,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf) &&
           (!h->n_more || sim_removal_is_done(h->machine.sim, h->more[0].bdf));
}

/* Whether a device can be reset is found out when it is opened: so they are opened again. */
static void put_on_bus(struct harness *h, const char *const *bdfs, unsigned n)
{
    struct sim *sim = h->machine.sim;

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(sim_set_no_reset(sim, bdfs[i]), 0);
        assert_int_equal(sim_set_bus(sim, bdfs[i], BUS), 0);
        assert_int_equal(sim_request_removal(sim, bdfs[i]), 0);
    }
    harness_await(h, is_removed, "the devices are closed");
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(sim_bring_back(sim, bdfs[i]), 0);
}

static int setup_one(void **state)
{
    struct harness *h = harness_new();

    harness_start(h);
    put_on_bus(h, (const char *const[]){h->bdf}, 1);
    *state = h;
    return 0;
}

static int setup_two(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:edu@one";
    harness_add_export(h, "sim:edu@one");
    harness_start(h);
    put_on_bus(h, (const char *const[]){h->bdf, h->more[0].bdf}, 2);
    *state = h;
    return 0;
}

static struct vfuc *client(const char *path)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    while ((ret = vfuc_open(&c, path, NULL)) && harness_now_ms() < deadline)
        harness_pause();
    assert_int_equal(ret, 0);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    return c;
}

static uint32_t liveness(struct vfuc *c)
{
    uint32_t value;

    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    return value;
}

static void reset_by_bus(void **state)
{
    struct harness *h = *state;
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct vfuc *c = client(h->path);
    cleanup_close_ int event = event_create();
    struct vfio_user_device_info info;
    unsigned resets;

    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_true(info.flags & VFIO_USER_DEVICE_FLAGS_RESET);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0xff00ff00), 0);
    assert_int_equal(vfuc_set_irqs(c, MSI, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    assert_int_equal(liveness(c), 0x00ff00ff);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(liveness(c), 0);
    assert_false(harness_device(h).bus_master);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(edu_write(c, EDU_REG_IRQ_RAISE, 1), 0);
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);

    /* The end of a session does so too. */
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0xff00ff00), 0);
    resets = harness_stats(h).resets;
    vfuc_close(c);
    harness_await_idle(h);
    c = client(h->path);
    assert_int_equal(liveness(c), 0);
    assert_int_equal(harness_stats(h).resets, resets + 1);
    vfuc_close(c);
}

/* Not under the other one's feet. */
static void another_on_the_bus(void **state)
{
    struct harness *h = *state;
    struct vfuc *first = client(h->path), *second = client(h->more[0].path);
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfio_user_device_info info;

    assert_int_equal(edu_write(first, EDU_REG_LIVENESS, 1), 0);
    assert_int_equal(edu_write(second, EDU_REG_LIVENESS, 2), 0);
    assert_int_equal(vfuc_reset(first), -EPERM);
    assert_int_equal(vfuc_reset(second), -EPERM);
    assert_int_equal(liveness(first), ~1u);
    assert_int_equal(liveness(second), ~2u);
    assert_int_equal(vfuc_device_info(first, &info), 0);
    vfuc_close(second);
    second = client(h->more[0].path);
    assert_int_equal(vfuc_reset(second), -EPERM);
    vfuc_close(first);
    /* The first is not clean, but nobody uses it. */
    while (vfuc_reset(second) == -EPERM && harness_now_ms() < deadline)
        harness_pause();
    assert_int_equal(liveness(second), 0);
    vfuc_close(second);
    first = client(h->path);
    assert_int_equal(liveness(first), 0);
    vfuc_close(first);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(reset_by_bus, setup_one, harness_teardown),
    cmocka_unit_test_setup_teardown(another_on_the_bus, setup_two, harness_teardown),
};

HARNESS_MAIN(tests)
