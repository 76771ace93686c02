/*
 * A set of addresses as disjoint ranges, of which it holds a bounded number: when there is no room
 * for another gap, ranges grow together. So it never fails, and may hold more than it was given,
 * never less: made for addresses that must not be forgotten, like those of dirty pages.
 *
 * Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Both ends belong to it. */
struct range {
    uint64_t first, last;
};

struct range_set {
    struct range *at; /* ascending, a gap between any two */
    size_t n, room;
};

/* room: ranges, more than 0. -ENOMEM. */
int range_set_init(struct range_set *set, size_t room);
/* Of an initialized or zeroed set. */
void range_set_free(struct range_set *set);

void range_set_add(struct range_set *set, uint64_t first, uint64_t last);

bool range_set_overlaps(const struct range_set *set, uint64_t first, uint64_t last);

typedef void range_part(void *arg, uint64_t first, uint64_t last);

/* Tells what of [first, last] is in the set, or is not; the set must not change meanwhile. */
void range_set_each(const struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg);
void range_set_gaps(const struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg);

/* Takes what lies within the bounds out, part by part; where that would need a gap for which there
 * is no room the part is told and stays. */
void range_set_take(struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg);
