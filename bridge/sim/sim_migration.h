/*
 * Migration of a device (<linux/vfio.h>, features 1, 2 and 9): the kernel's state machine above
 * what a model freezes, saves and restores.
 *
 * With the device's lock held, unless stated.
 */
#pragma once

#include <stdint.h>

#include "bridge/sim/sim.h"
#include "bridge/sim/sim_feature.h"

struct sim_device;
struct sim_file;

struct sim_migration {
    struct sim_migration_setup setup;
    uint32_t state;           /* enum vfio_device_mig_state */
    uint32_t fails_to;        /* the next hop to it fails; 0: none */
    struct sim_file *session; /* of data, NULL: none */
};

/* All that its model can do. Before the device is seen. */
void sim_migration_init(struct sim_device *dev);

/*
 * The state to go to next on the way from one to the other, with the optional states that flags
 * (VFIO_MIGRATION_*) has. -EINVAL: there is no way, or no such state. Without the lock.
 */
int sim_migration_next(uint64_t flags, uint32_t from, uint32_t to, uint32_t *next);

/* The device was opened, closed or reset: it runs, and there is no session. */
void sim_migration_reset(struct sim_device *dev);

sim_feature_handler sim_migration_get_flags;
sim_feature_handler sim_migration_device_state;
sim_feature_handler sim_migration_data_size;
