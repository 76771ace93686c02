/*
 * The log of the pages that a device writes by DMA, for migration, from the best source that there
 * is: the device's own log, or its IOMMU's record, or, if the operator allows it, the guess that
 * all memory is written which may be.
 *
 * Nothing that was written is lost between the kernel, which forgets what it has told, and the
 * report that a client gets. What the kernel tells beyond the range of a report is kept for the
 * one that asks for it; what is unmapped meanwhile too. If a source fails, all that it logs is
 * dirty.
 *
 * Not thread-safe: a device belongs to its export's worker. Functions return 0 or -errno; -ENODEV:
 * the device is not open; -ENOTTY: there is no source. What is wrong is logged, but for -ENOTTY.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/device.h"
#include "bridge/range_set.h"

struct dirty_log;

/* Best first. Of those that may be used, or'ed, the best that works is. */
enum dirty_source {
    DIRTY_DEVICE = 1 << 0, /* its log: <linux/vfio.h>, VFIO_DEVICE_FEATURE_DMA_LOGGING_* */
    DIRTY_IOMMU = 1 << 1,  /* what info.dirty_source of iommu.h names */
    DIRTY_GUESS = 1 << 2,  /* all that is mapped and writable is dirty */
};

/* 0 if dirty_start would find a source. */
int dirty_probe(struct device *dev, unsigned sources);

/*
 * Begins to log writes to the ranges; n 0: to all there is, also to what will be mapped later.
 * *page_size: the unit that is wished for; what it became. -EINVAL: it is no power of two or less
 * than 4096, a range is empty or not aligned to it, ranges overlap, or logging is on; -EOVERFLOW: a
 * range passes 2^64; -E2BIG: more ranges than the kernel takes; else the kernel's.
 */
int dirty_start(struct device *dev, unsigned sources, const struct range *ranges, size_t n,
                uint64_t *page_size);

/* Also when it is not on. The kernel's error leaves it off all the same. */
int dirty_stop(struct device *dev);

/*
 * -EINVAL if logging is off, page_size is no power of two or less than 4096, or the range is empty;
 * -EOVERFLOW: it passes 2^64. To be asked before dirty_report, which can then not fail but by
 * -ENODEV.
 */
int dirty_check_report(const struct device *dev, uint64_t iova, uint64_t length,
                       uint64_t page_size);

/* bitmap: dirty_bitmap_size() bytes, zeroed; its bits are set, and what they stand for is
 * forgotten. */
int dirty_report(struct device *dev, uint64_t iova, uint64_t length, uint64_t page_size,
                 uint64_t *bitmap);

/* To be called before mappings in [first, last] are unmapped. */
void dirty_keep(struct device *dev, uint64_t first, uint64_t last);
