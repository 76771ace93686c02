/*
 * A device without an IOMMU (VFIO's no-IOMMU mode): refused unless the operator allows it; and then
 * a session has all but memory, as the device does not know the client's addresses.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "tests/protocol/raw.h"

/* Where the suite runs over iommufd the daemon chooses, and so has to choose the group. */
static struct harness *new_harness(void)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:edu-noiommu";
    h->settings.iommu = harness_is_type1() ? CONFIG_IOMMU_TYPE1 : CONFIG_IOMMU_AUTO;
    return h;
}

static int setup(void **state)
{
    struct harness *h = new_harness();

    h->settings.allow_unsafe_noiommu = true;
    log_set_level(LOG_ERROR);
    harness_start(h);
    *state = h;
    return 0;
}

static void drop(struct harness *h)
{
    machine_destroy(&h->machine);
    assert_int_equal(rmdir(h->directory), 0);
    assert_int_equal(fd_count_open(), h->fds_before);
    free(h);
}

static void refused(void **state)
{
    struct harness *h = new_harness();

    (void)state;
    assert_int_equal(export_create(&h->export, &h->export_config, &h->settings, &h->machine),
                     -EPERM);
    assert_int_equal(harness_stats(h).groups, 0);
    assert_int_equal(harness_stats(h).resets, 0); /* it was not opened */
    drop(h);
}

static void refused_over_iommufd(void **state)
{
    struct harness *h = new_harness();

    (void)state;
    h->settings.allow_unsafe_noiommu = true;
    h->settings.iommu = CONFIG_IOMMU_IOMMUFD;
    assert_int_equal(export_create(&h->export, &h->export_config, &h->settings, &h->machine),
                     -EINVAL);
    drop(h);
}

static void refused_without_the_capability(void **state)
{
    struct harness *h = new_harness();

    (void)state;
    h->settings.allow_unsafe_noiommu = true;
    sim_set_rawio(h->machine.sim, false);
    assert_int_equal(export_create(&h->export, &h->export_config, &h->settings, &h->machine),
                     -EPERM);
    drop(h);
}

/* A device whose IOMMU went away under the daemon is not opened again. */
static void checked_at_each_opening(void **state)
{
    struct harness *h = harness_new();
    struct vfuc *c;

    (void)state;
    harness_start(h);
    c = harness_client(h);
    sim_set_noiommu_mode(h->machine.sim, true);
    assert_int_equal(sim_set_no_iommu(h->machine.sim, h->bdf), 0);
    /* The end of this session can't close its device alone. */
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_INFO, 1, EIO);
    vfuc_close(c);
    while (harness_stats(h).devices)
        harness_pause();
    assert_int_equal(vfuc_open(&c, h->path, NULL), -ENODEV);
    assert_int_equal(harness_stats(h).devices, 0);
    harness_stop(h);
}

static void set_command(struct vfuc *c, uint16_t value)
{
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &value, sizeof(value)), 0);
}

static void session(void **state)
{
    const struct edu_transfer t = {.to_ram = true, .iova = 0x1000, .len = 16};
    struct harness *h = *state;
    struct vfio_user_device_info info;
    struct vfuc *c = harness_client(h);
    uint32_t value;

    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_PCI | VFIO_USER_DEVICE_FLAGS_RESET);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0x12345678), 0);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, ~0x12345678u);

    /* Bus mastering is the client's. */
    set_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_true(harness_device(h).bus_master);
    assert_int_equal(edu_dma(c, &t), 0);
    assert_int_equal(harness_stats(h).dma_to_host, 1);
    vfuc_close(c);
    harness_await_idle(h); /* and off behind it */
}

/* A client as QEMU, which goes on after its mappings were refused. */
static void mapping_ends_dma(void **state)
{
    const struct edu_transfer t = {.to_ram = true, .iova = 0x1000, .len = 16};
    const uint8_t header[6] = {[PCI_COMMAND] = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER};
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);
    struct vfuc *c = harness_client(h);
    uint16_t command;

    set_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(vfuc_dma_map(c, 0, PAGE, DMA_RW, fd, 0), -ENOTTY);
    assert_false(harness_device(h).bus_master);
    set_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &header[PCI_COMMAND], 1), 0);
    assert_int_equal(vfuc_region_write(c, 7, 0, header, sizeof(header)), 0);
    assert_int_equal(vfuc_region_read(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(command & (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER), PCI_COMMAND_MEMORY);
    assert_int_equal(edu_dma(c, &t), 0);
    assert_int_equal(vfuc_reset(c), 0);
    set_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_false(harness_device(h).bus_master);
    assert_int_equal(harness_stats(h).dma_to_host, 0);
    vfuc_close(c);

    c = harness_client(h);
    set_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_true(harness_device(h).bus_master); /* the next session's own affair */
    vfuc_close(c);
    harness_await_idle(h);
}

/* Without a descriptor, strict or not; and unmapping, of which there is nothing. */
static void answers(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    const struct request_case cases[] = {
        CASE("without a descriptor", ENOTTY,
             MSG_DMA_MAP(.argsz = 32, .flags = DMA_RW, .size = PAGE)),
        CASE("nonsense", EINVAL, MSG_DMA_MAP(.argsz = 32, .flags = DMA_RW, .size = 0)),
        CASE("unmap", ENOENT, MSG_DMA_UNMAP(.argsz = 24, .size = PAGE)),
        CASE("unmap all", 0, MSG_DMA_UNMAP(.argsz = 24, .flags = VFIO_USER_DMA_UNMAP_ALL)),
    };

    raw_run_cases(sock, cases, 4, NULL, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(refused),
    cmocka_unit_test(refused_over_iommufd),
    cmocka_unit_test(refused_without_the_capability),
    cmocka_unit_test(checked_at_each_opening),
    cmocka_unit_test_setup_teardown(session, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(mapping_ends_dma, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(answers, setup, harness_teardown),
};

HARNESS_MAIN(tests)
