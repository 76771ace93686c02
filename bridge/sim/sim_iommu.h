/*
 * A type1 IOMMU: the translations of one container.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_driver.h"

struct sim;
struct vfio_bitmap;

enum {
    SIM_TYPE1_MAX_BITMAP = 1 << 28, /* bytes */
};

struct sim_iommu {
    struct sim_driver driver; /* its domain is changed with the lock held */
    bool v2;

    pthread_mutex_t lock; /* for the block below */
    bool released;
    bool tracking;                  /* what is written */
    unsigned avail;                 /* entries that can be made yet */
    _Atomic unsigned vaddr_invalid; /* entries; read without the lock */
};

/* One reference; NULL without memory. */
struct sim_driver *sim_iommu_create(struct sim *sim, bool v2);

/*
 * With iommu->lock held. The arguments are aligned, not empty and do not wrap.
 */

/* -EEXIST, -ENOSPC, -ENOMEM, -EFAULT; -EINVAL outside of the apertures. */
int sim_iommu_map(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr,
                  uint32_t prot);
/* Returns the bytes unmapped in *unmapped. -EINVAL if the range cuts an entry (v2). */
int sim_iommu_unmap(struct sim_iommu *iommu, uint64_t first, uint64_t last, uint64_t *unmapped);
/* The range has its first or its last byte within an entry that passes it. */
bool sim_iommu_bisects(const struct sim_iommu *iommu, uint64_t first, uint64_t last);
void sim_iommu_unmap_all(struct sim_iommu *iommu, uint64_t *unmapped);
/* The virtual addresses of the range are no longer right, and what they are now. */
int sim_iommu_invalidate_vaddr(struct sim_iommu *iommu, uint64_t first, uint64_t last,
                               uint64_t *invalidated);
int sim_iommu_update_vaddr(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr);

/* The ioctls of a container that has the IOMMU (sim_type1.c). in_use: it is set. */
int sim_type1_check_extension(const struct sim *sim, bool in_use, unsigned long extension);
int sim_type1_ioctl(struct sim_driver *driver, unsigned long request, void *arg);

/* VFIO_IOMMU_DIRTY_PAGES, and the bitmap of what will be unmapped (sim_type1_dirty.c). */
int sim_type1_dirty_pages(struct sim_iommu *iommu, void *arg);
int sim_type1_read_unmapped(struct sim_iommu *iommu, const struct vfio_bitmap *bitmap,
                            uint64_t first, uint64_t last);
