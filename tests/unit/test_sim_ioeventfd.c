#include "tests/unit/sim_fixture.h"

#include <sys/resource.h>

enum {
    REG_RAISE = 0x04,
    REG_SCRATCH = 0x0c, /* of sim:testdev */
    MSIX_BAR = 2,
    MSIX_END = 64 * 16,
    MOST = 1000,
};

static int setup(void **state)
{
    fx_setup_model(state, &sim_testdev_model);
    fx_open_device(*state);
    return 0;
}

static int set_flags(struct fixture *fx, unsigned region, uint64_t at, uint32_t flags,
                     uint64_t data, int fd)
{
    struct vfio_device_ioeventfd arg = {
        .argsz = sizeof(arg),
        .flags = flags,
        .offset = (uint64_t)fx_offset(fx, region, at),
        .data = data,
        .fd = fd,
    };

    return fx_ioctl(fx, fx->device, VFIO_DEVICE_IOEVENTFD, &arg);
}

static int set(struct fixture *fx, unsigned region, uint64_t at, uint64_t data, int fd)
{
    return set_flags(fx, region, at, VFIO_DEVICE_IOEVENTFD_32, data, fd);
}

/* The machine's thread does it: at the latest when the test's time is over. */
static void await_scratch(struct fixture *fx, uint32_t value)
{
    while (fx_bar_get(fx, REG_SCRATCH) != value)
        sched_yield();
}

static void refused(void **state)
{
    struct fixture *fx = *state;
    struct vfio_device_ioeventfd small = {.argsz = offsetof(struct vfio_device_ioeventfd, fd) + 3};
    int fd = fx_eventfd(), memfd = memfd_create("x", MFD_CLOEXEC);

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_IOEVENTFD, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_IOEVENTFD, &small), -EINVAL);
    assert_int_equal(set_flags(fx, 0, 0, 0, 0, fd), -EINVAL);
    assert_int_equal(set_flags(fx, 0, 0, 3, 0, fd), -EINVAL);
    assert_int_equal(set_flags(fx, 0, 0, 8, 0, fd), -EINVAL);
    assert_int_equal(set_flags(fx, 0, 0, 4 | 0x10, 0, fd), -EINVAL);
    assert_int_equal(set(fx, 0, 0, 0, -2), -EINVAL);
    assert_int_equal(set(fx, 0, 4096, 0, fd), -EINVAL);
    assert_int_equal(set(fx, 0, 4094, 0, fd), -EINVAL);
    assert_int_equal(set(fx, 1, 16, 0, fd), -EINVAL); /* its ports */
    assert_int_equal(set(fx, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, 0, fd), -EINVAL);
    assert_int_equal(set(fx, 100, 0, 0, fd), -EINVAL);
    assert_int_equal(set(fx, MSIX_BAR, 0, 0, fd), -EINVAL);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END - 1, 0, fd), -EINVAL);
    assert_int_equal(set(fx, 0, 0, 0, memfd), -EINVAL);
    assert_int_equal(set(fx, 0, 0, 0, 9999), -EBADF);
    assert_int_equal(set(fx, 0, 0, 0, -1), -ENODEV);
    assert_int_equal(fx_state(fx).doorbells, 0);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END, 0, fd), 0);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END, 0, fd), -EEXIST);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END, 1, fd), 0);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END, 0, -1), 0);
    assert_int_equal(set(fx, MSIX_BAR, MSIX_END, 0, -1), -ENODEV);
    assert_int_equal(fx_state(fx).doorbells, 1);
    close(fd);
    close(memfd);
}

static void rings(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), other = fx_eventfd(), event = fx_eventfd();

    fx_set_bus_master(fx, true);
    assert_int_equal(set(fx, 0, REG_SCRATCH, 0x12345678, fd), 0);
    assert_int_equal(set(fx, 0, REG_SCRATCH, 0x9abc, other), 0);
    eventfd_write(fd, 1);
    await_scratch(fx, 0x12345678);
    eventfd_write(other, 5);
    await_scratch(fx, 0x9abc);

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSIX_IRQ_INDEX, event), 0);
    assert_int_equal(set(fx, 0, REG_RAISE, 0, event), 0); /* the interrupt's own: a circle */
    assert_int_equal(set(fx, 0, REG_RAISE, 0, -1), 0);
    assert_int_equal(set(fx, 0, REG_RAISE, 0, fd), 0);
    eventfd_write(fd, 1);
    assert_true(fx_wait_event(event) >= 1);

    /* Not while memory is not decoded; what is rung after that has an effect again. */
    fx_config_set(fx, PCI_COMMAND, 0, 2);
    eventfd_write(fd, 1);
    while (fx_events(fd))
        eventfd_write(fd, 1);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    eventfd_write(other, 1);
    await_scratch(fx, 0x9abc);
    close(fd);
    close(other);
    close(event);
}

static void taken_away(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), other = fx_eventfd();

    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(set(fx, 0, REG_SCRATCH, 1, fd), 0);
    assert_int_equal(set(fx, 0, REG_SCRATCH, 1, -1), 0);
    eventfd_write(fd, 1);
    assert_int_equal(set(fx, 0, REG_SCRATCH, 2, other), 0);
    eventfd_write(other, 1);
    await_scratch(fx, 2);
    assert_int_equal(fx_events(fd), 1); /* nobody has taken it */

    /* A reset leaves them; the last close does not. */
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_state(fx).doorbells, 1);
    eventfd_write(other, 1);
    await_scratch(fx, 2);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_state(fx).doorbells, 0);
    close(fd);
    close(other);
}

static void most(void **state)
{
    struct fixture *fx = *state;
    struct rlimit before, limit;
    int fd = fx_eventfd();

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur > MOST + 100) {
        for (unsigned i = 0; i < MOST; i++)
            assert_int_equal(set(fx, 0, REG_SCRATCH, i, fd), 0);
        assert_int_equal(set(fx, 0, REG_SCRATCH, MOST, fd), -ENOSPC);
        assert_int_equal(set(fx, 0, REG_SCRATCH, 0, fd), -EEXIST);
        assert_int_equal(set(fx, 0, REG_SCRATCH, 0, -1), 0);
        assert_int_equal(set(fx, 0, REG_SCRATCH, MOST, fd), 0);
    }
    close(fd);
    host_close(fx->host, &fx->device);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(refused, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(rings, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(taken_away, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(most, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
