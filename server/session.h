/*
 * A session: all that one negotiated client owns of a device, and its end.
 *
 * Functions run in the export's worker.
 */
#pragma once

#include "auth/peer.h"
#include "bridge/address_space.h"
#include "bridge/device.h"
#include "bridge/region_map.h"
#include "proto/version.h"
#include "server/quota.h"

struct config;
struct doorbell;
struct group_device;
struct group_reset_set;

struct session {
    struct group_device *gd; /* NULL: the device is in no group; it is reset on its own only */
    struct device *device;
    struct address_space *as;
    struct peer peer;
    struct version_caps agreed;
    uint32_t max_fds; /* that the client takes in a message, at most LIMIT_MSG_FDS */
    bool strict_dma;  /* memory without a descriptor is refused */
    bool low_power;   /* the client may let the device sleep */
    enum region_map_by map_by;
    bool stable_memory;               /* memory may stay pinned when it is unmapped */
    unsigned dirty_sources;           /* enum dirty_source: those that may be used */
    const struct doorbell *doorbells; /* the export's, n_doorbells of them */
    unsigned n_doorbells;
    bool removed; /* the device is given up at the end: it is not opened again */
    bool gone;    /* nothing answers any more where the device was */
    int stop;     /* readable when the worker is to end, which ends waits */
    struct quota *quota;
    struct quota_amount charged; /* for the mappings in the address space */
};

/* The sources of the dirty log that the settings allow, for the session. */
unsigned session_dirty_sources(const struct config *settings);

/* Whether a session of the device can use the protocol's migration, or the log of what it writes
 * (dirty_sources: as in the session). */
bool session_can_migrate(struct device *dev, unsigned dirty_sources);

/* Charges the session's identity; as quota_charge. */
int session_charge(struct session *s, struct quota_amount amount);

/* Gives back what is charged beyond what the address space holds now. */
void session_settle(struct session *s);

/* True if nothing answers any more where the device was. */
bool session_is_gone(const struct session *s);

/*
 * After a request that failed: err is the handler's. Notes it in gone if the device does not answer
 * any more.
 */
void session_note_error(struct session *s, int err);

/*
 * Resets the device because its client wants it, by what ways there are: reset_device(), or
 * group_reset_device() with the client's other devices.
 */
int session_reset(struct session *s);
bool session_can_reset(const struct session *s);

/* group_reset_bus() for the client, and its group_reset_get_set(). -ENOTTY: the device is in no
 * group. */
int session_hot_reset(struct session *s);
int session_get_reset_set(struct session *s, struct group_reset_set *out);

/* What a session has left behind. */
enum session_end {
    /* Nothing. The device is as it was found. */
    SESSION_END_CLEAN,
    /* The device could not be reset: its inside may hold what the client put there. */
    SESSION_END_UNRESET,
    /* DMA could not be stopped, memory not unmapped, or the device not opened again. A device that
     * is given up is closed by the caller, which does all of that. */
    SESSION_END_BROKEN,
};

/*
 * Ends a session whose connection is no longer read: stops the device, takes its interrupts and
 * the client's memory away, and makes it fresh for the next one. Blocks as long as a reset does.
 * Every step is tried, whatever became of the ones before it; each failure is logged.
 */
enum session_end session_teardown(struct session *s);
