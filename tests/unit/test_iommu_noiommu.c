#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/address_space.h"
#include "bridge/iommu.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"
#include "tests/unit/own_address_space.h"

#define PATH "/dev/vfio/noiommu-7"

static const struct sysfs_device device = {
    .name = FAKE_BDF,
    .group = FAKE_GROUP_NUMBER,
    .noiommu = true,
};

static struct fake_host *f;
static struct address_space *as;
static struct log_capture capture;

static void expect_container(int extension)
{
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = FAKE_CONTAINER);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GET_API_VERSION, .ret = VFIO_API_VERSION);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_CHECK_EXTENSION, .value = VFIO_NOIOMMU_IOMMU,
                .ret = extension);
}

static void expect_join(int set_container, int set_iommu)
{
    const struct vfio_group_status status = {sizeof(status), VFIO_GROUP_FLAGS_VIABLE};

    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = PATH, .ret = FAKE_GROUP);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_STATUS, .out = &status,
                .out_len = sizeof(status));
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_SET_CONTAINER, .ret = set_container);
    if (!set_container)
        FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_SET_IOMMU,
                    .value = VFIO_NOIOMMU_IOMMU, .ret = set_iommu);
}

static int setup(void **state)
{
    (void)state;
    f = fake_host_new();
    expect_container(1);
    assert_int_equal(own_address_space(fake_host_base(f), IOMMU_NOIOMMU, &as), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    address_space_destroy(as);
    fake_host_free(f);
    return 0;
}

static void open_device(void)
{
    int fd = -1;

    fake_expect_device_fd(f);
    assert_int_equal(address_space_open_device(as, &device, &fd), 0);
    assert_int_equal(fd, FAKE_DEVICE);
    host_close(fake_host_base(f), &fd);
}

static void test_mode_off(void **state)
{
    struct fake_host *before = f;
    struct address_space *none = NULL;

    (void)state;
    f = fake_host_new();
    expect_container(0);
    log_capture_start(&capture);
    assert_int_equal(own_address_space(fake_host_base(f), IOMMU_NOIOMMU, &none), -ENODEV);
    assert_non_null(strstr(log_capture_end(&capture), "enable_unsafe_noiommu_mode"));
    fake_host_free(f);
    f = before;
}

/* EPERM is the capability's, EACCES the file's. */
static void test_group_does_not_open(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-EPERM,  "CAP_SYS_RAWIO"   },
        {-EACCES, "chown USER " PATH},
        {-EBUSY,  PATH " open"      },
        {-ENOENT, "no " PATH        },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = -1;

        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = PATH, .ret = cases[i].err);
        log_capture_start(&capture);
        assert_int_equal(address_space_open_device(as, &device, &fd), cases[i].err);
        assert_non_null(strstr(log_capture_end(&capture), cases[i].log));
    }
}

static void test_refused(void **state)
{
    static const struct {
        int set_container, set_iommu;
        const char *log;
    } cases[] = {
        {-EPERM, 0,       "SET_CONTAINER"           },
        {0,      -EPERM,  FAKE_BDF ": no-IOMMU mode"},
        {0,      -ENODEV, "No such device"          },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int fd = -1;

        expect_join(cases[i].set_container, cases[i].set_iommu);
        fake_expect_leave(f, FAKE_GROUP);
        log_capture_start(&capture);
        assert_int_equal(address_space_open_device(as, &device, &fd),
                         cases[i].set_container ? cases[i].set_container : cases[i].set_iommu);
        assert_non_null(strstr(log_capture_end(&capture), cases[i].log));
    }
}

/* It can be opened again in the same container; nothing is asked of a kernel that maps nothing. */
static void test_open(void **state)
{
    struct iommu_info info;
    (void)state;
    expect_join(0, 0);
    open_device();
    open_device();
    address_space_get_info(as, &info);
    assert_true(info.untranslated);
    assert_false(info.coherent);
    assert_string_equal(address_space_backend(as), "no-IOMMU");
    assert_int_equal(address_space_probe(as), 0);
    fake_assert_done(f);
    fake_expect_leave(f, FAKE_GROUP);
}

/* Neither with a file nor without: an unbacked mapping would be a promise, too. */
static void test_map(void **state)
{
    struct address_space_stats stats;
    int fd = memfd_create("memory", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(ftruncate(fd, 4096), 0);
    log_capture_start(&capture);
    assert_int_equal(address_space_map(as, 0, 4096, IOMMU_READ, fd, 0), -ENOTTY);
    assert_int_equal(address_space_map(as, 0, 4096, IOMMU_READ, -1, 0), -ENOTTY);
    assert_non_null(strstr(log_capture_end(&capture), "no IOMMU"));
    assert_int_equal(address_space_unmap(as, 0, 4096), -ENOENT);
    assert_int_equal(address_space_unmap_all(as), 0);
    address_space_get_stats(as, &stats);
    assert_int_equal(stats.maps, 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mode_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_group_does_not_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_map, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
