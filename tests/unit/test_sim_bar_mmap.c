#include "tests/unit/sim_peer_fixture.h"
#include "tests/unit/sim_probe.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR1 = VFIO_PCI_BAR1_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    RW = PROT_READ | PROT_WRITE,
    SIZE = 1 << 20,
};

static struct fixture peer;

/* edu does the DMA, the other is the target. */
static int setup(void **state)
{
    fx_setup_open(state);
    peer_add(*state, &sim_ivshmem_model, &peer);
    peer_open(*state, &peer);
    return 0;
}

static int setup_registers(void **state)
{
    fx_setup_open(state);
    peer_add(*state, &probe_model, &peer);
    peer_open(*state, &peer);
    return 0;
}

static int setup_two_edus(void **state)
{
    fx_setup_open(state);
    peer_add(*state, &sim_edu_model, &peer);
    peer_open(*state, &peer);
    return 0;
}

static int teardown(void **state)
{
    peer_close(&peer);
    return fx_teardown(state);
}

static void the_mapping_is_the_memory(void **state)
{
    char *all, *part, *readable;

    (void)state;
    assert_int_equal(peer_mmap(&peer, BAR2, 0, SIZE, RW, (void **)&all), 0);
    assert_int_equal(peer_mmap(&peer, BAR2, SIZE - FX_PAGE, 100, RW, (void **)&part), 0);
    assert_int_equal(peer_mmap(&peer, BAR2, FX_PAGE, FX_PAGE, PROT_READ, (void **)&readable), 0);
    assert_int_equal(fx_stats(&peer).bar_mappings, 3);

    all[FX_PAGE] = 'a';
    assert_int_equal(fx_get(&peer, BAR2, FX_PAGE, 1), 'a');
    assert_int_equal(readable[0], 'a');
    fx_set(&peer, BAR2, SIZE - FX_PAGE + 1, 'b', 1);
    assert_int_equal(all[SIZE - FX_PAGE + 1], 'b');
    assert_int_equal(part[1], 'b');

    assert_int_equal(host_munmap(peer.host, all, SIZE), 0);
    part[1] = 'c';
    assert_int_equal(fx_get(&peer, BAR2, SIZE - FX_PAGE + 1, 1), 'c');
    assert_int_equal(host_munmap(peer.host, part, 100), 0);
    assert_int_equal(host_munmap(peer.host, readable, FX_PAGE), 0);
    assert_int_equal(fx_stats(&peer).bar_mappings, 0);
}

static void what_can_not_be_mapped(void **state)
{
    void *addr;

    (void)state;
    assert_int_equal(peer_mmap(&peer, BAR1, 0, FX_PAGE, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, VFIO_PCI_ROM_REGION_INDEX, 0, FX_PAGE, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, VFIO_PCI_CONFIG_REGION_INDEX, 0, FX_PAGE, RW, &addr),
                     -EINVAL);
    assert_int_equal(peer_mmap(&peer, BAR2, 0, SIZE + 1, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, BAR2, SIZE, FX_PAGE, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, BAR2, 512, FX_PAGE, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, BAR2, 0, 0, RW, &addr), -EINVAL);
    assert_int_equal(peer_mmap(&peer, BAR0, 0, FX_PAGE + 1, RW, &addr), -EINVAL);
    assert_int_equal(host_mmap(peer.host, &addr, FX_PAGE, RW, MAP_PRIVATE, peer.device,
                               fx_offset(&peer, BAR2, 0)),
                     -EINVAL);
}

static void ports_can_not_be_mapped(void **state)
{
    void *addr;

    (void)state;
    assert_int_equal(peer_mmap(&peer, 3, 0, 32, RW, &addr), -EINVAL);
}

