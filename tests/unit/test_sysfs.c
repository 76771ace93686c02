#include "bridge/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/arith.h"
#include "tests/unit/fake_host.h"
#include "tests/unit/log_capture.h"

#define BDF      "0000:01:00.0"
#define DEVICE   "/sys/bus/pci/devices/" BDF

#define UUID     "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
#define MEDIATED "/sys/bus/mdev/devices/" UUID
#define PLATFORM "/sys/bus/platform/devices/"

static struct log_capture capture;

static void expect_link(struct fake_host *f, const char *path, const char *target, int err)
{
    FAKE_EXPECT(f, .kind = FAKE_READLINK, .path = path, .ret = err, .out = target,
                .out_len = target ? strlen(target) : 0);
}

static void test_addresses(void **state)
{
    static const char *const good[] = {"0000:00:00.0", "ffff:ff:1f.7", "0123:ab:cd.3"};
    static const char *const bad[] = {
        "",
        "01:00.0",
        "0000:01:00",
        "0000:01:00.",
        "0000:01:00.00",
        "0000:01:00.8",
        "0000:01:00.a",
        "0000:01:00-0",
        "0000.01.00.0",
        "0000:0A:00.0",
        "000g:01:00.0",
        "0000:01:00.0\n",
        " 000:01:00.0",
        "../../../etc",
        "10000:01:00.0",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(sysfs_is_bdf(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (sysfs_is_bdf(bad[i]))
            fail_msg("taken for an address: '%s'", bad[i]);
    }
}

/* What the links of a device say, and what comes of it. */
struct find_case {
    const char *group, *driver; /* NULL: the error */
    int group_err, driver_err;
    int result;
    const char *log; /* a part of it */
};

static const struct find_case find_cases[] = {
    {"../../../../kernel/iommu_groups/7",       "../../drivers/vfio-pci",                                                   0,             0,       0,             ""                                       },
    {"7",                                       "vfio-pci",                                                                 0,             0,       0,             ""                                       },
    {"groups/2147483647",                       "vfio-pci",                                                                 0,             0,       0,             ""                                       },

    {NULL,                                      NULL,                                                                       -ENOENT,       0,       -ENXIO,        "intel_iommu=on"                         },
    {NULL,                                      NULL,                                                                       -EACCES,       0,       -EACCES,       "Permission denied"                      },
    {NULL,                                      NULL,                                                                       -ENAMETOOLONG, 0,       -ENAMETOOLONG, "File name too long"                     },
    {"groups/",                                 NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/seven",                            NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/7x",                               NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/2147483648",                       NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/-1",                               NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/99999999999999999999",             NULL,                                                                       0,             0,       -EPROTO,       "Protocol error"                         },
    {"groups/00000000000000000000000000000000", NULL,                                                                       0,             0,       -ENAMETOOLONG, "too long"                               },

    {"groups/7",                                NULL,                                                                       0,             -ENOENT, -EBUSY,        "bound to no driver;"                    },
    {"groups/7",                                "drivers/nvme",                                                             0,             0,       -EBUSY,        "bound to the driver nvme;"              },
    {"groups/7",                                "drivers/vfio-pci-x",                                                       0,             0,       -EBUSY,        "driverctl set-override " BDF " vfio-pci"},
    {"groups/7",                                NULL,                                                                       0,             -EIO,    -EIO,          "Input/output error"                     },
    {"groups/7",                                "drivers/0123456789012345678901234567890123456789012345678901234567890123", 0,             0,
     -ENAMETOOLONG,                                                                                                                                                "too long"                               },
};

static size_t count_lines(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void check_find(const struct find_case *c)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device dev;
    const char *log;
    int ret;

    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE, .names = "vendor");
    expect_link(f, DEVICE "/iommu_group", c->group, c->group_err);
    if (c->driver || c->driver_err)
        expect_link(f, DEVICE "/driver", c->driver, c->driver_err);
    if (c->result == 0 || c->result == -EBUSY)
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE "/vfio-dev", .ret = -ENOENT);
    if (!c->result) {
        FAKE_EXPECT(f, .kind = FAKE_READLINK, .ret = -ENOENT);
    }
    log_capture_start(&capture);
    ret = sysfs_find_device(fake_host_base(f), BDF, &dev);
    log = log_capture_end(&capture);
    assert_int_equal(ret, c->result);
    assert_int_equal(count_lines(log), c->result ? 1 : 0);
    assert_non_null(strstr(log, c->log));
    fake_host_free(f);
}

static void test_find_device(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(find_cases); i++)
        check_find(&find_cases[i]);
}

