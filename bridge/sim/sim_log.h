/*
 * A device's log of the pages that it has written by DMA (<linux/vfio.h>, features 6 to 8).
 *
 * The handlers: with the device's lock held. The log itself has dma->lock, so that a page is in it
 * before anybody can see that its transfer is over.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_dirty.h"
#include "bridge/sim/sim_feature.h"

enum {
    SIM_LOG_MAX_RANGES = 256, /* what the kernel takes with pages of 4 KiB */
};

struct sim_log_range {
    uint64_t first, last;
};

struct sim_log {
    bool missing;        /* the driver has none */
    uint64_t fixed_page; /* the only page size it can do; 0: any */

    bool active;
    uint64_t page_size;
    unsigned n_ranges;
    struct sim_log_range ranges[SIM_LOG_MAX_RANGES];
    struct sim_dirty written;
};

/* len bytes at iova were written. With dma->lock held. */
void sim_log_write(struct sim_log *log, uint64_t iova, size_t len);

/* The device was closed: the log is off. With the device's lock held. */
void sim_log_close(struct sim_device *dev);

sim_feature_handler sim_log_start;
sim_feature_handler sim_log_stop;
sim_feature_handler sim_log_report;
