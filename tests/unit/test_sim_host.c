#include "tests/unit/sim_fixture.h"

#include <sys/resource.h>

static void only_its_own_paths_exist(void **state)
{
    static const char *const absent[] = {
        "/proc/self/maps",   "/dev/null",    "/dev/vfio", "/dev/vfio/", "/dev/vfio/12345",
        "/dev/vfio/vfi",     "/dev/vfio/7x", "/",         "",           "relative",
        "/sys/bus/pci/none",
    };
    struct fixture *fx = *state;

    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
        assert_int_equal(fx_open(fx, absent[i]), -ENOENT);
}

static void descriptors_are_real_and_closed_on_exec(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_open(fx, "/dev/vfio/vfio");

    assert_true(fd >= 0);
    assert_int_equal(fd_count_open(), fx->fds + 1);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    host_close(fx->host, &fd);
    assert_int_equal(fd, -1);
    assert_int_equal(fd_count_open(), fx->fds);
}

static void other_descriptors_go_to_the_kernel(void **state)
{
    struct fixture *fx = *state;
    char byte = 'x';
    void *addr;
    int fd;

    munmap(fx_memory(FX_PAGE, &fd), FX_PAGE);
    assert_int_equal(host_pwrite(fx->host, fd, &byte, 1, 7), 1);
    byte = 0;
    assert_int_equal(host_pread(fx->host, fd, &byte, 1, 7), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(host_mmap(fx->host, &addr, FX_PAGE, PROT_READ, MAP_SHARED, fd, 0), 0);
    assert_int_equal(((char *)addr)[7], 'x');
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
    assert_int_equal(fx_ioctl(fx, fd, VFIO_GET_API_VERSION, NULL), -ENOTTY);
    host_close(fx->host, &fd);
    assert_int_equal(fx_ioctl(fx, 9999, VFIO_GET_API_VERSION, NULL), -EBADF);
    assert_int_equal(host_pread(fx->host, 9999, &byte, 1, 0), -EBADF);
    assert_int_equal(fx->host->ops->close(fx->host, 9999), -EBADF);
}

static void calls_that_a_kind_of_file_lacks(void **state)
{
    struct fixture *fx = *state;
    char byte = 0;
    void *addr;

    fx_open_device(fx);
    assert_int_equal(host_pread(fx->host, fx->container, &byte, 1, 0), -EINVAL);
    assert_int_equal(host_pwrite(fx->host, fx->group, &byte, 1, 0), -EINVAL);
    assert_int_equal(host_pread(fx->host, fx->device, &byte, 1, -1), -EINVAL);
    assert_int_equal(host_mmap(fx->host, &addr, FX_PAGE, PROT_READ, MAP_SHARED, fx->group, 0),
                     -ENODEV);
}

static void out_of_descriptors(void **state)
{
    struct fixture *fx = *state;
    struct rlimit before, limit;
    int lowest;

    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    lowest = dup(0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(fx_open(fx, "/dev/vfio/vfio"), -EMFILE);
    assert_int_equal(fx_get_device(fx, fx->bdf), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);

    /* The device that had no descriptor holds nothing. */
    assert_int_equal(fx_stats(fx).devices, 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
}

static void open_errors_of_a_path(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(sim_set_open_error(fx->sim, "/dev/vfio/vfio", EACCES), 0);
    assert_int_equal(sim_set_open_error(fx->sim, fx->group_path, EPERM), 0);
    assert_int_equal(fx_open(fx, "/dev/vfio/vfio"), -EACCES);
    assert_int_equal(fx_open(fx, "/dev/vfio/vfio"), -EACCES);
    assert_int_equal(fx_open(fx, fx->group_path), -EPERM);
    assert_int_equal(sim_set_open_error(fx->sim, "/dev/vfio/vfio", 0), 0);
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_true(fx->container >= 0);
}

static void fault_plan_hits_the_nth_call_once(void **state)
{
    struct fixture *fx = *state;
    char link[128];

    fx_open_device(fx);
    sim_fail_nth(fx->sim, SIM_CALL_IOCTL, 0, 2, EIO);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), 0);
    assert_false(sim_fault_spent(fx->sim));
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), -EIO);
    assert_true(sim_fault_spent(fx->sim));
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), 0);

    sim_fail_nth(fx->sim, SIM_CALL_READLINK, 0, 1, EACCES);
    assert_int_equal(fx_open(fx, "/absent"), -ENOENT);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/driver", fx->bdf);
    assert_int_equal(host_readlink(fx->host, link, link, sizeof(link)), -EACCES);

    sim_fail_nth(fx->sim, SIM_CALL_ANY, 0, 1, ENOMEM);
    sim_fail_nth(fx->sim, SIM_CALL_ANY, 0, 0, ENOMEM);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), 0);
    assert_false(sim_fault_spent(fx->sim));
}

