#include "client-example/vfuc_migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

/* Of <linux/vfio.h>, which a client's machine may have in an old version. */
enum {
    STATE_STOP = 1,
    STATE_RUNNING = 2,
    STATE_STOP_COPY = 3,
    STATE_RESUMING = 4,
    STATE_PRE_COPY = 6,

    FLAG_STOP_COPY = 1,
    FLAG_PRE_COPY = 4,

    PAGE = 4096,
    REPORT = 1 << 30, /* bytes of memory that one report is about */
    WORD_BITS = 64,
};

struct move {
    const struct vfuc_migrate *m;
    struct vfuc_migrate_stats *stats;
    bool pre_copy, touched; /* the source is not in RUNNING any more, for all that we know */
    uint8_t *buf;
    uint32_t buf_size;
    uint64_t *bitmap;
};

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int failed(struct move *v, int ret, const char *what)
{
    if (ret && !v->stats->failed)
        v->stats->failed = what;
    return ret;
}

static int done(struct move *v, enum vfuc_migrate_step step)
{
    int ret = v->m->step ? v->m->step(v->m->arg, step, v->stats) : 0;

    return failed(v, ret, "given up by the client");
}

static int start_log(struct move *v)
{
    const struct vfuc_migrate *m = v->m;
    cleanup_free_ struct vfio_user_feature_dma_logging_range *ranges =
        calloc(m->n_memory + 1, sizeof(*ranges));
    uint64_t page_size = PAGE;
    int ret;

    if (!ranges)
        return failed(v, -ENOMEM, "the ranges to log");
    for (size_t i = 0; i < m->n_memory; i++) {
        ranges[i].iova = m->memory[i].iova;
        ranges[i].length = m->memory[i].size;
    }
    if (!m->n_memory)
        return 0;
    ret = vfuc_dma_log_start(m->source, ranges, (uint32_t)m->n_memory, &page_size);
    if (ret == -ENOTTY)
        return 0;
    if (ret)
        return failed(v, ret, "the source's dirty log");
    v->stats->page_size = page_size;
    return done(v, VFUC_MIGRATE_LOGGING);
}

static int begin_session(struct move *v)
{
    int ret = start_log(v);

    if (!ret && v->pre_copy) {
        v->touched = true;
        ret = failed(v, vfuc_set_migration_state(v->m->source, STATE_PRE_COPY),
                     "the source's way to PRE_COPY");
        if (!ret)
            ret = done(v, VFUC_MIGRATE_PRE_COPY);
    }
    if (!ret)
        ret = failed(v, vfuc_set_migration_state(v->m->destination, STATE_RESUMING),
                     "the destination's way to RESUMING");
    return ret ? ret : done(v, VFUC_MIGRATE_RESUMING);
}

static void copy_bytes(struct move *v, const struct vfuc_migrate_memory *memory, size_t offset,
                       size_t len)
{
    memcpy(memory->to + offset, memory->from + offset, len);
    v->stats->round_memory += len;
}

static void copy_all(struct move *v)
{
    for (size_t i = 0; i < v->m->n_memory; i++)
        copy_bytes(v, &v->m->memory[i], 0, v->m->memory[i].size);
}

/* Pages of the memory from an offset on, whose bits are set. */
static void copy_marked(struct move *v, const struct vfuc_migrate_memory *memory, size_t offset,
                        size_t len)
{
    for (size_t page = 0; page * PAGE < len; page++) {
        uint64_t word = v->bitmap[page / WORD_BITS];

        if (word >> page % WORD_BITS & 1)
            copy_bytes(v, memory, offset + page * PAGE, MIN((size_t)PAGE, len - page * PAGE));
    }
}

static int copy_dirty(struct move *v)
{
    for (const struct vfuc_migrate_memory *memory = v->m->memory;
         memory < v->m->memory + v->m->n_memory; memory++) {
        for (size_t offset = 0; offset < memory->size; offset += REPORT) {
            size_t len = MIN(memory->size - offset, (size_t)REPORT);
            int ret =
                vfuc_dma_log_report(v->m->source, memory->iova + offset, len, PAGE, v->bitmap);

            if (ret)
                return failed(v, ret, "a report of the source's dirty log");
            copy_marked(v, memory, offset, len);
        }
    }
    return 0;
}

/* All that there is for now, and in STOP_COPY at all. */
static int copy_state(struct move *v)
{
    int64_t n;

    do {
        int ret;

        n = vfuc_migration_read(v->m->source, v->buf, v->buf_size);
        if (n < 0)
            return failed(v, (int)n, "reading the source's state");
        ret = n ? vfuc_migration_write(v->m->destination, v->buf, (uint32_t)n) : 0;
        if (ret)
            return failed(v, ret, "writing the destination's state");
        v->stats->round_state += (uint64_t)n;
    } while (n == v->buf_size);
    return 0;
}

