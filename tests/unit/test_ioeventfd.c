#include "bridge/ioeventfd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"
#include "tests/unit/log_capture.h"

static const struct doorbell a = {.region = 0, .width = 4, .offset = 0x100, .data = 7};
static const struct doorbell b = {.region = 0, .width = 2, .offset = 0x102, .data = 7};

static struct fake_machine m;
static struct log_capture capture;
static int fds;

static int setup(void **state)
{
    (void)state;
    fds = fd_count_open();
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    fake_machine_close(&m);
    assert_int_equal(fd_count_open(), fds);
    return 0;
}

/* But for the descriptor, the last field, which is any or -1. */
static void expect(const struct doorbell *bell, bool add, int ret)
{
    const struct vfio_device_ioeventfd arg = {
        .argsz = sizeof(arg),
        .flags = bell->width,
        .offset = FAKE_REGION_AT(bell->region) + bell->offset,
        .data = bell->data,
        .fd = -1,
    };

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_IOEVENTFD,
                .in = &arg,
                .in_len = offsetof(struct vfio_device_ioeventfd, fd) + (add ? 0 : sizeof(arg.fd)),
                .ret = ret);
}

static int get(const struct doorbell *bell)
{
    int fd = -1, ret = ioeventfd_get(m.dev, bell, &fd);

    return ret ? ret : fd;
}

/* Each is registered once, and taken away with all others. */
static void test_life(void **state)
{
    int first, second;

    (void)state;
    expect(&a, true, 0);
    first = get(&a);
    assert_true(first >= 0);
    assert_int_equal(get(&a), first);
    expect(&b, true, 0);
    second = get(&b);
    assert_true(second >= 0 && second != first);
    assert_int_equal(get(&a), first);
    expect(&b, false, 0);
    expect(&a, false, 0);
    assert_int_equal(ioeventfd_end(m.dev), 0);
    assert_int_equal(ioeventfd_end(m.dev), 0);
    expect(&a, true, 0);
    assert_true(get(&a) >= 0);
    /* The closing of the device takes it away by itself. */
}

static void test_refused(void **state)
{
    (void)state;
    log_capture_start(&capture);
    expect(&a, true, -ENOSPC);
    assert_int_equal(get(&a), -ENOSPC);
    assert_non_null(strstr(log_capture_end(&capture), "no room for more doorbells"));
    expect(&a, true, 0);
    assert_true(get(&a) >= 0);
    expect(&a, false, 0);
    assert_int_equal(ioeventfd_end(m.dev), 0);
}

/* One that stays is no reason to keep the others. */
static void test_end_fails(void **state)
{
    (void)state;
    expect(&a, true, 0);
    expect(&b, true, 0);
    assert_true(get(&a) >= 0 && get(&b) >= 0);
    expect(&b, false, -EIO);
    expect(&a, false, 0);
    log_capture_start(&capture);
    assert_int_equal(ioeventfd_end(m.dev), -EIO);
    assert_non_null(strstr(log_capture_end(&capture), "doorbell 0:0x102 of 0000:01:00.0: Input"));
    assert_int_equal(ioeventfd_end(m.dev), 0);
}

static void test_check(void **state)
{
    const struct doorbell both[] = {a, b};

    (void)state;
    assert_int_equal(ioeventfd_check(m.dev, NULL, 0), 0);
    for (int i = 0; i < 2; i++) {
        expect(&both[i], true, 0);
        expect(&both[i], false, 0);
    }
    assert_int_equal(ioeventfd_check(m.dev, both, 2), 0);
}

static const struct {
    struct doorbell bell;
    int kernel; /* its answer; 0: it is not asked */
    int ret;
    const char *log;
} mistakes[] = {
    {{.region = 0, .width = 4, .offset = 0x100, .data = 7},
     -ENOTTY,
     -ENOTTY,
     "doorbell 0:0x100:4:0x7 of 0000:01:00.0: the kernel's driver of this device has no doorbells"},
    {{.region = 0, .width = 4, .offset = 0x100, .data = 7},
     -EINVAL,
     -EINVAL,
     "the kernel refuses it: a doorbell may not be in the MSI-X table"                            },
    {{.region = 0, .width = 4, .offset = UINT64_C(1) << 60, .data = 7}, 0, -EINVAL, "outside of"  },
    {{.region = 0, .width = 8, .offset = UINT64_MAX - 7, .data = 7},    0, -EINVAL, "outside of"  },
    {{.region = 1, .width = 4, .offset = 0, .data = 7},                 0, -EINVAL, "outside of"  },
    {{.region = VFIO_PCI_CONFIG_REGION_INDEX, .width = 4},              0, -EINVAL, "outside of"  },
};

static void test_check_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        const struct doorbell *bell = &mistakes[i].bell;

        if (mistakes[i].kernel)
            expect(bell, true, mistakes[i].kernel);
        log_capture_start(&capture);
        assert_int_equal(ioeventfd_check(m.dev, bell, 1), mistakes[i].ret);
        if (!strstr(log_capture_end(&capture), mistakes[i].log))
            fail_msg("mistake %zu: %s", i, capture.text);
        fake_assert_done(m.f);
    }
}

static void test_without_device(void **state)
{
    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EBUSY);
    assert_int_equal(device_reopen(m.dev), -EBUSY);
    assert_int_equal(get(&a), -ENODEV);
    assert_int_equal(ioeventfd_end(m.dev), 0);
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_life),  device_test(test_refused),        device_test(test_end_fails),
        device_test(test_check), device_test(test_check_mistakes), device_test(test_without_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
