#include "tests/unit/sim_fixture.h"

static const char *at(const struct fixture *fx, const char *rest)
{
    static char path[128];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s%s", fx->bdf, rest);
    return path;
}

static void assert_link(struct fixture *fx, const char *path, const char *target)
{
    char buf[128];

    assert_int_equal(host_readlink(fx->host, path, buf, sizeof(buf)), strlen(target));
    assert_string_equal(buf, target);
}

static void assert_no_link(struct fixture *fx, const char *path)
{
    char buf[128];

    assert_int_equal(host_readlink(fx->host, path, buf, sizeof(buf)), -ENOENT);
}

static void assert_file(struct fixture *fx, const char *rest, const char *content)
{
    int fd = host_open(fx->host, at(fx, rest), O_RDONLY);
    char buf[64] = {0};

    assert_true(fd >= 0);
    assert_int_equal(host_pread(fx->host, fd, buf, sizeof(buf) - 1, 0), strlen(content));
    assert_string_equal(buf, content);
    assert_int_equal(host_pread(fx->host, fd, buf, sizeof(buf), (off_t)strlen(content)), 0);
    assert_int_equal(host_pwrite(fx->host, fd, buf, 1, 0), -EBADF);
    assert_int_equal(fx_ioctl(fx, fd, VFIO_GET_API_VERSION, NULL), -ENOTTY);
    host_close(fx->host, &fd);
}

static void attributes_of_a_device(void **state)
{
    struct fixture *fx = *state;
    uint8_t config[512];
    int fd;

    assert_file(fx, "/vendor", "0x1234\n");
    assert_file(fx, "/device", "0x11e8\n");
    assert_file(fx, "/subsystem_vendor", "0x1af4\n");
    assert_file(fx, "/subsystem_device", "0x1100\n");
    assert_file(fx, "/revision", "0x10\n");
    assert_file(fx, "/class", "0x00ff00\n");
    fd = host_open(fx->host, at(fx, "/config"), O_RDONLY);
    assert_int_equal(host_pread(fx->host, fd, config, sizeof(config), 0), 256);
    assert_memory_equal(config, "\x34\x12\xe8\x11", 4);
    host_close(fx->host, &fd);

    assert_int_equal(host_open(fx->host, at(fx, "/vendor"), O_RDWR), -EACCES);
    assert_int_equal(host_open(fx->host, at(fx, ""), O_RDONLY), -EISDIR);
    assert_int_equal(host_open(fx->host, at(fx, "/absent"), O_RDONLY), -ENOENT);
    assert_int_equal(host_open(fx->host, at(fx, "/vendor/x"), O_RDONLY), -ENOENT);
    assert_int_equal(host_open(fx->host, "/sys/bus/pci/devices/0000:00:1e.0/vendor", O_RDONLY),
                     -ENOENT);
}

static void links_of_a_device(void **state)
{
    struct fixture *fx = *state;
    char buf[8], other[16];

    assert_link(fx, at(fx, ""), "../../../devices/pci0000:00/0000:00:01.0");
    assert_link(fx, at(fx, "/driver"), "../../../bus/pci/drivers/vfio-pci");
    assert_link(fx, at(fx, "/iommu_group"), "../../../kernel/iommu_groups/7");
    assert_link(fx, "/sys/kernel/iommu_groups/7/devices/0000:00:01.0",
                "../../../../devices/pci0000:00/0000:00:01.0");
    assert_int_equal(host_readlink(fx->host, at(fx, "/driver"), buf, sizeof(buf)), -ENAMETOOLONG);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, ""), 0);
    assert_no_link(fx, at(fx, "/driver"));
    assert_no_link(fx, at(fx, "/vendor"));
    assert_no_link(fx, at(fx, "/driver/x"));
    assert_no_link(fx, "/sys/kernel/iommu_groups/8/devices/0000:00:01.0");
    assert_no_link(fx, "/sys/kernel/iommu_groups/07/devices/0000:00:01.0");
    assert_no_link(fx, "/sys/bus/pci/devices");
    assert_no_link(fx, "/proc/self/exe");
    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    assert_no_link(fx, "/sys/kernel/iommu_groups/8/devices/0000:00:01.0");
    assert_no_link(fx, "/sys/kernel/iommu_groups/8/devices/0000:00:03.0");
    assert_no_link(fx, "/sys/kernel/iommu_groups/8/things/0000:00:02.0");
    assert_no_link(fx, "/sys/kernel/iommu_groups/8/devices");
    assert_no_link(fx, "/sys/kernel/iommu_groups//devices/0000:00:02.0");
    assert_no_link(fx, at(fx, "/a-name-that-is-longer-than-any-in-the-whole-of-sysfs"));
}

struct listing {
    struct fixture *fx;
    char names[512];
    int stop_at;
};

static int append(const char *name, void *arg)
{
    struct listing *listing = arg;

    strcat(listing->names, name);
    strcat(listing->names, " ");
    /* An entry may ask the machine. */
    assert_int_equal(fx_open(listing->fx, "/absent"), -ENOENT);
    return --listing->stop_at == 0 ? 42 : 0;
}

static void assert_list(struct fixture *fx, const char *path, const char *names)
{
    struct listing listing = {.fx = fx};

    assert_int_equal(host_list(fx->host, path, append, &listing), 0);
    assert_string_equal(listing.names, names);
}

static void directories(void **state)
{
    struct fixture *fx = *state;
    struct listing listing = {.fx = fx, .stop_at = 1};
    char bdf[16];

    assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_list(fx, "/sys/bus/pci/devices", "0000:00:01.0 0000:00:02.0 ");
    assert_list(fx, "/sys/kernel/iommu_groups", "8 7 ");
    assert_list(fx, "/sys/kernel/iommu_groups/8/devices", "0000:00:02.0 ");
    assert_int_equal(host_list(fx->host, "/sys/bus/pci/devices", append, &listing), 42);
    assert_string_equal(listing.names, "0000:00:01.0 ");
    assert_int_equal(host_list(fx->host, "/sys/kernel/iommu_groups/9/devices", append, &listing),
                     -ENOENT);
    assert_int_equal(host_list(fx->host, at(fx, "/vendor"), append, &listing), -ENOENT);
    assert_int_equal(host_list(fx->host, "/proc", append, &listing), -ENOENT);
    assert_list(fx, at(fx, ""),
                "iommu_group subsystem vendor device subsystem_vendor subsystem_device revision "
                "class config "
                "driver vfio-dev ");

    assert_int_equal(sim_join_group(fx->sim, bdf, fx->bdf), 0);
    assert_list(fx, "/sys/kernel/iommu_groups", "7 ");
    assert_list(fx, "/sys/kernel/iommu_groups/7/devices", "0000:00:01.0 0000:00:02.0 ");
}

static void files_of_vfio_devices(void **state)
{
    struct fixture *fx = *state;
    struct listing listing = {.fx = fx};
    char bdf[16], other[64];

    assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    snprintf(other, sizeof(other), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
    assert_list(fx, at(fx, "/vfio-dev"), "vfio3 ");
    assert_list(fx, other, "vfio4 ");

    assert_int_equal(sim_set_driver(fx->sim, bdf, "e1000e"), 0);
    assert_int_equal(host_list(fx->host, other, append, &listing), -ENOENT);
    sim_set_iommufd(fx->sim, SIM_IOMMUFD_NONE);
    assert_int_equal(host_list(fx->host, at(fx, "/vfio-dev"), append, &listing), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(attributes_of_a_device, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(links_of_a_device, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(directories, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(files_of_vfio_devices, fx_setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