/* As whoever has the descriptor does. */
static void a_mapping_keeps_the_device(void **state)
{
    struct sim_device_state now;
    void *addr;

    (void)state;
    fx_set_bus_master(&peer, true);
    assert_int_equal(peer_mmap(&peer, BAR2, 0, 2 * FX_PAGE, RW, &addr), 0);
    assert_int_equal(host_munmap(peer.host, addr, FX_PAGE), -EINVAL);
    assert_int_equal(host_munmap(peer.host, (char *)addr + FX_PAGE, FX_PAGE), -EINVAL);
    host_close(peer.host, &peer.device);
    assert_int_equal(fx_ioctl(&peer, peer.group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
    assert_int_equal(sim_get_device_state(peer.sim, peer.bdf, &now), 0);
    assert_true(now.bus_master);
    assert_int_equal(host_munmap(peer.host, addr, 2 * FX_PAGE), 0);
    assert_int_equal(sim_get_device_state(peer.sim, peer.bdf, &now), 0);
    assert_false(now.bus_master);
    assert_int_equal(fx_ioctl(&peer, peer.group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
}

/* What is not memory costs none of what may be pinned. */
static void dma_to_memory_of_a_bar(void **state)
{
    struct fixture *fx = *state;
    char *addr, text[8];

    sim_set_memlock(fx->sim, 0);
    assert_int_equal(peer_mmap(&peer, BAR2, FX_PAGE, 4 * FX_PAGE, RW, (void **)&addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr + FX_PAGE, 2 * FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    assert_int_equal(fx_stats(fx).mappings, 1);

    assert_int_equal(fx_dma_put(fx, PEER_IOVA + FX_PAGE - 3, "abcdef", 6), 0);
    assert_memory_equal(addr + 2 * FX_PAGE - 3, "abcdef", 6);
    fx_set(&peer, BAR2, 2 * FX_PAGE, 'x', 1);
    assert_int_equal(fx_dma(fx, PEER_IOVA, text, 1, false), 0);
    assert_int_equal(text[0], 'x');

    /* The translation is of the BAR, not of the mapping. */
    assert_int_equal(host_munmap(fx->host, addr, 4 * FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "y", 1), 0);
    assert_int_equal(fx_get(&peer, BAR2, 2 * FX_PAGE, 1), 'y');
    assert_int_equal(fx_unmap(fx, PEER_IOVA, 2 * FX_PAGE, 0), 2 * FX_PAGE);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "z", 1), -EFAULT);
    assert_int_equal(fx_get(&peer, BAR2, 2 * FX_PAGE, 1), 'y');
}

/* A transfer from memory on into a BAR is one transfer. */
static void dma_across_memory_and_bar(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), *addr, buf[6];

    assert_int_equal(peer_mmap(&peer, BAR2, 0, FX_PAGE, RW, (void **)&addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA + FX_PAGE, addr, FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA + FX_PAGE - 3, "abcdef", 6), 0);
    assert_memory_equal(memory + FX_PAGE - 3, "abc", 3);
    assert_memory_equal(addr, "def", 3);
    assert_int_equal(fx_dma(fx, PEER_IOVA + FX_PAGE - 3, buf, 6, false), 0);
    assert_memory_equal(buf, "abcdef", 6);
    assert_int_equal(fx_stats(fx).dma_writes, 1);
    assert_int_equal(fx_stats(fx).dma_reads, 1);

    peer_set_decode(&peer, false);
    assert_int_equal(fx_dma(fx, PEER_IOVA + FX_PAGE - 3, buf, 6, false), -EIO);
    assert_memory_equal(buf, "abc\0\0\0", 6);
    assert_int_equal(fx_unmap(fx, PEER_IOVA, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(fx_dma(fx, PEER_IOVA + FX_PAGE - 3, buf, 6, false), -EFAULT);
    assert_int_equal(fx_stats(fx).peer_faults, 2);
    assert_int_equal(fx_stats(fx).dma_faults, 1);
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
    munmap(memory, FX_PAGE);
}

static void rights_and_bounds(void **state)
{
    struct fixture *fx = *state;
    char *addr, *readable;

    assert_int_equal(peer_mmap(&peer, BAR2, 0, 2 * FX_PAGE, RW, (void **)&addr), 0);
    assert_int_equal(peer_mmap(&peer, BAR2, 0, FX_PAGE, PROT_READ, (void **)&readable), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, readable, FX_PAGE), -EFAULT);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr + FX_PAGE, 2 * FX_PAGE), -EFAULT);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr - FX_PAGE, 2 * FX_PAGE), -EFAULT);
    assert_int_equal(fx_map(fx, PEER_IOVA, readable, FX_PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EFAULT);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 0);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(host_munmap(fx->host, addr, 2 * FX_PAGE), 0);
    assert_int_equal(host_munmap(fx->host, readable, FX_PAGE), 0);
}

/* It can't be mapped then, but what is mapped stays so. */
static void decode_off(void **state)
{
    struct fixture *fx = *state;
    char *addr, byte = 'n';

    assert_int_equal(peer_mmap(&peer, BAR2, 0, FX_PAGE, RW, (void **)&addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr, FX_PAGE), 0);
    peer_set_decode(&peer, false);
    assert_int_equal(fx_map_rw(fx, 2 * PEER_IOVA, addr, FX_PAGE), -EFAULT);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EIO);
    assert_int_equal(fx_dma(fx, PEER_IOVA, &byte, 1, false), -EIO);
    assert_int_equal(byte, 0);
    assert_int_equal(fx_stats(fx).peer_faults, 2);
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    peer_set_decode(&peer, true);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), 0);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 'a');
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
}

