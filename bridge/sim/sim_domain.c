/*
 * The translations are disjoint, so "they overlap" orders and compares them: a search for a range
 * finds one that shares a byte with it. That is all that tsearch(3) needs to be the tree.
 */
#include "bridge/sim/sim_domain.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <string.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_peer.h"
#include "bridge/sim/sim_pin.h"
#include "proto/base/arith.h"

const struct vfio_iova_range sim_domain_apertures[SIM_DOMAIN_APERTURES] = {
    {.start = 0,          .end = 0xfedfffff    },
    {.start = 0xfef00000, .end = 0xffffffffffff},
};

static int compare(const void *a, const void *b)
{
    const struct sim_translation *x = a, *y = b;

    if (x->last < y->first)
        return -1;
    return x->first > y->last;
}

void sim_domain_init(struct sim_domain *domain, struct sim *sim)
{
    domain->sim = sim;
    domain->tree = NULL;
    pthread_rwlock_init(&domain->lock, NULL);
    sim_track_init(&domain->track);
}

void sim_domain_destroy(struct sim_domain *domain)
{
    assert(!domain->tree);
    sim_track_destroy(&domain->track);
    pthread_rwlock_destroy(&domain->lock);
}

struct sim_translation *sim_domain_find(const struct sim_domain *domain, uint64_t first,
                                        uint64_t last)
{
    struct sim_translation key = {.first = first, .last = last};
    struct sim_translation *const *node = tfind(&key, &domain->tree, compare);

    return node ? *node : NULL;
}

int sim_domain_insert(struct sim_domain *domain, struct sim_translation *t)
{
    void *node;

    pthread_rwlock_wrlock(&domain->lock);
    node = tsearch(t, &domain->tree, compare);
    pthread_rwlock_unlock(&domain->lock);
    if (!node)
        return -ENOMEM;
    domain->sim->count.mappings++;
    return 0;
}

void sim_domain_remove(struct sim_domain *domain, struct sim_translation *t)
{
    pthread_rwlock_wrlock(&domain->lock);
    tdelete(t, &domain->tree, compare);
    sim_track_unmap(domain, t);
    pthread_rwlock_unlock(&domain->lock);
    domain->sim->count.mappings--;
}

void sim_domain_cut(struct sim_domain *domain, struct sim_translation *t, uint64_t first,
                    uint64_t last)
{
    pthread_rwlock_wrlock(&domain->lock);
    if (t->first < first) {
        t->offset += first - t->first;
        t->first = first;
    }
    t->last = MIN(t->last, last);
    pthread_rwlock_unlock(&domain->lock);
}

static uint64_t pages_of(uint64_t iova, size_t len)
{
    return (iova + (len - 1)) / SIM_PAGE - iova / SIM_PAGE + 1;
}

/* -EAGAIN or what came of it. */
static int copy_to_peer(struct sim_domain *domain, const struct sim_translation *t, uint64_t iova,
                        void *buf, size_t len, bool write)
{
    int ret = sim_peer_copy(t->peer, t->offset + (iova - t->first), buf, len, write);

    if (ret == -EFAULT)
        domain->sim->count.dma_faults += pages_of(iova, len);
    else if (ret == -EIO)
        domain->sim->count.peer_faults++;
    return ret;
}

/* One translation's share of an access, or one page that the IOMMU stops; *len: its length. */
static int copy_piece(struct sim_domain *domain, uint64_t iova, void *buf, size_t *len, bool write)
{
    const struct sim_translation *t = sim_domain_find(domain, iova, iova);

    if (t && t->prot & (write ? SIM_DOMAIN_WRITE : SIM_DOMAIN_READ)) {
        int ret = 0;

        *len = MIN(*len - 1, t->last - iova) + 1;
        if (t->peer)
            ret = copy_to_peer(domain, t, iova, buf, *len, write);
        else
            sim_pin_copy(t->pin, t->offset + (iova - t->first), buf, *len, write);
        /* Afterwards: whoever has read and cleared a bit finds in memory what it stood for. */
        if (write)
            sim_track_write(domain, t, iova, iova + (*len - 1));
        return ret;
    }
    *len = MIN(*len, SIM_PAGE - iova % SIM_PAGE);
    if (!write)
        memset(buf, 0, *len);
    domain->sim->count.dma_faults++;
    return -EFAULT;
}

int sim_domain_copy(struct sim_domain *domain, uint64_t iova, void *buf, size_t len, bool write,
                    size_t *done, int *error)
{
    int ret = 0;

    pthread_rwlock_rdlock(&domain->lock);
    while (ret != -EAGAIN && *done < len) {
        size_t piece = len - *done;

        ret = copy_piece(domain, iova + *done, (char *)buf + *done, &piece, write);
        if (ret != -EAGAIN)
            *done += piece;
        if (ret == -EFAULT || (ret == -EIO && !*error))
            *error = ret;
    }
    pthread_rwlock_unlock(&domain->lock);
    return ret == -EAGAIN ? ret : 0;
}
