/*
 * Live migration: moves a device, and the memory that it does DMA to, from one server to another.
 *
 * While the source's device runs, all memory is copied, then again what the server's log says was
 * written meanwhile, and what the device in PRE_COPY tells of its state; rounds of that, until
 * little is left. Then the device is stopped, and the rest is copied. So the destination has it all
 * before its device runs. Without a dirty log memory is copied when the device has stopped, and
 * without PRE_COPY all of the state is.
 *
 * One client is that of both servers. It has mapped the same IOVAs for both devices, each with
 * memory of its own, and leaves all of it alone meanwhile: no log has what it writes itself. Config
 * space and interrupts are no part of the state: the client sets them up at LOADED.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client-example/vfuc.h"

/* Mapped for DMA at iova on both sides: whole pages. */
struct vfuc_migrate_memory {
    uint64_t iova;
    size_t size;
    const uint8_t *from;
    uint8_t *to;
};

/* What has just been done. */
enum vfuc_migrate_step {
    VFUC_MIGRATE_LOGGING,  /* the source's log is on; not if it has none */
    VFUC_MIGRATE_PRE_COPY, /* the source gives its state; not if it has no PRE_COPY */
    VFUC_MIGRATE_RESUMING, /* the destination takes it */
    VFUC_MIGRATE_ROUND,    /* once a round */
    VFUC_MIGRATE_STOPPED,  /* the source is in STOP_COPY */
    VFUC_MIGRATE_COPIED,   /* all of the memory, and of the state */
    VFUC_MIGRATE_LOADED,   /* the destination has accepted the state, and is in STOP */
    VFUC_MIGRATE_RUNNING,  /* the destination runs: it can't be undone any more */
};

struct vfuc_migrate_stats {
    uint64_t page_size;                 /* of the log; 0: there is none */
    unsigned rounds;                    /* while the source ran */
    uint64_t memory, state;             /* bytes in all */
    uint64_t round_memory, round_state; /* of the last round, or of what was left at the stop */

    /* At the end. */
    uint64_t total_us, stopped_us;
    const char *failed; /* what did not work; NULL: nothing */
    bool source_runs;   /* after an error: the source's device runs as before */
};

struct vfuc_migrate {
    struct vfuc *source, *destination;
    const struct vfuc_migrate_memory *memory;
    size_t n_memory;
    unsigned max_rounds;   /* at least 1 */
    uint64_t small_enough; /* the device is stopped after a round with at most so much memory */

    /* Called after each step (NULL: not); what it returns but 0, -errno, ends the migration, unless
     * the destination runs. */
    int (*step)(void *arg, enum vfuc_migrate_step step, const struct vfuc_migrate_stats *stats);
    void *arg;
};

/*
 * 0: the destination's device runs, and the source's is stopped: its session is to be closed.
 *
 * -errno: the destination's session is to be closed; its device was reset, or its server told to
 * end the session. The source's device runs on, if it and its server can: *stats tells.
 * -ENOTTY: one of them can't migrate.
 */
int vfuc_migrate(const struct vfuc_migrate *m, struct vfuc_migrate_stats *stats);
