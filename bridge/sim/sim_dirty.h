/*
 * A set of pages that were written, by number, and bitmaps of such pages as user space gives them.
 * What a page is, and what lock the set has, are its owner's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Zeroed: empty. */
struct sim_dirty {
    void *blocks;
    bool lost; /* there was no memory to note a page: all of them count as written */
};

void sim_dirty_add(struct sim_dirty *dirty, uint64_t first, uint64_t last);
void sim_dirty_forget(struct sim_dirty *dirty);

typedef void sim_dirty_page(void *arg, uint64_t page);

/* Tells of each page from first to last that is in the set, which it leaves if clear. */
void sim_dirty_each(struct sim_dirty *dirty, uint64_t first, uint64_t last, bool clear,
                    sim_dirty_page *tell, void *arg);

/* Of user space, which has made sure of its size: a bit for each page_size bytes from iova on. */
struct sim_bitmap {
    uint64_t iova;
    uint64_t page_size;
    uint64_t address;
};

/* Bits of addresses from iova on are set, and none is cleared. */
void sim_bitmap_set(const struct sim_bitmap *bitmap, uint64_t first, uint64_t last);
