/*
 * The client memory that an iommufd has mapped, and who has it.
 *
 * The devices of one client map the same memory. The kernel pins memory once for all the areas that
 * IOAS_COPY makes of the first one. So memory is known here piece by piece, a piece being a range
 * of a file of the client's; whoever maps a piece first takes it from the file, the others copy it
 * from any IOAS that has it.
 *
 * What is mapped with IOMMU_STABLE is copied from the stash (iommufd_stash.h) instead, in which it
 * stays pinned when nobody has it mapped. What the stash has no room for is mapped as above.
 *
 * Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct iommufd_context;
struct iommufd_memory;
struct iommufd_piece;
struct iommufd_range;
struct stash_piece;

/*
 * That a piece, or a part of one of the stash, is mapped in an IOAS. The caller's storage, entered
 * by map and dropped by unmap.
 */
struct iommufd_place {
    SLIST_ENTRY(iommufd_place) next; /* the caller's: places of one mapping */
    uint64_t size;                   /* of what is mapped */

    TAILQ_ENTRY(iommufd_place) link; /* the memory's own */
    struct iommufd_piece *piece;     /* NULL: of the stash */
    struct stash_piece *stashed;
    uint32_t ioas;
    uint64_t iova;
};

SLIST_HEAD(iommufd_places, iommufd_place);

/* *out: freed by iommufd_memory_destroy, when no place is left. 0 or -ENOMEM. */
int iommufd_memory_create(struct iommufd_context *context, struct iommufd_memory **out);
/* NULL is allowed. */
void iommufd_memory_destroy(struct iommufd_memory *memory);

/* How many bytes the stash may have, if that is more than before. */
void iommufd_memory_keep(struct iommufd_memory *memory, uint64_t bytes);
/* Unpins what nobody has mapped. */
void iommufd_memory_forget(struct iommufd_memory *memory);

/*
 * Maps the beginning of a range from a client's file, from offset on: as much as is one piece, at
 * most IOMMU_MAP_CHUNK; place->size tells how much. dev_id: a device that is bound to the iommufd.
 * The descriptor stays the caller's. 0 or -errno, logged if it is not the kernel's answer to a map.
 */
int iommufd_memory_map(struct iommufd_memory *memory, struct iommufd_place *place,
                       const struct iommufd_range *range, uint32_t dev_id, int fd, uint64_t offset);

/*
 * Unmaps a range of one IOAS, and drops the places that are all that is mapped in it. After an
 * error they are not dropped.
 */
int iommufd_memory_unmap(struct iommufd_memory *memory, const struct iommufd_range *range,
                         struct iommufd_places *places);

/* Drops places whose range could not be unmapped. */
void iommufd_memory_abandon(struct iommufd_memory *memory, struct iommufd_places *places);

/*
 * For the stash, with the memory's lock: maps a range of a file; as iommufd_context_map_file(). If
 * the kernel wants it mapped in this process, *address is where it is, else NULL.
 */
int iommufd_memory_map_file(struct iommufd_memory *memory, const struct iommufd_range *range,
                            uint64_t *iova, int fd, uint64_t offset, void **address);
