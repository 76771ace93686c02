#include "tests/unit/sim_probe.h"

#include <pthread.h>

static int get_region(struct fixture *fx, uint32_t index, struct vfio_region_info *info)
{
    *info = (struct vfio_region_info){.argsz = sizeof(*info), .index = index};
    return fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, info);
}

static void device_info(void **state)
{
    struct fixture *fx = *state;
    struct vfio_device_info info = {.argsz = 15};

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
    info = (struct vfio_device_info){.argsz = 16, .cap_offset = 0x55};
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
    assert_int_equal(info.num_regions, VFIO_PCI_NUM_REGIONS);
    assert_int_equal(info.num_irqs, VFIO_PCI_NUM_IRQS);
    assert_int_equal(info.cap_offset, 0x55);
    info.argsz = sizeof(info);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), 0);
    assert_int_equal(info.cap_offset, 0);
}

static void regions_of_edu(void **state)
{
    const uint32_t rw = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    struct fixture *fx = *state;
    struct vfio_region_info info;

    assert_int_equal(get_region(fx, VFIO_PCI_BAR0_REGION_INDEX, &info), 0);
    assert_int_equal(info.size, 1 << 20);
    assert_int_equal(info.flags, rw); /* registers: there is no memory that could be mapped */
    assert_int_equal(info.offset, 0);
    for (uint32_t i = 1; i <= VFIO_PCI_ROM_REGION_INDEX; i++) {
        assert_int_equal(get_region(fx, i, &info), 0);
        assert_int_equal(info.size, 0);
        assert_int_equal(info.flags, 0);
        assert_int_equal(info.offset, (uint64_t)i << 40);
    }
    assert_int_equal(get_region(fx, VFIO_PCI_CONFIG_REGION_INDEX, &info), 0);
    assert_int_equal(info.size, 256);
    assert_int_equal(info.flags, rw);
    assert_int_equal(info.offset, UINT64_C(7) << 40);
    assert_int_equal(get_region(fx, VFIO_PCI_VGA_REGION_INDEX, &info), -EINVAL);
    assert_int_equal(get_region(fx, VFIO_PCI_NUM_REGIONS, &info), -EINVAL);
    assert_int_equal(get_region(fx, UINT32_MAX, &info), -EINVAL);
    info.argsz = sizeof(info) - 1;
    info.index = 0;
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &info), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, NULL), -EFAULT);
}

static void regions_of_other_kinds(void **state)
{
    struct fixture *fx = *state;
    struct {
        struct vfio_region_info info;
        struct vfio_info_cap_header cap;
    } msix = {0};
    struct vfio_region_info info;

    assert_int_equal(get_region(fx, VFIO_PCI_BAR3_REGION_INDEX, &info), 0);
    assert_int_equal(info.flags, VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
    assert_int_equal(get_region(fx, VFIO_PCI_BAR5_REGION_INDEX, &info), 0);
    assert_int_equal(info.size, 256);
    assert_int_equal(get_region(fx, VFIO_PCI_BAR2_REGION_INDEX, &info), 0);
    assert_int_equal(info.size, 0);
    assert_int_equal(get_region(fx, VFIO_PCI_CONFIG_REGION_INDEX, &info), 0);
    assert_int_equal(info.size, 4096);

    /* The BAR with the MSI-X table says so, if there is room. */
    assert_int_equal(get_region(fx, VFIO_PCI_BAR0_REGION_INDEX, &info), 0);
    assert_true(info.flags & VFIO_REGION_INFO_FLAG_CAPS);
    assert_int_equal(info.cap_offset, 0);
    assert_int_equal(info.argsz, sizeof(msix));
    msix.info.argsz = sizeof(msix);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &msix), 0);
    assert_int_equal(msix.info.cap_offset, sizeof(msix.info));
    assert_int_equal(msix.cap.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
    assert_int_equal(msix.cap.version, 1);
    assert_int_equal(msix.cap.next, 0);
}

