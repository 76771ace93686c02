/*
 * Resetting a device of a group: on its own; or, if it has no reset of its own or a client asks for
 * it, with all that is on its bus or in its slot (bridge/hot_reset.h).
 *
 * The other devices there are other workers'. A hot reset has their turns (turn.h) from before it
 * stops their DMA until it has re-armed their interrupts, so their workers find their sessions
 * as before, with a device that was reset: bus mastering is off. It also has the locks of their
 * groups, under which no device comes to one.
 *
 * The functions: a device that is held and open, by its worker in its turn. While they wait for
 * other turns, it is given back: another reset may reset this device too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bridge/hot_reset.h"

struct group_device;

/* Which other devices may be reset with it. */
enum group_reset_others {
    GROUP_RESET_IDLE,         /* those in no session; the asking one's is over but for this */
    GROUP_RESET_SAME_IDENTITY /* also those in sessions of the same identity */
};

/* Whether the device can be reset: on its own, or with others. */
bool group_reset_is_possible(struct group_device *gd);

/*
 * Resets the device on its own if it can, else as group_reset_bus(); on its own as reset_device().
 */
int group_reset_device(struct group_device *gd, enum group_reset_others others);

/*
 * Resets all that is on the device's bus or in its slot. As hot_reset(), and -ENOTTY: that can't be
 * reset; -EPERM: a device is there that may not be reset with it, or is not this daemon's.
 * Logged. After an error nothing has been reset, unless only a re-arming has failed; bus mastering
 * may be off of any of the devices, and everything else of their sessions is as it was.
 */
int group_reset_bus(struct group_device *gd, enum group_reset_others others);

/* What group_reset_bus() resets. */
struct group_reset_set {
    size_t n_own;
    unsigned own[HOT_RESET_MOST]; /* ids of those in sessions of the holder, its own among them */
    size_t n_others;              /* the rest, exported or not */
};

/* Errors as group_reset_bus() and hot_reset_get_set(). */
int group_reset_get_set(struct group_device *gd, struct group_reset_set *out);
