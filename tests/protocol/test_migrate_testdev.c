/*
 * sim:testdev moves from one export to another: its registers, its memory, the DMA that it has
 * under way, and what it has written of the client's memory, by the log of its writes.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/guest_memory.h"
#include "client-example/vfuc_migrate.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    REGISTERS = VFIO_PCI_BAR0_REGION_INDEX,
    REG_INTX = 0x08,
    REG_SCRATCH = 0x0c,
    PORTS = VFIO_PCI_BAR1_REGION_INDEX,
    SPARSE = VFIO_PCI_BAR3_REGION_INDEX,
    SPARSE_SIZE = 1 << 15,
    MEMORY = VFIO_PCI_BAR4_REGION_INDEX,
    MEMORY_SIZE = 1 << 16,
    ENGINE = VFIO_PCI_BAR5_REGION_INDEX,
    DMA_ADDRESS = 0x00,
    DMA_VALUE = 0x08,
    DMA_GO = 0x0c,

    IOVA = 0x100000,
    SIZE = 64 * PAGE,
    ROUNDS = 4,

    IMAGE = 1 << 20,
    INTX_AT = 40, /* in the stream: behind the headers of the stream and of the image */
};

struct side {
    struct vfuc *c;
    struct guest_memory *memory;
};

struct move {
    struct side from, to;
    uint32_t writes;
};

static void set(struct vfuc *c, uint32_t region, uint64_t offset, uint32_t value)
{
    assert_int_equal(vfuc_region_write(c, region, offset, &value, sizeof(value)), 0);
}

static uint32_t get(struct vfuc *c, uint32_t region, uint64_t offset)
{
    uint32_t value;

    assert_int_equal(vfuc_region_read(c, region, offset, &value, sizeof(value)), 0);
    return value;
}

static void enable(struct vfuc *c)
{
    const uint16_t command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(
        vfuc_region_write(c, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command)),
        0);
}

static int setup(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    h->settings.dirty_source = CONFIG_DIRTY_DEVICE;
    harness_add_export(h, "sim:testdev");
    harness_start(h);
    *state = h;
    return 0;
}

static void open_side(struct side *side, const char *path)
{
    side->c = harness_client_at(path);
    assert_int_equal(guest_memory_create(&side->memory, SIZE), 0);
    assert_int_equal(guest_memory_map(side->memory, side->c, IOVA, 0, SIZE), 0);
}

static void begin(const struct harness *h, struct move *m)
{
    open_side(&m->from, h->path);
    open_side(&m->to, h->more[0].path);
    enable(m->from.c);
}

static void end(struct move *m)
{
    vfuc_close(m->from.c);
    vfuc_close(m->to.c);
    guest_memory_free(m->from.memory);
    guest_memory_free(m->to.memory);
}

static uint8_t *bytes_of(const struct side *side)
{
    return guest_memory_at(side->memory, 0, SIZE);
}

static uint32_t word_of(const struct side *side, uint64_t offset)
{
    uint32_t word;

    memcpy(&word, guest_memory_at(side->memory, offset, sizeof(word)), sizeof(word));
    return word;
}

static void start_dma(struct vfuc *c, uint64_t offset, uint32_t value)
{
    set(c, ENGINE, DMA_ADDRESS, (uint32_t)(IOVA + offset));
    set(c, ENGINE, DMA_VALUE, value);
    set(c, ENGINE, DMA_GO, 1);
}

static void await_dma(struct vfuc *c)
{
    while (get(c, ENGINE, DMA_GO))
        harness_pause();
}

/* To another page each time, and the device changes everywhere. */
static void work(struct move *m)
{
    uint32_t n = ++m->writes;
    uint64_t offset = (uint64_t)n * PAGE;

    start_dma(m->from.c, offset, n);
    await_dma(m->from.c);
    assert_int_equal(word_of(&m->from, offset), n);
    set(m->from.c, REGISTERS, REG_SCRATCH, n);
    set(m->from.c, PORTS, 0, n);
    set(m->from.c, SPARSE, SPARSE_SIZE - 4 * (uint64_t)n, n);
    set(m->from.c, MEMORY, MEMORY_SIZE - 4 * (uint64_t)n, n);
}

static void compare_bar(const struct move *m, uint32_t index, uint32_t size)
{
    cleanup_free_ uint8_t *from = malloc(size);
    cleanup_free_ uint8_t *to = malloc(size);

    assert_int_equal(vfuc_region_read(m->from.c, index, 0, from, size), 0);
    assert_int_equal(vfuc_region_read(m->to.c, index, 0, to, size), 0);
    assert_memory_equal(from, to, size);
}

