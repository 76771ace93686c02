#include "bridge/reset.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <time.h>

#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"

enum {
    /* A reset that does not come in five seconds, asked for every tenth of a second. */
    TRIES = 51,
};

static struct fake_machine m;
static unsigned naps;

/* In the place of libc's: the code under test does not sleep, and its naps are counted. */
int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest);

int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest)
{
    (void)rest;
    assert_int_equal(duration->tv_sec, 0);
    assert_int_equal(duration->tv_nsec, 100000000);
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

static void expect_reset(int ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_RESET,
                .ret = ret);
}

/* What is on during the reset comes back on: bus mastering is off before. */
static void test_reset(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    fake_expect_command_write(m.f, PCI_COMMAND_MEMORY);
    fake_expect_command_read(m.f, PCI_COMMAND_MEMORY);
    expect_reset(0);
    assert_true(reset_is_supported(m.dev));
    assert_int_equal(reset_device(m.dev), 0);
    fake_expect_command_read(m.f, 0);
    expect_reset(0);
    assert_int_equal(reset_device(m.dev), 0);
    assert_int_equal(naps, 0);
}

/* With DMA under way it must not happen. */
static void test_dma_goes_on(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    assert_int_equal(reset_device(m.dev), -EIO);
}

static void test_errors(void **state)
{
    static const int errors[] = {-EIO, -EINVAL, -ENOTTY, -ENODEV};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        fake_expect_command_read(m.f, 0);
        expect_reset(errors[i]);
        assert_int_equal(reset_device(m.dev), errors[i]);
    }
    assert_int_equal(naps, 0);
}

static void test_locked_for_a_moment(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, 0);
    expect_reset(-EAGAIN);
    expect_reset(-EAGAIN);
    expect_reset(0);
    assert_int_equal(reset_device(m.dev), 0);
    assert_int_equal(naps, 2);
    fake_expect_command_read(m.f, 0);
    expect_reset(-EAGAIN);
    expect_reset(-EIO);
    assert_int_equal(reset_device(m.dev), -EIO);
    assert_int_equal(naps, 3);
}

static void test_locked_for_ever(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, 0);
    for (int i = 0; i < TRIES; i++)
        expect_reset(-EAGAIN);
    assert_int_equal(reset_device(m.dev), -EAGAIN);
    assert_int_equal(naps, TRIES - 1);
}

static void test_not_supported(void **state)
{
    const struct fake_device no_reset = {.flags = VFIO_DEVICE_FLAGS_PCI};

    (void)state;
    fake_machine_open(&m, &no_reset);
    assert_false(reset_is_supported(m.dev));
    assert_int_equal(reset_device(m.dev), -ENOTTY);
    fake_machine_close(&m);
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_reset),           device_test(test_dma_goes_on),
        device_test(test_errors),          device_test(test_locked_for_a_moment),
        device_test(test_locked_for_ever), cmocka_unit_test(test_not_supported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