static int get_irq(struct fixture *fx, uint32_t index, struct vfio_irq_info *info)
{
    *info = (struct vfio_irq_info){.argsz = sizeof(*info), .index = index};
    return fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_IRQ_INFO, info);
}

static void assert_irq(struct fixture *fx, uint32_t index, uint32_t count, uint32_t flags)
{
    struct vfio_irq_info info;

    assert_int_equal(get_irq(fx, index, &info), 0);
    assert_int_equal(info.count, count);
    assert_int_equal(info.flags, flags);
}

static void irqs(void **state)
{
    const uint32_t intx = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    const uint32_t set = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
    struct fixture *fx = *state;
    struct vfio_irq_info info;

    assert_irq(fx, VFIO_PCI_INTX_IRQ_INDEX, 1, intx);
    assert_irq(fx, VFIO_PCI_MSI_IRQ_INDEX, 1, set);
    assert_irq(fx, VFIO_PCI_MSIX_IRQ_INDEX, 0, set);
    assert_irq(fx, VFIO_PCI_REQ_IRQ_INDEX, 1, set);
    assert_int_equal(get_irq(fx, VFIO_PCI_ERR_IRQ_INDEX, &info), -EINVAL);
    assert_int_equal(get_irq(fx, VFIO_PCI_NUM_IRQS, &info), -EINVAL);
    info.argsz = sizeof(info) - 1;
    info.index = 0;
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_IRQ_INFO, &info), -EINVAL);
}

static void irqs_of_an_express_device(void **state)
{
    const uint32_t set = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
    struct fixture *fx = *state;

    assert_irq(fx, VFIO_PCI_MSI_IRQ_INDEX, 4, set);
    assert_irq(fx, VFIO_PCI_MSIX_IRQ_INDEX, 8, set);
    assert_irq(fx, VFIO_PCI_ERR_IRQ_INDEX, 1, set);
}

static void reset_clears_the_registers(void **state)
{
    struct fixture *fx = *state;
    unsigned before = fx_stats(fx).resets;

    fx_bar_set(fx, 4, 0x12345678);
    assert_int_equal(fx_bar_get(fx, 4), ~0x12345678u);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_bar_get(fx, 4), 0);
    assert_int_equal(fx_stats(fx).resets, before + 1);
}

static void without_reset_registers_stay(void **state)
{
    struct fixture *fx = *state;
    struct vfio_device_info info = {.argsz = sizeof(info)};
    unsigned before = fx_stats(fx).resets;

    assert_int_equal(sim_set_no_reset(fx->sim, fx->bdf), 0);
    fx_open_device(fx);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_PCI);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), -EINVAL);
    fx_bar_set(fx, 4, 0x12345678);
    fx_set_bus_master(fx, true);
    fx_close_all(fx);
    assert_false(fx_state(fx).bus_master);
    fx_open_device(fx);
    assert_int_equal(fx_bar_get(fx, 4), ~0x12345678u);
    assert_int_equal(fx_stats(fx).resets, before);
}

static void open_and_close_reset(void **state)
{
    struct fixture *fx = *state;
    unsigned before = fx_stats(fx).resets;

    fx_open_device(fx);
    assert_int_equal(fx_stats(fx).resets, before + 1);
    fx_bar_set(fx, 4, 0x12345678);
    fx_close_all(fx);
    assert_int_equal(fx_stats(fx).resets, before + 2);
    fx_open_device(fx);
    assert_int_equal(fx_bar_get(fx, 4), 0);
}

static void hot_reset(void **state)
{
    struct fixture *fx = *state;
    struct vfio_pci_hot_reset_info info = {.argsz = sizeof(info)};
    struct vfio_pci_hot_reset reset = {.argsz = sizeof(reset)};

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENODEV);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_PCI_HOT_RESET, &reset), -ENODEV);
    info.argsz--;
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -EINVAL);
}

