#include "tests/unit/sim_fixture.h"

#include <pthread.h>

enum {
    ID = 0x00,
    LIVENESS = 0x04,
    FACTORIAL = 0x08,
    STATUS = 0x20,
    IRQ_STATUS = 0x24,
    IRQ_RAISE = 0x60,
    IRQ_ACK = 0x64,
    DMA_SRC = 0x80,
    DMA_DST = 0x88,
    DMA_CNT = 0x90,
    DMA_CMD = 0x98,

    BUFFER = 0x40000,
    RUN = 1,
    TO_RAM = 2,
    IRQ = 4,
    IOVA = 0x100000,
};

struct dma_test {
    struct fixture *fx;
    char *memory;
};

static uint64_t get64(struct fixture *fx, uint64_t offset)
{
    return fx_get(fx, 0, offset, 8);
}

static void wait_until_clear(struct fixture *fx, uint64_t offset, uint32_t bit)
{
    while (fx_bar_get(fx, offset) & bit)
        sched_yield();
}

static void start_dma(struct fixture *fx, uint64_t src, uint64_t dst, uint64_t cnt, uint64_t cmd)
{
    fx_set(fx, 0, DMA_SRC, src, 8);
    fx_set(fx, 0, DMA_DST, dst, 8);
    fx_set(fx, 0, DMA_CNT, cnt, 8);
    fx_set(fx, 0, DMA_CMD, cmd | RUN, 8);
}

static void run_dma(struct fixture *fx, uint64_t src, uint64_t dst, uint64_t cnt, uint64_t cmd)
{
    start_dma(fx, src, dst, cnt, cmd);
    wait_until_clear(fx, DMA_CMD, RUN);
}

/* A page of memory at IOVA, and bus mastering. */
static char *setup_dma(struct fixture *fx)
{
    char *memory = fx_memory(FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    fx_set_bus_master(fx, true);
    return memory;
}

static void registers(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(fx_bar_get(fx, ID), 0x010000ed);
    fx_bar_set(fx, ID, 0);
    assert_int_equal(fx_bar_get(fx, ID), 0x010000ed);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0);
    fx_bar_set(fx, LIVENESS, 0x12345678);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0xedcba987);
    assert_int_equal(fx_bar_get(fx, 0x0c), 0xffffffff);
    assert_int_equal(fx_bar_get(fx, IRQ_RAISE), 0xffffffff);
    assert_int_equal(fx_bar_get(fx, IRQ_ACK), 0xffffffff);
    assert_int_equal(fx_bar_get(fx, 0x84), 0xffffffff);
    assert_int_equal(fx_bar_get(fx, BUFFER), 0xffffffff);
    assert_int_equal(fx_bar_get(fx, 0xffffc), 0xffffffff);
    fx_bar_set(fx, BUFFER, 0);
    assert_int_equal(fx_bar_get(fx, BUFFER), 0xffffffff);
}

static void access_widths(void **state)
{
    struct fixture *fx = *state;

    fx_bar_set(fx, LIVENESS, 0);
    assert_int_equal(fx_get(fx, 0, ID, 1), 0);
    assert_int_equal(fx_get(fx, 0, ID, 2), 0);
    assert_int_equal(fx_get(fx, 0, DMA_SRC, 2), 0);
    assert_true(fx_get(fx, 0, ID, 8) == UINT64_MAX);
    fx_set(fx, 0, LIVENESS, 0x55, 1);
    fx_set(fx, 0, LIVENESS, 0x5555, 2);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0xffffffff);
    /* 8 bytes from 4 on are two accesses of 4. */
    fx_set(fx, 0, LIVENESS, UINT64_C(0x0000000011111111), 8);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0xeeeeeeee);
    wait_until_clear(fx, STATUS, 1);
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 1);
    fx_set(fx, 0, 0x00, UINT64_MAX, 8);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0xeeeeeeee);

    fx_set(fx, 0, DMA_SRC, UINT64_C(0x1111222233334444), 8);
    assert_true(get64(fx, DMA_SRC) == UINT64_C(0x1111222233334444));
    assert_int_equal(fx_bar_get(fx, DMA_SRC), 0x33334444);
    fx_bar_set(fx, DMA_SRC, 0x55556666);
    assert_int_equal(get64(fx, DMA_SRC), 0x55556666);
    fx_bar_set(fx, DMA_SRC + 4, 0x7777);
    assert_int_equal(get64(fx, DMA_SRC), 0x55556666);
    fx_set(fx, 0, DMA_SRC, 0, 2);
    assert_int_equal(get64(fx, DMA_SRC), 0x55556666);
}

