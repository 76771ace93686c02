/*
 * A device moves from one export to another under load, for each source of dirty pages: the first
 * argument is its name. Nothing may be lost: all memory and the device's state are compared byte by
 * byte, when both devices stand still.
 *
 * The load is the device's own DMA engine, and beside it a thread that makes the device write at
 * any time and anywhere else, until the device is stopped.
 *
 * MIGRATE_SEED repeats a run but for its timing; its seed is printed. MIGRATE_ROUNDS: how many.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client-example/edu_load.h"
#include "client-example/vfuc_migrate.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/random.h"
#include "tests/protocol/raw.h"

enum {
/* Sanitizers make a round ten times as long. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    DEFAULT_ROUNDS = 15,
#else
    DEFAULT_ROUNDS = 100,
#endif
    NEAR = 0x100000, /* where edu reaches it, in three mappings */
    NEAR_SIZE = 40 * PAGE,
    EDU_SIZE = 16 * PAGE, /* the engine's part of it; the thread has the others */
    FAR_SIZE = 24 * PAGE,
    SIZE = NEAR_SIZE + FAR_SIZE,
    MEMORIES = 2,
    IMAGE = 1 << 17,
    MAX_WRITE = 3 * PAGE,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
};

#define FAR UINT64_C(0x200000000)

static const struct source {
    const char *name, *backend;
    enum config_dirty_source source;
    bool guess;
    bool is_exact; /* tells of what was written, and of no more */
} sources[] = {
    {"device-log", "iommufd",         CONFIG_DIRTY_DEVICE, .is_exact = true},
    {"hwpt",       "iommufd",         CONFIG_DIRTY_IOMMU,  .is_exact = true},
    {"type1",      "type1",           CONFIG_DIRTY_IOMMU,  .is_exact = true},
    {"type1-all",  "type1",           CONFIG_DIRTY_IOMMU },
    {"policy",     "type1", CONFIG_DIRTY_NONE,       .guess = true                },
};

static const struct source *source;

/* One device with its client, and the client's memory. */
struct side {
    const char *bdf;
    struct vfuc *c;
    struct guest_memory *memory;
};

struct move {
    struct harness *h;
    struct random random;
    struct side from, to;
    struct vfuc_migrate_memory memory[MEMORIES];
    struct vfuc_migrate migrate;
    struct edu_load load;

    pthread_t writer;
    struct random writers_random;
    atomic_bool writes;

    int give_up_after;     /* a step; -1: none */
    bool faulty;           /* a call of the kernel is to fail */
    uint8_t stopped[SIZE]; /* the source's memory when nothing wrote it any more */
};

static void set_up_device(const struct move *m, const char *bdf,
                          const struct sim_migration_setup *setup)
{
    assert_int_equal(sim_set_migration(m->h->machine.sim, bdf, setup), 0);
}

static void open_side(struct side *side, const char *path, const char *bdf)
{
    static const size_t cuts[] = {0, 7 * PAGE, 20 * PAGE, NEAR_SIZE};
    int ret = guest_memory_create(&side->memory, SIZE);

    assert_int_equal(ret, 0);
    side->bdf = bdf;
    side->c = harness_client_at(path);
    for (size_t i = 0; i + 1 < ARRAY_SIZE(cuts) && !ret; i++)
        ret =
            guest_memory_map(side->memory, side->c, NEAR + cuts[i], cuts[i], cuts[i + 1] - cuts[i]);
    assert_int_equal(ret, 0);
    assert_int_equal(guest_memory_map(side->memory, side->c, FAR, NEAR_SIZE, FAR_SIZE), 0);
}

static void close_side(struct side *side)
{
    vfuc_close(side->c);
    guest_memory_free(side->memory);
    *side = (struct side){0};
}

static int enable(struct vfuc *c)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    return vfuc_region_write(c, CONFIG, PCI_COMMAND, &command, sizeof(command));
}

