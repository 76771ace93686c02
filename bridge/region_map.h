/*
 * Regions that a client maps by a descriptor, so that its accesses reach the device without a
 * message. One descriptor a region, and of it one area, as clients take no more.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/device.h"
#include "bridge/region.h"

enum region_map_by {
    REGION_MAP_NONE,
    /*
     * A dma-buf of the BAR, with which nothing else can be done. The kernel takes what is mapped of
     * it away while the device does not decode its memory, and for ever when the device is closed.
     */
    REGION_MAP_DMABUF,
    /*
     * The device's own file: all that the kernel offers of a device can be done with it, and as
     * long as anybody has it or a mapping of it the device is open. See device_is_lent.
     */
    REGION_MAP_DEVFD,
};

struct region_mapping {
    int fd;          /* to be given to the client and closed, by close(2) */
    uint64_t offset; /* of the region in it: the area is this much further than in the region */
    /* The device's, with the area if that is not the whole region; good until the next call. */
    const struct uapi_caps *caps;
};

/*
 * Opens a region for the client. -EOPNOTSUPP: it is none that can be mapped in this way (not
 * logged); -EINVAL: the device has no such region; -ENODEV: it is not open; else of the kernel,
 * logged. Never mapped are I/O ports, the ROM, VGA and config space, and the pages of an MSI-X
 * table that the kernel does not say may be mapped.
 */
int region_map(struct device *dev, uint32_t index, enum region_map_by by,
               struct region_mapping *out);

/* Tries on a BAR of the device whether its dma-buf can be mapped. */
bool region_can_map_dmabuf(struct device *dev);
