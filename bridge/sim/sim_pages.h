/*
 * Memory that an IOAS maps: of this process by address, of a file, or a part of a BAR by a dma-buf,
 * which is not pinned. Shared by the areas that
 * IOAS_COPY makes of it, and pinned once, as a whole, while any of them is in a domain. The kernel
 * would then pin those of its pages alone that the areas cover.
 *
 * With the lock of the context held that it belongs to.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_peer.h"
#include "bridge/sim/sim_pin.h"

struct sim;
struct sim_file;

struct sim_pages {
    struct sim *sim;
    unsigned refs;
    unsigned pins;
    bool writable;
    bool bad_file;        /* a file that can't be pinned */
    uint64_t vaddr, size; /* whole pages */
    uint64_t first;       /* the first byte asked for, within them */

    void *map; /* a file's: of its own, NULL: none */
    size_t map_size;

    struct sim_pin pin;

    struct sim_file *dmabuf; /* NULL: it is none */
    struct sim_peer peer;
};

/* One reference. -EOVERFLOW, -EINVAL: the range; -ENOMEM; -EBADF: no descriptor; of a dma-buf as
 * sim_dmabuf_attach(). */
int sim_pages_of_memory(struct sim *sim, uint64_t vaddr, uint64_t length, bool writable,
                        struct sim_pages **out);
int sim_pages_of_file(struct sim *sim, int fd, uint64_t start, uint64_t length, bool writable,
                      struct sim_pages **out);

struct sim_pages *sim_pages_get(struct sim_pages *pages);
void sim_pages_put(struct sim_pages *pages);

/* -ENOMEM: over the machine's limit; -EFAULT: not all there; -EINVAL: nor in the file. */
int sim_pages_pin(struct sim_pages *pages);
void sim_pages_unpin(struct sim_pages *pages);
