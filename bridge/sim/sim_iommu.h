/*
 * A type1 IOMMU: the translations of one container.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_domain.h"

struct sim;

struct sim_iommu {
    struct sim *sim;
    bool v2;
    _Atomic unsigned refs;

    pthread_mutex_t lock; /* for the block below */
    bool released;
    unsigned avail;                 /* entries that can be made yet */
    _Atomic unsigned vaddr_invalid; /* entries; read without the lock */

    struct sim_domain domain; /* changed with the lock held */
};

/* One reference; NULL without memory. */
struct sim_iommu *sim_iommu_create(struct sim *sim, bool v2);
struct sim_iommu *sim_iommu_get(struct sim_iommu *iommu);
void sim_iommu_put(struct sim_iommu *iommu);

/* Takes all translations away; none can be made any more. No device is attached. */
void sim_iommu_release(struct sim_iommu *iommu);

/*
 * With iommu->lock held. The arguments are aligned, not empty and do not wrap.
 */

/* -EEXIST, -ENOSPC, -ENOMEM, -EFAULT; -EINVAL outside of the apertures. */
int sim_iommu_map(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr,
                  uint32_t prot);
/* Returns the bytes unmapped in *unmapped. -EINVAL if the range cuts an entry (v2). */
int sim_iommu_unmap(struct sim_iommu *iommu, uint64_t first, uint64_t last, uint64_t *unmapped);
void sim_iommu_unmap_all(struct sim_iommu *iommu, uint64_t *unmapped);
/* The virtual addresses of the range are no longer right, and what they are now. */
int sim_iommu_invalidate_vaddr(struct sim_iommu *iommu, uint64_t first, uint64_t last,
                               uint64_t *invalidated);
int sim_iommu_update_vaddr(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr);

/* The ioctls of a container that has the IOMMU (sim_type1.c). */
int sim_type1_check_extension(const struct sim *sim, const struct sim_iommu *iommu,
                              unsigned long extension);
int sim_type1_ioctl(struct sim_iommu *iommu, unsigned long request, void *arg);