/* By dwords, and the bytes before and behind them by themselves. */
static void dma_to_registers(void **state)
{
    struct fixture *fx = *state;
    uint8_t buf[11] = {0};
    void *addr;

    assert_int_equal(peer_mmap(&peer, BAR1, FX_PAGE, FX_PAGE, RW, &addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr, FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA + 8, "12345678", 8), 0);
    assert_int_equal(the_probe->writes, 2);
    assert_int_equal(the_probe->bar, 1);
    assert_int_equal(the_probe->width, 4);
    assert_int_equal(the_probe->offset, FX_PAGE + 12);
    assert_int_equal(the_probe->value, 0x38373635);
    assert_int_equal(fx_dma(fx, PEER_IOVA + 1, buf, sizeof(buf), false), 0);
    assert_int_equal(the_probe->reads, 4); /* 1, 2, 4, 4 */
    assert_int_equal(the_probe->offset, FX_PAGE + 8);
    assert_memory_equal(buf, "\x88\x88\x77\x88\x77\x66\x55\x88\x77\x66\x55", sizeof(buf));
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
}

/* The engine of one edu reads the other's identification. */
static void dma_of_the_device_itself(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();
    void *addr;

    assert_int_equal(peer_mmap(&peer, BAR0, 0, FX_PAGE, RW, &addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr, FX_PAGE), 0);
    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_INTX_IRQ_INDEX, fd), 0);
    fx_bar_set(&peer, 4, 0x12345678);
    fx_set_bus_master(fx, true);
    fx_set(fx, BAR0, 0x80, PEER_IOVA, 8);
    fx_set(fx, BAR0, 0x88, 0x40000, 8);
    fx_set(fx, BAR0, 0x90, 8, 8);
    fx_set(fx, BAR0, 0x98, 1 | 4, 8);
    assert_int_equal(fx_wait_event(fd), 1);
    fx_bar_set(fx, 0x64, 0x100);
    /* And writes what it has read to the other's liveness check. */
    fx_set(fx, BAR0, 0x80, 0x40000, 8);
    fx_set(fx, BAR0, 0x88, PEER_IOVA + 4, 8);
    fx_set(fx, BAR0, 0x90, 4, 8);
    fx_set(fx, BAR0, 0x98, 1 | 2, 8);
    while (fx_state(fx).dma_running)
        sched_yield();
    assert_int_equal(fx_bar_get(&peer, 4), (uint32_t)~fx_bar_get(&peer, 0));
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
    close(fd);
}

static void *read_one_byte(void *arg)
{
    char byte;

    assert_int_equal(fx_dma(arg, PEER_IOVA, &byte, 1, false), 0);
    return NULL;
}

/* A device that waits for a busy one holds nothing that its own driver needs meanwhile. */
static void the_target_is_busy(void **state)
{
    struct fixture *fx = *state;
    pthread_mutex_t *busy = peer_mutex(&peer);
    pthread_t thread;
    void *addr;

    assert_int_equal(peer_mmap(&peer, BAR2, 0, FX_PAGE, RW, &addr), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, addr, FX_PAGE), 0);
    pthread_mutex_lock(busy);
    assert_int_equal(pthread_create(&thread, NULL, read_one_byte, fx), 0);
    for (int i = 0; i < 100; i++) {
        fx_set_bus_master(fx, i % 2);
        usleep(100);
    }
    assert_int_equal(fx_stats(fx).dma_reads, 0);
    pthread_mutex_unlock(busy);
    pthread_join(thread, NULL);
    assert_int_equal(fx_stats(fx).dma_reads, 1);
    assert_int_equal(host_munmap(fx->host, addr, FX_PAGE), 0);
}

static void both_are_targets(void **state)
{
    struct fixture *fx = *state;
    void *mine, *theirs;

    assert_int_equal(peer_mmap(fx, BAR0, 0, FX_PAGE, RW, &mine), 0);
    assert_int_equal(peer_mmap(&peer, BAR0, 0, FX_PAGE, RW, &theirs), 0);
    assert_int_equal(fx_map_rw(fx, PEER_IOVA, theirs, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 2 * PEER_IOVA, mine, FX_PAGE), 0);
    peer_cross_fire(fx, PEER_IOVA, &peer, 2 * PEER_IOVA);
    assert_int_equal(fx_stats(fx).dma_reads + fx_stats(fx).dma_writes, 4000);
    assert_int_equal(host_munmap(fx->host, mine, FX_PAGE), 0);
    assert_int_equal(host_munmap(fx->host, theirs, FX_PAGE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_mapping_is_the_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(what_can_not_be_mapped, setup, teardown),
        cmocka_unit_test_setup_teardown(ports_can_not_be_mapped, setup_registers, teardown),
        cmocka_unit_test_setup_teardown(a_mapping_keeps_the_device, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_to_memory_of_a_bar, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_across_memory_and_bar, setup, teardown),
        cmocka_unit_test_setup_teardown(rights_and_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(decode_off, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_to_registers, setup_registers, teardown),
        cmocka_unit_test_setup_teardown(dma_of_the_device_itself, setup_two_edus, teardown),
        cmocka_unit_test_setup_teardown(the_target_is_busy, setup, teardown),
        cmocka_unit_test_setup_teardown(both_are_targets, setup_two_edus, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
