/*
 * The stash of an iommufd: client memory that stays pinned when no device has it mapped.
 *
 * A client may map the same memory many times in a row, and cut it otherwise each time: QEMU does
 * so while its guest's firmware decides what lies where. So the stash has disjoint pieces of files,
 * and what is mapped is copied from wherever in them it is; only what no piece has yet is pinned
 * anew.
 *
 * It is an IOAS that no device is attached to, with an HWPT of its own, without which an IOAS would
 * not pin. It has a limit: pieces that nobody has mapped make room, the longest unused first. What
 * is left over is not stashed.
 *
 * With the lock of the iommufd's memory (iommufd_memory.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct iommufd_context;
struct iommufd_memory;
struct iommufd_range;
struct iommufd_stash;
struct stash_piece;

/* *out: freed by iommufd_stash_destroy. 0 or -ENOMEM. */
int iommufd_stash_create(struct iommufd_context *context, struct iommufd_memory *memory,
                         struct iommufd_stash **out);
/* Nobody has anything of it mapped. NULL is allowed. */
void iommufd_stash_destroy(struct iommufd_stash *stash);

/* How many bytes it may have, if that is more than before. At first none. */
void iommufd_stash_keep(struct iommufd_stash *stash, uint64_t bytes);

/* Gives up what nobody has mapped. Returns false if there is nothing like that. */
bool iommufd_stash_forget(struct iommufd_stash *stash);

/*
 * Maps the beginning of a range as iommufd_memory_map() does, from one piece, which is made if need
 * be: *size bytes of it, and *piece is to be put. -EOPNOTSUPP: it has to be mapped otherwise (there
 * is no room, or no stash); else the kernel's answer to a map.
 */
int iommufd_stash_map(struct iommufd_stash *stash, const struct iommufd_range *range,
                      uint32_t dev_id, int fd, uint64_t offset, uint64_t *size,
                      struct stash_piece **piece);
/* A mapping of the piece has gone. */
void iommufd_stash_put(struct iommufd_stash *stash, struct stash_piece *piece);
