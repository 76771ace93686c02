#include "bridge/sim/sim_bar.h"
#include "tests/unit/sim_peer_fixture.h"

enum {
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_INTX = 0x08,
    REG_SCRATCH = 0x0c,

    PORTS = VFIO_PCI_BAR1_REGION_INDEX,
    INDEX = 0x00,
    DATA = 0x04,

    SPARSE = VFIO_PCI_BAR3_REGION_INDEX,
    HOLE = 0x2000,
    HOLE_END = 0x3000,
    SPARSE_SIZE = 0x8000,

    DMA = VFIO_PCI_BAR5_REGION_INDEX,
    DMA_ADDRESS = 0x00,
    DMA_VALUE = 0x08,
    DMA_GO = 0x0c,
    IOVA = 0x100000,
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

static void ports(void **state)
{
    struct fixture *fx = *state;

    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_IO, 2);
    assert_true(fx_config_get(fx, PCI_BASE_ADDRESS_1, 4) & PCI_BASE_ADDRESS_SPACE_IO);
    assert_int_equal(fx_get(fx, PORTS, DATA, 4), 0x74736574);
    fx_set(fx, PORTS, INDEX, REG_SCRATCH, 4);
    fx_set(fx, PORTS, DATA, 0x12345678, 4);
    assert_int_equal(fx_get(fx, PORTS, DATA, 4), 0x12345678);
    assert_int_equal(fx_get(fx, PORTS, DATA, 1), 0);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
    assert_int_equal(fx_get(fx, PORTS, DATA, 4), UINT32_MAX);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0x12345678);
}

static void bar_sizes(void **state)
{
    static const uint32_t sizes[] = {0x1000, 0x10, 0x2000, 0x8000, 0x10000, 0x100};
    struct fixture *fx = *state;

    for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct vfio_region_info info = {.argsz = sizeof(info), .index = i};

        assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &info), 0);
        assert_int_equal(info.size, sizes[i]);
        assert_int_equal(!!(info.flags & VFIO_REGION_INFO_FLAG_MMAP), i == SPARSE);
    }
}

/* Two areas, and registers between them. */
static void sparse(void **state)
{
    struct {
        struct vfio_region_info info;
        struct vfio_region_info_cap_sparse_mmap head;
        struct vfio_region_sparse_mmap_area areas[2];
    } got = {
        .info = {.argsz = sizeof(got), .index = SPARSE}
    };
    struct vfio_region_info small = {.argsz = sizeof(small), .index = SPARSE};
    struct fixture *fx = *state;
    void *p;

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &small), 0);
    assert_int_equal(small.argsz, sizeof(got));
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_REGION_INFO, &got), 0);
    assert_int_equal(got.info.cap_offset, sizeof(got.info));
    assert_int_equal(got.head.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    assert_int_equal(got.head.nr_areas, 2);
    assert_int_equal(got.areas[0].offset, 0);
    assert_int_equal(got.areas[0].size, HOLE);
    assert_int_equal(got.areas[1].offset, HOLE_END);
    assert_int_equal(got.areas[1].size, SPARSE_SIZE - HOLE_END);
    for (uint64_t at = 0; at < SPARSE_SIZE; at += FX_PAGE) {
        int ret = peer_mmap(fx, SPARSE, at, FX_PAGE, PROT_READ, &p);

        assert_int_equal(ret, at == HOLE ? -EINVAL : 0);
        if (!ret)
            assert_int_equal(host_munmap(fx->host, p, FX_PAGE), 0);
    }
    assert_int_equal(peer_mmap(fx, SPARSE, 0, SPARSE_SIZE, PROT_READ, &p), -EINVAL);

    fx_set(fx, SPARSE, HOLE - 4, 0x89abcdef, 4);
    fx_set(fx, SPARSE, HOLE_END, 0x01234567, 4);
    fx_set(fx, SPARSE, HOLE + REG_SCRATCH, 0x12345678, 4);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0x12345678);
    assert_int_equal(fx_get(fx, SPARSE, HOLE + REG_ID, 4), 0x74736574);
    assert_int_equal(fx_get(fx, SPARSE, HOLE + REG_ID, 2), 0);
    assert_int_equal(fx_get(fx, SPARSE, HOLE - 4, 4), 0x89abcdef);
    assert_int_equal(fx_get(fx, SPARSE, HOLE_END, 4), 0x01234567);
}

static void run_dma(struct fixture *fx, uint64_t iova, uint32_t value)
{
    fx_set(fx, DMA, DMA_ADDRESS, (uint32_t)iova, 4);
    fx_set(fx, DMA, DMA_ADDRESS + 4, iova >> 32, 4);
    fx_set(fx, DMA, DMA_VALUE, value, 4);
    fx_set(fx, DMA, DMA_GO, 1, 4);
    while (fx_get(fx, DMA, DMA_GO, 4))
        sched_yield();
}

