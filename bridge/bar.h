/*
 * A device's memory BARs as targets of other devices' DMA: where the client has put them, and how
 * they are opened for a backend to map (struct iommu_peer of iommu.h).
 *
 * By the device's worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/device.h"

enum {
    BAR_MOST = 6,
};

/* A memory BAR that is decoded, at an address of the client's. */
struct bar_window {
    uint32_t index; /* the region's */
    uint64_t address;
    uint64_t size;
};

/*
 * Reads the windows from config space: none while memory decode is off, and no BAR that is at 0 or
 * where a driver that sizes it has left it for the moment. Returns how many, or -errno, logged.
 */
int bar_find_windows(struct device *dev, struct bar_window windows[BAR_MOST]);

/* True if a write to this range of config space may have changed the windows. */
bool bar_may_move(uint64_t offset, uint32_t count);

/*
 * A dma-buf of a part of a BAR (VFIO_DEVICE_FEATURE_DMA_BUF). *fd: of the host, the caller's. The
 * kernel revokes it while the device does not decode its memory or is reset, and for ever when it
 * is closed. -EOPNOTSUPP, -ENOTTY: the kernel or the device's driver has no such thing, or the part
 * is not of whole pages (not logged); -EINVAL: not in a BAR; -ENODEV: the device is not open; else
 * the kernel's, logged.
 */
int bar_export_dmabuf(struct device *dev, uint32_t index, uint64_t offset, uint64_t size, int *fd);

/*
 * Maps a part of a BAR into this process, for MAP_DMA: nobody touches it. It keeps the device open
 * in the kernel, and so is to be unmapped before the device is closed. Errors as above;
 * -EOPNOTSUPP: the kernel does not map this BAR.
 */
int bar_mmap(struct device *dev, uint32_t index, uint64_t offset, uint64_t size, void **address);
void bar_munmap(struct device *dev, void *address, uint64_t size);
