#include "tests/unit/sim_fixture.h"

static int check(struct fixture *fx, uintptr_t extension)
{
    return fx_ioctl_value(fx, fx->container, VFIO_CHECK_EXTENSION, extension);
}

static void extensions(void **state)
{
    struct fixture *fx = *state;

    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), VFIO_API_VERSION);
    assert_int_equal(check(fx, VFIO_TYPE1_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_TYPE1v2_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_TYPE1_NESTING_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_UNMAP_ALL), 1);
    assert_int_equal(check(fx, VFIO_SPAPR_TCE_IOMMU), 0);
    assert_int_equal(check(fx, VFIO_NOIOMMU_IOMMU), 0);
    assert_int_equal(check(fx, 12345), 0);
    /* Known only once there is an IOMMU. */
    assert_int_equal(check(fx, VFIO_UPDATE_VADDR), 0);
    assert_int_equal(check(fx, VFIO_DMA_CC_IOMMU), 0);
    host_close(fx->host, &fx->container);
    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    assert_int_equal(check(fx, VFIO_UPDATE_VADDR), 1);
    assert_int_equal(check(fx, VFIO_DMA_CC_IOMMU), 1);
    sim_set_coherent(fx->sim, false);
    assert_int_equal(check(fx, VFIO_DMA_CC_IOMMU), 0);
}

static void set_iommu_rules(void **state)
{
    struct fixture *fx = *state;

    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
                     -EINVAL);
    fx->group = fx_open(fx, fx->group_path);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_IOMMU),
                     -ENODEV);
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
                     -EINVAL);
}

static void unknown_ioctls(void **state)
{
    struct fixture *fx = *state;

    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, NULL), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_DEVICE_RESET, NULL), -EINVAL);
    host_close(fx->host, &fx->container);
    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_DEVICE_RESET, NULL), -ENOTTY);
    /* The same number means something else on a device. */
    assert_int_equal(VFIO_IOMMU_GET_INFO, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, NULL), -EFAULT);
}

static void mappings_outlive_the_containers_descriptor(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), byte = 'd';

    fx_open_device(fx);
    assert_int_equal(fx_map_rw(fx, 0x10000, memory, FX_PAGE), 0);
    host_close(fx->host, &fx->container);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(fx_dma(fx, 0x10000, &byte, 1, true), 0);
    assert_int_equal(memory[0], 'd');

    /* The device holds the group, the group the container. */
    host_close(fx->host, &fx->group);
    assert_int_equal(fx_dma(fx, 0x10000, &byte, 1, true), 0);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    assert_int_equal(fx_dma(fx, 0x10000, &byte, 1, true), -EFAULT);
    munmap(memory, FX_PAGE);
}

static void the_last_group_takes_the_iommu_along(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);

    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), -EINVAL);
    assert_int_equal(check(fx, VFIO_UPDATE_VADDR), 0);

    /* The container is as new. */
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    munmap(memory, FX_PAGE);
}

static void two_groups_share_the_iommu(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), other[16], byte = 'd';
    int second;

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    fx_open_device(fx);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(sim_device_dma(fx->sim, other, 0, &byte, 1, true), -EFAULT);
    second = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(sim_device_dma(fx->sim, other, 0, &byte, 1, true), 0);

    /* The first one goes; the mappings stay with the second. */
    host_close(fx->host, &fx->device);
    host_close(fx->host, &fx->group);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), -EFAULT);
    assert_int_equal(sim_device_dma(fx->sim, other, 0, &byte, 1, true), 0);
    assert_int_equal(fx_stats(fx).mappings, 1);
    host_close(fx->host, &second);
    assert_int_equal(fx_stats(fx).mappings, 0);
    munmap(memory, FX_PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(extensions, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(set_iommu_rules, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unknown_ioctls, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(mappings_outlive_the_containers_descriptor, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(the_last_group_takes_the_iommu_along, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(two_groups_share_the_iommu, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