/* With and without a device file of its own; an error in looking for that is as if it had none. */
static void test_found(void **state)
{
    static const struct {
        const char *names;
        int err;
        const char *cdev;
    } cases[] = {
        {"vfio12", 0,       "vfio12"},
        {"",       0,       ""      },
        {NULL,     -ENOENT, ""      },
        {NULL,     -EIO,    ""      }
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake_host *f = fake_host_new();
        struct sysfs_device dev;

        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE, .names = "vendor");
        expect_link(f, DEVICE "/iommu_group", "../../../../kernel/iommu_groups/42", 0);
        expect_link(f, DEVICE "/driver", "../../../../bus/pci/drivers/vfio-pci", 0);
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE "/vfio-dev", .names = cases[i].names,
                    .ret = cases[i].err);
        expect_link(f, "/sys/class/vfio/noiommu-42", NULL, -ENOENT);
        assert_int_equal(sysfs_find_device(fake_host_base(f), BDF, &dev), 0);
        assert_string_equal(dev.name, BDF);
        assert_string_equal(dev.driver, "vfio-pci");
        assert_int_equal(dev.group, 42);
        assert_string_equal(dev.cdev, cases[i].cdev);
        assert_false(dev.noiommu);
        fake_host_free(f);
    }
}

static int find_with_group_file(const char *target, int err, struct sysfs_device *dev)
{
    struct fake_host *f = fake_host_new();
    int ret;

    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE, .names = "vendor");
    expect_link(f, DEVICE "/iommu_group", "../../../../kernel/iommu_groups/0", 0);
    expect_link(f, DEVICE "/driver", "../../../../bus/pci/drivers/vfio-pci", 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE "/vfio-dev", .ret = -ENOENT);
    expect_link(f, "/sys/class/vfio/noiommu-0", target, err);
    log_capture_start(&capture);
    ret = sysfs_find_device(fake_host_base(f), BDF, dev);
    assert_int_equal(count_lines(log_capture_end(&capture)), ret ? 1 : 0);
    fake_host_free(f);
    return ret;
}

/* Nothing but the link's absence says that there is an IOMMU. */
static void test_noiommu(void **state)
{
    struct sysfs_device dev;

    (void)state;
    assert_int_equal(find_with_group_file("../../devices/virtual/vfio/noiommu-0", 0, &dev), 0);
    assert_true(dev.noiommu);
    assert_int_equal(find_with_group_file(NULL, -ENOENT, &dev), 0);
    assert_false(dev.noiommu);
    assert_int_equal(find_with_group_file(NULL, -EACCES, &dev), -EACCES);
    assert_int_equal(find_with_group_file(NULL, -ENAMETOOLONG, &dev), -ENAMETOOLONG);
}

/* A directory that is absent, and one with nothing in it. */
static void test_no_such_device(void **state)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device dev;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE, .ret = -ENOENT);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE);
    assert_int_equal(sysfs_find_device(fake_host_base(f), BDF, &dev), -ENODEV);
    assert_int_equal(sysfs_find_device(fake_host_base(f), BDF, &dev), -ENODEV);
    fake_host_free(f);
}

#define SIBLINGS "/sys/kernel/iommu_groups/7/devices/"

/* Drivers that VFIO has nothing against, and one of VFIO for a kind of device, before the other. */
static void test_blocker(void **state)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device blocker;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = "/sys/kernel/iommu_groups/7/devices",
                .names = "0000:01:00.0 0000:01:00.1 0000:01:00.2 0000:01:00.3 0000:01:00.4 "
                         "0000:01:00.5 0000:01:00.6 0000:01:00.7");
    expect_link(f, SIBLINGS BDF "/driver", "drivers/vfio-pci", 0);
    expect_link(f, SIBLINGS "0000:01:00.1/driver", NULL, -ENOENT);
    expect_link(f, SIBLINGS "0000:01:00.2/driver", "drivers/pcieport", 0);
    expect_link(f, SIBLINGS "0000:01:00.3/driver", "drivers/pci-stub", 0);
    expect_link(f, SIBLINGS "0000:01:00.4/driver", NULL, -EIO);
    expect_link(f, SIBLINGS "0000:01:00.5/driver", "drivers/mlx5_vfio_pci", 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = SIBLINGS "0000:01:00.5/vfio-dev", .names = "vfio1");
    expect_link(f, SIBLINGS "0000:01:00.6/driver", "drivers/nvme", 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = SIBLINGS "0000:01:00.6/vfio-dev", .ret = -ENOENT);
    assert_int_equal(sysfs_find_blocker(fake_host_base(f), 7, &blocker), 0);
    assert_string_equal(blocker.name, "0000:01:00.6");
    assert_string_equal(blocker.driver, "nvme");
    assert_int_equal(blocker.group, 7);
    fake_host_free(f);
}

