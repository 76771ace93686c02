/*
 * A type1 IOMMU: the translations of one container.
 */
#pragma once

#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

enum {
    SIM_IOMMU_READ = 1 << 0,
    SIM_IOMMU_WRITE = 1 << 1,
};

/* What it can translate. The window between is where x86 writes message-signalled interrupts. */
enum {
    SIM_IOMMU_APERTURES = 2,
};
extern const struct vfio_iova_range sim_iommu_apertures[SIM_IOMMU_APERTURES];

struct sim_iommu {
    struct sim *sim;
    bool v2;
    _Atomic unsigned refs;

    pthread_mutex_t lock; /* for the block below */
    bool released;
    unsigned avail;                 /* entries that can be made yet */
    _Atomic unsigned vaddr_invalid; /* entries; read without the lock */

    pthread_rwlock_t tree_lock; /* changed with both locks, read with either */
    void *tree;
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

/*
 * A device's access. -EFAULT if there is no translation for some page of it, or not with that
 * right; such pages read as zeros, writes to them are lost, each counts as one fault.
 */
int sim_iommu_copy(struct sim_iommu *iommu, uint64_t iova, void *buf, size_t len, bool write);

/* The ioctls of a container that has the IOMMU (sim_type1.c). */
int sim_type1_check_extension(const struct sim *sim, const struct sim_iommu *iommu,
                              unsigned long extension);
int sim_type1_ioctl(struct sim_iommu *iommu, unsigned long request, void *arg);
