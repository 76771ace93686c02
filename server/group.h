/*
 * IOMMU groups, and the exported devices in them.
 *
 * The group is the unit of isolation, because the IOMMU can't tell its devices apart: all of them
 * translate by one domain. So a group belongs to one client identity at a time, its *holder*, from
 * the first VERSION that gets one of its devices until the last of these sessions has ended, with
 * everything unmapped and the device reset, and nobody has a file of its devices that was given to
 * a client. Nobody else's VERSION touches it meanwhile, but to find that out.
 *
 * A device in a session is for whoever has its turn: its worker, or a hot reset (group_reset.h).
 * Between sessions it is the group's: any worker of the group may close it, under the group's lock,
 * to move the group into another domain.
 */
#pragma once

#include <stdbool.h>
#include <sys/queue.h>

#include "auth/peer.h"
#include "bridge/address_space.h"
#include "bridge/device.h"
#include "bridge/iommu.h"
#include "bridge/sysfs.h"
#include "server/turn.h"

struct group;
struct groups;

/* An exported device, embedded in its export. */
struct group_device {
    TAILQ_ENTRY(group_device) link;
    struct group *group;
    struct sysfs_device where;
    struct turn turn;         /* the export's, made before group_enter */
    bool held;                /* in a session, not clean since its last one, or lent */
    bool in_session;          /* under the group's lock; as the next ones */
    bool unreset;             /* it is held only because it was not reset */
    bool lent;                /* a client may still have a file of it that was closed here */
    bool only_lent;           /* it is held only because it is lent */
    bool maps_dmabuf;         /* a client can map a dma-buf of it; as group_enter has tried */
    bool awaits_reset;        /* its session, if there is one, is over but for that */
    unsigned id;              /* among all devices; from the first group_enter on */
    int err_event, req_event; /* for irq_relay_watch; the export's, set before group_enter */
    /* With its turn in a session and while it is not clean, else under the group's lock. NULL: not
     * open. */
    struct device *device;
    struct address_space *as;
};

/* *out: freed by groups_destroy. 0 or -ENOMEM. */
int groups_create(struct groups **out);
/* When no device is left. NULL is allowed. */
void groups_destroy(struct groups *groups);

/*
 * Enters a device that sysfs_find_device has found, and opens it, to find out now what is wrong.
 * kind: if the group has none so far. 0, after which it is to be left, or -errno, logged. The
 * control thread, or the device's worker; in the device's turn.
 */
int group_enter(struct group_device *gd, struct groups *groups, struct host *host,
                const struct sysfs_device *where, enum iommu_kind kind);
/*
 * Closes the device, and gives it up if it is held; what could not be unmapped goes at the latest
 * when the group's holder gives up the group. With the last device that is open everything of the
 * group is closed. Does nothing with one that was not entered. As group_enter.
 */
void group_leave(struct group_device *gd);

/*
 * The functions below: the device's worker, in its turn. They block as long as opening a device
 * does.
 */

/*
 * Holds the device for a client, opened in a domain of the client's. keep: bytes for
 * iommu_context_keep. -EACCES: the group belongs to another identity; -ENODEV: the device can't be
 * opened. Logged. A device that is held stays with its holder and is opened, if need be.
 */
int group_hold(struct group_device *gd, const struct peer *who, uint64_t keep);

/*
 * Closes and opens a device that is held and whose memory could not be unmapped, or which is not
 * open. Nothing of this client's memory is left then, unless sessions of the same identity still
 * use the group; then it is gone with the last of them.
 */
void group_rebuild(struct group_device *gd);

/*
 * Unpins what iommu_context_keep() has kept of the client's memory. After a session of a device
 * that is held, and stays so if it is not clean.
 */
void group_forget(struct group_device *gd);

/*
 * The session has ended, but the device is not clean: it stays with its holder. unreset: only
 * because it was not reset; it is held no longer once another device's reset has reset it.
 */
void group_keep(struct group_device *gd, bool unreset);

/*
 * The device is clean, and free for the next client; but one that is lent (device.h) stays with its
 * holder until somebody else asks and nobody has its file any more.
 */
void group_release(struct group_device *gd);

/* Whether a client may still have the device's file. */
bool group_device_is_lent(struct group_device *gd);

/* False: group_hold would have to open it. */
bool group_device_is_open(struct group_device *gd);

/* "type1", "iommufd" */
const char *group_backend(struct group_device *gd);
