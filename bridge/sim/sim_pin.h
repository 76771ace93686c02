/*
 * Pinned memory: what MAP_DMA and IOAS_MAP take hold of.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

struct sim_pin {
    char *addr; /* where the device's copies go */
    uint64_t size;
    bool own; /* addr is a mapping of the pin's own */
};

/*
 * Pins memory of this process. -ENOMEM: over the machine's limit; -EFAULT: not all of it is there,
 * or it can't be written and the device shall write.
 */
int sim_pin(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size, bool write);
/* The same of memory that stays at its address for as long as it is pinned. */
int sim_pin_in_place(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size,
                     bool write);
void sim_unpin(struct sim *sim, struct sim_pin *pin);

/* The memory is at another address now (VFIO_DMA_MAP_FLAG_VADDR). */
void sim_pin_move(struct sim_pin *pin, uint64_t vaddr);

/* Copies between the device's buffer and the memory, from offset on. */
void sim_pin_copy(const struct sim_pin *pin, uint64_t offset, void *buf, size_t len, bool write);
