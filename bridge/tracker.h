/*
 * What the devices of a domain write, as its IOMMU tells it (info.dirty_source), for one of the
 * address spaces in it.
 *
 * The IOMMU can't tell the devices apart, and forgets what it has told. So whatever one tracker
 * reads of memory that others have mapped too is kept for each of them, and a tracker may be told
 * of what another device of the group has written. What can't be known, because the kernel fails,
 * is dirty.
 *
 * Any thread, for each tracker one at a time.
 */
#pragma once

#include <stdint.h>

#include "bridge/dirty_bitmap.h"
#include "bridge/domain.h"
#include "bridge/range_set.h"

struct tracker;

/* *out: ended by tracker_stop. -ENOTTY: the IOMMU does not track; -ENOMEM; the kernel's. */
int tracker_start(struct domain *domain, struct tracker **out);

/* Frees it; the IOMMU stops with the last one, or the kernel's error is returned. */
int tracker_stop(struct tracker *tracker);

/*
 * Tells what was written of [first, last], within one mapping, since it was told last, in bitmaps
 * which may tell of more: what lies beyond the range is not to be looked at.
 */
void tracker_read(struct tracker *tracker, uint64_t first, uint64_t last,
                  void (*tell)(void *arg, const struct dirty_bitmap *written), void *arg);

/* Takes what is kept: of memory that was unmapped, read by others, or asked for too early. */
void tracker_take_kept(struct tracker *tracker, uint64_t first, uint64_t last, range_part *part,
                       void *arg);

/* domain_unmap, of memory that its device may write; what was written of it is kept. */
int tracker_unmap(struct tracker *tracker, struct domain_mapping *mapping);
