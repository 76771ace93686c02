#include "bridge/power.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"

enum {
    EVENT = 77,
    SET = VFIO_DEVICE_FEATURE_SET,
    PROBE = VFIO_DEVICE_FEATURE_PROBE | SET,
};

static struct fake_machine m;
static struct log_capture capture;

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    fake_machine_close(&m);
    return 0;
}

static void expect(uint32_t flags, int ret)
{
    const struct vfio_device_feature request = {.argsz = sizeof(request), .flags = flags};

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = &request, .in_len = sizeof(request), .ret = ret);
}

static void test_probe(void **state)
{
    (void)state;
    expect(PROBE | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, 0);
    assert_int_equal(power_probe_entry(m.dev, false), 0);
    expect(PROBE | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, -ENOTTY);
    assert_int_equal(power_probe_entry(m.dev, true), -ENOTTY);
    expect(PROBE | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 0);
    assert_int_equal(power_probe_exit(m.dev), 0);
}

static void test_enter(void **state)
{
    const uint32_t request[] = {16, SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, EVENT,
                                0};

    (void)state;
    expect(SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, 0);
    assert_int_equal(power_enter(m.dev, -1), 0);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = request, .in_len = sizeof(request));
    assert_int_equal(power_enter(m.dev, EVENT), 0);
    expect(SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 0);
    assert_int_equal(power_exit(m.dev), 0);
}

static void test_errors(void **state)
{
    (void)state;
    log_capture_start(&capture);
    expect(SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, -ENOTTY);
    assert_int_equal(power_enter(m.dev, -1), -ENOTTY);
    assert_string_equal(log_capture_end(&capture), "");
    log_capture_start(&capture);
    expect(SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, -EINVAL);
    assert_int_equal(power_enter(m.dev, -1), -EINVAL);
    expect(SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, -EIO);
    assert_int_equal(power_exit(m.dev), -EIO);
    assert_non_null(strstr(log_capture_end(&capture), "LOW_POWER_EXIT of 0000:01:00.0: Input"));
    assert_non_null(strstr(capture.text, "LOW_POWER_ENTRY of 0000:01:00.0: Invalid"));
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_probe),
        device_test(test_enter),
        device_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
