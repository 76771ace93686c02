#include "bridge/region_map.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/bar.h"
#include "bridge/config_space.h"
#include "bridge/device_internal.h"
#include "bridge/region.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

/* The larger part that is left of the area in front of and behind a hole. */
static struct region_area cut(struct region_area area, uint64_t start, uint64_t end, bool from_0)
{
    uint64_t last = area.offset + area.size;
    struct region_area before = {area.offset, MIN(start, last) - MIN(area.offset, start)};
    struct region_area behind = {MAX(end, area.offset), 0};

    if (start >= last || end <= area.offset)
        return area;
    if (behind.offset < last)
        behind.size = last - behind.offset;
    return from_0 || before.size >= behind.size ? before : behind;
}

/* The pages of the table, where the kernel does not say that they may be mapped. */
static int leave_out_msix_table(struct device *dev, uint32_t index, bool from_0,
                                struct region_area *area)
{
    uint64_t page = (uint64_t)getpagesize(), end;
    struct config_msix_table table;
    int ret;

    if (dev->regions[index].msix_mappable || index > VFIO_PCI_BAR5_REGION_INDEX ||
        !(dev->info.flags & VFIO_DEVICE_FLAGS_PCI))
        return 0;
    ret = config_space_find_msix_table(dev, &table);
    if (ret <= 0 || table.bar != index)
        return ret < 0 ? ret : 0;
    end = table.offset + table.size;
    *area = cut(*area, table.offset & ~(page - 1), (end + page - 1) & ~(page - 1), from_0);
    return 0;
}

static bool is_never_mapped(uint32_t index)
{
    return index >= VFIO_PCI_ROM_REGION_INDEX && index <= VFIO_PCI_VGA_REGION_INDEX;
}

/* A dma-buf is mapped from its start, which so has to be the BAR's. */
static int find_area(struct device *dev, uint32_t index, enum region_map_by by,
                     struct region_area *area)
{
    const struct region_info *region = region_get(dev, index);
    bool from_0 = by == REGION_MAP_DMABUF;
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (!region)
        return -EINVAL;
    *area = region->mappable;
    if (by == REGION_MAP_NONE || is_never_mapped(index) || index >= dev->info.num_regions ||
        !region->size || !area->size)
        return -EOPNOTSUPP;
    ret = leave_out_msix_table(dev, index, from_0, area);
    if (ret)
        return ret;
    return !area->size || (from_0 && area->offset) ? -EOPNOTSUPP : 0;
}

static int build_sparse_caps(struct region_info *region, const struct region_area *area)
{
    struct {
        struct vfio_region_info_cap_sparse_mmap head;
        struct vfio_region_sparse_mmap_area area;
    } sparse = {
        .head = {.header = {.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1}, .nr_areas = 1     },
        .area = {.offset = area->offset,                                           .size = area->size},
    };
    struct uapi_caps caps = region->caps;
    int ret;

    caps.bytes = caps.len ? malloc(caps.len) : NULL;
    if (caps.len && !caps.bytes)
        return -ENOMEM;
    if (caps.len)
        memcpy(caps.bytes, region->caps.bytes, caps.len);
    ret = uapi_caps_append(&caps, &sparse.head.header, sizeof(sparse));
    if (ret) {
        free(caps.bytes);
        return ret;
    }
    free(region->sparse_caps.bytes);
    region->sparse_caps = caps;
    return 0;
}

static int describe(struct region_info *region, const struct region_area *area,
                    const struct uapi_caps **out)
{
    bool whole = !area->offset && area->size == region->size;

    *out = whole ? &region->caps : &region->sparse_caps;
    return whole ? 0 : build_sparse_caps(region, area);
}

static int open_dmabuf(struct device *dev, uint32_t index, uint64_t size)
{
    struct region_info *region = &dev->regions[index];

    if (index > VFIO_PCI_BAR5_REGION_INDEX)
        return -EOPNOTSUPP;
    return region->dmabuf >= 0 ? 0 : bar_export_dmabuf(dev, index, 0, size, &region->dmabuf);
}

static int share(struct device *dev, uint32_t index, enum region_map_by by, uint64_t size,
                 struct region_mapping *out)
{
    int ret = by == REGION_MAP_DMABUF ? open_dmabuf(dev, index, size) : 0;

    if (ret)
        return ret == -ENOTTY ? -EOPNOTSUPP : ret;
    out->offset = by == REGION_MAP_DMABUF ? 0 : dev->regions[index].offset;
    ret = host_share(dev->host, by == REGION_MAP_DMABUF ? dev->regions[index].dmabuf : dev->fd);
    if (ret < 0) {
        log_peer_warning("region %u can't be given to the client to be mapped: %s", index,
                         strerror(-ret));
        return ret;
    }
    out->fd = ret;
    dev->lent |= by == REGION_MAP_DEVFD;
    return 0;
}

int region_map(struct device *dev, uint32_t index, enum region_map_by by,
               struct region_mapping *out)
{
    struct region_area area;
    int ret = find_area(dev, index, by, &area);

    *out = (struct region_mapping){.fd = -1};
    if (!ret)
        ret = describe(&dev->regions[index], &area, &out->caps);
    return ret ? ret : share(dev, index, by, area.size, out);
}

static bool try_dmabuf(struct device *dev, uint32_t index)
{
    struct region_area area;
    void *address;
    bool works;

    if (find_area(dev, index, REGION_MAP_DMABUF, &area) || open_dmabuf(dev, index, area.size))
        return false;
    works = !host_mmap(dev->host, &address, area.size, PROT_READ, MAP_SHARED,
                       dev->regions[index].dmabuf, 0);
    if (works)
        host_munmap(dev->host, address, area.size);
    host_close(dev->host, &dev->regions[index].dmabuf);
    return works;
}

bool region_can_map_dmabuf(struct device *dev)
{
    for (uint32_t i = 0; i <= VFIO_PCI_BAR5_REGION_INDEX; i++) {
        if (try_dmabuf(dev, i))
            return true;
    }
    return false;
}
