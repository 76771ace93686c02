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
}

void sim_domain_destroy(struct sim_domain *domain)
{
    assert(!domain->tree);
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
    pthread_rwlock_unlock(&domain->lock);
    domain->sim->count.mappings--;
}

/* One translation's share of an access, or one page that the IOMMU stops; returns its length. */
static size_t copy_piece(struct sim_domain *domain, uint64_t iova, void *buf, size_t len,
                         bool write, int *ret)
{
    const struct sim_translation *t = sim_domain_find(domain, iova, iova);

    if (t && t->prot & (write ? SIM_DOMAIN_WRITE : SIM_DOMAIN_READ)) {
        len = MIN(len - 1, t->last - iova) + 1;
        sim_pin_copy(t->pin, t->offset + (iova - t->first), buf, len, write);
        return len;
    }
    len = MIN(len, SIM_PAGE - iova % SIM_PAGE);
    if (!write)
        memset(buf, 0, len);
    domain->sim->count.dma_faults++;
    *ret = -EFAULT;
    return len;
}

int sim_domain_copy(struct sim_domain *domain, uint64_t iova, void *buf, size_t len, bool write)
{
    int ret = 0;

    pthread_rwlock_rdlock(&domain->lock);
    for (size_t done = 0; done < len;)
        done += copy_piece(domain, iova + done, (char *)buf + done, len - done, write, &ret);
    pthread_rwlock_unlock(&domain->lock);
    return ret;
}
