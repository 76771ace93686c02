/*
 * The IOMMU that SET_IOMMU gives to a container, whichever driver it is of: type1 (sim_iommu.h) or
 * SPAPR TCE (sim_spapr.h). Embedded in what the driver knows of it, as the first member.
 */
#pragma once

#include <stdatomic.h>

#include "bridge/sim/sim_domain.h"

struct sim;
struct sim_driver;
struct sim_group;

struct sim_driver_ops {
    /*
     * A group joins, which may be refused; a group has left. The container moves the group's
     * devices into the domain and out of it. With sim->lock held.
     */
    int (*attach)(struct sim_driver *driver, struct sim_group *group);
    void (*detach)(struct sim_driver *driver, struct sim_group *group);

    /* What the container does not know itself. Without locks, as the others. */
    int (*ioctl)(struct sim_driver *driver, unsigned long request, void *arg);
    /* Takes all translations away; none can be made any more. No device is attached. */
    void (*release)(struct sim_driver *driver);
    /* The last reference has gone. */
    void (*destroy)(struct sim_driver *driver);
};

struct sim_driver {
    const struct sim_driver_ops *ops;
    struct sim *sim;
    _Atomic unsigned refs;
    struct sim_domain domain;
};

/* One reference. */
void sim_driver_init(struct sim_driver *driver, const struct sim_driver_ops *ops, struct sim *sim);
struct sim_driver *sim_driver_get(struct sim_driver *driver);
void sim_driver_put(struct sim_driver *driver);
