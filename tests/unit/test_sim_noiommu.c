/* VFIO's no-IOMMU mode as the kernel has it: drivers/vfio/group.c and container.c of Linux. */
#include "tests/unit/sim_fixture.h"

#define GROUP_LINK "/sys/bus/pci/devices/0000:00:01.0/iommu_group"

static int setup(void **state)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    sim_set_noiommu_mode(fx->sim, true);
    assert_int_equal(sim_set_no_iommu(fx->sim, fx->bdf), 0);
    strcpy(fx->group_path, "/dev/vfio/noiommu-7");
    return 0;
}

static ssize_t link_of(struct fixture *fx, const char *path)
{
    char target[128];

    return host_readlink(fx->host, path, target, sizeof(target));
}

static int count_name(const char *name, void *arg)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static int count_names(struct fixture *fx, const char *path)
{
    int n = 0;

    return host_list(fx->host, path, count_name, &n) ? -1 : n;
}

static int check(struct fixture *fx, uintptr_t extension)
{
    return fx_ioctl_value(fx, fx->container, VFIO_CHECK_EXTENSION, extension);
}

static int set_model(struct fixture *fx, uintptr_t model)
{
    return fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, model);
}

static int join(struct fixture *fx)
{
    return fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container);
}

static void open_both(struct fixture *fx)
{
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->container >= 0 && fx->group >= 0);
}

/* A group is there while vfio-pci has the device; its file has another name, a cdev it has none. */
static void files(void **state)
{
    struct fixture *fx = *state;

    assert_true(link_of(fx, GROUP_LINK) > 0);
    assert_true(link_of(fx, "/sys/class/vfio/noiommu-7") > 0);
    assert_int_equal(link_of(fx, "/sys/class/vfio/7"), -ENOENT);
    assert_int_equal(link_of(fx, "/sys/class/vfio/noiommu-8"), -ENOENT);
    assert_int_equal(fx_open(fx, "/dev/vfio/7"), -ENOENT);
    assert_int_equal(fx_open(fx, "/dev/vfio/noiommu-7x"), -ENOENT);
    assert_int_equal(fx_open(fx, "/dev/vfio/devices/vfio3"), -ENOENT);
    assert_int_equal(count_names(fx, "/sys/bus/pci/devices/0000:00:01.0/vfio-dev"), -1);
    assert_int_equal(count_names(fx, "/sys/kernel/iommu_groups"), 1);

    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "e1000e"), 0);
    assert_int_equal(link_of(fx, GROUP_LINK), -ENOENT);
    assert_int_equal(link_of(fx, "/sys/class/vfio/noiommu-7"), -ENOENT);
    assert_int_equal(fx_open(fx, fx->group_path), -ENOENT);
    assert_int_equal(count_names(fx, "/sys/kernel/iommu_groups"), 0);
    assert_int_equal(count_names(fx, "/sys/kernel/iommu_groups/7/devices"), -1);
}

static void files_with_an_iommu(void **state)
{
    struct fixture *fx = *state;

    assert_true(link_of(fx, "/sys/class/vfio/7") > 0);
    assert_int_equal(link_of(fx, "/sys/class/vfio/noiommu-7"), -ENOENT);
    assert_int_equal(fx_open(fx, "/dev/vfio/noiommu-7"), -ENOENT);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, ""), 0);
    assert_int_equal(link_of(fx, "/sys/class/vfio/7"), -ENOENT);
    assert_true(link_of(fx, GROUP_LINK) > 0);
}

static void mode_off(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(sim_set_no_iommu(fx->sim, fx->bdf), 0);
    assert_int_equal(link_of(fx, GROUP_LINK), -ENOENT);
    assert_int_equal(link_of(fx, "/sys/bus/pci/devices/0000:00:01.0/driver"), -ENOENT);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "vfio-pci"), -EINVAL);
    sim_set_noiommu_mode(fx->sim, true);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "vfio-pci"), 0);
    assert_true(link_of(fx, GROUP_LINK) > 0);
    assert_int_equal(sim_set_no_iommu(fx->sim, "0000:00:1e.0"), -ENODEV);
}