static int ask_feature(struct fixture *fx, uint32_t argsz, uint32_t flags)
{
    struct vfio_device_feature feature = {.argsz = argsz, .flags = flags};

    return fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, &feature);
}

static void features(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(ask_feature(fx, 8, VFIO_DEVICE_FEATURE_PROBE | 0xfffe), -ENOTTY);
    assert_int_equal(ask_feature(fx, 8, VFIO_DEVICE_FEATURE_GET | 0xffff), -ENOTTY);
    assert_int_equal(ask_feature(fx, 7, VFIO_DEVICE_FEATURE_GET), -EINVAL);
    assert_int_equal(ask_feature(fx, 8, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET),
                     -EINVAL);
    assert_int_equal(
        ask_feature(fx, 8,
                    VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET),
        -ENOTTY);
    assert_int_equal(ask_feature(fx, 8, 1u << 31), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, NULL), -EFAULT);
}

static void unknown_ioctls(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_GET_API_VERSION, NULL), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_QUERY_GFX_PLANE, NULL), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, fx->device, 0, NULL), -ENOTTY);
}

struct user {
    struct fixture *fx;
    int device;
    uint32_t seed;
    unsigned wrong;
};

static void *use_device(void *arg)
{
    struct user *user = arg;

    for (uint32_t i = 0; i < 2000; i++) {
        uint32_t value = user->seed + i, back = 0;

        user->wrong += host_pwrite(user->fx->host, user->device, &value, 4, 4) != 4;
        user->wrong += host_pread(user->fx->host, user->device, &back, 4, 4) != 4;
        user->wrong += back != ~value;
        if (i % 100 == 0)
            user->wrong += host_ioctl(user->fx->host, user->device, VFIO_DEVICE_RESET, NULL) != 0;
    }
    return NULL;
}

static void two_devices_at_once(void **state)
{
    struct fixture *fx = *state;
    struct user users[2] = {
        {.fx = fx, .device = fx->device},
        {.fx = fx, .seed = 0x80000000  }
    };
    pthread_t threads[2];
    char bdf[16];
    int group;

    assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    group = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    users[1].device = fx_ioctl(fx, group, VFIO_GROUP_GET_DEVICE_FD, bdf);
    assert_true(users[1].device >= 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_device, &users[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(users[i].wrong, 0);
    }
    host_close(fx->host, &users[1].device);
    host_close(fx->host, &group);
}

static void *close_and_open(void *arg)
{
    struct user *user = arg;

    for (int i = 0; i < 200; i++) {
        int fd = fx_get_device(user->fx, user->fx->bdf);

        user->wrong += fd < 0;
        host_close(user->fx->host, &fd);
    }
    return NULL;
}

/* Another thread's call on a descriptor that is being closed ends well or in EBADF. */
static void *read_what_is_open(void *arg)
{
    struct user *user = arg;

    for (int i = 0; i < 5000; i++) {
        uint32_t id = 0;
        ssize_t n = host_pread(user->fx->host, user->device, &id, 4, 0);

        user->wrong += n != 4 || id != 0x010000ed;
    }
    return NULL;
}

static void descriptors_come_and_go_meanwhile(void **state)
{
    struct fixture *fx = *state;
    struct user users[3] = {
        {.fx = fx},
        {        .fx = fx       },
        { .fx = fx,        .device = fx->device}
    };
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL,
                                        i < 2 ? close_and_open : read_what_is_open, &users[i]),
                         0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(users[i].wrong, 0);
    }
    assert_int_equal(fx_stats(fx).devices, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(device_info, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(regions_of_edu, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(regions_of_other_kinds, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(irqs, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(irqs_of_an_express_device, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(reset_clears_the_registers, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(without_reset_registers_stay, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(open_and_close_reset, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(hot_reset, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(features, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(unknown_ioctls, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(two_devices_at_once, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(descriptors_come_and_go_meanwhile, fx_setup_open,
                                        fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
