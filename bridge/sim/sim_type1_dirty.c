/*
 * type1's VFIO_IOMMU_DIRTY_PAGES, and the bitmap of an unmap. A group whose driver does not pin by
 * itself makes all dirty that is mapped, and that is every group of vfio-pci's.
 *
 * A mapping's bits are copied to user space in whole words: what is there already of the word that
 * they begin in is kept, and what is behind them in the last one is zeroed.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <search.h>
#include <stddef.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_iommu.h"
#include "proto/base/arith.h"

enum {
    WORD_BITS = 64,
    FLAGS = VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP |
            VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
};

/* Of a range of the container. */
struct reading {
    struct sim_iommu *iommu;
    uint64_t first, last;
    uint64_t *words;
};

static void clear_words(const struct reading *r, const struct sim_translation *t)
{
    uint64_t bit = (t->first - r->first) / SIM_PAGE, end = (t->last - r->first) / SIM_PAGE;
    uint64_t *word = &r->words[bit / WORD_BITS];

    *word &= (UINT64_C(1) << bit % WORD_BITS) - 1;
    while (++word <= &r->words[end / WORD_BITS])
        *word = 0;
}

static void read_mapping(const void *node, VISIT visit, void *arg)
{
    const struct sim_translation *t = *(struct sim_translation *const *)node;
    const struct reading *r = arg;
    const struct sim_bitmap bitmap = {r->first, SIM_PAGE, (uintptr_t)r->words};

    if ((visit != postorder && visit != leaf) || t->first < r->first || t->first > r->last)
        return;
    clear_words(r, t);
    if (r->iommu->driver.sim->pinned_only)
        sim_track_read(&r->iommu->driver.domain, t->first, t->last, true, &bitmap);
    else
        sim_bitmap_set(&bitmap, t->first, t->last);
}

static int check_bitmap(const struct vfio_bitmap *bitmap, uint64_t size)
{
    uint64_t pages = bitmap->pgsize ? size / bitmap->pgsize : 0;

    if (!pages || !bitmap->size || bitmap->size > SIM_TYPE1_MAX_BITMAP ||
        bitmap->size < (pages + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t))
        return -EINVAL;
    return bitmap->data ? 0 : -EINVAL;
}

int sim_type1_read_unmapped(struct sim_iommu *iommu, const struct vfio_bitmap *bitmap,
                            uint64_t first, uint64_t last)
{
    struct reading r = {iommu, first, last, (uint64_t *)(void *)bitmap->data};
    int ret = check_bitmap(bitmap, last - first + 1);

    if (ret)
        return ret;
    if (!iommu->tracking || bitmap->pgsize != SIM_PAGE || sim_iommu_bisects(iommu, first, last))
        return -EINVAL;
    twalk_r(iommu->driver.domain.tree, read_mapping, &r);
    return 0;
}

static int get_bitmap(struct sim_iommu *iommu, const struct vfio_iommu_type1_dirty_bitmap *args)
{
    struct vfio_iommu_type1_dirty_bitmap_get get;
    struct reading r = {.iommu = iommu};
    int ret;

    if (args->argsz < sizeof(*args) + sizeof(get))
        return -EINVAL;
    memcpy(&get, args->data, sizeof(get));
    if (get.iova + get.size < get.iova)
        return -EINVAL;
    ret = check_bitmap(&get.bitmap, get.size);
    if (ret)
        return ret;
    if (get.bitmap.pgsize != SIM_PAGE || !is_aligned(get.iova | get.size, SIM_PAGE) ||
        !iommu->tracking || sim_iommu_bisects(iommu, get.iova, get.iova + (get.size - 1)))
        return -EINVAL;
    r.first = get.iova;
    r.last = get.iova + (get.size - 1);
    r.words = (uint64_t *)(void *)get.bitmap.data;
    twalk_r(iommu->driver.domain.tree, read_mapping, &r);
    return 0;
}

static int track(struct sim_iommu *iommu, bool on)
{
    if (iommu->tracking != on)
        sim_track_switch(&iommu->driver.domain.track, on);
    iommu->tracking = on;
    return 0;
}

int sim_type1_dirty_pages(struct sim_iommu *iommu, void *arg)
{
    struct vfio_iommu_type1_dirty_bitmap args;
    int ret;

    if (!iommu->v2)
        return -EACCES;
    ret = sim_copy_in(&args, arg, sizeof(args));
    if (ret)
        return ret;
    if (args.argsz < sizeof(args) || args.flags & ~(uint32_t)FLAGS)
        return -EINVAL;
    switch (args.flags) {
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
        return track(iommu, true);
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
        return track(iommu, false);
    case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
        return get_bitmap(iommu, arg);
    default:
        return -EINVAL;
    }
}