static void test_no_blocker(void **state)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device blocker;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = "/sys/kernel/iommu_groups/7/devices", .names = BDF);
    expect_link(f, SIBLINGS BDF "/driver", "drivers/vfio-pci", 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = "/sys/kernel/iommu_groups/8/devices", .ret = -ENOENT);
    assert_int_equal(sysfs_find_blocker(fake_host_base(f), 7, &blocker), -ENOENT);
    assert_int_equal(sysfs_find_blocker(fake_host_base(f), 8, &blocker), -ENOENT);
    fake_host_free(f);
}

static void test_device_names(void **state)
{
    static const char *const good[] = {BDF, UUID, "/sys/bus/mdev/devices/" UUID, "/sys/x"};
    static const char *const bad[] = {
        "",
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa100",
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa10010",
        "83B8F4F2-509f-382f-3c1e-e6bfe0fa1001",
        "83b8f4f2+509f-382f-3c1e-e6bfe0fa1001",
        "83b8f4f2-509f-382f-3c1e-e6bfe0fa100g",
        "/sys/",
        "/sys/bus/pci/devices/",
        "/dev/vfio/7",
        "sys/x",
    };
    char path[SYSFS_PATH_SIZE + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(sysfs_is_device(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (sysfs_is_device(bad[i]))
            fail_msg("taken for a device: '%s'", bad[i]);
    }
    memset(path, 'x', sizeof(path));
    memcpy(path, "/sys/", 5);
    path[SYSFS_PATH_SIZE] = '\0';
    assert_false(sysfs_is_device(path));
    path[SYSFS_PATH_SIZE - 1] = '\0';
    assert_true(sysfs_is_device(path));
}

/* A driver of VFIO that is not called vfio-pci. */
static void test_variant_driver(void **state)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device dev;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE, .names = "vendor");
    expect_link(f, DEVICE "/iommu_group", "iommu_groups/7", 0);
    expect_link(f, DEVICE "/driver", "drivers/mlx5_vfio_pci", 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = DEVICE "/vfio-dev", .names = "vfio0");
    expect_link(f, "/sys/class/vfio/noiommu-7", NULL, -ENOENT);
    assert_int_equal(sysfs_find_device(fake_host_base(f), BDF, &dev), 0);
    assert_string_equal(dev.driver, "mlx5_vfio_pci");
    fake_host_free(f);
}

struct mediated_case {
    const char *group, *driver; /* NULL: none */
    const char *api;            /* NULL: can't be read */
    int result;
    const char *log;
};

static void check_mediated(const struct mediated_case *c)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device dev;
    const char *log;

    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = MEDIATED, .names = "driver");
    expect_link(f, MEDIATED "/iommu_group", c->group, c->group ? 0 : -ENOENT);
    if (c->group) {
        expect_link(f, MEDIATED "/driver", c->driver, c->driver ? 0 : -ENOENT);
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = MEDIATED "/vfio-dev", .names = "vfio4");
    }
    if (c->driver) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = MEDIATED "/mdev_type/device_api",
                    .ret = c->api ? 0 : -EACCES);
        if (c->api)
            FAKE_EXPECT(f, .kind = FAKE_PREAD, .out = c->api, .out_len = strlen(c->api),
                        .ret = (ssize_t)strlen(c->api));
    }
    log_capture_start(&capture);
    assert_int_equal(sysfs_find_device(fake_host_base(f), UUID, &dev), c->result);
    log = log_capture_end(&capture);
    assert_int_equal(count_lines(log), c->result ? 1 : 0);
    assert_non_null(strstr(log, c->log));
    assert_true(dev.mediated);
    assert_string_equal(dev.name, UUID);
    if (!c->result) {
        assert_string_equal(dev.cdev, "vfio4");
        assert_int_equal(dev.group, 12);
    }
    fake_host_free(f);
}

