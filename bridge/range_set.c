#include "bridge/range_set.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"

int range_set_init(struct range_set *set, size_t room)
{
    assert(room);
    *set = (struct range_set){.at = calloc(room, sizeof(*set->at)), .room = room};
    return set->at ? 0 : -ENOMEM;
}

void range_set_free(struct range_set *set)
{
    free(set->at);
    *set = (struct range_set){0};
}

/* The first range that ends at or after the address; n if there is none. */
static size_t find(const struct range_set *set, uint64_t address)
{
    size_t low = 0, high = set->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (set->at[middle].last < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Puts ranges in the place of the ones from i to before end. */
static void replace(struct range_set *set, size_t i, size_t end, const struct range *by, size_t n)
{
    memmove(set->at + i + n, set->at + end, (set->n - end) * sizeof(*set->at));
    memcpy(set->at + i, by, n * sizeof(*by));
    set->n = set->n - (end - i) + n;
}

/* The neighbour with the smaller gap to a range that would stand at i. */
static size_t nearest(const struct range_set *set, size_t i, const struct range *r)
{
    if (!i || i == set->n)
        return i ? i - 1 : i;
    return r->first - set->at[i - 1].last < set->at[i].first - r->last ? i - 1 : i;
}

void range_set_add(struct range_set *set, uint64_t first, uint64_t last)
{
    struct range r = {first, last};
    size_t i = find(set, first ? first - 1 : first), end = i;

    while (end < set->n && (set->at[end].first <= last || set->at[end].first - 1 == last))
        end++;
    if (i == end && set->n == set->room) {
        i = nearest(set, i, &r);
        end = i + 1;
    }
    if (i < end) {
        r.first = MIN(r.first, set->at[i].first);
        r.last = MAX(r.last, set->at[end - 1].last);
    }
    replace(set, i, end, &r, 1);
}

bool range_set_overlaps(const struct range_set *set, uint64_t first, uint64_t last)
{
    size_t i = find(set, first);

    return i < set->n && set->at[i].first <= last;
}

void range_set_each(const struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg)
{
    for (size_t i = find(set, first); i < set->n && set->at[i].first <= last; i++)
        part(arg, MAX(set->at[i].first, first), MIN(set->at[i].last, last));
}

void range_set_gaps(const struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg)
{
    for (size_t i = find(set, first); i < set->n && set->at[i].first <= last; i++) {
        if (set->at[i].first > first)
            part(arg, first, set->at[i].first - 1);
        if (set->at[i].last >= last)
            return;
        first = set->at[i].last + 1;
    }
    part(arg, first, last);
}

void range_set_take(struct range_set *set, uint64_t first, uint64_t last, range_part *part,
                    void *arg)
{
    size_t i = find(set, first), end = i, rest = 0;
    struct range left[2];

    range_set_each(set, first, last, part, arg);
    for (; end < set->n && set->at[end].first <= last; end++) {
        const struct range *r = &set->at[end];

        if (r->first < first)
            left[rest++] = (struct range){r->first, first - 1};
        if (r->last > last)
            left[rest++] = (struct range){last + 1, r->last};
    }
    if (rest <= end - i || set->n < set->room)
        replace(set, i, end, left, rest);
}
