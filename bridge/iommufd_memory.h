/*
 * The client memory that an iommufd has mapped, and who has it.
 *
 * The devices of one client map the same memory, and a device may map it many times in a row (QEMU
 * does so while it boots). The kernel pins memory once for all the areas that IOAS_COPY makes of
 * the first one. So memory is known here piece by piece, a piece being a range of a file of the
 * client's; whoever maps a piece first takes it from the file, the others copy it from any IOAS
 * that has it.
 *
 * A piece that is mapped with IOMMU_STABLE is copied to the *stash* too: an IOAS that no device is
 * attached to, with an HWPT of its own, without which an IOAS would not pin. There it stays pinned
 * when nobody has it mapped, until its turn comes to make room for others, or the limit on locked
 * memory is reached.
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

/* That a piece is mapped in an IOAS. The caller's storage, entered by map and dropped by unmap. */
struct iommufd_place {
    TAILQ_ENTRY(iommufd_place) link;
    struct iommufd_piece *piece;
    uint32_t ioas;
    uint64_t iova;
};

/* *out: freed by iommufd_memory_destroy, when no place is left. 0 or -ENOMEM. */
int iommufd_memory_create(struct iommufd_context *context, struct iommufd_memory **out);
/* NULL is allowed. */
void iommufd_memory_destroy(struct iommufd_memory *memory);

/* How many bytes the stash may keep that nobody has mapped, if that is more than before. */
void iommufd_memory_keep(struct iommufd_memory *memory, uint64_t bytes);
/* Unpins what nobody has mapped. */
void iommufd_memory_forget(struct iommufd_memory *memory);

/*
 * Maps a piece: range->size bytes of a client's file from offset on. dev_id: a device that is
 * bound to the iommufd. The descriptor stays the caller's. 0 or -errno, logged if it is not the
 * kernel's answer to a map.
 */
int iommufd_memory_map(struct iommufd_memory *memory, struct iommufd_place *place,
                       const struct iommufd_range *range, uint32_t dev_id, int fd, uint64_t offset);

/*
 * Unmaps a range of one IOAS, and drops the places that are all that is mapped in it. After an
 * error they are not dropped.
 */
int iommufd_memory_unmap(struct iommufd_memory *memory, const struct iommufd_range *range,
                         struct iommufd_place *places, size_t n);

/* Drops places whose range could not be unmapped. */
void iommufd_memory_abandon(struct iommufd_memory *memory, struct iommufd_place *places, size_t n);