static void dma(void **state)
{
    const uint64_t far = UINT64_C(0x200000000);
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);
    uint32_t word;

    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, far, memory, FX_PAGE), 0);
    run_dma(fx, IOVA, 1);
    assert_int_equal(memory[0], 0); /* no bus master */
    fx_set_bus_master(fx, true);
    run_dma(fx, IOVA, 0x12345678);
    run_dma(fx, far + 8, 0x9abcdef0);
    run_dma(fx, IOVA + FX_PAGE, 1);
    memcpy(&word, memory, sizeof(word));
    assert_int_equal(word, 0x12345678);
    memcpy(&word, memory + 8, sizeof(word));
    assert_int_equal(word, 0x9abcdef0);
    assert_int_equal(fx_stats(fx).dma_writes, 2);
    assert_int_equal(fx_get(fx, DMA, DMA_VALUE, 4), 1);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_get(fx, DMA, DMA_VALUE, 4), 0);
    munmap(memory, FX_PAGE);
}

/* Another device's transfer, which passes both ends of the hole. */
static void transfers_into_the_hole(void **state)
{
    struct fixture *fx = *state;
    struct sim_device *dev = sim_lock_device(fx->sim, fx->bdf);
    uint32_t words[4] = {0x89abcdef, 0, 0, 0x01234567};

    assert_non_null(dev);
    pthread_mutex_unlock(&fx->sim->lock);
    fx_set(fx, SPARSE, HOLE - 4, words[0], 4);
    pthread_mutex_lock(sim_device_mutex(dev));
    sim_bar_transfer(dev, SPARSE, HOLE_END - 12, words, sizeof(words), true);
    sim_bar_transfer(dev, SPARSE, HOLE - 4, words, sizeof(words), false);
    pthread_mutex_unlock(sim_device_mutex(dev));
    assert_int_equal(words[0], 0x89abcdef);
    assert_int_equal(words[1], 0x74736574);
    assert_int_equal(words[2], 0);
    assert_int_equal(fx_get(fx, SPARSE, HOLE_END, 4), 0x01234567);
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

/* D3hot: nothing is reached but config space, and the way back is a reset that loses no BAR. */
static void power_states(void **state)
{
    enum {
        PM = 0x70,
        PME = PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS,
    };
    struct fixture *fx = *state;
    uint32_t bar = fx_config_get(fx, PCI_BASE_ADDRESS_4, 4), word;
    struct sim_stats before = fx_stats(fx);

    assert_int_equal(fx_config_get(fx, PM + PCI_PM_PMC, 2), 3);
    fx_config_set(fx, PM + PCI_PM_CTRL, PME, 2);
    assert_int_equal(fx_config_get(fx, PM + PCI_PM_CTRL, 2), 0);
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
    fx_bar_set(fx, REG_SCRATCH, 1);
    for (uint32_t between = 1; between < 3; between++) {
        fx_config_set(fx, PM + PCI_PM_CTRL, between, 2);
        assert_int_equal(fx_config_get(fx, PM + PCI_PM_CTRL, 2), 0);
    }
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 1);

    fx_config_set(fx, PM + PCI_PM_CTRL, 3, 2);
    assert_int_equal(fx_config_get(fx, PM + PCI_PM_CTRL, 2), 3);
    assert_int_equal(fx_read(fx, 0, REG_SCRATCH, &word, sizeof(word)), -EIO);
    assert_int_equal(fx_write(fx, SPARSE, 0, &word, sizeof(word)), -EIO);
    assert_int_equal(fx_read(fx, VFIO_PCI_ROM_REGION_INDEX, 0, &word, sizeof(word)), -EIO);
    assert_int_equal(fx_get(fx, PORTS, DATA, 4), UINT32_MAX);
    assert_false(fx_state(fx).bus_master);

    fx_config_set(fx, PM + PCI_PM_CTRL, 0, 2);
    assert_int_equal(fx_bar_get(fx, REG_SCRATCH), 0);
    assert_true(fx_state(fx).bus_master);
    assert_int_equal(fx_config_get(fx, PCI_BASE_ADDRESS_4, 4), bar);
    assert_int_equal(fx_stats(fx).resets, before.resets);
    fx_config_set(fx, PM + PCI_PM_CTRL, 3, 2);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_config_get(fx, PM + PCI_PM_CTRL, 2), 0);
    assert_int_equal(fx_bar_get(fx, REG_ID), 0x74736574);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(registers, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(ports, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(bar_sizes, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(sparse, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(dma, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(transfers_into_the_hole, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(interrupts, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vectors, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vpd, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(capabilities, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(power_states, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
