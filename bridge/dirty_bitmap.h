/*
 * A bitmap of dirty pages, as VFIO and vfio-user have it: a bit for each page_size bytes of a range
 * from its first address on, the lowest bit of the first word first. (Both say that the bit is
 * "addr % 64", and mean the page's number.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dirty_bitmap {
    uint64_t first, last; /* the range, both ends */
    uint64_t page_size;   /* a power of two */
    uint64_t *words;
};

/* Bytes of the bitmap of a range: whole words. */
uint64_t dirty_bitmap_size(uint64_t first, uint64_t last, uint64_t page_size);

/* Sets the bits of all pages that share a byte with [first, last], as far as it is in the range. */
void dirty_bitmap_set(struct dirty_bitmap *b, uint64_t first, uint64_t last);

/*
 * The next run of set bits from bit *n on, as addresses, cut to the range; *n: where to go on.
 * False: there is none.
 */
bool dirty_bitmap_next(const struct dirty_bitmap *b, uint64_t *n, uint64_t *first, uint64_t *last);

/* Sets the bits of what another one tells of [first, last]; the pages of both may differ. */
void dirty_bitmap_merge(struct dirty_bitmap *b, const struct dirty_bitmap *from, uint64_t first,
                        uint64_t last);
