#include "bridge/hot_reset.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <time.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"

enum {
    TRIES = 51,
};

struct info {
    uint32_t argsz, flags, count;
    struct vfio_pci_dependent_device devices[2];
};

static struct fake_machine m;
static unsigned naps;

/* In the place of libc's: the code under test does not sleep, and its naps are counted. */
int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest);

int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest)
{
    (void)duration;
    (void)rest;
    naps++;
    return 0;
}

static int setup(void **state)
{
    (void)state;
    naps = 0;
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

static void expect_info(const struct info *info, int ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE,
                .request = VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, .out = info,
                .out_len = info ? sizeof(*info) : 0, .ret = ret);
}

static void expect_reset(const int *files, uint32_t n, int ret)
{
    uint32_t request[3 + 4] = {(uint32_t)(12 + 4 * n), 0, n};

    if (n)
        memcpy(request + 3, files, n * sizeof(*files));
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_PCI_HOT_RESET,
                .in = request, .in_len = 12 + 4 * n, .ret = ret);
}

static int reset(const int *files, size_t n)
{
    return hot_reset(&m.dev, 1, files, n);
}

static void test_set(void **state)
{
    struct info info = {
        .argsz = sizeof(info),
        .count = 2,
        .devices = {{.group_id = 7, .bus = 1},
                    {.group_id = 9, .segment = 0x10, .bus = 0xfe, .devfn = 0xff}},
    };
    struct hot_reset_set set;

    (void)state;
    expect_info(&info, 0);
    assert_int_equal(hot_reset_get_set(m.dev, &set), 0);
    assert_int_equal(set.count, 2);
    assert_string_equal(set.functions[0].bdf, "0000:01:00.0");
    assert_int_equal(set.functions[0].group, 7);
    assert_string_equal(set.functions[1].bdf, "0010:fe:1f.7");
    assert_int_equal(set.functions[1].group, 9);

    info.flags = UAPI_VFIO_HOT_RESET_DEV_ID;
    expect_info(&info, 0);
    assert_int_equal(hot_reset_get_set(m.dev, &set), 0);
    assert_int_equal(set.functions[0].group, -1);
}

static void test_no_set(void **state)
{
    static const struct {
        int ret, result;
    } cases[] = {
        {-ENODEV, -ENODEV},
        {-ENOTTY, -ENODEV},
        {-ENOSPC, -E2BIG },
        {-EIO,    -EIO   },
        {-EPERM,  -EPERM }
    };
    const struct info many = {.argsz = sizeof(many), .count = HOT_RESET_MOST + 1};
    struct hot_reset_set set;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_info(NULL, cases[i].ret);
        assert_int_equal(hot_reset_get_set(m.dev, &set), cases[i].result);
    }
    expect_info(&many, 0);
    assert_int_equal(hot_reset_get_set(m.dev, &set), -E2BIG);
}

/* Bus mastering would come back on. */
static void test_reset(void **state)
{
    static const int files[] = {100, 200};

    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    fake_expect_command_write(m.f, PCI_COMMAND_MEMORY);
    fake_expect_command_read(m.f, PCI_COMMAND_MEMORY);
    expect_reset(files, 2, 0);
    assert_int_equal(reset(files, 2), 0);
    fake_expect_command_read(m.f, 0);
    expect_reset(NULL, 0, 0);
    assert_int_equal(reset(NULL, 0), 0);
    assert_int_equal(naps, 0);
}

static void test_fails(void **state)
{
    static const struct {
        int ret, result;
    } cases[] = {
        {-EINVAL, -EPERM },
        {-ENODEV, -ENODEV},
        {-EIO,    -EIO   },
        {-ENOMEM, -ENOMEM}
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fake_expect_command_read(m.f, 0);
        expect_reset(NULL, 0, cases[i].ret);
        assert_int_equal(reset(NULL, 0), cases[i].result);
    }
    assert_int_equal(naps, 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    assert_int_equal(reset(NULL, 0), -EIO);
}

static void test_locked(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, 0);
    expect_reset(NULL, 0, -EBUSY);
    expect_reset(NULL, 0, -EAGAIN);
    expect_reset(NULL, 0, 0);
    assert_int_equal(reset(NULL, 0), 0);
    assert_int_equal(naps, 2);
    fake_expect_command_read(m.f, 0);
    for (int i = 0; i < TRIES; i++)
        expect_reset(NULL, 0, -EBUSY);
    assert_int_equal(reset(NULL, 0), -EBUSY);
    assert_int_equal(naps, 2 + TRIES - 1);
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_set),   device_test(test_no_set), device_test(test_reset),
        device_test(test_fails), device_test(test_locked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
