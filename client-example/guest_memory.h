/*
 * The client's memory that devices do DMA to: one memfd, mapped here, of which ranges are given
 * to a server. The memfd is sealed against shrinking, so that a server which maps it can't be
 * made to fault by its client.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client-example/vfuc.h"

struct guest_memory;

/* size: whole pages, zeroed. *out: freed by guest_memory_free. 0 or -errno. */
int guest_memory_create(struct guest_memory **out, size_t size);

/* Frees this side's view. What a server was given stays its own until it is unmapped there. */
void guest_memory_free(struct guest_memory *memory);

/* The len bytes at an offset, which must lie in the memory. */
void *guest_memory_at(const struct guest_memory *memory, size_t offset, size_t len);

/* Maps len bytes at an offset for DMA, readable and writable, at iova. Whole pages. */
int guest_memory_map(const struct guest_memory *memory, struct vfuc *c, uint64_t iova,
                     size_t offset, size_t len);

static inline void guest_memory_freep(struct guest_memory **memory)
{
    guest_memory_free(*memory);
}
