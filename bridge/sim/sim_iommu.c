/*
 * The entries are disjoint, so "they overlap" orders and compares them: a search for a range
 * finds an entry that shares a byte with it. That is all that tsearch(3) needs to be the tree.
 */
#include "bridge/sim/sim_iommu.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_pin.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    PAGE = 4096,
};

const struct vfio_iova_range sim_iommu_apertures[SIM_IOMMU_APERTURES] = {
    {.start = 0,          .end = 0xfedfffff    },
    {.start = 0xfef00000, .end = 0xffffffffffff},
};

struct mapping {
    uint64_t first, last;
    uint32_t prot;
    bool vaddr_invalid;
    struct sim_pin pin;
};

static int compare(const void *a, const void *b)
{
    const struct mapping *x = a, *y = b;

    if (x->last < y->first)
        return -1;
    return x->first > y->last;
}

static struct mapping *find(const struct sim_iommu *iommu, uint64_t first, uint64_t last)
{
    struct mapping key = {.first = first, .last = last};
    struct mapping *const *node = tfind(&key, &iommu->tree, compare);

    return node ? *node : NULL;
}

struct sim_iommu *sim_iommu_create(struct sim *sim, bool v2)
{
    struct sim_iommu *iommu = calloc(1, sizeof(*iommu));

    if (!iommu)
        return NULL;
    iommu->sim = sim;
    iommu->v2 = v2;
    iommu->avail = sim->entry_limit;
    atomic_init(&iommu->refs, 1);
    pthread_mutex_init(&iommu->lock, NULL);
    pthread_rwlock_init(&iommu->tree_lock, NULL);
    return iommu;
}

struct sim_iommu *sim_iommu_get(struct sim_iommu *iommu)
{
    iommu->refs++;
    return iommu;
}

void sim_iommu_put(struct sim_iommu *iommu)
{
    if (--iommu->refs)
        return;
    assert(!iommu->tree);
    pthread_rwlock_destroy(&iommu->tree_lock);
    pthread_mutex_destroy(&iommu->lock);
    free(iommu);
}

void sim_iommu_release(struct sim_iommu *iommu)
{
    uint64_t unmapped;

    pthread_mutex_lock(&iommu->lock);
    iommu->released = true;
    sim_iommu_unmap_all(iommu, &unmapped);
    pthread_mutex_unlock(&iommu->lock);
}

static bool is_translatable(uint64_t first, uint64_t last)
{
    for (size_t i = 0; i < SIM_IOMMU_APERTURES; i++) {
        if (first >= sim_iommu_apertures[i].start && last <= sim_iommu_apertures[i].end)
            return true;
    }
    return false;
}

static int insert(struct sim_iommu *iommu, struct mapping *e)
{
    void *node;

    pthread_rwlock_wrlock(&iommu->tree_lock);
    node = tsearch(e, &iommu->tree, compare);
    pthread_rwlock_unlock(&iommu->tree_lock);
    if (!node)
        return -ENOMEM;
    iommu->avail--;
    iommu->sim->count.mappings++;
    return 0;
}

static void remove_entry(struct sim_iommu *iommu, struct mapping *e)
{
    pthread_rwlock_wrlock(&iommu->tree_lock);
    tdelete(e, &iommu->tree, compare);
    pthread_rwlock_unlock(&iommu->tree_lock);
    iommu->avail++;
    iommu->vaddr_invalid -= e->vaddr_invalid;
    iommu->sim->count.mappings--;
    sim_unpin(iommu->sim, &e->pin);
    free(e);
}

int sim_iommu_map(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr,
                  uint32_t prot)
{
    cleanup_free_ struct mapping *e = NULL;
    uint64_t last = iova + (size - 1);
    int ret;

    if (find(iommu, iova, last))
        return -EEXIST;
    if (!iommu->avail)
        return -ENOSPC;
    if (!is_translatable(iova, last))
        return -EINVAL;

    e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->first = iova;
    e->last = last;
    e->prot = prot;
    ret = sim_pin(iommu->sim, &e->pin, vaddr, size, prot & SIM_IOMMU_WRITE);
    if (ret)
        return ret;
    ret = insert(iommu, e);
    if (ret) {
        sim_unpin(iommu->sim, &e->pin);
        return ret;
    }
    e = NULL; /* in the tree */
    return 0;
}

