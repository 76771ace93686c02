#include "bridge/config_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    END = PCI_CFG_SPACE_EXP_SIZE,
    UNASSIGNED = CONFIG_UNASSIGNED,
};

static uint8_t config[END];
static struct config_map map;

static int setup(void **state)
{
    (void)state;
    memset(config, 0, sizeof(config));
    config[PCI_STATUS] = PCI_STATUS_CAP_LIST;
    return 0;
}

static void put_standard(unsigned at, uint8_t id, uint8_t next)
{
    config[at + PCI_CAP_LIST_ID] = id;
    config[at + PCI_CAP_LIST_NEXT] = next;
}

static void put32(unsigned at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        config[at + i] = (uint8_t)(value >> (8 * i));
}

static void put_extended(unsigned at, uint16_t id, unsigned next)
{
    put32(at, (uint32_t)next << 20 | 1u << 16 | id);
}

static void build(void)
{
    config_map_build(&map, config, END);
}

/* Exactly the bytes from..end-1, and what is in front of and behind them is something else. */
static void assert_range(unsigned from, unsigned end, uint8_t sorts)
{
    for (unsigned i = from; i < end; i++)
        assert_int_equal(map.sorts[i], sorts);
    assert_int_not_equal(map.sorts[from - 1], sorts);
    if (end < END)
        assert_int_not_equal(map.sorts[end], sorts);
}

/* The header is of no sort but for BIST; without capabilities all behind it is unassigned. */
static void test_no_capabilities(void **state)
{
    (void)state;
    config[PCI_STATUS] = 0;
    config[PCI_CAPABILITY_LIST] = 0x40; /* means nothing then */
    put_standard(0x40, PCI_CAP_ID_VNDR, 0);
    config[0x42] = 16;
    build();
    for (unsigned i = 0; i < PCI_STD_HEADER_SIZEOF; i++)
        assert_int_equal(map.sorts[i], i == PCI_BIST ? CONFIG_BIST : 0);
    assert_range(PCI_STD_HEADER_SIZEOF, END, UNASSIGNED);
}