static int on_step(void *arg, enum vfuc_migrate_step step, const struct vfuc_migrate_stats *stats)
{
    struct move *m = arg;

    (void)stats;
    if (step < VFUC_MIGRATE_STOPPED)
        work(m);
    if (step != VFUC_MIGRATE_LOADED)
        return 0;
    enable(m->to.c);
    assert_memory_equal(bytes_of(&m->from), bytes_of(&m->to), SIZE);
    compare_bar(m, PORTS, 4);
    compare_bar(m, SPARSE, SPARSE_SIZE);
    compare_bar(m, MEMORY, MEMORY_SIZE);
    compare_bar(m, ENGINE, DMA_GO + 4);
    assert_int_equal(get(m->to.c, REGISTERS, REG_SCRATCH), m->writes);
    return 0;
}

static void moves(void **state)
{
    struct vfuc_migrate_memory memory = {.iova = IOVA, .size = SIZE};
    struct vfuc_migrate_stats stats;
    struct move m = {0};
    struct vfuc_migrate migrate = {
        .memory = &memory,
        .n_memory = 1,
        .max_rounds = ROUNDS,
        .step = on_step,
        .arg = &m,
    };

    begin(*state, &m);
    memset(bytes_of(&m.from), 0x5a, SIZE);
    memory.from = bytes_of(&m.from);
    memory.to = bytes_of(&m.to);
    migrate.source = m.from.c;
    migrate.destination = m.to.c;
    assert_int_equal(vfuc_migrate(&migrate, &stats), 0);
    assert_int_equal(stats.page_size, PAGE);
    assert_int_equal(stats.rounds, ROUNDS);
    assert_true(stats.memory > SIZE && stats.memory <= SIZE + m.writes * PAGE);
    start_dma(m.to.c, 0, 0x12345678);
    await_dma(m.to.c);
    assert_int_equal(word_of(&m.to, 0), 0x12345678);
    end(&m);
}

/* All of the state of a device that is in STOP. */
static size_t take_state(struct vfuc *c, uint8_t *image)
{
    size_t len = 0;
    int64_t n;

    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY), 0);
    do {
        n = vfuc_migration_read(c, image + len, 1 << 16);
        assert_true(n >= 0);
        len += (size_t)n;
        assert_true(len + (1 << 16) <= IMAGE);
    } while (n);
    return len;
}

static void give_state(struct vfuc *c, const uint8_t *image, size_t len)
{
    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_RESUMING), 0);
    for (size_t done = 0; done < len; done += 1 << 12) {
        uint32_t n = (uint32_t)MIN(len - done, (size_t)1 << 12);

        assert_int_equal(vfuc_migration_write(c, image + done, n), 0);
    }
}

/* What the engine was told while the device stood still it does on the other side. */
static void under_way(void **state)
{
    cleanup_free_ uint8_t *image = malloc(IMAGE);
    struct move m = {0};
    size_t len;

    begin(*state, &m);
    enable(m.to.c);
    assert_int_equal(vfuc_set_migration_state(m.from.c, VFIO_DEVICE_STATE_STOP), 0);
    start_dma(m.from.c, PAGE, 7);
    len = take_state(m.from.c, image);
    give_state(m.to.c, image, len);
    assert_int_equal(get(m.from.c, ENGINE, DMA_GO), 1);
    assert_int_equal(vfuc_set_migration_state(m.to.c, VFIO_DEVICE_STATE_STOP), 0);
    assert_int_equal(get(m.to.c, ENGINE, DMA_GO), 1);
    assert_int_equal(word_of(&m.to, PAGE), 0);
    assert_int_equal(vfuc_set_migration_state(m.to.c, VFIO_DEVICE_STATE_RUNNING), 0);
    await_dma(m.to.c);
    assert_int_equal(word_of(&m.to, PAGE), 7);
    assert_int_equal(word_of(&m.from, PAGE), 0);
    end(&m);
}

/* It keeps the state that it has. */
static void no_state_of_it(void **state)
{
    cleanup_free_ uint8_t *image = malloc(IMAGE);
    struct move m = {0};
    size_t len;

    begin(*state, &m);
    enable(m.to.c);
    set(m.from.c, REGISTERS, REG_INTX, 1);
    set(m.to.c, REGISTERS, REG_SCRATCH, 5);
    assert_int_equal(vfuc_set_migration_state(m.from.c, VFIO_DEVICE_STATE_STOP), 0);
    len = take_state(m.from.c, image);
    assert_int_equal(image[INTX_AT], 1);
    image[INTX_AT] = 2;
    give_state(m.to.c, image, len);
    assert_int_equal(vfuc_set_migration_state(m.to.c, VFIO_DEVICE_STATE_STOP), -EINVAL);
    assert_int_equal(get(m.to.c, REGISTERS, REG_SCRATCH), 5);
    assert_int_equal(get(m.to.c, REGISTERS, REG_INTX), 0);
    end(&m);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(moves, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(under_way, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(no_state_of_it, setup, harness_teardown),
};

HARNESS_MAIN(tests)
