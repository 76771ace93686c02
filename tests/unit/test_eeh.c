#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <unistd.h>

#include "bridge/eeh.h"
#include "bridge/region.h"
#include "bridge/sim/sim.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "tests/unit/log_capture.h"
#include "tests/unit/own_address_space.h"

enum {
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
};

/* On the simulated kernel: a device and another one, of which only the first is opened. */

struct machine {
    struct sim *sim;
    struct host *host;
    char bdf[13], other[13];
    struct address_space *as;
    struct device *dev;
    int fds;
};

static struct machine m;

static int boot(enum sim_iommu_model model, enum iommu_kind kind)
{
    struct sysfs_device where;

    m = (struct machine){.sim = sim_create()};
    assert_non_null(m.sim);
    m.host = sim_host(m.sim);
    sim_set_iommu(m.sim, model);
    assert_int_equal(sim_add_device(m.sim, "edu", m.bdf, sizeof(m.bdf)), 0);
    assert_int_equal(sim_add_device(m.sim, "edu", m.other, sizeof(m.other)), 0);
    m.fds = fd_count_open();
    assert_int_equal(sysfs_find_device(m.host, m.bdf, &where), 0);
    assert_int_equal(own_address_space(m.host, kind, &m.as), 0);
    assert_int_equal(device_open(&m.dev, m.host, m.as, &where), 0);
    return 0;
}

static int boot_power(void **state)
{
    (void)state;
    return boot(SIM_IOMMU_SPAPR_V2, IOMMU_SPAPR);
}

static int boot_power_v1(void **state)
{
    (void)state;
    return boot(SIM_IOMMU_SPAPR_V1, IOMMU_SPAPR);
}

static int boot_pc(void **state)
{
    (void)state;
    return boot(SIM_IOMMU_TYPE1, IOMMU_TYPE1);
}

static int halt(void **state)
{
    (void)state;
    device_close(m.dev);
    address_space_destroy(m.as);
    assert_int_equal(fd_count_open(), m.fds);
    sim_destroy(m.sim);
    return 0;
}

static uint32_t read_id(void)
{
    uint32_t id = 0;

    assert_int_equal(region_read(m.dev, 0, 0, &id, sizeof(id)), 0);
    return id;
}

static void set_bus_master(void)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(region_write(m.dev, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
}

static int freeze(void)
{
    return sim_freeze_pe(m.sim, m.bdf);
}

/* As a guest's driver does it that wants to see what has happened. */
static void unfreezes_step_by_step(void **state)
{
    (void)state;
    assert_true(eeh_is_supported(m.dev));
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_ENABLE), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(freeze(), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_STOPPED);
    assert_true(read_id() == UINT32_MAX);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_UNFREEZE_IO), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_STOPPED_DMA);
    assert_int_equal(read_id(), 0x010000ed);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_UNFREEZE_DMA), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
}

static void resets(void **state)
{
    static const uint32_t kinds[] = {VFIO_EEH_PE_RESET_HOT, VFIO_EEH_PE_RESET_FUNDAMENTAL};
    struct sim_device_state device;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        set_bus_master();
        assert_int_equal(freeze(), 0);
        assert_int_equal(eeh_operate(m.dev, kinds[i]), 0);
        assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_RESET);
        assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_RESET_DEACTIVATE), 0);
        assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_CONFIGURE), 0);
        assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
        assert_int_equal(sim_get_device_state(m.sim, m.bdf, &device), 0);
        assert_false(device.bus_master);
        assert_int_equal(read_id(), 0x010000ed);
    }
}

