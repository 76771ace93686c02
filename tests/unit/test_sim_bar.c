#include "tests/unit/sim_probe.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR1 = VFIO_PCI_BAR1_REGION_INDEX,
    BAR3 = VFIO_PCI_BAR3_REGION_INDEX,
};

static void accesses_are_cut_into_aligned_ones(void **state)
{
    static const struct {
        uint64_t offset;
        size_t len;
        unsigned accesses, last_width;
        uint64_t last_offset;
    } cases[] = {
        {0,   1,  1, 1, 0  },
        {2,   2,  1, 2, 2  },
        {4,   4,  1, 4, 4  },
        {8,   8,  1, 8, 8  },
        {4,   8,  2, 4, 8  },
        {1,   4,  3, 1, 4  }, /* 1, 2 and 1 */
        {3,   5,  2, 4, 4  }, /* 1 and 4 */
        {0,   7,  3, 1, 6  }, /* 4, 2 and 1 */
        {16,  64, 8, 8, 72 },
        {255, 2,  2, 1, 256},
    };
    struct fixture *fx = *state;
    uint8_t buf[64] = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        the_probe->reads = the_probe->writes = 0;
        assert_int_equal(fx_read(fx, BAR1, cases[i].offset, buf, cases[i].len), cases[i].len);
        assert_int_equal(the_probe->reads, cases[i].accesses);
        assert_int_equal(the_probe->width, cases[i].last_width);
        assert_int_equal(the_probe->offset, cases[i].last_offset);
        assert_int_equal(the_probe->bar, 1);
        the_probe->offset = 0xdead;
        assert_int_equal(fx_write(fx, BAR1, cases[i].offset, buf, cases[i].len), cases[i].len);
        assert_int_equal(the_probe->writes, cases[i].accesses);
        assert_int_equal(the_probe->offset, cases[i].last_offset);
    }
}

static void values_are_little_endian(void **state)
{
    struct fixture *fx = *state;
    uint8_t buf[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    assert_int_equal(fx_write(fx, BAR1, 0, buf, 8), 8);
    assert_true(the_probe->value == UINT64_C(0x0807060504030201));
    assert_int_equal(fx_write(fx, BAR1, 0, buf, 2), 2);
    assert_int_equal(the_probe->value, 0x0201);
    assert_int_equal(fx_read(fx, BAR1, 0, buf, 4), 4);
    assert_memory_equal(buf, "\x88\x77\x66\x55", 4);
}

static void the_end_of_a_bar(void **state)
{
    struct fixture *fx = *state;
    uint8_t buf[16] = {0};

    assert_int_equal(fx_read(fx, BAR1, 0xfff8, buf, 16), 8);
    assert_int_equal(fx_write(fx, BAR1, 0xffff, buf, 16), 1);
    the_probe->reads = 0;
    assert_int_equal(fx_read(fx, BAR1, 0x10000, buf, 1), -EINVAL);
    assert_int_equal(fx_read(fx, BAR1, 0xffffffffff, buf, 1), -EINVAL);
    assert_int_equal(the_probe->reads, 0);
    assert_int_equal(fx_read(fx, BAR1, 0, buf, 0), 0);
}

static void regions_that_are_not_there(void **state)
{
    static const unsigned absent[] = {
        VFIO_PCI_BAR2_REGION_INDEX, /* the upper half of BAR 1 */
        VFIO_PCI_BAR4_REGION_INDEX,
        VFIO_PCI_ROM_REGION_INDEX,
        VFIO_PCI_VGA_REGION_INDEX,
        VFIO_PCI_NUM_REGIONS,
        0x7fffff,
    };
    struct fixture *fx = *state;
    uint8_t byte = 0;

    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        assert_int_equal(fx_read(fx, absent[i], 0, &byte, 1), -EINVAL);
        assert_int_equal(fx_write(fx, absent[i], 0, &byte, 1), -EINVAL);
    }
}

static void memory_decoding_off(void **state)
{
    struct fixture *fx = *state;
    uint32_t value = 0;

    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_IO, 2);
    the_probe->reads = the_probe->writes = 0;
    assert_int_equal(fx_read(fx, BAR1, 0, &value, 4), -EIO);
    assert_int_equal(fx_write(fx, BAR1, 0, &value, 4), -EIO);
    assert_int_equal(the_probe->reads + the_probe->writes, 0);
    assert_int_equal(fx_read(fx, BAR3, 0, &value, 4), 4);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(fx_read(fx, BAR1, 0, &value, 4), 4);
}

static void ports(void **state)
{
    struct fixture *fx = *state;
    uint64_t value = 0;

    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_IO, 2);
    the_probe->reads = 0;
    assert_int_equal(fx_read(fx, BAR3, 0, &value, 8), 8);
    assert_int_equal(the_probe->reads, 2); /* of 4 bytes at most */
    assert_true(value == UINT64_C(0x5566778855667788));

    /* Not decoded, they answer as an empty bus does. */
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    the_probe->reads = the_probe->writes = 0;
    assert_int_equal(fx_read(fx, BAR3, 0, &value, 4), 4);
    assert_int_equal((uint32_t)value, 0xffffffff);
    assert_int_equal(fx_write(fx, BAR3, 0, &value, 4), 4);
    assert_int_equal(the_probe->reads + the_probe->writes, 0);
}

static void the_msix_table_is_hidden(void **state)
{
    struct fixture *fx = *state;
    uint8_t buf[160];

    memset(buf, 0, sizeof(buf));
    the_probe->reads = the_probe->writes = 0;
    assert_int_equal(fx_read(fx, BAR0, 0x800, buf, 128), 128);
    for (int i = 0; i < 128; i++)
        assert_int_equal(buf[i], 0xff);
    assert_int_equal(fx_write(fx, BAR0, 0x87f, buf, 1), 1);
    assert_int_equal(the_probe->reads + the_probe->writes, 0);
    /* From before it to behind it. */
    assert_int_equal(fx_read(fx, BAR0, 0x7f8, buf, 144), 144);
    assert_int_equal(the_probe->reads, 2);
    assert_int_equal(buf[7], 0x11);
    assert_int_equal(buf[8], 0xff);
    assert_int_equal(buf[135], 0xff);
    assert_int_equal(buf[136], 0x88);
    assert_int_equal(the_probe->offset, 0x880);
    /* Another BAR has nothing to hide there. */
    assert_int_equal(fx_read(fx, BAR1, 0x800, buf, 8), 8);
    assert_int_equal(buf[0], 0x88);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(accesses_are_cut_into_aligned_ones, probe_setup,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(values_are_little_endian, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(the_end_of_a_bar, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(regions_that_are_not_there, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(memory_decoding_off, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(ports, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(the_msix_table_is_hidden, probe_setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
