/*
 * EEH, POWER's enhanced error handling: on an error the bridge cuts the whole PE (partitionable
 * endpoint, here an IOMMU group) off the bus. Registers read all ones and can't be written, DMA is
 * stopped, until somebody recovers the PE.
 *
 * Where it differs: an injected error hits at once, not at the access that is named.
 *
 * With sim->lock held.
 */
#pragma once

#include <stdbool.h>

struct sim_group;

struct sim_pe {
    bool mmio_stopped, dma_stopped;
    bool in_reset; /* the reset is asserted */
};

/* VFIO_EEH_PE_OP on one group. */
int sim_eeh_operate(struct sim_group *group, void *arg);

/* An error: nothing gets through any more. */
void sim_eeh_freeze(struct sim_group *group);
/* The kernel does so before it gives a device of the group away. */
void sim_eeh_unfreeze(struct sim_group *group);
