/*
 * type1's own record of what was written (<linux/vfio.h>, VFIO_IOMMU_DIRTY_PAGES). It is exact for
 * mediated devices, which say which pages they write. For a device that does its DMA itself the
 * kernel can't know: all that is mapped is dirty, each time.
 *
 * 0 or -errno, not logged. page_size: the smallest of the IOMMU's, and no other.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct host;
struct iommu_dirty;
struct iommu_range;

int type1_dirty_track(struct host *host, int container, bool on);

/* Tells what was written of a part of a mapping, in whole ones of the kernel's: what is mapped by
 * one call can't be told of in parts. */
int type1_dirty_read(struct host *host, int container, uint64_t page_size,
                     const struct iommu_range *mapping, const struct iommu_range *part,
                     const struct iommu_dirty *dirty);

/* Unmaps, and tells what was written until then. -E2BIG: more than the kernel tells of at a time;
 * -EIO: another size was unmapped. */
int type1_dirty_unmap(struct host *host, int container, uint64_t page_size, uint64_t iova,
                      uint64_t size, const struct iommu_dirty *dirty);
