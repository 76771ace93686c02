/*
 * How a device reaches memory: bus mastering, the domain it is attached to, and the promise
 * that a transfer is over once someone has cut the device off.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_log.h"

struct sim_device;
struct sim_domain;

struct sim_dma {
    pthread_mutex_t lock;
    struct sim_domain *domain; /* NULL: blocked */
    bool no_iommu;             /* whatever the domain: addresses are the host's */
    bool bus_master;
    bool stopped; /* by EEH */
    uint64_t epoch;
    struct sim_log log;
};

void sim_dma_init(struct sim_dma *dma);
void sim_dma_destroy(struct sim_dma *dma);

/* Each returns when no transfer of the time before is under way. */
void sim_dma_set_bus_master(struct sim_device *dev, bool on);
void sim_dma_set_stopped(struct sim_device *dev, bool stopped);
void sim_dma_attach(struct sim_device *dev, struct sim_domain *domain);
/* Into the domain of another one. */
void sim_dma_attach_to_sibling(struct sim_device *dev, struct sim_device *sibling);
/* No transfer that was asked for until now is made any more. */
void sim_dma_cancel(struct sim_device *dev);

/* Nothing translates or stops the device's transfers any more. */
void sim_dma_remove_iommu(struct sim_device *dev);

/* Of a device that does not care for its COMMAND register. As sim_dma_transfer(). */
int sim_dma_force(struct sim_device *dev, uint64_t iova, void *buf, size_t len, bool write);
