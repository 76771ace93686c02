#include "tests/unit/sim_fixture.h"

enum {
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_INTX = 0x08,
    REG_SCRATCH = 0x0c,
};

static int setup(void **state)
{
    fx_setup_model(state, &sim_testdev_model);
    fx_open_device(*state);
    return 0;
}

static void registers(void **state)
{
    struct fixture *fx = *state;

    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(fx_bar_get(fx, REG_ID), 0x74736574);
    fx_bar_set(fx, REG_SCRATCH, 0x12345678);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0x12345678);
    assert_int_equal(fx_get(fx, 0, REG_SCRATCH, 2), 0);
    fx_set(fx, 0, REG_SCRATCH, 0, 2);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0x12345678);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0);
}

static void interrupts(void **state)
{
    struct fixture *fx = *state;
    int event = fx_eventfd();

    fx_set_bus_master(fx, true);
    for (uint32_t index = VFIO_PCI_MSI_IRQ_INDEX; index <= VFIO_PCI_MSIX_IRQ_INDEX; index++) {
        assert_int_equal(fx_set_trigger(fx, index, event), 0);
        fx_bar_set(fx, REG_RAISE, 1);
        assert_int_equal(fx_events(event), 0);
        fx_bar_set(fx, REG_RAISE, 0);
        assert_int_equal(fx_events(event), 1);
        assert_int_equal(fx_disable_irq(fx, index), 0);
    }
    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_INTX_IRQ_INDEX, event), 0);
    fx_bar_set(fx, REG_INTX, 1);
    assert_int_equal(fx_events(event), 1);
    assert_int_equal(fx_bar_get(fx, REG_INTX), 1);
    close(event);
}

static void vectors(void **state)
{
    static const uint32_t counts[VFIO_PCI_NUM_IRQS] = {1, 8, 64, 1, 1};
    struct fixture *fx = *state;

    for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++) {
        struct vfio_irq_info info = {.argsz = sizeof(info), .index = i};

        assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
        assert_int_equal(info.count, counts[i]);
    }
}

/* The kernel makes the transfer; the memory is there after a reset, and for who opens it next. */
static void vpd(void **state)
{
    enum {
        AT = 0xc0,
    };
    const uint32_t flag = (uint32_t)PCI_VPD_ADDR_F << 16;
    struct fixture *fx = *state;

    assert_int_equal(fx_config_get(fx, AT, 1), PCI_CAP_ID_VPD);
    fx_config_set(fx, AT + PCI_VPD_DATA, 0x12345678, 4);
    fx_config_set(fx, AT, flag | 4 << 16, 4);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_ADDR, 2), 4);
    host_close(fx->host, &fx->device);
    fx->device = fx_get_device(fx, fx->bdf);
    fx_config_set(fx, AT + PCI_VPD_ADDR, 4, 2);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_ADDR, 2), PCI_VPD_ADDR_F | 4);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_DATA, 4), 0x12345678);
    /* The low byte alone starts nothing; an address that is none is never done. */
    fx_config_set(fx, AT + PCI_VPD_ADDR, 8, 1);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_ADDR, 2), PCI_VPD_ADDR_F | 8);
    fx_config_set(fx, AT + PCI_VPD_ADDR, 0x7ffc, 2);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_ADDR, 2), 0x7ffc);
    fx_config_set(fx, AT + PCI_VPD_ADDR, 0xfffc, 2);
    assert_int_equal(fx_config_get(fx, AT + PCI_VPD_ADDR, 2), 0xfffc);
}

/* Both lists, and what can be changed in their capabilities. */
static void capabilities(void **state)
{
    static const unsigned writable[] = {0xd4, 0xf0, 0x108, 0x10c, 0x114, 0x158};
    struct fixture *fx = *state;

    assert_int_equal(fx_config_get(fx, 0x100, 4), 0x15020001);
    assert_int_equal(fx_config_get(fx, 0x150, 4), 0x0001000b);
    for (size_t i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
        fx_config_set(fx, writable[i], 0x89abcdef, 4);
        assert_int_equal(fx_config_get(fx, writable[i], 4), 0x89abcdef);
        fx_config_set(fx, writable[i] - 4, UINT32_MAX, 4);
        assert_int_equal(fx_config_get(fx, writable[i], 4), 0x89abcdef);
    }
    fx_config_set(fx, PCI_BIST, 0xff, 1);
    assert_int_equal(fx_config_get(fx, PCI_BIST, 1), PCI_BIST_CAPABLE | PCI_BIST_START);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(interrupts, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vectors, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vpd, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(capabilities, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
