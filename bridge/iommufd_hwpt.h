/*
 * A hardware page table (HWPT) with dirty bits, which an IOMMU sets as devices write
 * (<linux/iommufd.h>, IOMMU_HWPT_ALLOC_DIRTY_TRACKING).
 *
 * The bits are those of the page table that a device is attached to, so it is made before the
 * first one is, whether anybody will ask for them or not.
 *
 * 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct iommu_dirty;
struct iommu_range;
struct iommufd_context;

/* For an IOAS. False, and *hwpt is left: the IOMMU in front of the device has no dirty bits, or its
 * kernel does not know of them. */
bool iommufd_hwpt_create(struct iommufd_context *context, uint32_t dev_id, uint32_t ioas,
                         uint32_t *hwpt);

/* It is switched on once: the kernel clears all bits then. */
int iommufd_hwpt_track(struct iommufd_context *context, uint32_t hwpt, bool on);

/*
 * Tells what was written of a part of a mapping, in pages of page_size, a power of two of at least
 * 4 KiB; see struct iommu_ops. keep: the bits are not cleared.
 */
int iommufd_hwpt_read(struct iommufd_context *context, uint32_t hwpt, uint64_t page_size,
                      const struct iommu_range *mapping, const struct iommu_range *part, bool keep,
                      const struct iommu_dirty *dirty);
