/*
 * The dirty bits of a domain's page tables: which of its entries have been written through. An
 * entry stands for as large a page as fits (sim_set_iommu_page()), and its one bit for all of it.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bridge/sim/sim_dirty.h"

struct sim_domain;
struct sim_translation;

struct sim_track {
    pthread_mutex_t lock; /* a leaf, for the block below */
    bool on;
    struct sim_dirty written; /* the entries' first pages */
};

void sim_track_init(struct sim_track *track);
void sim_track_destroy(struct sim_track *track);

/* On: all bits are clear. */
void sim_track_switch(struct sim_track *track, bool on);

/* Of one translation of the domain; the domain's lock is held. */
void sim_track_write(struct sim_domain *domain, const struct sim_translation *t, uint64_t first,
                     uint64_t last);
void sim_track_unmap(struct sim_domain *domain, const struct sim_translation *t);

/*
 * Sets the bits of what was written within the range, in a bitmap that begins there or below.
 * clear: and forgets it: of an entry that is only partly in the range the rest as well. -EINVAL: it
 * is off, or there is a hole in the range, and nothing behind that was looked at. Whoever changes
 * translations is kept out.
 */
int sim_track_read(struct sim_domain *domain, uint64_t first, uint64_t last, bool clear,
                   const struct sim_bitmap *bitmap);
