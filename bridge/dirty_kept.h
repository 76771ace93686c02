/*
 * Dirty addresses that wait to be told: the kernel has forgotten them. It never fails, and may hold
 * more than it was given, never less. Page by page (a bit for each 4 KiB, made where there are any)
 * up to a bound of memory: what waits is no client's mapping any more, and counts as nobody's. In
 * ranges that grow together (range_set.h) beyond that.
 *
 * Not thread-safe.
 */
#pragma once

#include <stdint.h>

#include "bridge/dirty_bitmap.h"
#include "bridge/map_table.h"
#include "bridge/range_set.h"

struct dirty_kept {
    struct range_set ranges;
    struct map_table blocks;
};

/* -ENOMEM. */
int dirty_kept_init(struct dirty_kept *kept);
/* Of an initialized or zeroed set. */
void dirty_kept_free(struct dirty_kept *kept);

void dirty_kept_add(struct dirty_kept *kept, uint64_t first, uint64_t last);
/* What a bitmap tells of [first, last]. */
void dirty_kept_add_bitmap(struct dirty_kept *kept, const struct dirty_bitmap *from, uint64_t first,
                           uint64_t last);

/* Takes what lies within the bounds out, part by part. What can't be cut out (a part of a page, or
 * a range that would leave a gap for which there is no room) is told and stays. */
void dirty_kept_take(struct dirty_kept *kept, uint64_t first, uint64_t last, range_part *part,
                     void *arg);
