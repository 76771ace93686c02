#include "bridge/type1_dirty.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/dirty_bitmap.h"
#include "bridge/iommu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    MAX_BITMAP = 1 << 28, /* bytes: the kernel's */
};

int type1_dirty_track(struct host *host, int container, bool on)
{
    struct vfio_iommu_type1_dirty_bitmap args = {
        .argsz = sizeof(args),
        .flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
    };
    int ret = host_ioctl(host, container, VFIO_IOMMU_DIRTY_PAGES, &args);

    return ret < 0 ? ret : 0;
}

/* One of the kernel's mappings. It writes whole words, and none where nothing is mapped. */
static int read_map(struct host *host, int container, const struct dirty_bitmap *into)
{
    struct {
        struct vfio_iommu_type1_dirty_bitmap head;
        struct vfio_iommu_type1_dirty_bitmap_get get;
    } args = {
        .head = {.argsz = sizeof(args), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP},
        .get =
            {
                 .iova = into->first,
                 .size = into->last - into->first + 1,
                 .bitmap =
                    {
                        .pgsize = into->page_size,
                        .size = dirty_bitmap_size(into->first, into->last, into->page_size),
                        .data = (void *)into->words,
                    }, },
    };
    int ret;

    memset(into->words, 0, args.get.bitmap.size);
    ret = host_ioctl(host, container, VFIO_IOMMU_DIRTY_PAGES, &args);
    return ret < 0 ? ret : 0;
}

int type1_dirty_read(struct host *host, int container, uint64_t page_size,
                     const struct iommu_range *mapping, const struct iommu_range *part,
                     const struct iommu_dirty *dirty)
{
    uint64_t at = part->first - (part->first - mapping->first) % IOMMU_MAP_CHUNK;

    for (;;) {
        uint64_t end = at + MIN(mapping->last - at, (uint64_t)IOMMU_MAP_CHUNK - 1);
        struct dirty_bitmap got = {at, end, page_size, dirty->words};
        int ret = read_map(host, container, &got);

        if (ret)
            return ret;
        dirty->tell(dirty->arg, &got);
        if (end >= part->last)
            return 0;
        at = end + 1;
    }
}

int type1_dirty_unmap(struct host *host, int container, uint64_t page_size, uint64_t iova,
                      uint64_t size, const struct iommu_dirty *dirty)
{
    struct {
        struct vfio_iommu_type1_dma_unmap unmap;
        struct vfio_bitmap bitmap;
    } args = {
        .unmap =
            {
                    .argsz = sizeof(args),
                    .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
                    .iova = iova,
                    .size = size,
                    },
        .bitmap =
            {
                    .pgsize = page_size,
                    .size = dirty_bitmap_size(iova,                                                                  iova + (size - 1), page_size),
                    },
    };
    cleanup_free_ uint64_t *words = NULL;
    int ret;

    if (args.bitmap.size > MAX_BITMAP)
        return -E2BIG;
    words = calloc(1, args.bitmap.size);
    if (!words)
        return -ENOMEM;
    args.bitmap.data = (void *)words;
    ret = host_ioctl(host, container, VFIO_IOMMU_UNMAP_DMA, &args);
    if (ret < 0)
        return ret;
    if (args.unmap.size != size)
        return -EIO;
    dirty->tell(dirty->arg,
                &(const struct dirty_bitmap){iova, iova + (size - 1), page_size, words});
    return 0;
}
