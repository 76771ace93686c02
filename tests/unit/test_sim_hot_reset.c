/* Two devices, each in a group of its own, on one bus. */
#include "tests/unit/sim_fixture.h"

enum {
    REG_LIVENESS = 4,
    BUS = 1,
};

struct info {
    uint32_t argsz, flags, count;
    struct vfio_pci_dependent_device devices[2];
};

struct request {
    uint32_t argsz, flags, count;
    int32_t files[2];
};

static char other_bdf[16], other_group[32];

static int setup(void **state)
{
    struct fixture *fx;
    char link[128];

    fx_setup(state);
    fx = *state;
    assert_int_equal(sim_add_device(fx->sim, "edu", other_bdf, sizeof(other_bdf)), 0);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", other_bdf);
    assert_true(host_readlink(fx->host, link, link, sizeof(link)) > 0);
    snprintf(other_group, sizeof(other_group), "/dev/vfio%s", strrchr(link, '/'));
    assert_int_equal(sim_set_bus(fx->sim, fx->bdf, BUS), 0);
    assert_int_equal(sim_set_bus(fx->sim, other_bdf, BUS), 0);
    fx_open_device(fx);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    return 0;
}

static int reset_with(struct fixture *fx, uint32_t count, int first, int second)
{
    struct request request = {
        12 + 4 * count, 0, count, {first, second}
    };

    return fx_ioctl(fx, fx->device, VFIO_DEVICE_PCI_HOT_RESET, &request);
}

static void info(void **state)
{
    struct fixture *fx = *state;
    struct info info = {.argsz = 11};

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -EINVAL);
    info.argsz = 12 + sizeof(info.devices[0]);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENOSPC);
    assert_int_equal(info.count, 2);
    info.argsz = sizeof(info);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
    assert_int_equal(info.count, 2);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.devices[0].devfn, 1 << 3);
    assert_int_equal(info.devices[1].devfn, 2 << 3);
    assert_int_not_equal(info.devices[0].group_id, info.devices[1].group_id);
}

static void all_groups(void **state)
{
    struct fixture *fx = *state;
    int other = fx_open(fx, other_group);

    fx_bar_set(fx, REG_LIVENESS, 0xf0f0f0f0);
    assert_int_equal(reset_with(fx, 1, fx->group, -1), -EINVAL);
    assert_int_equal(reset_with(fx, 1, other, -1), -EINVAL);
    assert_int_equal(reset_with(fx, 0, -1, -1), -EINVAL);
    assert_int_equal(reset_with(fx, 2, fx->group, -1), -EBADF);
    assert_int_equal(reset_with(fx, 2, fx->group, fx->container), -EINVAL);
    assert_int_equal(fx_bar_get(fx, REG_LIVENESS), 0x0f0f0f0f);
    assert_int_equal(reset_with(fx, 2, fx->group, other), 0);
    assert_int_equal(fx_bar_get(fx, REG_LIVENESS), 0);
    assert_int_equal(sim_set_driver(fx->sim, other_bdf, ""), 0);
    assert_int_equal(reset_with(fx, 2, fx->group, other), -EINVAL);
    host_close(fx->host, &other);
}

static void root_bus(void **state)
{
    struct fixture *fx = *state;
    struct info info = {.argsz = sizeof(info)};

    assert_int_equal(sim_set_bus(fx->sim, fx->bdf, 0), 0);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENODEV);
    assert_int_equal(reset_with(fx, 1, fx->group, -1), -ENODEV);
    assert_int_equal(sim_set_bus(fx->sim, "0000:7f:00.0", 1), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(info, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(all_groups, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(root_bus, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
