/* What group.c and group_reset.c know of groups. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "server/group.h"
#include "server/retry.h"

struct group {
    TAILQ_ENTRY(group) link;
    unsigned entered; /* devices, with the list's lock */
    struct groups *groups;
    struct host *host;
    int number;
    enum iommu_kind kind;

    pthread_mutex_t lock; /* for all below */
    TAILQ_HEAD(, group_device) devices;
    struct domain *domain; /* NULL: could not be made */
    bool broken;           /* the domain may have more than its devices' mappings */
    unsigned holds;        /* devices that are held, all of them by: */
    struct peer holder;
    bool lent_away;       /* a device that was lent has left, and its file may be had still */
    struct retry reclaim; /* of devices that were lent */
    struct tenant *tenant;
};

struct groups {
    pthread_mutex_t lock; /* for the list */
    TAILQ_HEAD(, group) list;
    _Atomic unsigned n_devices;
    _Atomic unsigned last_id;
    struct tenants *tenants;
};

/*
 * With the group's lock.
 */

/* Opens a device in the group's domain, which is made if need be. 0, also if it is open; -errno. */
int group_open_device(struct group_device *gd);

/* A client may still have the device's file. */
bool group_is_lent(const struct group_device *gd);

/* As group_release. */
void group_set_clean(struct group_device *gd);

/* The device is nobody's, and the group, if it was the holder's last one. */
void group_drop_hold(struct group_device *gd);

/*
 * Makes a new domain, of a context (NULL: of a new one), in the place of the group's. All devices
 * of a group are in one, so all are closed: none of them has a session, but of the worker that
 * calls. 0 or -errno, and the group has no domain.
 */
int group_change_domain(struct group *g, struct iommu_context *context);