static void capability(void **state)
{
    struct fixture *fx = *state;

    sim_set_rawio(fx->sim, false);
    assert_int_equal(fx_open(fx, fx->group_path), -EPERM);
    sim_set_rawio(fx->sim, true);
    open_both(fx);
    sim_set_rawio(fx->sim, false);
    assert_int_equal(join(fx), -EPERM);
    sim_set_rawio(fx->sim, true);
    assert_int_equal(join(fx), 0);
    sim_set_rawio(fx->sim, false);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), -EPERM);
    sim_set_rawio(fx->sim, true);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), 0);
}

static void extensions(void **state)
{
    struct fixture *fx = *state;

    open_both(fx);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_TYPE1v2_IOMMU), 1);
    /* With a group inside only its kind of model is asked. */
    assert_int_equal(join(fx), 0);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_TYPE1v2_IOMMU), 0);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), 0);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_UNMAP_ALL), 0);
    assert_int_equal(check(fx, VFIO_DMA_CC_IOMMU), 0);
    sim_set_noiommu_mode(fx->sim, false);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 0);
}

static void extensions_with_an_iommu(void **state)
{
    struct fixture *fx = *state;

    sim_set_noiommu_mode(fx->sim, true);
    open_both(fx);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 1);
    assert_int_equal(join(fx), 0);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 0);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), -ENODEV);
    assert_int_equal(set_model(fx, VFIO_TYPE1v2_IOMMU), 0);
}

/* One ioctl after the other: none maps anything. */
static void model(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};

    open_both(fx);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), -EINVAL);
    assert_int_equal(join(fx), 0);
    assert_int_equal(fx_get_device(fx, fx->bdf), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0, &info, FX_PAGE), -EINVAL);
    assert_int_equal(set_model(fx, VFIO_TYPE1v2_IOMMU), -ENODEV);
    sim_set_noiommu_mode(fx->sim, false);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), -ENODEV);
    sim_set_noiommu_mode(fx->sim, true);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), 0);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), -EINVAL);

    assert_int_equal(fx_map_rw(fx, 0, &info, FX_PAGE), -ENOTTY);
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, 0), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, &info), -ENOTTY);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_true(fx->device >= 0);
    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 2), 0x1234);

    /* The model goes with the last group. */
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    assert_int_equal(fx_map_rw(fx, 0, &info, FX_PAGE), -EINVAL);
    assert_int_equal(join(fx), 0);
    assert_int_equal(set_model(fx, VFIO_NOIOMMU_IOMMU), 0);
}

static void kinds_do_not_mix(void **state)
{
    struct fixture *fx = *state;
    char bdf[16];
    int real;

    assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    open_both(fx);
    real = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(join(fx), 0);
    assert_int_equal(fx_ioctl(fx, real, VFIO_GROUP_SET_CONTAINER, &fx->container), -EPERM);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    assert_int_equal(fx_ioctl(fx, real, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(join(fx), -EPERM);
    host_close(fx->host, &real);
    assert_int_equal(join(fx), 0);
}

static void dma_goes_to_the_host(void **state)
{
    struct fixture *fx = *state;
    char buf[8] = "garbage";

    assert_int_equal(fx_dma(fx, 0x1000, buf, sizeof(buf), false), 0);
    assert_memory_equal(buf, "\0\0\0\0\0\0\0", 8);
    assert_int_equal(fx_dma_put(fx, 0x1000, "x", 1), 0);
    assert_int_equal(fx_stats(fx).dma_to_host, 2);
    assert_int_equal(fx_stats(fx).dma_faults, 0);
}

static void device_of_the_name(void **state)
{
    struct fixture *fx = *state;
    char bdf[16];

    assert_int_equal(sim_add_device(fx->sim, "edu-noiommu", bdf, sizeof(bdf)), 0);
    assert_true(link_of(fx, "/sys/class/vfio/noiommu-8") > 0);
    assert_true(link_of(fx, "/sys/class/vfio/7") > 0);
    assert_int_equal(sim_add_device(fx->sim, "edu-", bdf, sizeof(bdf)), -ENOENT);
    assert_int_equal(sim_add_device(fx->sim, "-noiommu", bdf, sizeof(bdf)), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(files_with_an_iommu, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(mode_off, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(capability, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(extensions, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(extensions_with_an_iommu, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(model, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(kinds_do_not_mix, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(dma_goes_to_the_host, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(device_of_the_name, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
