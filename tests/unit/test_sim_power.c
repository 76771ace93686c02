/* Low power as vfio-pci has it: drivers/vfio/pci/vfio_pci_core.c of Linux. */
#include "tests/unit/sim_fixture.h"

enum {
    ENTRY = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    ENTRY_WITH_WAKEUP = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    EXIT = VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    SET = VFIO_DEVICE_FEATURE_SET,
    GET = VFIO_DEVICE_FEATURE_GET,
    PROBE = VFIO_DEVICE_FEATURE_PROBE,
};

static int feature(struct fixture *fx, uint32_t flags, size_t size, int fd)
{
    struct {
        struct vfio_device_feature head;
        struct vfio_device_low_power_entry_with_wakeup entry;
    } request = {
        .head = {.argsz = (uint32_t)(sizeof(request.head) + size), .flags = flags},
        .entry = {.wakeup_eventfd = fd                                               },
    };

    return fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, &request);
}

static int set(struct fixture *fx, uint32_t number)
{
    return feature(fx, SET | number, 0, -1);
}

static int enter_with(struct fixture *fx, int fd)
{
    return feature(fx, SET | ENTRY_WITH_WAKEUP, 8, fd);
}

static void requests(void **state)
{
    static const uint32_t numbers[] = {ENTRY, ENTRY_WITH_WAKEUP, EXIT};
    struct fixture *fx = *state;
    int event = fx_eventfd(), pipes[2];

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(feature(fx, PROBE | numbers[i], 0, -1), 0);
        assert_int_equal(feature(fx, PROBE | SET | numbers[i], 0, -1), 0);
        assert_int_equal(feature(fx, PROBE | GET | numbers[i], 0, -1), -EINVAL);
        assert_int_equal(feature(fx, GET | numbers[i], 8, -1), -EINVAL);
    }
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(feature(fx, SET | ENTRY_WITH_WAKEUP, 7, event), -EINVAL);
    assert_int_equal(enter_with(fx, -1), -EINVAL);
    assert_int_equal(enter_with(fx, pipes[0]), -EINVAL);
    assert_int_equal(enter_with(fx, 12345), -EBADF);
    assert_false(fx_state(fx).may_sleep);

    assert_int_equal(set(fx, EXIT), 0);
    assert_int_equal(set(fx, ENTRY), 0);
    assert_int_equal(set(fx, ENTRY), -EINVAL);
    assert_int_equal(enter_with(fx, event), -EINVAL);
    assert_int_equal(set(fx, EXIT), 0);
    assert_false(fx_state(fx).may_sleep);
    close(event);
    close(pipes[0]);
    close(pipes[1]);
}

/* Each access wakes it for as long as it takes. */
static void sleep_again_and_again(void **state)
{
    struct fixture *fx = *state;
    struct vfio_device_info info = {.argsz = sizeof(info)};

    fx_set_bus_master(fx, true);
    assert_int_equal(set(fx, ENTRY), 0);
    assert_true(fx_state(fx).asleep);
    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 2), 0x1234);
    fx_bar_set(fx, 4, 0);
    assert_int_equal(fx_bar_get(fx, 4), ~0u);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), 0);
    assert_true(fx_state(fx).asleep);
    assert_true(fx_state(fx).bus_master); /* the register keeps it */
    assert_int_equal(set(fx, EXIT), 0);
    assert_false(fx_state(fx).asleep);
}

/* The eventfd tells of the first one, after which it stays awake. */
static void wake_once(void **state)
{
    struct fixture *fx = *state;
    int event = fx_eventfd();

    assert_int_equal(enter_with(fx, event), 0);
    assert_true(fx_state(fx).asleep);
    assert_int_equal(fx_events(event), 0);
    fx_bar_get(fx, 0);
    assert_int_equal(fx_events(event), 1);
    assert_false(fx_state(fx).may_sleep);
    assert_false(fx_state(fx).asleep);
    fx_bar_get(fx, 0);
    assert_int_equal(fx_events(event), 0);
    /* And again; its exit is an access as others are. */
    assert_int_equal(enter_with(fx, event), 0);
    assert_int_equal(set(fx, EXIT), 0);
    assert_int_equal(fx_events(event), 1);
    close(event);
}

static void close_ends_it(void **state)
{
    struct fixture *fx = *state;
    int event = fx_eventfd(), fds = fd_count_open();

    assert_int_equal(enter_with(fx, event), 0);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_events(event), 1);
    assert_int_equal(fd_count_open(), fds - 1); /* the device's alone */
    assert_false(fx_state(fx).may_sleep);
    assert_false(fx_state(fx).asleep);
    fx->device = fx_get_device(fx, fx->bdf);
    fx_bar_get(fx, 0);
    assert_int_equal(fx_events(event), 0);
    close(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(sleep_again_and_again, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(wake_once, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(close_ends_it, fx_setup_open, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