/* Makes the device write, somewhere, once. */
static void write_something(const struct move *m, struct random *random)
{
    uint8_t bytes[MAX_WRITE];
    bool is_far = random_below(random, 2);
    size_t len = 1 + random_below(random, sizeof(bytes));
    uint64_t first = is_far ? FAR : NEAR + EDU_SIZE;
    uint64_t offset = random_below(random, (is_far ? FAR_SIZE : NEAR_SIZE - EDU_SIZE) - len + 1);

    memset(bytes, (int)random_below(random, 256), len);
    assert_int_equal(
        sim_device_dma(m->h->machine.sim, m->from.bdf, first + offset, bytes, len, true), 0);
}

static void let_pass(struct random *random, uint64_t most_us)
{
    const struct timespec moment = {.tv_nsec = (long)random_below(random, most_us) * 1000};

    nanosleep(&moment, NULL);
}

static void *run_writer(void *arg)
{
    struct move *m = arg;

    while (atomic_load(&m->writes)) {
        write_something(m, &m->writers_random);
        let_pass(&m->writers_random, 300);
    }
    return NULL;
}

static void start_writer(struct move *m)
{
    m->writers_random.state = random_below(&m->random, UINT64_MAX);
    atomic_store(&m->writes, true);
    assert_int_equal(pthread_create(&m->writer, NULL, run_writer, m), 0);
}

static void stop_writer(struct move *m)
{
    if (!atomic_exchange(&m->writes, false))
        return;
    assert_int_equal(pthread_join(m->writer, NULL), 0);
}

static const uint8_t *bytes_of(const struct side *side)
{
    return guest_memory_at(side->memory, 0, SIZE);
}

/* The device's state as it stands still: a stream that has nothing before it. */
static size_t take_state(struct vfuc *c, uint8_t *image)
{
    size_t len = 0;
    int64_t n;

    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_STOP), 0);
    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY), 0);
    do {
        n = vfuc_migration_read(c, image + len, (uint32_t)(IMAGE - len));
        assert_true(n >= 0);
        len += (size_t)n;
        assert_true(len < IMAGE);
    } while (n);
    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_STOP), 0);
    return len;
}

static void compare_memory(const struct move *m)
{
    assert_memory_equal(bytes_of(&m->from), m->stopped, SIZE);
    assert_memory_equal(bytes_of(&m->to), m->stopped, SIZE);
}

static void compare_state(const struct move *m)
{
    cleanup_free_ uint8_t *from = malloc(IMAGE);
    cleanup_free_ uint8_t *to = malloc(IMAGE);
    size_t len = take_state(m->from.c, from);

    assert_int_equal(take_state(m->to.c, to), len);
    assert_memory_equal(from, to, len);
}

static int on_step(void *arg, enum vfuc_migrate_step step, const struct vfuc_migrate_stats *stats)
{
    struct move *m = arg;
    int ret = 0;

    (void)stats;
    if (step < VFUC_MIGRATE_STOPPED) {
        ret = edu_load_step(&m->load, m->from.c, m->from.memory);
        let_pass(&m->random, 1500);
    }
    if (step == VFUC_MIGRATE_STOPPED) {
        stop_writer(m);
        memcpy(m->stopped, bytes_of(&m->from), SIZE);
    }
    if (step == VFUC_MIGRATE_LOADED) {
        compare_memory(m);
        if (!m->faulty && m->give_up_after < 0)
            compare_state(m);
        ret = enable(m->to.c);
    }
    return (int)step == m->give_up_after ? -ECANCELED : ret;
}