static void factorial(void **state)
{
    static const struct {
        uint32_t n, result;
    } cases[] = {
        {0,          1         },
        {1,          1         },
        {5,          120       },
        {12,         479001600 },
        {13,         1932053504},
        {33,         2147483648},
        {34,         0         },
        {UINT32_MAX, 0         },
    };
    struct fixture *fx = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fx_bar_set(fx, FACTORIAL, cases[i].n);
        wait_until_clear(fx, STATUS, 1);
        assert_int_equal(fx_bar_get(fx, FACTORIAL), cases[i].result);
        assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0);
    }
}

static void factorial_interrupt(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_INTX_IRQ_INDEX, fd), 0);
    fx_bar_set(fx, STATUS, 0xff);
    assert_int_equal(fx_bar_get(fx, STATUS), 0x80);
    fx_bar_set(fx, FACTORIAL, 4);
    assert_int_equal(fx_wait_event(fd), 1);
    assert_int_equal(fx_bar_get(fx, STATUS), 0x80);
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 24);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 1);
    fx_bar_set(fx, STATUS, 0);
    assert_int_equal(fx_bar_get(fx, STATUS), 0);
    close(fd);
}

static void intx_follows_the_irq_status(void **state)
{
    const uint32_t unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_INTX_IRQ_INDEX, fd), 0);
    fx_bar_set(fx, IRQ_RAISE, 0x5);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0x5);
    fx_bar_set(fx, IRQ_RAISE, 0x2);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0x7);
    assert_int_equal(fx_events(fd), 0); /* masked */
    fx_bar_set(fx, IRQ_ACK, 0x3);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0x4);
    assert_int_equal(fx_set_irqs(fx, unmask, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, 0), 0);
    assert_int_equal(fx_events(fd), 1); /* still asserted */
    fx_bar_set(fx, IRQ_ACK, 0x4);
    assert_int_equal(fx_set_irqs(fx, unmask, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, 0), 0);
    assert_int_equal(fx_events(fd), 0);
    fx_bar_set(fx, IRQ_RAISE, 0); /* raises nothing */
    assert_int_equal(fx_events(fd), 0);
    fx_bar_set(fx, IRQ_RAISE, 0x8);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void msi(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSI_IRQ_INDEX, fd), 0);
    fx_bar_set(fx, IRQ_RAISE, 1); /* lost: no bus mastering */
    assert_int_equal(fx_events(fd), 0);
    fx_set_bus_master(fx, true);
    fx_bar_set(fx, IRQ_RAISE, 1);
    fx_bar_set(fx, IRQ_RAISE, 0); /* the status is not 0 yet */
    assert_int_equal(fx_events(fd), 2);
    fx_bar_set(fx, IRQ_ACK, 1);
    fx_bar_set(fx, IRQ_RAISE, 0);
    assert_int_equal(fx_events(fd), 0);
    assert_int_equal(fx_config_get(fx, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
    close(fd);
}

static void dma_to_the_device_and_back(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    strcpy(memory, "round trip");
    run_dma(fx, IOVA, BUFFER + 100, 11, 0);
    run_dma(fx, BUFFER + 100, IOVA + 2000, 11, TO_RAM);
    assert_string_equal(memory + 2000, "round trip");
    assert_int_equal(get64(fx, DMA_CMD), TO_RAM);
    assert_int_equal(get64(fx, DMA_SRC), BUFFER + 100);
    assert_int_equal(fx_stats(fx).dma_reads, 1);
    assert_int_equal(fx_stats(fx).dma_writes, 1);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0);
    munmap(memory, FX_PAGE);
}

static void dma_of_the_whole_buffer(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    memset(memory, 'w', FX_PAGE);
    run_dma(fx, IOVA, BUFFER, FX_PAGE, 0);
    memset(memory, 0, FX_PAGE);
    run_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    assert_int_equal(memory[0], 'w');
    assert_int_equal(memory[FX_PAGE - 1], 'w');
    munmap(memory, FX_PAGE);
}

