#include "tests/unit/sim_probe.h"

enum {
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    EDU_MSI = 0x40,
};

static void edu_as_it_is(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 4), 0x11e81234);
    assert_int_equal(fx_config_get(fx, PCI_CLASS_REVISION, 4), 0x00ff0010);
    assert_int_equal(fx_config_get(fx, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
    assert_int_equal(fx_config_get(fx, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_NORMAL);
    assert_int_equal(fx_config_get(fx, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
    assert_int_equal(fx_config_get(fx, PCI_CAPABILITY_LIST, 1), EDU_MSI);
    assert_int_equal(fx_config_get(fx, PCI_INTERRUPT_LINE, 2), 0x0100);
    assert_int_equal(fx_config_get(fx, EDU_MSI, 4), 0x00800005);
    /* Decoding is on as the firmware left it, bus mastering is not. */
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 2),
                     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
}

static void ends_of_the_space(void **state)
{
    struct fixture *fx = *state;
    uint8_t buf[300] = {0};

    assert_int_equal(fx_read(fx, CONFIG, 0, buf, 256), 256);
    assert_int_equal(fx_read(fx, CONFIG, 0, buf, 257), -EFAULT);
    assert_int_equal(fx_read(fx, CONFIG, 256, buf, 1), -EFAULT);
    assert_int_equal(fx_read(fx, CONFIG, 255, buf, 1), 1);
    assert_int_equal(fx_write(fx, CONFIG, 255, buf, 2), -EFAULT);
    assert_int_equal(fx_write(fx, CONFIG, 0xffffffffff, buf, 1), -EFAULT);
}

static void long_and_odd_accesses(void **state)
{
    struct fixture *fx = *state;
    uint8_t in[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, out[16] = {0};

    assert_int_equal(fx_write(fx, CONFIG, 0xa1, in, sizeof(in)), sizeof(in));
    assert_int_equal(fx_read(fx, CONFIG, 0xa1, out, sizeof(out)), sizeof(out));
    assert_memory_equal(in, out, sizeof(in));
    assert_int_equal(fx_config_get(fx, 0xa0, 4), 0x03020100);
    assert_int_equal(fx_config_get(fx, 0xb0, 4), 0x00000010);
    /* The identity, from its second byte on. */
    assert_int_equal(fx_get(fx, CONFIG, 1, 3), 0x11e812);
}

static void express_has_4_kib(void **state)
{
    struct fixture *fx = *state;
    uint8_t byte = 0;

    assert_int_equal(fx_read(fx, CONFIG, 4095, &byte, 1), 1);
    assert_int_equal(fx_read(fx, CONFIG, 4096, &byte, 1), -EFAULT);
    assert_int_equal(fx_config_get(fx, 0x100, 4), 0);
    fx_config_set(fx, 0x100, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, 0x100, 4), 0);
}

static void bars_are_virtual(void **state)
{
    struct fixture *fx = *state;
    uint32_t real = fx_config_get(fx, PCI_BASE_ADDRESS_0, 4);

    assert_int_not_equal(real, 0);
    assert_int_equal(real & 0xfffff, 0);
    fx_config_set(fx, PCI_BASE_ADDRESS_0, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), 0xfff00000);
    fx_config_set(fx, PCI_BASE_ADDRESS_0, 0x12345678, 4);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), 0x12300000);
    fx_config_set(fx, PCI_BASE_ADDRESS_0 + 3, 0x56, 1);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), 0x56300000);
    for (unsigned i = 1; i < 6; i++) {
        fx_config_set(fx, PCI_BASE_ADDRESS_0 + 4 * i, 0xffffffff, 4);
        assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0 + 4 * i, 4), 0);
    }
    fx_config_set(fx, PCI_ROM_ADDRESS, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, PCI_ROM_ADDRESS, 4), 0);
    /* The registers do not care. */
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
}

static void kinds_of_bars(void **state)
{
    static const uint32_t sized[6] = {0xfffff000, 0xffff000c, 0xffffffff,
                                      0xffffffe1, 0,          0xffffff00};
    struct fixture *fx = *state;

    for (unsigned i = 0; i < 6; i++)
        fx_config_set(fx, PCI_BASE_ADDRESS_0 + 4 * i, 0xffffffff, 4);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0 + 4 * i, 4), sized[i]);
}

static void identity_cannot_be_written(void **state)
{
    static const unsigned fixed[] = {PCI_VENDOR_ID, PCI_CLASS_REVISION, PCI_SUBSYSTEM_VENDOR_ID,
                                     PCI_CAPABILITY_LIST};
    struct fixture *fx = *state;

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        uint32_t before = fx_config_get(fx, fixed[i], 4);

        fx_config_set(fx, fixed[i], ~before, 4);
        assert_int_equal(fx_config_get(fx, fixed[i], 4), before);
    }
    fx_config_set(fx, PCI_INTERRUPT_LINE, 0xffff, 2);
    assert_int_equal(fx_config_get(fx, PCI_INTERRUPT_LINE, 2), 0x01ff);
    fx_config_set(fx, PCI_STATUS, 0xffff, 2);
    assert_int_equal(fx_config_get(fx, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
}

static void command(void **state)
{
    struct fixture *fx = *state;

    fx_config_set(fx, PCI_COMMAND, 0xffff, 2);
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                                                            PCI_COMMAND_MASTER | PCI_COMMAND_SERR |
                                                            PCI_COMMAND_INTX_DISABLE);
    assert_true(fx_state(fx).bus_master);
    assert_true(fx_state(fx).memory_enabled);
    /* The upper byte alone. */
    fx_config_set(fx, PCI_COMMAND + 1, 0, 1);
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 2),
                     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
    fx_config_set(fx, PCI_COMMAND, 0, 4);
    assert_false(fx_state(fx).bus_master);
    assert_false(fx_state(fx).memory_enabled);
}

