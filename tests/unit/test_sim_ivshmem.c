#include "tests/unit/sim_fixture.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    SIZE = 1 << 20,
};

static int setup(void **state)
{
    fx_setup_model(state, &sim_ivshmem_model);
    fx_open_device(*state);
    return 0;
}

static uint64_t region_size(struct fixture *fx, uint32_t index, uint32_t *flags)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &info), 0);
    *flags = info.flags;
    return info.size;
}

static void identity(void **state)
{
    struct fixture *fx = *state;
    uint32_t flags;

    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 4), 0x11101af4);
    assert_int_equal(fx_config_get(fx, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x11001af4);
    assert_int_equal(fx_config_get(fx, PCI_CLASS_REVISION, 4), 0x05000001);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_2, 4) & 0xf, 0xc);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_3, 4), 0);
    assert_int_equal(region_size(fx, BAR0, &flags), 256);
    assert_false(flags & VFIO_REGION_INFO_FLAG_MMAP);
    assert_int_equal(region_size(fx, 1, &flags), 0);
    assert_int_equal(region_size(fx, BAR2, &flags), SIZE);
    assert_true(flags & VFIO_REGION_INFO_FLAG_MMAP);
}

/* All of it, by accesses of any width; and a reset leaves it alone. */
static void memory(void **state)
{
    struct fixture *fx = *state;
    char *in = malloc(SIZE), *out = malloc(SIZE);

    for (size_t i = 0; i < SIZE; i++)
        in[i] = (char)(i * 7 + i / 4096);
    assert_int_equal(fx_write(fx, BAR2, 0, in, SIZE), SIZE);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_read(fx, BAR2, 0, out, SIZE), SIZE);
    assert_memory_equal(in, out, SIZE);
    assert_int_equal(fx_read(fx, BAR2, 4093, out, 9), 9);
    assert_memory_equal(in + 4093, out, 9);
    fx_set(fx, BAR2, SIZE - 1, 0x5a, 1);
    assert_int_equal(fx_get(fx, BAR2, SIZE - 1, 1), 0x5a);
    assert_int_equal(fx_read(fx, BAR2, SIZE, out, 1), -EINVAL);
    free(in);
    free(out);
}

static void registers(void **state)
{
    struct fixture *fx = *state;

    fx_bar_set(fx, 0, 0x12345678);
    fx_bar_set(fx, 4, 0xabcdef01);
    assert_int_equal(fx_bar_get(fx, 0), 0x12345678);
    assert_true(fx_get(fx, BAR0, 0, 8) == UINT64_C(0xabcdef0112345678));
    assert_int_equal(fx_bar_get(fx, 4), 0); /* cleared by reading */
    assert_int_equal(fx_bar_get(fx, 8), 0);
    assert_int_equal(fx_get(fx, BAR0, 0, 2), 0x5678);
    fx_set(fx, BAR0, 0, UINT64_C(0x0000000200000001), 8);
    assert_true(fx_get(fx, BAR0, 0, 8) == UINT64_C(0x0000000200000001));
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_bar_get(fx, 0), 0);
    assert_int_equal(fx_read(fx, BAR0, 256, &(uint32_t){0}, 4), -EINVAL);
}

/* The machine's table has it, and says so. */
static void models(void **state)
{
    struct sim *sim = sim_create();
    char bdf[16];
    size_t n = 0;

    (void)state;
    assert_string_equal(sim_model_name(0), "edu");
    for (; sim_model_name(n); n++)
        assert_int_equal(sim_add_device(sim, sim_model_name(n), bdf, sizeof(bdf)), 0);
    assert_true(n >= 2);
    assert_int_equal(sim_add_device(sim, "ivshmem", bdf, sizeof(bdf)), 0);
    assert_int_equal(sim_add_device(sim, "ivshmem-doorbell", bdf, sizeof(bdf)), -ENOENT);
    sim_destroy(sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(identity, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(memory, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(registers, setup, fx_teardown),
        cmocka_unit_test(models),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
