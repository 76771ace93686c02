/*
 * An address space: what a device sees of its client's memory. It holds the table of the mappings
 * that the client has made for this device, and keeps the domain, which the devices of the IOMMU
 * group share, equal to it.
 *
 * The rules are the protocol's, not one backend's: a mapping never overlaps another (EEXIST); an
 * unmap names exactly one mapping. A mapping without a descriptor is entered and answered, but
 * *unbacked*: the IOMMU has no translation for it, and a device that goes there is stopped. Unless
 * it lies in a BAR of another device of the client: see peers.h.
 *
 * Not thread-safe: an address space belongs to its export's worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/domain.h"
#include "bridge/iommu.h"
#include "bridge/peers.h"
#include "bridge/range_set.h"
#include "bridge/sysfs.h"

struct address_space;
struct dirty_bitmap;
struct vfio_eeh_pe_op;

struct address_space_stats {
    size_t maps;     /* entries, the unbacked ones included */
    size_t unbacked; /* entries without a descriptor */
    size_t peers;    /* those of them that reach another device's BAR */
    uint64_t backed_bytes;
};

/* In a domain, of which it keeps a reference. *out: freed by address_space_destroy. 0 or -ENOMEM.
 */
int address_space_create(struct domain *domain, struct address_space **out);

/* Unmaps everything. The device that was opened through it is closed before. NULL is allowed. */
void address_space_destroy(struct address_space *as);

/* Opens a device inside the address space; see struct iommu_ops. */
int address_space_open_device(struct address_space *as, const struct sysfs_device *dev, int *fd);

/*
 * The devices that are reached by mappings without a descriptor from now on; NULL: none. An address
 * space without mappings, which keeps no reference.
 */
void address_space_set_peers(struct address_space *as, struct peers *peers);

/* See domain_has_one_file. */
bool address_space_has_one_file(const struct address_space *as);

enum iommu_kind address_space_kind(const struct address_space *as);
/* "type1", "iommufd", "spapr", "no-IOMMU" */
const char *address_space_backend(const struct address_space *as);

/* Page sizes, limits and ranges; valid after the device was opened. */
void address_space_get_info(const struct address_space *as, struct iommu_info *info);

/*
 * Maps size bytes at iova. fd: a file that memory_file_check accepts, which stays the caller's;
 * -1: unbacked. prot: IOMMU_READ, IOMMU_WRITE, IOMMU_STABLE. -EINVAL: not aligned to the smallest
 * page size, outside the IOMMU's ranges, no access; -EEXIST: overlap with another mapping of this
 * client; -ENOSPC: max_maps reached; -ENOMEM: no memory, or the limit on locked memory; -ENOTTY:
 * untranslated; else of the file or the kernel. Nothing is changed on an error.
 */
int address_space_map(struct address_space *as, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                      uint64_t offset);

/*
 * Maps and unmaps a page of memory of our own, so that a host that can't pin anything (a limit on
 * locked memory that is used up) is found out before a client comes. An address space that has a
 * device and no mapping. 0 or -errno, logged.
 */
int address_space_probe(struct address_space *as);

/*
 * Unmaps the mapping that is exactly this range. -ENOENT: none begins there; -EINVAL: one does,
 * with another size; an error of the kernel leaves the entry in place. check_unmap tells of the
 * first two, logged, and does nothing.
 */
int address_space_check_unmap(struct address_space *as, uint64_t iova, uint64_t size);
int address_space_unmap(struct address_space *as, uint64_t iova, uint64_t size);

/*
 * Unmaps everything. Returns 0, or the first error of the kernel: what failed stays in the table,
 * the rest is gone. -EIO if the kernel may hold more than the tables know. After an error only
 * the domain's end makes sure that nothing is left.
 */
int address_space_unmap_all(struct address_space *as);

/* VFIO_EEH_PE_OP on the device's PE: as struct iommu_ops; for eeh.h. */
int address_space_eeh(struct address_space *as, struct vfio_eeh_pe_op *op);

/*
 * The client's memory that its device may write, mapping by mapping: the first one that has iova,
 * or else lies above it. False: there is none. Unbacked mappings and BARs are none.
 */
bool address_space_next_writable(const struct address_space *as, uint64_t iova, uint64_t *first,
                                 uint64_t *last);

/*
 * What the device writes, as the IOMMU tells it; see tracker.h. read and take_kept: while it is on.
 * off: also when it is not on.
 */
int address_space_track(struct address_space *as);
int address_space_track_off(struct address_space *as);
/* Of a range within one writable mapping. */
void address_space_read_dirty(struct address_space *as, uint64_t first, uint64_t last,
                              void (*tell)(void *arg, const struct dirty_bitmap *written),
                              void *arg);
void address_space_take_kept(struct address_space *as, uint64_t first, uint64_t last,
                             range_part *part, void *arg);

void address_space_get_stats(const struct address_space *as, struct address_space_stats *stats);
