#include "tests/unit/sim_fixture.h"

static uint32_t status_of(struct fixture *fx)
{
    struct vfio_group_status status = {.argsz = sizeof(status), .flags = ~0u};

    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_STATUS, &status), 0);
    return status.flags;
}

static void one_opener(void **state)
{
    struct fixture *fx = *state;

    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    host_close(fx->host, &fx->group);
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
}

static void the_file_exists_for_vfio_alone(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "e1000e"), 0);
    assert_int_equal(fx_open(fx, fx->group_path), -ENOENT);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, ""), 0);
    assert_int_equal(fx_open(fx, fx->group_path), -ENOENT);
}

static void status(void **state)
{
    struct fixture *fx = *state;
    struct vfio_group_status small = {.argsz = sizeof(small) - 1};

    fx->group = fx_open(fx, fx->group_path);
    assert_int_equal(status_of(fx), VFIO_GROUP_FLAGS_VIABLE);
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(status_of(fx), VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_STATUS, &small), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_STATUS, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GET_API_VERSION, NULL), -ENOTTY);
}

static void viability_depends_on_the_siblings(void **state)
{
    static const struct {
        const char *driver;
        bool viable;
    } cases[] = {
        {"",         true },
        {"vfio-pci", true },
        {"pci-stub", true },
        {"nvme",     false},
    };
    struct fixture *fx = *state;
    char sibling[16];

    assert_int_equal(sim_add_device(fx->sim, "edu", sibling, sizeof(sibling)), 0);
    assert_int_equal(sim_join_group(fx->sim, sibling, fx->bdf), 0);
    fx->group = fx_open(fx, fx->group_path);
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sim_set_driver(fx->sim, sibling, cases[i].driver), 0);
        assert_int_equal(status_of(fx), cases[i].viable ? VFIO_GROUP_FLAGS_VIABLE : 0);
        assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container),
                         cases[i].viable ? 0 : -EPERM);
        if (cases[i].viable)
            assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    }
}

static void set_container_rules(void **state)
{
    struct fixture *fx = *state;
    int fd = -1, pipes[2], other;

    fx->group = fx_open(fx, fx->group_path);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fd), -EBADF);
    fd = 9999;
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fd), -EBADF);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &pipes[0]), -EINVAL);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->group), -EINVAL);

    fx->container = fx_open(fx, "/dev/vfio/vfio");
    other = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &other), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &other), 0);
    host_close(fx->host, &other);
}

static void get_device_rules(void **state)
{
    struct fixture *fx = *state;
    char sibling[16], name[64], *page = malloc(5000);

    assert_int_equal(sim_add_device(fx->sim, "edu", sibling, sizeof(sibling)), 0);
    assert_int_equal(sim_join_group(fx->sim, sibling, fx->bdf), 0);
    assert_int_equal(sim_set_driver(fx->sim, sibling, "pci-stub"), 0);
    fx->group = fx_open(fx, fx->group_path);
    assert_int_equal(fx_get_device(fx, "0000:00:1f.0"), -ENODEV);
    assert_int_equal(fx_get_device(fx, fx->bdf), -EINVAL); /* in no container */
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_get_device(fx, fx->bdf), -EINVAL); /* without an IOMMU */
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);

    assert_int_equal(fx_get_device(fx, sibling), -ENODEV); /* not vfio-pci's */
    snprintf(name, sizeof(name), "%sx", fx->bdf);
    assert_int_equal(fx_get_device(fx, name), -ENODEV);
    snprintf(name, sizeof(name), "%s vf_token=1-2", fx->bdf);
    assert_int_equal(fx_get_device(fx, name), -EINVAL);
    memset(page, 'x', 4999);
    page[4999] = '\0';
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_DEVICE_FD, page), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_GET_DEVICE_FD, NULL), -EFAULT);
    free(page);
    snprintf(name, sizeof(name), "%s ", fx->bdf);
    fx->device = fx_get_device(fx, name);
    assert_true(fx->device >= 0);
}

static void a_device_of_another_group(void **state)
{
    struct fixture *fx = *state;
    char other[16];

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    assert_int_equal(fx_get_device(fx, other), -ENODEV);
}

static void unset_container_while_a_device_is_open(void **state)
{
    struct fixture *fx = *state;
    int again;

    fx_open_device(fx);
    again = fx_get_device(fx, fx->bdf);
    assert_true(again >= 0);
    assert_int_equal(fx_stats(fx).devices, 2);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
    host_close(fx->host, &again);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
}

static void open_failures_of_the_group_leave_it_free(void **state)
{
    struct fixture *fx = *state;

    sim_fail_nth(fx->sim, SIM_CALL_OPEN, 0, 1, ENOMEM);
    assert_int_equal(fx_open(fx, fx->group_path), -ENOMEM);
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_opener, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(the_file_exists_for_vfio_alone, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(status, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(viability_depends_on_the_siblings, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(set_container_rules, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(get_device_rules, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(a_device_of_another_group, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unset_container_while_a_device_is_open, fx_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(open_failures_of_the_group_leave_it_free, fx_setup,
                                        fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