static void dma_outside_of_the_buffer_does_nothing(void **state)
{
    static const struct {
        uint64_t at, cnt;
    } cases[] = {
        {BUFFER - 1,       1          },
        {BUFFER + FX_PAGE, 1          },
        {BUFFER + 1,       FX_PAGE    },
        {0,                FX_PAGE    },
        {BUFFER,           0          },
        {BUFFER,           UINT64_MAX },
        {UINT64_MAX,       1          },
        {BUFFER,           FX_PAGE + 1},
    };
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_dma(fx, IOVA, cases[i].at, cases[i].cnt, 0);
        run_dma(fx, cases[i].at, IOVA, cases[i].cnt, TO_RAM | IRQ);
        assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0x100); /* it ends all the same */
        fx_bar_set(fx, IRQ_ACK, 0x100);
    }
    assert_int_equal(fx_stats(fx).dma_reads + fx_stats(fx).dma_writes, 0);
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    munmap(memory, FX_PAGE);
}

static void dma_addresses_have_28_bits(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    memory[5] = 'm';
    run_dma(fx, 0xabcdef0010000000 + IOVA + 5, BUFFER, 1, 0);
    run_dma(fx, BUFFER, 0xf0000000 + IOVA + 6, 1, TO_RAM);
    assert_int_equal(memory[6], 'm');
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    munmap(memory, FX_PAGE);
}

static void dma_interrupt(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);
    int fd = fx_eventfd();

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSI_IRQ_INDEX, fd), 0);
    start_dma(fx, BUFFER, IOVA, 8, TO_RAM | IRQ);
    assert_int_equal(fx_wait_event(fd), 1);
    assert_int_equal(get64(fx, DMA_CMD), TO_RAM | IRQ);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0x100);
    close(fd);
    munmap(memory, FX_PAGE);
}

static void a_command_without_run_is_dropped(void **state)
{
    struct fixture *fx = *state;

    fx_set(fx, 0, DMA_CMD, TO_RAM, 8);
    assert_int_equal(get64(fx, DMA_CMD), 0);
}

/* Tried until the engine still runs after the write: only then was the write refused for sure. */
static void a_running_engine_takes_no_writes(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);
    bool running = false;

    while (!running) {
        start_dma(fx, BUFFER, IOVA, 8, TO_RAM);
        fx_set(fx, 0, DMA_CNT, 9, 8);
        running = fx_state(fx).dma_running;
        assert_true(!running || get64(fx, DMA_CNT) == 8);
        wait_until_clear(fx, DMA_CMD, RUN);
    }
    assert_false(fx_state(fx).dma_running);
    munmap(memory, FX_PAGE);
}

static void dma_without_bus_mastering(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    memset(memory, 'm', FX_PAGE);
    run_dma(fx, IOVA, BUFFER, FX_PAGE, 0);
    fx_set_bus_master(fx, false);
    /* Writes get nowhere; reads give zeros. */
    run_dma(fx, IOVA, BUFFER, 16, 0);
    run_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    assert_int_equal(memory[0], 'm');
    fx_set_bus_master(fx, true);
    run_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    assert_int_equal(memory[0], 0);
    assert_int_equal(memory[15], 0);
    assert_int_equal(memory[16], 'm');
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    munmap(memory, FX_PAGE);
}

static void dma_without_translation(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    memset(memory, 'm', FX_PAGE);
    run_dma(fx, IOVA, BUFFER, FX_PAGE, 0);
    assert_int_equal(fx_unmap(fx, IOVA, FX_PAGE, 0), FX_PAGE);
    run_dma(fx, BUFFER, IOVA, 16, TO_RAM);
    assert_int_equal(fx_stats(fx).dma_faults, 1);
    run_dma(fx, IOVA + FX_PAGE - 8, BUFFER, 16, 0);
    assert_int_equal(fx_stats(fx).dma_faults, 3); /* two pages */
    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    run_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    assert_int_equal(memory[0], 0);
    assert_int_equal(memory[15], 0);
    assert_int_equal(memory[16], 'm');
    munmap(memory, FX_PAGE);
}

static void reset_stops_dma(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    for (int i = 0; i < 50; i++) {
        memset(memory, 'm', FX_PAGE);
        run_dma(fx, IOVA, BUFFER, FX_PAGE, 0);
        start_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM | IRQ);
        assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
        /* From here on the memory is ours. */
        memset(memory, 'x', FX_PAGE);
        assert_int_equal(get64(fx, DMA_CMD) | get64(fx, DMA_SRC) | get64(fx, DMA_CNT), 0);
        assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0);
        /* A command of the time after is not mixed up with it, and the buffer is empty. */
        run_dma(fx, BUFFER, IOVA, 1, TO_RAM);
        assert_int_equal(memory[0], 0);
        assert_int_equal(memory[1], 'x');
        assert_int_equal(memory[FX_PAGE - 1], 'x');
    }
    munmap(memory, FX_PAGE);
}