/* Both sessions, and a source in use. setup: of both devices. */
static void begin(struct move *m, const struct sim_migration_setup *setup)
{
    open_side(&m->from, m->h->path, m->h->bdf);
    open_side(&m->to, m->h->more[0].path, m->h->more[0].bdf);
    set_up_device(m, m->from.bdf, setup);
    set_up_device(m, m->to.bdf, setup);
    assert_int_equal(enable(m->from.c), 0);
    for (size_t i = 0; i < SIZE; i++)
        ((uint8_t *)guest_memory_at(m->from.memory, 0, SIZE))[i] =
            (uint8_t)random_below(&m->random, 256);
    m->memory[0] =
        (struct vfuc_migrate_memory){NEAR, NEAR_SIZE, guest_memory_at(m->from.memory, 0, NEAR_SIZE),
                                     guest_memory_at(m->to.memory, 0, NEAR_SIZE)};
    m->memory[1] = (struct vfuc_migrate_memory){
        FAR, FAR_SIZE, guest_memory_at(m->from.memory, NEAR_SIZE, FAR_SIZE),
        guest_memory_at(m->to.memory, NEAR_SIZE, FAR_SIZE)};
    m->migrate = (struct vfuc_migrate){
        .source = m->from.c,
        .destination = m->to.c,
        .memory = m->memory,
        .n_memory = MEMORIES,
        .max_rounds = 2 + (unsigned)random_below(&m->random, 4),
        .step = on_step,
        .arg = m,
    };
    m->load = (struct edu_load){
        .iova = NEAR, .size = EDU_SIZE, .seed = (uint32_t)random_below(&m->random, UINT32_MAX)};
    m->give_up_after = -1;
}

static void end(struct move *m)
{
    stop_writer(m);
    close_side(&m->to);
    close_side(&m->from);
}

static struct move *start(void)
{
    struct move *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    m->h = harness_new();
    m->h->settings.dirty_source = source->source;
    m->h->settings.guess_dirty = source->guess;
    /* Of a PCI device type1 says that it writes all that is mapped. */
    sim_set_pinned_only(m->h->machine.sim, source->is_exact);
    harness_add_export(m->h, "sim:edu");
    harness_start(m->h);
    m->random = random_start("MIGRATE_SEED");
    return m;
}

static void finish(struct move *m)
{
    harness_stop(m->h);
    free(m);
}

static struct sim_migration_setup random_setup(struct random *random)
{
    static const uint64_t flags[] = {1, 3, 5, 7};
    static const size_t transfers[] = {0, 0, 777, 5000};

    return (struct sim_migration_setup){
        .flags = flags[random_below(random, ARRAY_SIZE(flags))],
        .ballast = random_below(random, 20000),
        .max_transfer = transfers[random_below(random, ARRAY_SIZE(transfers))],
        .delay_ms = (unsigned)random_below(random, 3),
        .dry_is_zero = random_below(random, 2),
        .bad_data_is_error = random_below(random, 2),
    };
}

static void moves(void **state)
{
    const uint64_t rounds = random_setting("MIGRATE_ROUNDS", DEFAULT_ROUNDS);
    struct move *m = start();
    uint64_t copied = 0, most = 0;

    (void)state;
    for (uint64_t i = 0; i < rounds; i++) {
        const struct sim_migration_setup setup = random_setup(&m->random);
        struct vfuc_migrate_stats stats;
        int ret;

        begin(m, &setup);
        start_writer(m);
        ret = vfuc_migrate(&m->migrate, &stats);
        if (ret)
            fail_msg("round %" PRIu64 ": %s: %s", i, stats.failed, strerror(-ret));
        assert_int_equal(stats.page_size, PAGE);
        assert_true(stats.rounds >= 2);
        assert_int_equal(edu_load_prove(&m->load, m->to.c, m->to.memory), 0);
        copied += stats.memory;
        most += (stats.rounds + 1) * (uint64_t)SIZE;
        end(m);
    }
    if (source->is_exact)
        assert_true(copied > rounds * SIZE && copied < most);
    else
        assert_int_equal(copied, most);
    finish(m);
}

