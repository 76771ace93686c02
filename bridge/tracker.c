#include "bridge/tracker.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/dirty_kept.h"
#include "bridge/domain_internal.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

struct tracker {
    TAILQ_ENTRY(tracker) link;
    struct domain *domain;
    struct dirty_kept kept; /* with the domain's lock */
};

static void free_tracker(struct tracker *tracker)
{
    dirty_kept_free(&tracker->kept);
    free(tracker);
}

/* The mapping of memory that has an address, or the next one above it; NULL: there is none. */
static const struct domain_mapping *next_memory(const struct domain *domain, uint64_t iova)
{
    const struct map_entry *at = map_table_from(&domain->table, iova);

    while (at) {
        const struct domain_mapping *m = (const struct domain_mapping *)at;
        uint64_t last = at->iova + (at->size - 1);

        if (!m->peer)
            return m;
        at = last == UINT64_MAX ? NULL : map_table_next(&domain->table, last + 1);
    }
    return NULL;
}

static struct iommu_range range_of(const struct domain_mapping *m)
{
    return (struct iommu_range){m->at.iova, m->at.iova + (m->at.size - 1)};
}

/* The IOMMU's record is not to be trusted any more: all that is mapped counts as written. */
static void distrust(struct domain *domain, const struct iommu_range *what, int ret)
{
    struct tracker *t;

    log_peer_warning("dirty pages by %s from 0x%" PRIx64 " to 0x%" PRIx64
                     ": %s; all that is mapped counts as dirty",
                     domain->iommu->info.dirty_source, what->first, what->last, strerror(-ret));
    for (uint64_t at = 0;;) {
        const struct domain_mapping *m = next_memory(domain, at);
        struct iommu_range range;

        if (!m)
            return;
        range = range_of(m);
        TAILQ_FOREACH(t, &domain->trackers, link)
        {
            range_set_add(&t->kept.ranges, range.first, range.last);
        }
        if (range.last == UINT64_MAX)
            return;
        at = range.last + 1;
    }
}

/* A reading on its way from the kernel. */
struct reading {
    struct tracker *tracker;   /* whom it is for */
    struct iommu_range wanted; /* by it */
    bool shared;               /* it is for the others too */
    void (*tell)(void *arg, const struct dirty_bitmap *written);
    void *arg;
};

static void keep_for_others(const struct reading *r, const struct dirty_bitmap *written)
{
    struct tracker *t;

    TAILQ_FOREACH(t, &r->tracker->domain->trackers, link)
    {
        if (t != r->tracker)
            dirty_kept_add_bitmap(&t->kept, written, written->first, written->last);
    }
}

static void distribute(void *arg, const struct dirty_bitmap *written)
{
    const struct reading *r = arg;
    struct dirty_kept *kept = &r->tracker->kept;

    if (r->shared)
        keep_for_others(r, written);
    r->tell(r->arg, written);
    if (written->first < r->wanted.first)
        dirty_kept_add_bitmap(kept, written, written->first, r->wanted.first - 1);
    if (written->last > r->wanted.last)
        dirty_kept_add_bitmap(kept, written, r->wanted.last + 1, written->last);
}

static int read_mapping(struct reading *r, const struct domain_mapping *m, bool keep)
{
    const struct domain *domain = r->tracker->domain;
    const struct iommu_range mapping = range_of(m);
    const struct iommu_dirty dirty = {domain->scratch, distribute, r};

    r->shared |= m->users > 1;
    return domain->iommu->ops->read_dirty(domain->iommu, &mapping, &r->wanted, keep, &dirty);
}

void tracker_read(struct tracker *tracker, uint64_t first, uint64_t last,
                  void (*tell)(void *arg, const struct dirty_bitmap *written), void *arg)
{
    struct domain *domain = tracker->domain;
    struct reading r = {
        .tracker = tracker,
        .wanted = {first, last},
        .tell = tell,
        .arg = arg,
    };
    const struct domain_mapping *m;
    int ret;

    pthread_mutex_lock(&domain->lock);
    m = next_memory(domain, first);
    assert(m && m->at.iova <= first);
    ret = read_mapping(&r, m, false);
    if (ret)
        distrust(domain, &r.wanted, ret);
    pthread_mutex_unlock(&domain->lock);
}

void tracker_take_kept(struct tracker *tracker, uint64_t first, uint64_t last, range_part *part,
                       void *arg)
{
    pthread_mutex_lock(&tracker->domain->lock);
    dirty_kept_take(&tracker->kept, first, last, part, arg);
    pthread_mutex_unlock(&tracker->domain->lock);
}