static void clearing_bus_mastering_stops_dma(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    for (int i = 0; i < 50; i++) {
        fx_set_bus_master(fx, true);
        start_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
        fx_set_bus_master(fx, false);
        memset(memory, 'x', FX_PAGE);
        wait_until_clear(fx, DMA_CMD, RUN);
        assert_int_equal(memory[0], 'x');
        assert_int_equal(memory[FX_PAGE - 1], 'x');
    }
    munmap(memory, FX_PAGE);
}

static void closing_in_the_middle_of_dma(void **state)
{
    struct fixture *fx = *state;
    char *memory = setup_dma(fx);

    start_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    fx_close_all(fx);
    memset(memory, 'x', FX_PAGE);
    fx_open_device(fx);
    assert_int_equal(get64(fx, DMA_CMD), 0);
    assert_int_equal(memory[0], 'x');
    munmap(memory, FX_PAGE);
}

static void reset_in_the_middle_of_a_factorial(void **state)
{
    struct fixture *fx = *state;

    for (int i = 0; i < 200; i++) {
        fx_bar_set(fx, STATUS, 0x80);
        fx_bar_set(fx, FACTORIAL, 5);
        assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
        assert_int_equal(fx_bar_get(fx, FACTORIAL), 0);
        assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0);
    }
    fx_bar_set(fx, FACTORIAL, 6);
    wait_until_clear(fx, STATUS, 1);
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 720);
    assert_int_equal(fx_bar_get(fx, IRQ_STATUS), 0);
}

static void a_truncated_file_is_no_danger(void **state)
{
    struct fixture *fx = *state;
    int file;
    char *memory = fx_memory(FX_PAGE, &file);

    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    fx_set_bus_master(fx, true);
    assert_int_equal(ftruncate(file, 0), 0);
    run_dma(fx, IOVA, BUFFER, FX_PAGE, 0);
    run_dma(fx, BUFFER, IOVA, FX_PAGE, TO_RAM);
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    munmap(memory, FX_PAGE);
    close(file);
}

static void *drive(void *arg)
{
    struct dma_test *test = arg;
    uint64_t *bad = calloc(1, sizeof(*bad));

    for (int i = 0; i < 300; i++) {
        uint32_t id = 0;

        *bad += fx_read(test->fx, 0, ID, &id, 4) != 4 || id != 0x010000ed;
        *bad += fx_write(test->fx, 0, IRQ_RAISE, &id, 4) != 4;
        *bad += fx_write(test->fx, 0, IRQ_ACK, &id, 4) != 4;
    }
    return bad;
}

static void two_threads_drive_one_device(void **state)
{
    struct fixture *fx = *state;
    struct dma_test test = {fx, setup_dma(fx)};
    int fd = fx_eventfd();
    pthread_t threads[2];

    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSI_IRQ_INDEX, fd), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, drive, &test), 0);
    for (int i = 0; i < 10; i++) {
        start_dma(fx, BUFFER, IOVA, FX_PAGE, i % 2 ? TO_RAM | IRQ : 0);
        assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        void *bad;

        pthread_join(threads[i], &bad);
        assert_int_equal(*(uint64_t *)bad, 0);
        free(bad);
    }
    assert_true(fx_events(fd) > 0);
    close(fd);
    munmap(test.memory, FX_PAGE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fx_setup_open, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(registers),
        TEST(access_widths),
        TEST(factorial),
        TEST(factorial_interrupt),
        TEST(intx_follows_the_irq_status),
        TEST(msi),
        TEST(dma_to_the_device_and_back),
        TEST(dma_of_the_whole_buffer),
        TEST(dma_outside_of_the_buffer_does_nothing),
        TEST(dma_addresses_have_28_bits),
        TEST(dma_interrupt),
        TEST(a_command_without_run_is_dropped),
        TEST(a_running_engine_takes_no_writes),
        TEST(dma_without_bus_mastering),
        TEST(dma_without_translation),
        TEST(reset_stops_dma),
        TEST(clearing_bus_mastering_stops_dma),
        TEST(closing_in_the_middle_of_dma),
        TEST(reset_in_the_middle_of_a_factorial),
        TEST(a_truncated_file_is_no_danger),
        TEST(two_threads_drive_one_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