/* Not all that the kernel would do is a client's to ask for. */
static void refused(void **state)
{
    static const struct {
        uint32_t op;
        int err;
    } cases[] = {
        {VFIO_EEH_PE_INJECT_ERR, -EPERM },
        {VFIO_EEH_PE_DISABLE,    -EPERM },
        {VFIO_EEH_PE_GET_STATE,  -EINVAL},
        {10,                     -EINVAL},
        {UINT32_MAX,             -EINVAL},
    };
    struct sim_stats before, after;

    (void)state;
    sim_get_stats(m.sim, &before);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(eeh_operate(m.dev, cases[i].op), cases[i].err);
    sim_get_stats(m.sim, &after);
    assert_int_equal(after.ioctls, before.ioctls); /* the kernel has not been asked */
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
}

static void injects(void **state)
{
    const struct eeh_error error = {.type = 1, .func = 4, .addr = 0x1000, .mask = ~UINT64_C(0)};
    const struct eeh_error bad = {.type = 7};

    (void)state;
    assert_int_equal(eeh_inject(m.dev, &bad), -EINVAL);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(eeh_inject(m.dev, &error), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_STOPPED);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_ENABLE), 0);
}

/* The other device is of another PE, and its errors are not ours. */
static void own_pe_only(void **state)
{
    struct sysfs_device where;
    struct device *dev = NULL;

    (void)state;
    assert_int_equal(sysfs_find_device(m.host, m.other, &where), 0);
    assert_int_equal(device_open(&dev, m.host, m.as, &where), -EBUSY);
    assert_null(dev);
    assert_int_equal(sim_freeze_pe(m.sim, m.other), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_RESET_HOT), 0);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_RESET_DEACTIVATE), 0);
}

static void machine_without_eeh(void **state)
{
    (void)state;
    assert_false(eeh_is_supported(m.dev));
    assert_int_equal(eeh_get_state(m.dev), -ENOTTY);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_ENABLE), -ENOTTY);
    assert_int_equal(eeh_inject(m.dev, &(const struct eeh_error){0}), -ENOTTY);
    assert_int_equal(address_space_eeh(m.as, NULL), -ENOTTY);
}

static void kernels_errors(void **state)
{
    struct log_capture capture = {0};

    (void)state;
    sim_fail_nth(m.sim, SIM_CALL_IOCTL, VFIO_EEH_PE_OP, 1, EIO);
    log_capture_start(&capture);
    assert_int_equal(eeh_get_state(m.dev), -EIO);
    assert_non_null(strstr(log_capture_end(&capture), "EEH GET_STATE of 0000:00:01.0"));
    sim_fail_nth(m.sim, SIM_CALL_IOCTL, VFIO_EEH_PE_OP, 1, EIO);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_RESET_HOT), -EIO);
    /* The kernel may also say in which state the device has stayed. */
    sim_fail_nth(m.sim, SIM_CALL_IOCTL, VFIO_EEH_PE_OP, 1, -2);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_UNFREEZE_DMA), -EIO);
    sim_set_eeh(m.sim, false);
    assert_int_equal(eeh_get_state(m.dev), -ENODEV);
    log_capture_drop(&capture);
}

static void device_is_not_open(void **state)
{
    (void)state;
    sim_fail_nth(m.sim, SIM_CALL_IOCTL, VFIO_GROUP_GET_DEVICE_FD, 1, EIO);
    assert_int_equal(device_reopen(m.dev), -EIO);
    assert_int_equal(eeh_get_state(m.dev), -ENODEV);
    assert_int_equal(eeh_operate(m.dev, VFIO_EEH_PE_ENABLE), -ENODEV);
    assert_int_equal(device_reopen(m.dev), 0);
    assert_int_equal(eeh_get_state(m.dev), VFIO_EEH_PE_STATE_NORMAL);
}

#define on_power(t) cmocka_unit_test_setup_teardown(t, boot_power, halt)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_power(unfreezes_step_by_step),
        cmocka_unit_test_setup_teardown(unfreezes_step_by_step, boot_power_v1, halt),
        on_power(resets),
        on_power(refused),
        on_power(injects),
        on_power(own_pe_only),
        cmocka_unit_test_setup_teardown(machine_without_eeh, boot_pc, halt),
        on_power(kernels_errors),
        on_power(device_is_not_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