/* Where it was, with its DMA going on; and the next migration works. */
static void given_up(void **state)
{
    static const struct sim_migration_setup setup = {.flags = SIM_MIGRATION_ALL, .ballast = 5000};
    struct move *m = start();

    (void)state;
    for (int step = VFUC_MIGRATE_LOGGING; step < VFUC_MIGRATE_RUNNING; step++) {
        struct vfuc_migrate_stats stats;

        begin(m, &setup);
        m->give_up_after = step;
        start_writer(m);
        assert_int_equal(vfuc_migrate(&m->migrate, &stats), -ECANCELED);
        stop_writer(m);
        assert_true(stats.source_runs);
        assert_int_equal(edu_load_prove(&m->load, m->from.c, m->from.memory), 0);
        m->give_up_after = -1;
        assert_int_equal(vfuc_migrate(&m->migrate, &stats), 0);
        assert_int_equal(edu_load_prove(&m->load, m->to.c, m->to.memory), 0);
        end(m);
    }
    finish(m);
}

/* A destination that does not take the state: it finds out when it has all of it. */
static void refused(void **state)
{
    struct sim_migration_setup setup = {.flags = SIM_MIGRATION_ALL, .ballast = 5000};
    struct move *m = start();

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct vfuc_migrate_stats stats;
        uint32_t now;

        begin(m, &setup);
        setup.flags = i == 3 ? 0 : SIM_MIGRATION_ALL;
        setup.ballast++;
        setup.bad_data_is_error = i & 1;
        set_up_device(m, m->to.bdf, &setup);
        setup.flags = SIM_MIGRATION_ALL;
        assert_int_equal(vfuc_migrate(&m->migrate, &stats), i == 3 ? -ENOTTY : -EINVAL);
        assert_non_null(stats.failed);
        assert_true(stats.source_runs);
        assert_int_equal(vfuc_migration_state(m->from.c, &now), 0);
        assert_int_equal(now, VFIO_DEVICE_STATE_RUNNING);
        assert_int_equal(edu_load_prove(&m->load, m->from.c, m->from.memory), 0);
        if (i < 3) {
            assert_int_equal(vfuc_migration_state(m->to.c, &now), 0);
            assert_int_equal(now, VFIO_DEVICE_STATE_RUNNING);
        }
        end(m);
    }
    finish(m);
}

/* Each call of the kernel's fails once: the device is on one side afterwards, whole. */
static void kernel_fails(void **state)
{
    static const struct sim_migration_setup setup = {.flags = SIM_MIGRATION_ALL,
                                                     .max_transfer = 3000};
    struct move *m = start();
    bool spent, stayed = false;

    (void)state;
    for (unsigned n = 1;; n++) {
        struct sim *sim = m->h->machine.sim;
        struct vfuc_migrate_stats stats;
        int ret;

        begin(m, &setup);
        m->faulty = true;
        /* EIO would be a device that does not decode its BAR. */
        sim_fail_nth(sim, SIM_CALL_ANY, 0, n, ENOMEM);
        ret = vfuc_migrate(&m->migrate, &stats);
        spent = sim_fault_spent(sim);
        sim_fail_nth(sim, SIM_CALL_ANY, 0, 0, 0);
        if (!spent) {
            assert_int_equal(ret, 0);
            break;
        }
        if (ret) {
            assert_true(stats.source_runs);
            assert_int_equal(edu_load_prove(&m->load, m->from.c, m->from.memory), 0);
            stayed = true;
        } else {
            assert_int_equal(edu_load_prove(&m->load, m->to.c, m->to.memory), 0);
        }
        end(m);
    }
    assert_true(stayed);
    end(m);
    finish(m);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(moves),
    cmocka_unit_test(given_up),
    cmocka_unit_test(refused),
    cmocka_unit_test(kernel_fails),
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        if (argc == 2 && !strcmp(argv[1], sources[i].name))
            source = &sources[i];
    }
    if (!source || !harness_use_backend(source->backend))
        return 2;
    return cmocka_run_group_tests_name(source->name, tests, NULL, NULL);
}
