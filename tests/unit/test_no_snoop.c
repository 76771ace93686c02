/* The no-snoop bit of devices whose IOMMU can't force their DMA to be coherent. */
#include "bridge/config_space.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>

#include "bridge/region.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/own_address_space.h"

enum {
    EXPRESS = 0x80, /* where the device's PCI Express capability is */
    CONTROL = EXPRESS + PCI_EXP_DEVCTL,
    ALL = 0xffff,
    FILTERED = ALL & ~PCI_EXP_DEVCTL_NOSNOOP_EN,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
};

static struct fake_machine m;

static void expect_read(uint64_t offset, const void *bytes, size_t len)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .fd = FAKE_DEVICE, .ret = (ssize_t)len, .out = bytes,
                .out_len = len, .len = len, .offset = FAKE_REGION_AT(CONFIG) + offset);
}

static void expect_write(uint64_t offset, const void *bytes, size_t len)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PWRITE, .fd = FAKE_DEVICE, .ret = (ssize_t)len, .in = bytes,
                .in_len = len, .len = len, .offset = FAKE_REGION_AT(CONFIG) + offset);
}

static void expect_capability(uint8_t at, uint8_t id, uint8_t next)
{
    expect_read(at, (const uint8_t[]){id, next}, 2);
}

static void expect_status(uint16_t status)
{
    expect_read(PCI_STATUS, &status, sizeof(status));
}

static void expect_opening(void)
{
    m.f = fake_host_new();
    fake_expect_container(m.f);
    fake_expect_group(m.f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(m.f);
    fake_expect_incoherent_iommu_info(m.f);
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, &fake_pci);
}

static int open_device(void)
{
    assert_int_equal(own_address_space(fake_host_base(m.f), IOMMU_TYPE1, &m.as), 0);
    m.dev = NULL;
    return device_open(&m.dev, fake_host_base(m.f), m.as, &fake_where);
}

static void open_express_device(void)
{
    const uint16_t all = ALL, filtered = FILTERED;

    expect_opening();
    expect_status(PCI_STATUS_CAP_LIST);
    expect_read(PCI_CAPABILITY_LIST, &(const uint8_t){0x40}, 1);
    expect_capability(0x40, PCI_CAP_ID_MSI,
                      EXPRESS | 3); /* the low bits of a pointer mean nothing */
    expect_capability(EXPRESS, PCI_CAP_ID_EXP, 0);
    expect_read(CONTROL, &all, sizeof(all));
    expect_write(CONTROL, &filtered, sizeof(filtered));
    assert_int_equal(open_device(), 0);
    fake_assert_done(m.f);
}

static void test_cleared_at_opening(void **state)
{
    (void)state;
    open_express_device();
    fake_machine_close(&m);
}

static void test_writes_are_filtered(void **state)
{
    const uint16_t all = ALL, filtered = FILTERED;
    const uint8_t high = 0xff, high_filtered = FILTERED >> 8;
    uint8_t wide[8], wide_filtered[8];

    (void)state;
    open_express_device();
    expect_write(CONTROL, &filtered, sizeof(filtered));
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL, &all, sizeof(all)), 0);
    expect_write(CONTROL + 1, &high_filtered, 1);
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL + 1, &high, 1), 0);

    memset(wide, 0xff, sizeof(wide));
    memset(wide_filtered, 0xff, sizeof(wide_filtered));
    wide_filtered[7] = FILTERED >> 8;
    expect_write(CONTROL - 6, wide_filtered, sizeof(wide));
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL - 6, wide, sizeof(wide)), 0);
    fake_machine_close(&m);
}

static void test_other_writes_pass(void **state)
{
    const uint16_t all = ALL;
    const uint8_t low = 0xff;

    (void)state;
    open_express_device();
    expect_write(CONTROL, &low, 1);
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL, &low, 1), 0);
    expect_write(CONTROL + 2, &all, sizeof(all));
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL + 2, &all, sizeof(all)), 0);
    fake_machine_close(&m);
}

static void test_device_without_express(void **state)
{
    const uint16_t all = ALL;

    (void)state;
    expect_opening();
    expect_status(0);
    assert_int_equal(open_device(), 0);
    expect_write(CONTROL, &all, sizeof(all));
    assert_int_equal(region_write(m.dev, CONFIG, CONTROL, &all, sizeof(all)), 0);
    fake_machine_close(&m);
}

/* A list that goes round in circles has an end all the same. */
static void test_cyclic_list(void **state)
{
    (void)state;
    expect_opening();
    expect_status(PCI_STATUS_CAP_LIST);
    expect_read(PCI_CAPABILITY_LIST, &(const uint8_t){0x40}, 1);
    for (int i = 0; i < (256 - PCI_STD_HEADER_SIZEOF) / PCI_CAP_SIZEOF; i++)
        expect_capability(0x40, PCI_CAP_ID_MSI, 0x40);
    assert_int_equal(open_device(), 0);
    fake_machine_close(&m);
}

static void test_unreadable(void **state)
{
    (void)state;
    expect_opening();
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .offset = FAKE_REGION_AT(CONFIG) + PCI_STATUS,
                .ret = -EFAULT);
    assert_int_equal(open_device(), -EFAULT);
    fake_expect_leave(m.f, FAKE_GROUP);
    address_space_destroy(m.as);
    fake_host_free(m.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cleared_at_opening), cmocka_unit_test(test_writes_are_filtered),
        cmocka_unit_test(test_other_writes_pass),  cmocka_unit_test(test_device_without_express),
        cmocka_unit_test(test_cyclic_list),        cmocka_unit_test(test_unreadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