static void keep(void *arg, const struct dirty_bitmap *written)
{
    struct tracker *tracker = arg;

    dirty_kept_add_bitmap(&tracker->kept, written, written->first, written->last);
}

/* All of it, so that nothing is beyond what is wanted. */
static struct reading reading_of_all(struct tracker *tracker, const struct domain_mapping *m)
{
    return (struct reading){
        .tracker = tracker,
        .wanted = range_of(m),
        .tell = keep,
        .arg = tracker,
    };
}

/* Of the last one that has the mapping. */
static int unmap_last(struct tracker *tracker, const struct domain_mapping *m)
{
    struct domain *domain = tracker->domain;
    struct iommu *iommu = domain->iommu;
    const struct iommu_dirty dirty = {domain->scratch, keep, tracker};
    struct reading r = reading_of_all(tracker, m);
    int ret;

    if (iommu->ops->unmap_dirty) {
        ret = iommu->ops->unmap_dirty(iommu, m->at.iova, m->at.size, m->cookie, &dirty);
        if (!ret)
            return 0;
    } else {
        /* What is written between this and the unmap is told by nobody: such a write races with
         * the end of the memory. */
        ret = read_mapping(&r, m, true);
    }
    if (ret)
        distrust(domain, &r.wanted, ret);
    return iommu->ops->unmap(iommu, m->at.iova, m->at.size, m->cookie);
}

int tracker_unmap(struct tracker *tracker, struct domain_mapping *mapping)
{
    struct domain *domain = tracker->domain;
    struct reading r = reading_of_all(tracker, mapping);
    int ret;

    pthread_mutex_lock(&domain->lock);
    if (mapping->users == 1) {
        ret = unmap_last(tracker, mapping);
    } else {
        ret = read_mapping(&r, mapping, false);
        if (ret)
            distrust(domain, &r.wanted, ret);
        ret = 0;
    }
    if (!ret)
        domain_drop_mapping(domain, mapping);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

static int track(struct domain *domain)
{
    struct iommu *iommu = domain->iommu;
    int ret;

    domain->scratch = malloc(IOMMU_DIRTY_SCRATCH);
    if (!domain->scratch)
        return -ENOMEM;
    ret = iommu->ops->track(iommu, true);
    if (ret) {
        free(domain->scratch);
        domain->scratch = NULL;
    }
    return ret;
}

/*
 * The IOMMU tracks already. What was written before is not for the one that begins now, and the
 * IOMMU can't be switched on again without losing it: so it is read for the others.
 */
static void read_for(struct domain *domain, struct tracker *others)
{
    for (uint64_t at = 0;;) {
        const struct domain_mapping *m = next_memory(domain, at);
        struct reading r;
        int ret;

        if (!m)
            return;
        r = reading_of_all(others, m);
        r.shared = true;
        ret = read_mapping(&r, m, false);
        if (ret)
            distrust(domain, &r.wanted, ret);
        if (r.wanted.last == UINT64_MAX)
            return;
        at = r.wanted.last + 1;
    }
}

static int join(struct domain *domain, struct tracker *tracker)
{
    struct tracker *first = TAILQ_FIRST(&domain->trackers);
    int ret = 0;

    if (first)
        read_for(domain, first);
    else
        ret = track(domain);
    if (!ret)
        TAILQ_INSERT_HEAD(&domain->trackers, tracker, link);
    return ret;
}

int tracker_start(struct domain *domain, struct tracker **out)
{
    struct tracker *tracker = calloc(1, sizeof(*tracker));
    int ret = -ENOMEM;

    if (!tracker || dirty_kept_init(&tracker->kept)) {
        free(tracker);
        return ret;
    }
    tracker->domain = domain;
    pthread_mutex_lock(&domain->lock);
    ret = domain->iommu->info.dirty_source ? join(domain, tracker) : -ENOTTY;
    pthread_mutex_unlock(&domain->lock);
    if (ret)
        free_tracker(tracker);
    else
        *out = tracker;
    return ret;
}

int tracker_stop(struct tracker *tracker)
{
    struct domain *domain = tracker->domain;
    int ret = 0;

    pthread_mutex_lock(&domain->lock);
    TAILQ_REMOVE(&domain->trackers, tracker, link);
    if (TAILQ_EMPTY(&domain->trackers)) {
        ret = domain->iommu->ops->track(domain->iommu, false);
        free(domain->scratch);
        domain->scratch = NULL;
    }
    pthread_mutex_unlock(&domain->lock);
    free_tracker(tracker);
    return ret;
}