int sim_iommu_unmap(struct sim_iommu *iommu, uint64_t first, uint64_t last, uint64_t *unmapped)
{
    struct mapping *low = find(iommu, first, first);
    struct mapping *high = find(iommu, last, last);

    *unmapped = 0;
    if (iommu->v2 && ((low && low->first != first) || (high && high->last != last)))
        return -EINVAL;
    /* v1: nothing is unmapped from within an entry; one whose start is in the range goes whole. */
    if (low && low->first < first)
        return 0;
    for (struct mapping *e; (e = find(iommu, first, last));) {
        *unmapped += e->last - e->first + 1;
        remove_entry(iommu, e);
    }
    return 0;
}

void sim_iommu_unmap_all(struct sim_iommu *iommu, uint64_t *unmapped)
{
    *unmapped = 0;
    for (struct mapping *e; (e = find(iommu, 0, UINT64_MAX));) {
        *unmapped += e->last - e->first + 1;
        remove_entry(iommu, e);
    }
}

struct walk {
    struct sim_iommu *iommu;
    uint64_t first, last, bytes;
    bool invalidate, conflict;
};

static void visit_vaddr(const void *node, VISIT which, void *arg)
{
    struct mapping *e = *(struct mapping *const *)node;
    struct walk *walk = arg;

    if ((which != postorder && which != leaf) || e->last < walk->first || e->first > walk->last)
        return;
    if (!walk->invalidate) {
        walk->conflict |= e->vaddr_invalid;
        return;
    }
    e->vaddr_invalid = true;
    walk->iommu->vaddr_invalid++;
    walk->bytes += e->last - e->first + 1;
}

int sim_iommu_invalidate_vaddr(struct sim_iommu *iommu, uint64_t first, uint64_t last,
                               uint64_t *invalidated)
{
    struct walk walk = {.iommu = iommu, .first = first, .last = last};
    struct mapping *low = find(iommu, first, first);
    struct mapping *high = find(iommu, last, last);

    *invalidated = 0;
    if ((low && low->first < first) || (high && high->last > last))
        return -EINVAL;
    twalk_r(iommu->tree, visit_vaddr, &walk);
    if (walk.conflict)
        return -EINVAL;
    walk.invalidate = true;
    twalk_r(iommu->tree, visit_vaddr, &walk);
    *invalidated = walk.bytes;
    return 0;
}

int sim_iommu_update_vaddr(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr)
{
    uint64_t last = iova + (size - 1);
    struct mapping *e = find(iommu, iova, last);

    if (!e)
        return -ENOENT;
    if (!e->vaddr_invalid || e->first != iova || e->last != last)
        return -EINVAL;
    pthread_rwlock_wrlock(&iommu->tree_lock);
    sim_pin_move(&e->pin, vaddr);
    pthread_rwlock_unlock(&iommu->tree_lock);
    e->vaddr_invalid = false;
    iommu->vaddr_invalid--;
    return 0;
}

/* One entry's share of an access, or one page that the IOMMU stops; returns its length. */
static size_t copy_piece(struct sim_iommu *iommu, uint64_t iova, void *buf, size_t len, bool write,
                         int *ret)
{
    const struct mapping *e = find(iommu, iova, iova);

    if (e && e->prot & (write ? SIM_IOMMU_WRITE : SIM_IOMMU_READ)) {
        len = MIN(len - 1, e->last - iova) + 1;
        sim_pin_copy(&e->pin, iova - e->first, buf, len, write);
        return len;
    }
    len = MIN(len, PAGE - iova % PAGE);
    if (!write)
        memset(buf, 0, len);
    iommu->sim->count.dma_faults++;
    *ret = -EFAULT;
    return len;
}

int sim_iommu_copy(struct sim_iommu *iommu, uint64_t iova, void *buf, size_t len, bool write)
{
    int ret = 0;

    pthread_rwlock_rdlock(&iommu->tree_lock);
    for (size_t done = 0; done < len;)
        done += copy_piece(iommu, iova + done, (char *)buf + done, len - done, write, &ret);
    pthread_rwlock_unlock(&iommu->tree_lock);
    return ret;
}
