#include "bridge/sim/sim_track.h"

#include <errno.h>

#include "bridge/sim/sim_domain.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"

enum {
    LEVEL_SHIFT = 9, /* pages of 4 KiB, 2 MiB, 1 GiB */
};

void sim_track_init(struct sim_track *track)
{
    *track = (struct sim_track){0};
    pthread_mutex_init(&track->lock, NULL);
}

void sim_track_destroy(struct sim_track *track)
{
    sim_dirty_forget(&track->written);
    pthread_mutex_destroy(&track->lock);
}

void sim_track_switch(struct sim_track *track, bool on)
{
    pthread_mutex_lock(&track->lock);
    sim_dirty_forget(&track->written);
    track->on = on;
    pthread_mutex_unlock(&track->lock);
}

/* The size of the entry that translates the address. */
static uint64_t entry_size(const struct sim_domain *domain, const struct sim_translation *t,
                           uint64_t iova)
{
    uint64_t size = domain->sim->iommu_page;

    while (size > SIM_PAGE && ((iova & -size) < t->first || (iova | (size - 1)) > t->last))
        size >>= LEVEL_SHIFT;
    return MAX(size, (uint64_t)SIM_PAGE);
}

void sim_track_write(struct sim_domain *domain, const struct sim_translation *t, uint64_t first,
                     uint64_t last)
{
    struct sim_track *track = &domain->track;
    uint64_t size;

    pthread_mutex_lock(&track->lock);
    for (uint64_t at = first; track->on && at <= last; at = (at | (size - 1)) + 1) {
        size = entry_size(domain, t, at);
        sim_dirty_add(&track->written, (at & -size) / SIM_PAGE, (at & -size) / SIM_PAGE);
    }
    pthread_mutex_unlock(&track->lock);
}

static void ignore(void *arg, uint64_t page)
{
    (void)arg;
    (void)page;
}

void sim_track_unmap(struct sim_domain *domain, const struct sim_translation *t)
{
    struct sim_track *track = &domain->track;

    pthread_mutex_lock(&track->lock);
    sim_dirty_each(&track->written, t->first / SIM_PAGE, t->last / SIM_PAGE, true, ignore, NULL);
    pthread_mutex_unlock(&track->lock);
}

struct reading {
    const struct sim_domain *domain;
    const struct sim_translation *t;
    uint64_t first, last;
    const struct sim_bitmap *bitmap;
};

static void read_entry(void *arg, uint64_t page)
{
    const struct reading *r = arg;
    uint64_t first = page * SIM_PAGE;
    uint64_t last = first | (entry_size(r->domain, r->t, first) - 1);

    sim_bitmap_set(r->bitmap, MAX(first, r->first), MIN(last, r->last));
}

int sim_track_read(struct sim_domain *domain, uint64_t first, uint64_t last, bool clear,
                   const struct sim_bitmap *bitmap)
{
    struct sim_track *track = &domain->track;
    struct reading r = {.domain = domain, .last = last, .bitmap = bitmap};
    int ret = 0;

    pthread_mutex_lock(&track->lock);
    if (!track->on)
        ret = -EINVAL;
    for (uint64_t at = first; !ret; at = r.t->last + 1) {
        r.t = sim_domain_find(domain, at, at);
        if (!r.t) {
            ret = -EINVAL;
            break;
        }
        r.first = at;
        at &= -entry_size(domain, r.t, at);
        sim_dirty_each(&track->written, at / SIM_PAGE, MIN(r.t->last, last) / SIM_PAGE, clear,
                       read_entry, &r);
        if (r.t->last >= last)
            break;
    }
    pthread_mutex_unlock(&track->lock);
    return ret;
}
