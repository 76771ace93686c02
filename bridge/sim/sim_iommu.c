#include "bridge/sim/sim_iommu.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_peer.h"
#include "bridge/sim/sim_pin.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct mapping {
    struct sim_translation t; /* first: the domain's entry is the mapping */
    bool vaddr_invalid;
    struct sim_pin pin; /* empty if there is a peer */
    struct sim_peer peer;
};

static struct mapping *find(const struct sim_iommu *iommu, uint64_t first, uint64_t last)
{
    return (struct mapping *)sim_domain_find(&iommu->driver.domain, first, last);
}

static struct sim_iommu *to_iommu(struct sim_driver *driver)
{
    return (struct sim_iommu *)driver;
}

/* A group can't join while the kernel would not know what to pin for it. */
static int attach(struct sim_driver *driver, struct sim_group *group)
{
    (void)group;
    return to_iommu(driver)->vaddr_invalid ? -EBUSY : 0;
}

static void detach(struct sim_driver *driver, struct sim_group *group)
{
    (void)driver;
    (void)group;
}

static void release(struct sim_driver *driver)
{
    struct sim_iommu *iommu = to_iommu(driver);
    uint64_t unmapped;

    pthread_mutex_lock(&iommu->lock);
    iommu->released = true;
    sim_iommu_unmap_all(iommu, &unmapped);
    pthread_mutex_unlock(&iommu->lock);
}

static void destroy(struct sim_driver *driver)
{
    struct sim_iommu *iommu = to_iommu(driver);

    pthread_mutex_destroy(&iommu->lock);
    free(iommu);
}

static const struct sim_driver_ops type1_ops = {
    .attach = attach,
    .detach = detach,
    .ioctl = sim_type1_ioctl,
    .release = release,
    .destroy = destroy,
};

struct sim_driver *sim_iommu_create(struct sim *sim, bool v2)
{
    struct sim_iommu *iommu = calloc(1, sizeof(*iommu));

    if (!iommu)
        return NULL;
    sim_driver_init(&iommu->driver, &type1_ops, sim);
    iommu->v2 = v2;
    iommu->avail = sim->entry_limit;
    pthread_mutex_init(&iommu->lock, NULL);
    return &iommu->driver;
}

static bool is_translatable(uint64_t first, uint64_t last)
{
    for (size_t i = 0; i < SIM_DOMAIN_APERTURES; i++) {
        if (first >= sim_domain_apertures[i].start && last <= sim_domain_apertures[i].end)
            return true;
    }
    return false;
}

static int insert(struct sim_iommu *iommu, struct mapping *e)
{
    int ret = sim_domain_insert(&iommu->driver.domain, &e->t);

    if (!ret)
        iommu->avail--;
    return ret;
}

static void remove_entry(struct sim_iommu *iommu, struct mapping *e)
{
    sim_domain_remove(&iommu->driver.domain, &e->t);
    iommu->avail++;
    iommu->vaddr_invalid -= e->vaddr_invalid;
    sim_unpin(iommu->driver.sim, &e->pin);
    free(e);
}

/* The fault that would put a page of the BAR into the process's tables is refused while the device
 * does not decode it. */
static int check_decoded(const struct sim_peer *peer)
{
    int ret = -EFAULT;

    if (!peer->dev)
        return ret;
    pthread_mutex_lock(&peer->dev->lock);
    if (sim_config_memory_enabled(peer->dev))
        ret = 0;
    pthread_mutex_unlock(&peer->dev->lock);
    return ret;
}

/* Pins memory; a BAR is there anyway, and accounted to nobody. */
static int take(struct sim_iommu *iommu, struct mapping *e, uint64_t vaddr, uint64_t size)
{
    bool write = e->t.prot & SIM_DOMAIN_WRITE;

    if (sim_vma_find(iommu->driver.sim, vaddr, size, write, &e->peer)) {
        e->t.peer = &e->peer;
        return check_decoded(&e->peer);
    }
    e->t.pin = &e->pin;
    return sim_pin(iommu->driver.sim, &e->pin, vaddr, size, write);
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
    e->t = (struct sim_translation){.first = iova, .last = last, .prot = prot};
    ret = take(iommu, e, vaddr, size);
    if (ret)
        return ret;
    ret = insert(iommu, e);
    if (ret) {
        sim_unpin(iommu->driver.sim, &e->pin);
        return ret;
    }
    e = NULL; /* in the tree */
    return 0;
}

bool sim_iommu_bisects(const struct sim_iommu *iommu, uint64_t first, uint64_t last)
{
    const struct mapping *low = find(iommu, first, first);
    const struct mapping *high = find(iommu, last, last);

    return (low && low->t.first != first) || (high && high->t.last != last);
}

int sim_iommu_unmap(struct sim_iommu *iommu, uint64_t first, uint64_t last, uint64_t *unmapped)
{
    const struct mapping *low = find(iommu, first, first);

    *unmapped = 0;
    if (iommu->v2 && sim_iommu_bisects(iommu, first, last))
        return -EINVAL;
    /* v1: nothing is unmapped from within an entry; one whose start is in the range goes whole. */
    if (low && low->t.first < first)
        return 0;
    for (struct mapping *e; (e = find(iommu, first, last));) {
        *unmapped += e->t.last - e->t.first + 1;
        remove_entry(iommu, e);
    }
    return 0;
}

void sim_iommu_unmap_all(struct sim_iommu *iommu, uint64_t *unmapped)
{
    *unmapped = 0;
    for (struct mapping *e; (e = find(iommu, 0, UINT64_MAX));) {
        *unmapped += e->t.last - e->t.first + 1;
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

    if ((which != postorder && which != leaf) || e->t.last < walk->first || e->t.first > walk->last)
        return;
    if (!walk->invalidate) {
        walk->conflict |= e->vaddr_invalid;
        return;
    }
    e->vaddr_invalid = true;
    walk->iommu->vaddr_invalid++;
    walk->bytes += e->t.last - e->t.first + 1;
}

int sim_iommu_invalidate_vaddr(struct sim_iommu *iommu, uint64_t first, uint64_t last,
                               uint64_t *invalidated)
{
    struct walk walk = {.iommu = iommu, .first = first, .last = last};
    struct mapping *low = find(iommu, first, first);
    struct mapping *high = find(iommu, last, last);

    *invalidated = 0;
    if ((low && low->t.first < first) || (high && high->t.last > last))
        return -EINVAL;
    twalk_r(iommu->driver.domain.tree, visit_vaddr, &walk);
    if (walk.conflict)
        return -EINVAL;
    walk.invalidate = true;
    twalk_r(iommu->driver.domain.tree, visit_vaddr, &walk);
    *invalidated = walk.bytes;
    return 0;
}

int sim_iommu_update_vaddr(struct sim_iommu *iommu, uint64_t iova, uint64_t size, uint64_t vaddr)
{
    uint64_t last = iova + (size - 1);
    struct mapping *e = find(iommu, iova, last);

    if (!e)
        return -ENOENT;
    if (!e->vaddr_invalid || e->t.first != iova || e->t.last != last)
        return -EINVAL;
    pthread_rwlock_wrlock(&iommu->driver.domain.lock);
    sim_pin_move(&e->pin, vaddr);
    pthread_rwlock_unlock(&iommu->driver.domain.lock);
    e->vaddr_invalid = false;
    iommu->vaddr_invalid--;
    return 0;
}