static void count(struct move *v)
{
    v->stats->memory += v->stats->round_memory;
    v->stats->state += v->stats->round_state;
}

static int run_round(struct move *v)
{
    struct vfuc_migrate_stats *stats = v->stats;
    int ret = 0;

    stats->round_memory = stats->round_state = 0;
    if (stats->page_size && stats->rounds)
        ret = copy_dirty(v);
    else if (stats->page_size)
        copy_all(v);
    if (!ret && v->pre_copy)
        ret = copy_state(v);
    if (ret)
        return ret;
    stats->rounds++;
    count(v);
    return done(v, VFUC_MIGRATE_ROUND);
}

/* The first round is of memory as a whole, and says nothing of how much is written. */
static int run_rounds(struct move *v)
{
    const struct vfuc_migrate_stats *stats = v->stats;
    int ret;

    if (!stats->page_size && !v->pre_copy)
        return 0;
    do {
        ret = run_round(v);
    } while (!ret && stats->rounds < v->m->max_rounds &&
             (stats->rounds == 1 || stats->round_memory > v->m->small_enough));
    return ret;
}

static int stop_source(struct move *v)
{
    int ret;

    v->touched = true;
    ret = vfuc_set_migration_state(v->m->source, STATE_STOP_COPY);
    return ret ? failed(v, ret, "the source's way to STOP_COPY") : done(v, VFUC_MIGRATE_STOPPED);
}

static int copy_rest(struct move *v)
{
    int ret = 0;

    v->stats->round_memory = v->stats->round_state = 0;
    if (v->stats->page_size)
        ret = copy_dirty(v);
    else
        copy_all(v);
    if (!ret)
        ret = copy_state(v);
    count(v);
    return ret ? ret : done(v, VFUC_MIGRATE_COPIED);
}

static int start_destination(struct move *v)
{
    int ret = failed(v, vfuc_set_migration_state(v->m->destination, STATE_STOP),
                     "the destination's way from RESUMING to STOP");

    if (!ret)
        ret = done(v, VFUC_MIGRATE_LOADED);
    if (!ret)
        ret = failed(v, vfuc_set_migration_state(v->m->destination, STATE_RUNNING),
                     "the destination's way to RUNNING");
    return ret;
}

static int run(struct move *v)
{
    uint64_t begun = now_us(), stopped;
    int ret = begin_session(v);

    if (!ret)
        ret = run_rounds(v);
    stopped = now_us();
    if (!ret)
        ret = stop_source(v);
    if (!ret)
        ret = copy_rest(v);
    if (!ret)
        ret = start_destination(v);
    v->stats->total_us = now_us() - begun;
    v->stats->stopped_us = now_us() - stopped;
    return ret;
}

static bool is_running(struct vfuc *c)
{
    uint32_t state = 0;
    int ret = vfuc_migration_state(c, &state);

    return ret ? ret == -ENOTTY : state == STATE_RUNNING;
}

/*
 * The destination first: it may have begun to run, and the answer have been lost. A server that
 * answers no more is told by its socket that the session is over.
 */
static void give_up(struct move *v)
{
    if (vfuc_reset(v->m->destination))
        shutdown(vfuc_socket(v->m->destination), SHUT_RDWR);
    if (v->stats->page_size)
        vfuc_dma_log_stop(v->m->source);
    if (v->touched)
        vfuc_set_migration_state(v->m->source, STATE_RUNNING);
}

static int check(struct move *v)
{
    uint64_t source = 0, destination = 0;
    int ret = failed(v, vfuc_migration_flags(v->m->source, &source), "the source's migration");

    if (!ret)
        ret = failed(v, vfuc_migration_flags(v->m->destination, &destination),
                     "the destination's migration");
    if (!ret && !(source & destination & FLAG_STOP_COPY))
        ret = failed(v, -ENOTTY, "STOP_COPY of both");
    v->pre_copy = source & FLAG_PRE_COPY;
    return ret;
}

int vfuc_migrate(const struct vfuc_migrate *m, struct vfuc_migrate_stats *stats)
{
    const uint32_t size = MIN(vfuc_max_xfer(m->source), vfuc_max_xfer(m->destination));
    cleanup_free_ uint8_t *buf = malloc(size);
    cleanup_free_ uint64_t *bitmap = malloc(REPORT / PAGE / 8);
    struct move v = {.m = m, .stats = stats, .buf = buf, .buf_size = size, .bitmap = bitmap};
    int ret;

    *stats = (struct vfuc_migrate_stats){0};
    if (!buf || !bitmap)
        ret = failed(&v, -ENOMEM, "memory for the transfer");
    else
        ret = check(&v);
    if (!ret) {
        ret = run(&v);
        if (ret)
            give_up(&v);
    }
    if (ret)
        stats->source_runs = is_running(m->source);
    else
        done(&v, VFUC_MIGRATE_RUNNING);
    return ret;
}
