/*
 * Memory that SPAPR TCE windows translate to, and how much of it they do.
 *
 * A v2 container uses memory that the process has registered before, and which it keeps: all
 * containers of the process share a registration of exactly the same range. v1 pins what each
 * MAP_DMA names, for as long as any of it is mapped (the kernel: page by page).
 *
 * The lock is taken inside.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/sim/sim_pin.h"

struct sim;

struct sim_memory {
    struct sim_memory *next; /* of the registered ones */
    uint64_t vaddr, size;
    unsigned used;   /* registrations; 0: v1's */
    uint64_t mapped; /* bytes, over all windows */
    struct sim_pin pin;
};

/* A registration of exactly this range, one more of it; NULL: there is none. */
struct sim_memory *sim_memory_get(struct sim *sim, uint64_t vaddr, uint64_t size);
/* A new one, pinned for writing. -ENOMEM; -EFAULT; -EINVAL: it overlaps another one. */
int sim_memory_register(struct sim *sim, uint64_t vaddr, uint64_t size, struct sim_memory **out);
/* One less. -EBUSY: that was the last, but some of it is mapped; it stays. */
int sim_memory_put(struct sim *sim, struct sim_memory *memory);

/*
 * Maps what is registered from vaddr on, size bytes at most; *mapped receives how much. NULL: not
 * even one page of the window is.
 */
struct sim_memory *sim_memory_map(struct sim *sim, uint64_t vaddr, uint64_t size, uint64_t page,
                                  uint64_t *mapped);
/* Memory of its own, all of it mapped; not counted against the limit. -ENOMEM, -EFAULT. */
int sim_memory_pin(struct sim *sim, uint64_t vaddr, uint64_t size, bool write,
                   struct sim_memory **out);
void sim_memory_unmap(struct sim *sim, struct sim_memory *memory, uint64_t size);

/* The process ends. Nothing is mapped. */
void sim_memory_forget(struct sim *sim);
