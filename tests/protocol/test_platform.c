/*
 * A device of another bus than PCI: one region and one interrupt, no config space, for clients that
 * know the extension.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/wire_extension.h"
#include "tests/protocol/raw.h"

#define NAME "sim.1" /* the first of a simulated machine */

enum {
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_UNMASK = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_UNMASK,

    /* Of sim:platform. */
    REG_ID = 0x00,
    REG_LEVEL = 0x04,
    REG_SCRATCH = 0x08,
    ID = 0x6d746c70,

    IOVA = 0x100000,
};

static int setup(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:platform";
    strcpy(h->bdf, NAME);
    harness_start(h);
    *state = h;
    return 0;
}

static uint32_t read_reg(struct vfuc *c, uint64_t reg)
{
    uint32_t value = 0;

    assert_int_equal(vfuc_region_read(c, 0, reg, &value, sizeof(value)), 0);
    return value;
}

static void write_reg(struct vfuc *c, uint64_t reg, uint32_t value)
{
    assert_int_equal(vfuc_region_write(c, 0, reg, &value, sizeof(value)), 0);
}

/* Its message has PCI's flags alone; ours has all. */
static void infos(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_device_info ours = {.argsz = sizeof(ours)};
    cleanup_free_ struct vfio_user_region_info *region = NULL;
    struct vfio_user_device_info info;
    struct vfio_user_irq_info irq;
    size_t len = sizeof(ours);

    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_RESET);
    assert_int_equal(info.num_regions, 1);
    assert_int_equal(info.num_irqs, 1);
    assert_int_equal(
        vfuc_call(c, VFIO_USERD_DEVICE_INFO, &ours, sizeof(ours), NULL, 0, &ours, &len, NULL), 0);
    assert_int_equal(ours.flags, VFIO_USERD_DEVICE_PLATFORM | VFIO_USERD_DEVICE_RESET);
    assert_int_equal(vfuc_region_info(c, 0, &region, &(int){-1}), 0);
    assert_int_equal(region->size, 4096);
    assert_int_equal(vfuc_irq_info(c, 0, &irq), 0);
    assert_int_equal(irq.count, 1);
    assert_int_equal(irq.flags,
                     VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED);
    vfuc_close(c);
}

/* Indexes that PCI has and this one has not, config space above all. */
static void nothing_of_pci(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_free_ struct vfio_user_region_info *region = NULL;
    cleanup_close_ int event = event_create();
    struct vfio_user_irq_info irq;
    uint32_t word = 0;

    for (uint32_t index = 1; index <= VFIO_PCI_VGA_REGION_INDEX; index++) {
        assert_int_equal(vfuc_region_info(c, index, &region, &(int){-1}), -EINVAL);
        assert_int_equal(vfuc_region_read(c, index, 0, &word, sizeof(word)), -EINVAL);
        assert_int_equal(vfuc_region_write(c, index, 4, &word, sizeof(word)), -EINVAL);
    }
    for (uint32_t index = 1; index < VFIO_PCI_NUM_IRQS; index++) {
        assert_int_equal(vfuc_irq_info(c, index, &irq), -EINVAL);
        assert_int_equal(vfuc_set_irqs(c, index, EVENTFD_TRIGGER, 0, 1, &event, NULL), -EINVAL);
    }
    assert_int_equal(read_reg(c, REG_ID), ID);
    vfuc_close(c);
}

/* A level: it comes once, and again when it is unmasked and still asserted. */
static void interrupt(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_close_ int event = event_create();

    assert_int_equal(vfuc_set_irqs(c, 0, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    write_reg(c, REG_LEVEL, 1);
    assert_int_equal(event_wait(event, EVENT_TIMEOUT_MS), 1);
    write_reg(c, REG_LEVEL, 1);
    assert_int_equal(event_wait(event, 0), 0);
    assert_int_equal(vfuc_set_irqs(c, 0, NONE_UNMASK, 0, 1, NULL, NULL), 0);
    assert_int_equal(event_wait(event, EVENT_TIMEOUT_MS), 1);
    write_reg(c, REG_LEVEL, 0);
    assert_int_equal(vfuc_set_irqs(c, 0, NONE_UNMASK, 0, 1, NULL, NULL), 0);
    assert_int_equal(event_wait(event, 0), 0);
    assert_int_equal(vfuc_irq_disable(c, 0), 0);
    vfuc_close(c);
}

static void dma(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    cleanup_close_ int fd = raw_memfd(PAGE);
    uint32_t word = 0x600dda7a, seen = 0;

    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, 3, fd, 0), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, NAME, IOVA, &word, sizeof(word), true), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, NAME, IOVA, &seen, sizeof(seen), false), 0);
    assert_int_equal(seen, word);
    vfuc_close(c);
    harness_await_idle(h);
    assert_int_equal(sim_device_dma(h->machine.sim, NAME, IOVA, &seen, sizeof(seen), false),
                     -EFAULT);
}

static void reset(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);

    write_reg(c, REG_SCRATCH, 1);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0);
    write_reg(c, REG_SCRATCH, 1);
    vfuc_close(c);
    c = harness_client(h);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0);
    vfuc_close(c);
}

/* Plain vfio-user knows PCI alone. The next client, who knows more, is served. */
static void needs_the_extension(void **state)
{
    struct version_caps plain = version_defaults();
    struct harness *h = *state;
    struct vfuc *c;

    assert_int_equal(vfuc_open(&c, h->path, &plain), -EOPNOTSUPP);
    c = harness_client(h);
    assert_int_equal(read_reg(c, REG_ID), ID);
    vfuc_close(c);
}

#define platform_test(f) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)

static const struct CMUnitTest tests[] = {
    platform_test(infos), platform_test(nothing_of_pci), platform_test(interrupt),
    platform_test(dma),   platform_test(reset),          platform_test(needs_the_extension),
};

HARNESS_MAIN(tests)
