/*
 * An edu device that is kept busy: it moves memory to other places by DMA, through its buffer, and
 * at the end of each step has a transfer under way.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client-example/edu.h"
#include "client-example/guest_memory.h"

struct edu_load {
    uint64_t iova; /* of all of the memory, which is below 2^28 */
    size_t size;
    uint32_t seed;

    uint8_t held[EDU_BUFFER_SIZE]; /* what the device's buffer has */
    struct edu_transfer last;      /* that may be under way; len 0: none */
};

/* Ends what is under way and begins something else; c is the device's session. 0 or -errno. */
int edu_load_step(struct edu_load *load, struct vfuc *c, const struct guest_memory *memory);

/*
 * Ends what is under way, which must have arrived in the memory, and then moves the buffer's bytes
 * once more: after a migration with the other session and the other memory. -EIO: not all arrived.
 */
int edu_load_prove(struct edu_load *load, struct vfuc *c, const struct guest_memory *memory);
