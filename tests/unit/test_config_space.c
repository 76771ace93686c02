#include "bridge/config_space.h"

#include <errno.h>
#include <linux/pci_regs.h>

#include "bridge/region.h"
#include "tests/unit/fake_device.h"

enum {
    OTHERS = PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE,
    DECODE = PCI_COMMAND_MEMORY | PCI_COMMAND_IO,
    AT = PCI_COMMAND,
};

static struct fake_machine m;

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

/* Other bits stay as they are, and it is read back that the device has obeyed. */
static void test_stop_dma(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, OTHERS | DECODE | PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, OTHERS | DECODE);
    fake_expect_command_read(m.f, OTHERS | DECODE);
    assert_int_equal(config_space_stop_dma(m.dev), 0);
}

static void test_stop_decode(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, OTHERS | DECODE | PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, OTHERS | PCI_COMMAND_MASTER);
    fake_expect_command_read(m.f, OTHERS | PCI_COMMAND_MASTER);
    assert_int_equal(config_space_stop_decode(m.dev), 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MEMORY);
    fake_expect_command_write(m.f, 0);
    fake_expect_command_read(m.f, 0);
    assert_int_equal(config_space_stop_decode(m.dev), 0);
}

static void test_already_off(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, OTHERS | DECODE);
    assert_int_equal(config_space_stop_dma(m.dev), 0);
    fake_expect_command_read(m.f, OTHERS | PCI_COMMAND_MASTER);
    assert_int_equal(config_space_stop_decode(m.dev), 0);
}

/* A device that has fallen off the bus reads all ones, too. */
static void test_bits_stay(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    assert_int_equal(config_space_stop_dma(m.dev), -EIO);
    fake_expect_command_read(m.f, 0xffff);
    fake_expect_command_write(m.f, 0xffff & ~DECODE);
    fake_expect_command_read(m.f, 0xffff);
    assert_int_equal(config_space_stop_decode(m.dev), -EIO);
}

static void write_config(uint64_t offset, const void *bytes, uint32_t count, const void *reaches)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PWRITE,
                .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + offset, .in = reaches,
                .in_len = count, .len = count, .ret = count);
    assert_int_equal(region_write(m.dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, bytes, count), 0);
}

/* Off now, and off in every write that covers the bit; nothing else is touched. */
static void test_forbid_dma(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, DECODE | PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, DECODE);
    fake_expect_command_read(m.f, DECODE);
    assert_int_equal(config_space_forbid_dma(m.dev), 0);
    write_config(PCI_COMMAND, "\xff\xff", 2, "\xfb\xff");
    write_config(PCI_COMMAND, "\x04", 1, "\x00");
    write_config(2, "\xff\xff\xff\xff", 4, "\xff\xff\xfb\xff");
    write_config(PCI_COMMAND + 1, "\xff", 1, "\xff");
    write_config(0, "\xff\xff\xff\xff", 4, "\xff\xff\xff\xff");
}

/* What can't be stopped now is at least not started again. */
static void test_forbid_dma_fails(void **state)
{
    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, 0);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    assert_int_equal(config_space_forbid_dma(m.dev), -EIO);
    write_config(PCI_COMMAND, "\x04", 1, "\x00");
}

static void expect_error(enum fake_kind kind)
{
    FAKE_EXPECT(m.f, .kind = kind, .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + AT,
                .ret = -EFAULT);
}

static void test_errors(void **state)
{
    (void)state;
    expect_error(FAKE_PREAD);
    assert_int_equal(config_space_stop_dma(m.dev), -EFAULT);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    expect_error(FAKE_PWRITE);
    assert_int_equal(config_space_stop_dma(m.dev), -EFAULT);
    fake_expect_command_read(m.f, PCI_COMMAND_MASTER);
    fake_expect_command_write(m.f, 0);
    expect_error(FAKE_PREAD);
    assert_int_equal(config_space_stop_dma(m.dev), -EFAULT);
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_stop_dma),         device_test(test_stop_decode),
        device_test(test_already_off),      device_test(test_bits_stay),
        device_test(test_errors),           device_test(test_forbid_dma),
        device_test(test_forbid_dma_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
