/*
 * Pinned memory: what MAP_DMA, IOAS_MAP and REGISTER_MEMORY take hold of.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

struct sim_pin {
    char *addr; /* where the device's copies go */
    uint64_t size;
    bool own;     /* addr is a mapping of the pin's own */
    bool counted; /* against the limit on locked memory */
};

/* mm->locked_vm against the limit, all users together: -ENOMEM if it would be over. */
int sim_lock_memory(struct sim *sim, uint64_t size);
void sim_unlock_memory(struct sim *sim, uint64_t size);

/*
 * Pins memory of this process. -ENOMEM: over the machine's limit; -EFAULT: not all of it is there,
 * or it can't be written and the device shall write.
 */
int sim_pin(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size, bool write);
/* The same of memory that stays at its address for as long as it is pinned. */
int sim_pin_in_place(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size,
                     bool write);
/* As sim_pin(), by one who has asked for the limit before. */
int sim_pin_uncounted(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size,
                      bool write);
void sim_unpin(struct sim *sim, struct sim_pin *pin);

/* The memory is at another address now (VFIO_DMA_MAP_FLAG_VADDR). */
void sim_pin_move(struct sim_pin *pin, uint64_t vaddr);

/* Copies between the device's buffer and the memory, from offset on. */
void sim_pin_copy(const struct sim_pin *pin, uint64_t offset, void *buf, size_t len, bool write);