static void msi_is_not_turned_on_by_a_write(void **state)
{
    struct fixture *fx = *state;
    int eventfd = fx_eventfd();

    fx_config_set(fx, EDU_MSI + PCI_MSI_ADDRESS_LO, 0xfee00123, 4);
    fx_config_set(fx, EDU_MSI + PCI_MSI_ADDRESS_HI, 0x12345678, 4);
    fx_config_set(fx, EDU_MSI + PCI_MSI_DATA_64, 0x4021, 2);
    assert_int_equal(fx_config_get(fx, EDU_MSI + PCI_MSI_ADDRESS_LO, 4), 0xfee00123);
    assert_int_equal(fx_config_get(fx, EDU_MSI + PCI_MSI_ADDRESS_HI, 4), 0x12345678);
    assert_int_equal(fx_config_get(fx, EDU_MSI + PCI_MSI_DATA_64, 2), 0x4021);
    fx_config_set(fx, EDU_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE, 2);
    assert_int_equal(fx_config_get(fx, EDU_MSI + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_64BIT);

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSI_IRQ_INDEX, eventfd), 0);
    fx_config_set(fx, EDU_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE | 0x70,
                  2);
    assert_int_equal(fx_config_get(fx, EDU_MSI + PCI_MSI_FLAGS, 2),
                     PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_ENABLE);
    close(eventfd);
}

static void capabilities(void **state)
{
    struct fixture *fx = *state;

    /* MSI: the upper byte of its flags says what it can; mask bits are the hardware's, what is
     * between them and the data is reserved. */
    fx_config_set(fx, 0x40 + PCI_MSI_FLAGS + 1, 0, 1);
    assert_int_equal(fx_config_get(fx, 0x40 + PCI_MSI_FLAGS + 1, 1), PCI_MSI_FLAGS_MASKBIT >> 8);
    fx_config_set(fx, 0x40 + PCI_MSI_MASK_32, 0xf, 4);
    assert_int_equal(fx_config_get(fx, 0x40 + PCI_MSI_MASK_32, 4), 0xf);
    fx_config_set(fx, 0x40 + PCI_MSI_DATA_32 + 2, 0xffff, 2);
    assert_int_equal(fx_config_get(fx, 0x40 + PCI_MSI_DATA_32 + 2, 2), 0);
    /* MSI-X and PCI Express: nothing can be written. */
    fx_config_set(fx, 0x60, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, 0x60, 4), 0x00077011);
    fx_config_set(fx, 0x60 + PCI_MSIX_TABLE, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, 0x60 + PCI_MSIX_TABLE, 4), 0x800);
    fx_config_set(fx, 0x88, 0, 2);
    assert_int_equal(fx_config_get(fx, 0x88, 2), 0x55);
    /* Vendor-specific: all but the list. */
    fx_config_set(fx, 0x70, 0xffffffff, 4);
    assert_int_equal(fx_config_get(fx, 0x70, 4), 0xffff8009);
}

static void unassigned_bytes_are_raw_and_stay(void **state)
{
    struct fixture *fx = *state;

    fx_config_set(fx, 0xf0, 0xcafe, 4);
    fx_config_set(fx, PCI_CACHE_LINE_SIZE, 0x10, 1);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_config_get(fx, 0xf0, 4), 0xcafe);
    fx_close_all(fx);
    fx_open_device(fx);
    assert_int_equal(fx_config_get(fx, 0xf0, 4), 0xcafe);
    assert_int_equal(fx_config_get(fx, PCI_CACHE_LINE_SIZE, 1), 0);
}

static void reset_keeps_what_the_client_wrote(void **state)
{
    struct fixture *fx = *state;

    fx_config_set(fx, PCI_BASE_ADDRESS_0, 0xabc00000, 4);
    fx_config_set(fx, PCI_COMMAND, 0xffff, 2);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), 0xabc00000);
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 2), PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
                                                            PCI_COMMAND_MASTER | PCI_COMMAND_SERR |
                                                            PCI_COMMAND_INTX_DISABLE);
    assert_true(fx_state(fx).bus_master);
}

static void the_next_client_finds_it_fresh(void **state)
{
    struct fixture *fx = *state;
    uint32_t bar = fx_config_get(fx, PCI_BASE_ADDRESS_0, 4);
    int again;

    fx_config_set(fx, PCI_BASE_ADDRESS_0, 0xabc00000, 4);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE, 2);

    /* A second descriptor is the same client. */
    again = fx_get_device(fx, fx->bdf);
    host_close(fx->host, &fx->device);
    fx->device = again;
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), 0xabc00000);
    assert_true(fx_state(fx).bus_master);

    host_close(fx->host, &fx->device);
    assert_false(fx_state(fx).bus_master);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_0, 4), bar);
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 2),
                     PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(edu_as_it_is, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(ends_of_the_space, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(long_and_odd_accesses, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(express_has_4_kib, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(bars_are_virtual, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(kinds_of_bars, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(identity_cannot_be_written, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(command, fx_setup_open, fx_teardown),
        cmocka_unit_test_setup_teardown(msi_is_not_turned_on_by_a_write, fx_setup_open,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(capabilities, probe_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unassigned_bytes_are_raw_and_stay, fx_setup_open,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(reset_keeps_what_the_client_wrote, fx_setup_open,
                                        fx_teardown),
        cmocka_unit_test_setup_teardown(the_next_client_finds_it_fresh, fx_setup_open, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
