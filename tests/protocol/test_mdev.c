/*
 * A mediated device: a PCI device to its client, without a PCI address, in a group whose IOMMU is
 * emulated.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/protocol/raw.h"

#define UUID "73696d00-6d64-4576-8000-000000000001" /* the first of a simulated machine */

enum {
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_UNMASK = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_UNMASK,

    /* Of sim:mdev. */
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_LOWER = 0x08,
    REG_SCRATCH = 0x0c,
    ID = 0x7665646d,

    IOVA = 0x100000,
};

static struct harness *prepare(void)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:mdev";
    strcpy(h->bdf, UUID);
    return h;
}

static int setup(void **state)
{
    struct harness *h = prepare();

    harness_start(h);
    *state = h;
    return 0;
}

#define mdev_test(f) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)

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

/* It says RESET, although its driver does not, as that does reset. */
static void is_a_pci_device(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_user_device_info info;
    struct vfio_user_irq_info irq;
    uint32_t id = 0;

    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_PCI | VFIO_USER_DEVICE_FLAGS_RESET);
    assert_int_equal(info.num_irqs, VFIO_PCI_NUM_IRQS);
    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_VENDOR_ID, &id, sizeof(id)), 0);
    assert_int_equal(id, 0x3d5e1234);
    assert_int_equal(read_reg(c, REG_ID), ID);
    for (uint32_t index = 0; index < info.num_irqs; index++) {
        assert_int_equal(vfuc_irq_info(c, index, &irq), 0);
        assert_int_equal(irq.count, index == INTX || index == MSI);
    }
    vfuc_close(c);
}

static void intx(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_close_ int event = event_create();

    assert_int_equal(vfuc_set_irqs(c, INTX, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    write_reg(c, REG_RAISE, 1);
    assert_int_equal(event_wait(event, EVENT_TIMEOUT_MS), 1);
    /* Masked by itself until it is unmasked, and still asserted then. */
    write_reg(c, REG_RAISE, 1);
    assert_int_equal(event_wait(event, 0), 0);
    assert_int_equal(vfuc_set_irqs(c, INTX, NONE_UNMASK, 0, 1, NULL, NULL), 0);
    assert_int_equal(event_wait(event, EVENT_TIMEOUT_MS), 1);
    write_reg(c, REG_LOWER, 1);
    assert_int_equal(vfuc_irq_disable(c, INTX), 0);
    vfuc_close(c);
}

/* Its driver signals, whatever COMMAND says. */
static void msi(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_close_ int event = event_create();

    assert_int_equal(vfuc_set_irqs(c, MSI, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    write_reg(c, REG_RAISE, 1);
    assert_int_equal(event_wait(event, EVENT_TIMEOUT_MS), 1);
    assert_int_equal(vfuc_irq_disable(c, MSI), 0);
    vfuc_close(c);
}

/* What its driver reaches is what the client has mapped, as it is mapped. */
static void dma(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    cleanup_close_ int fd = raw_memfd(2 * PAGE);
    uint32_t word = 0x600dda7a, seen = 0;

    assert_int_equal(pwrite(fd, &word, sizeof(word), PAGE), sizeof(word));
    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, VFIO_USER_DMA_MAP_READ, fd, PAGE), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA, &seen, sizeof(seen), false), 0);
    assert_int_equal(seen, word);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA, &seen, sizeof(seen), true),
                     -EFAULT);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA + PAGE, &seen, sizeof(seen), false),
                     -EFAULT);
    assert_int_equal(vfuc_dma_unmap(c, IOVA, PAGE), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA, &seen, sizeof(seen), false),
                     -EFAULT);
    vfuc_close(c);
}

/* Its driver resets it at no opening: the end of the session does. */
static void next_client_finds_it_reset(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    cleanup_close_ int fd = raw_memfd(PAGE);

    write_reg(c, REG_SCRATCH, 0x5ec12e7);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0x5ec12e7);
    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, VFIO_USER_DMA_MAP_READ, fd, 0), 0);
    vfuc_close(c);
    harness_await_idle(h);
    c = harness_client(h);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0);
    write_reg(c, REG_SCRATCH, 1);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0);
    vfuc_close(c);
}

/* A driver that answers RESET with ENOTTY: the device stays as it is, with who left it so. */
static void without_reset(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    struct vfio_user_device_info info;

    sim_set_no_reset(h->machine.sim, UUID);
    vfuc_close(c);
    harness_await_idle(h);
    c = harness_client(h); /* opened since then */
    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_PCI);
    assert_int_equal(vfuc_reset(c), -ENOTTY);
    write_reg(c, REG_SCRATCH, 0x5ec12e7);
    vfuc_close(c);
    c = harness_client(h);
    assert_int_equal(read_reg(c, REG_SCRATCH), 0x5ec12e7);
    vfuc_close(c);
}

/* One beside a device of a real bus, for one client: each in its own group, neither reaches the
 * other's BARs. */
static void beside_another(void **state)
{
    struct harness *h = prepare();
    const struct harness_export *e = harness_add_export(h, "sim:edu");
    cleanup_close_ int fd = raw_memfd(PAGE);
    struct vfuc *c, *edu;
    uint32_t seen;

    harness_start(h);
    *state = h;
    c = harness_client(h);
    edu = harness_client_at(e->path);
    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, VFIO_USER_DMA_MAP_READ, fd, 0), 0);
    assert_int_equal(vfuc_dma_map(edu, IOVA, PAGE, VFIO_USER_DMA_MAP_READ, fd, 0), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA, &seen, sizeof(seen), false), 0);
    vfuc_close(edu);
    assert_int_equal(read_reg(c, REG_ID), ID);
    assert_int_equal(sim_device_dma(h->machine.sim, UUID, IOVA, &seen, sizeof(seen), false), 0);
    vfuc_close(c);
}

/* POWER's IOMMU has no emulated groups. */
static void not_by_spapr(void **state)
{
    struct harness *h = prepare();

    (void)state;
    assert_int_equal(export_create(&h->export, &h->export_config, &h->settings, &h->machine),
                     -ENOTSUP);
    h->export_config.device = "sim:edu";
    strcpy(h->bdf, "0000:00:02.0");
    harness_start(h);
    harness_assert_serves(h);
    harness_stop(h);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        mdev_test(is_a_pci_device),
        mdev_test(intx),
        mdev_test(msi),
        mdev_test(dma),
        mdev_test(next_client_finds_it_reset),
        mdev_test(without_reset),
        cmocka_unit_test_teardown(beside_another, harness_teardown),
    };
    const struct CMUnitTest spapr_tests[] = {
        cmocka_unit_test(not_by_spapr),
    };

    if (!harness_select_backend(argc, argv))
        return 2;
    return harness_is_spapr() ? cmocka_run_group_tests(spapr_tests, NULL, NULL)
                              : cmocka_run_group_tests(tests, NULL, NULL);
}