static void test_standard(void **state)
{
    (void)state;
    config[PCI_CAPABILITY_LIST] = 0x44;
    put_standard(0x44, PCI_CAP_ID_PM, 0x50);
    put_standard(0x50, PCI_CAP_ID_MSI, 0x81); /* the low bits of a pointer mean nothing */
    config[0x50 + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT;
    config[0x50 + PCI_MSI_FLAGS + 1] = PCI_MSI_FLAGS_MASKBIT >> 8;
    put_standard(0x80, PCI_CAP_ID_EXP, 0xc0);
    config[0x80 + PCI_EXP_FLAGS] = 2;
    put_standard(0xc0, PCI_CAP_ID_MSIX, 0xd0);
    put_standard(0xd0, PCI_CAP_ID_VPD, 0xe0);
    put_standard(0xe0, PCI_CAP_ID_VNDR, 0);
    config[0xe2] = 0x13;
    build();
    assert_range(0x44, 0x4c, 0);
    assert_range(0x4c, 0x50, UNASSIGNED);
    assert_range(0x50, 0x68, 0);
    assert_range(0x68, 0x80, UNASSIGNED);
    assert_range(0x80, 0xbc, 0);
    assert_range(0xc0, 0xcc, 0);
    assert_range(0xd3, 0xd4, CONFIG_VPD);
    assert_int_equal(map.sorts[0xd2], 0);
    assert_int_equal(map.sorts[0xd4], 0);
    assert_range(0xe0, 0xf3, CONFIG_VENDOR);
    assert_range(0xf3, END, UNASSIGNED);
}

/* One whose length is not known goes up to the next in the space, which need not be the next in the
 * list. */
static void test_unknown_lengths(void **state)
{
    (void)state;
    config[PCI_CAPABILITY_LIST] = 0x60;
    put_standard(0x60, PCI_CAP_ID_HT, 0xa0);
    put_standard(0xa0, PCI_CAP_ID_VNDR, 0x44); /* whose length is 0 */
    put_standard(0x44, PCI_CAP_ID_SATA, 0);
    put_extended(0x100, PCI_EXT_CAP_ID_VC, 0x200);
    put_extended(0x200, PCI_EXT_CAP_ID_DSN, 0x180);
    put_extended(0x180, PCI_EXT_CAP_ID_DVSEC, 0); /* of length 0 too */
    build();
    assert_range(0x44, 0xa0, 0);
    assert_range(0xa0, 0x100, CONFIG_VENDOR);
    assert_range(0x100, 0x180, 0);
    assert_range(0x180, 0x200, CONFIG_VENDOR);
    assert_range(0x200, 0x20c, 0);
    assert_range(0x20c, END, UNASSIGNED);
}

static void test_extended(void **state)
{
    (void)state;
    config[PCI_STATUS] = 0;
    put_extended(0x100, PCI_EXT_CAP_ID_ERR, 0x150);
    put_extended(0x150, PCI_EXT_CAP_ID_VNDR, 0x1a0);
    put32(0x154, 0x30u << 20);
    put_extended(0x1a0, PCI_EXT_CAP_ID_DVSEC, 0);
    put32(0x1a4, 0x18u << 20);
    build();
    assert_range(0x108, 0x110, CONFIG_AER);
    assert_range(0x110, 0x114, 0); /* the status of correctable errors, to be cleared by writes */
    assert_range(0x114, 0x11c, CONFIG_AER);
    assert_range(0x11c, 0x148, 0);
    assert_range(0x150, 0x180, CONFIG_VENDOR);
    assert_range(0x180, 0x1a0, UNASSIGNED);
    assert_range(0x1a0, 0x1b8, CONFIG_VENDOR);
}

/* Without PCI Express there is no second list, whatever is behind the first 256 bytes. */
static void test_conventional(void **state)
{
    (void)state;
    put_extended(0x100, PCI_EXT_CAP_ID_VNDR, 0);
    put32(0x104, 0x10u << 20);
    config_map_build(&map, config, PCI_CFG_SPACE_SIZE);
    assert_range(PCI_STD_HEADER_SIZEOF, END, UNASSIGNED);
}

static void test_circles(void **state)
{
    (void)state;
    config[PCI_CAPABILITY_LIST] = 0x40;
    put_standard(0x40, PCI_CAP_ID_VNDR, 0x60);
    config[0x42] = 8;
    put_standard(0x60, PCI_CAP_ID_PM, 0x40);
    put_extended(0x100, PCI_EXT_CAP_ID_VNDR, 0x140);
    put32(0x104, 0x10u << 20);
    put_extended(0x140, PCI_EXT_CAP_ID_DSN, 0x140);
    build();
    assert_range(0x40, 0x48, CONFIG_VENDOR);
    assert_range(0x60, 0x68, 0);
    assert_range(0x100, 0x110, CONFIG_VENDOR);
    assert_range(0x140, 0x14c, 0);
}

/* Pointers into the header end a list, and what leaves the space is cut off at its end. */
static void test_out_of_range(void **state)
{
    (void)state;
    config[PCI_CAPABILITY_LIST] = 0xfc;
    put_standard(0xfc, PCI_CAP_ID_VPD, 0x10);
    put_standard(0x10, PCI_CAP_ID_VNDR, 0);
    put_extended(0x100, PCI_EXT_CAP_ID_VNDR, 0xffc);
    put32(0x104, 0x10u << 20);
    put_extended(0xffc, PCI_EXT_CAP_ID_ERR, 0x080);
    build();
    assert_range(0xff, 0x100, CONFIG_VPD);
    assert_range(0x10, 0x40, 0);
    assert_range(0x100, 0x110, CONFIG_VENDOR);
    assert_range(0xffc, END, 0);
}

/* Who is in two capabilities is of both sorts. */
static void test_overlap(void **state)
{
    (void)state;
    config[PCI_CAPABILITY_LIST] = 0x40;
    put_standard(0x40, PCI_CAP_ID_VNDR, 0x44);
    config[0x42] = 0x20;
    put_standard(0x44, PCI_CAP_ID_VPD, 0);
    build();
    assert_int_equal(map.sorts[0x47], CONFIG_VENDOR | CONFIG_VPD);
    assert_int_equal(map.sorts[0x48], CONFIG_VENDOR);
}

/* Nothing that a device can say leads out of the map (sanitizers look on) or has no end. */
static void test_any_bytes(void **state)
{
    unsigned seed = 1;

    (void)state;
    memset(config, 0xff, sizeof(config));
    build();
    for (int round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < END; i++)
            config[i] = (uint8_t)rand_r(&seed);
        config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
        build();
        for (unsigned i = 0; i < END; i++)
            assert_true(map.sorts[i] < CONFIG_BIST << 1);
    }
}

static void test_names(void **state)
{
    static const char *const names[] = {"vpd", "vendor", "unassigned", "aer", "bist"};

    (void)state;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(config_sort_parse(names[i], strlen(names[i])), 1u << i);
        assert_string_equal(config_sort_name(1u << i), names[i]);
    }
    assert_int_equal(config_sort_parse("vpd,aer", 3), CONFIG_VPD);
    assert_int_equal(config_sort_parse("vpdx", 4), 0);
    assert_int_equal(config_sort_parse("vp", 2), 0);
    assert_int_equal(config_sort_parse("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_capabilities, setup),
        cmocka_unit_test_setup(test_standard, setup),
        cmocka_unit_test_setup(test_unknown_lengths, setup),
        cmocka_unit_test_setup(test_extended, setup),
        cmocka_unit_test_setup(test_conventional, setup),
        cmocka_unit_test_setup(test_circles, setup),
        cmocka_unit_test_setup(test_out_of_range, setup),
        cmocka_unit_test_setup(test_overlap, setup),
        cmocka_unit_test_setup(test_any_bytes, setup),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