static void test_mediated(void **state)
{
    static const struct mediated_case cases[] = {
        {"iommu_groups/12", "drivers/vfio_mtty", "vfio-pci\n",   0,        ""                    },
        {"iommu_groups/12", "drivers/vfio_mtty", "vfio-pci",     0,        ""                    },
        {NULL,              NULL,                NULL,           -ENXIO,   "no IOMMU group"      },
        {"iommu_groups/12", NULL,                NULL,           -EBUSY,   "bound to no driver"  },
        {"iommu_groups/12", "drivers/vfio_mtty", NULL,           -EACCES,  "mdev_type/device_api"},
        {"iommu_groups/12", "drivers/vfio_ap",   "vfio-ap\n",    -ENOTSUP, "KVM"                 },
        {"iommu_groups/12", "drivers/vfio_ccw",  "vfio-ccw\n",   0,        ""                    },
        {"iommu_groups/12", "drivers/x",         "",             -ENOTSUP, "knows its API"       },
        {"iommu_groups/12", "drivers/x",         "vfio-pci-x\n", -ENOTSUP, "its API, vfio-pci-x" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_mediated(&cases[i]);
}

/* One of another bus, which no BDF names, with VFIO's driver for it and with another. */
static void test_platform(void **state)
{
    static const struct {
        const char *driver, *cdev;
        int result;
        const char *log;
    } cases[] = {
        {"drivers/vfio-platform", "vfio3", 0,      ""                                 },
        {"drivers/gpio-dev",      NULL,    -EBUSY, "set-override a.uart vfio-platform"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake_host *f = fake_host_new();
        struct sysfs_device dev;

        expect_link(f, "/sys/devices/platform/a.uart/subsystem", "../../../bus/platform", 0);
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = PLATFORM "a.uart", .names = "driver");
        expect_link(f, PLATFORM "a.uart/iommu_group", "iommu_groups/7", 0);
        expect_link(f, PLATFORM "a.uart/driver", cases[i].driver, 0);
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = PLATFORM "a.uart/vfio-dev",
                    .names = cases[i].cdev, .ret = cases[i].cdev ? 0 : -ENOENT);
        if (!cases[i].result)
            expect_link(f, "/sys/class/vfio/noiommu-7", NULL, -ENOENT);
        log_capture_start(&capture);
        assert_int_equal(sysfs_find_device(fake_host_base(f), "/sys/devices/platform/a.uart", &dev),
                         cases[i].result);
        assert_non_null(strstr(log_capture_end(&capture), cases[i].log));
        assert_string_equal(dev.bus, "platform");
        assert_string_equal(dev.name, "a.uart");
        assert_false(dev.mediated);
        fake_host_free(f);
    }
}

struct path_case {
    const char *name, *subsystem;
    int err, result;
    const char *looked_up; /* NULL: it does not come to that */
    const char *log;
};

static void check_path(const struct path_case *c)
{
    struct fake_host *f = fake_host_new();
    struct sysfs_device dev;
    char path[SYSFS_PATH_SIZE], link[SYSFS_PATH_SIZE + 16];
    const char *log;

    snprintf(path, sizeof(path), "/sys/devices/virtual/mtty/mtty/%s", c->name);
    snprintf(link, sizeof(link), "%s/subsystem", path);
    expect_link(f, link, c->subsystem, c->err);
    if (c->looked_up)
        FAKE_EXPECT(f, .kind = FAKE_LIST, .path = c->looked_up, .ret = -ENOENT);
    log_capture_start(&capture);
    assert_int_equal(sysfs_find_device(fake_host_base(f), path, &dev), c->result);
    log = log_capture_end(&capture);
    assert_int_equal(count_lines(log), 1);
    assert_non_null(strstr(log, c->log));
    fake_host_free(f);
}

#define LONG_NAME "a-name-that-is-longer-than-any-bus-would-ever-think-of-giving-one"

/* What a path is of is what its subsystem says. */
static void test_path(void **state)
{
    static const struct path_case cases[] = {
        {UUID,      "../../../bus/mdev",  0,       -ENODEV,       MEDIATED,          "mdev_supported_types" },
        {BDF,       "../../../bus/pci",   0,       -ENODEV,       DEVICE,            "lspci -D"             },
        {BDF,       "../../../bus/usb",   0,       -ENOTSUP,      NULL,              "of the bus usb"       },
        {BDF,       "../../../bus/ap",    0,       -ENOTSUP,      NULL,              "KVM"                  },
        {"a.uart",  "../../bus/platform", 0,       -ENODEV,       PLATFORM "a.uart", "bus platform"         },
        {BDF,       NULL,                 -ENOENT, -ENODEV,       NULL,              "no device's directory"},
        {BDF,       NULL,                 -EACCES, -EACCES,       NULL,              "Permission denied"    },
        {LONG_NAME, "../../../bus/pci",   0,       -ENAMETOOLONG, NULL,              "too long"             },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check_path(&cases[i]);
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test_teardown(test_find_device, teardown),
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_no_such_device),
        cmocka_unit_test_teardown(test_noiommu, teardown),
        cmocka_unit_test(test_blocker),
        cmocka_unit_test(test_no_blocker),
        cmocka_unit_test(test_device_names),
        cmocka_unit_test(test_variant_driver),
        cmocka_unit_test_teardown(test_mediated, teardown),
        cmocka_unit_test_teardown(test_platform, teardown),
        cmocka_unit_test_teardown(test_path, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