static void fault_plan_chooses_kind_and_request(void **state)
{
    struct fixture *fx = *state;
    uint32_t value = 0x12345678;
    void *addr;

    fx_open_device(fx);
    sim_fail_nth(fx->sim, SIM_CALL_IOCTL, VFIO_DEVICE_RESET, 1, EAGAIN);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_GET_API_VERSION, NULL), 0);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), -EAGAIN);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);

    sim_fail_nth(fx->sim, SIM_CALL_PWRITE, 0, 1, EIO);
    assert_int_equal(fx_bar_get(fx, 4), 0);
    assert_int_equal(fx_write(fx, 0, 4, &value, 4), -EIO);
    assert_int_equal(fx_bar_get(fx, 4), 0); /* without effect */
    sim_fail_nth(fx->sim, SIM_CALL_PREAD, 0, 1, EIO);
    assert_int_equal(fx_read(fx, 0, 4, &value, 4), -EIO);
    sim_fail_nth(fx->sim, SIM_CALL_OPEN, 0, 1, EMFILE);
    assert_int_equal(fx_open(fx, "/dev/vfio/vfio"), -EMFILE);
    sim_fail_nth(fx->sim, SIM_CALL_MMAP, 0, 1, ENOMEM);
    assert_int_equal(
        host_mmap(fx->host, &addr, FX_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        -ENOMEM);
    assert_true(sim_fault_spent(fx->sim));
}

static void ioctls_are_counted(void **state)
{
    struct fixture *fx = *state;
    unsigned before = fx_stats(fx).ioctls;

    fx_open_device(fx);
    assert_int_equal(fx_stats(fx).ioctls, before + 3);
}

static void devices_get_addresses_in_order(void **state)
{
    struct fixture *fx = *state;
    char bdf[13];

    assert_string_equal(fx->bdf, "0000:00:01.0");
    for (int i = 2; i <= 32; i++)
        assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_string_equal(bdf, "0000:01:00.0");
    assert_int_equal(sim_add_device(fx->sim, "no-such", bdf, sizeof(bdf)), -ENOENT);
}

static void unknown_addresses(void **state)
{
    struct fixture *fx = *state;
    struct sim_device_state device;
    char byte = 0;

    assert_int_equal(sim_set_driver(fx->sim, "0000:00:1f.0", "x"), -ENODEV);
    assert_int_equal(sim_set_no_reset(fx->sim, "0000:00:1f.0"), -ENODEV);
    assert_int_equal(sim_join_group(fx->sim, "0000:00:1f.0", fx->bdf), -ENODEV);
    assert_int_equal(sim_join_group(fx->sim, fx->bdf, "0000:00:1f.0"), -ENODEV);
    assert_int_equal(sim_get_device_state(fx->sim, "0000:00:1f.0", &device), -ENODEV);
    assert_int_equal(sim_device_dma(fx->sim, "0000:00:1f.0", 0, &byte, 1, false), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_its_own_paths_exist, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(descriptors_are_real_and_closed_on_exec, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(other_descriptors_go_to_the_kernel, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(calls_that_a_kind_of_file_lacks, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(out_of_descriptors, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(open_errors_of_a_path, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(fault_plan_hits_the_nth_call_once, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(fault_plan_chooses_kind_and_request, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(ioctls_are_counted, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(devices_get_addresses_in_order, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unknown_addresses, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
