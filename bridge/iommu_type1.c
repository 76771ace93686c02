/*
 * VFIO's container and groups with the type1v2 IOMMU (<linux/vfio.h>, "API for Type1 VFIO
 * IOMMU").
 *
 * type1 pins memory by virtual address, so the client's file is mapped into this process for as
 * long as the DMA mapping exists. The kernel pins at MAP_DMA but looks the address up again when
 * a mediated device pins on demand; therefore the virtual mapping stays.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/container.h"
#include "bridge/iommu.h"
#include "bridge/type1_dirty.h"
#include "bridge/uapi.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

struct type1 {
    struct iommu iommu;
    struct container container;
};

enum {
    MIN_PAGE = 4096, /* that what is written is told in */
};

static const struct container_model type1v2 = {
    .id = VFIO_TYPE1v2_IOMMU,
    .missing = "the kernel's VFIO has no type1v2 IOMMU: load it by 'modprobe vfio_iommu_type1'",
    .refused = "the IOMMU has no interrupt remapping, so a device could forge interrupts; enable "
               "it in the firmware (the kernel's override, "
               "vfio_iommu_type1.allow_unsafe_interrupts=1, gives that protection up)",
};

static struct type1 *to_type1(struct iommu *iommu)
{
    return (struct type1 *)iommu;
}

static uint64_t smallest_page(const struct iommu_info *info)
{
    return info->pgsizes & -info->pgsizes;
}

/* Copied out: before Linux 6.6 capabilities are aligned to 4 bytes only. */
static void read_ranges(struct iommu_info *info, const void *cap, size_t size)
{
    struct vfio_iommu_type1_info_cap_iova_range head;
    size_t fit;

    if (size < sizeof(head))
        return;
    memcpy(&head, cap, sizeof(head));
    fit = (size - sizeof(head)) / sizeof(struct vfio_iova_range);
    info->n_ranges = 0;
    for (size_t i = 0; i < head.nr_iovas && i < fit && i < IOMMU_MAX_RANGES; i++) {
        struct vfio_iova_range range;

        memcpy(&range, (const char *)cap + sizeof(head) + i * sizeof(range), sizeof(range));
        info->ranges[info->n_ranges++] = (struct iommu_range){range.start, range.end};
    }
}

/* It tells in the smallest page there is, and in no other. */
static void read_dirty_pages(struct iommu_info *info, const void *cap, size_t size)
{
    struct vfio_iommu_type1_info_cap_migration migration;

    if (size < sizeof(migration))
        return;
    memcpy(&migration, cap, sizeof(migration));
    if (migration.pgsize_bitmap & smallest_page(info) && smallest_page(info) >= MIN_PAGE)
        info->dirty_source = "type1 (all that is mapped, for a device that does its DMA itself)";
}

static void read_info_cap(struct iommu_info *info, const struct vfio_info_cap_header *cap,
                          size_t size)
{
    switch (cap->id) {
    case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
        read_ranges(info, cap, size);
        break;
    case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
        read_dirty_pages(info, cap, size);
        break;
    case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
        if (size >= sizeof(struct vfio_iommu_type1_info_dma_avail))
            info->max_maps = ((const struct vfio_iommu_type1_info_dma_avail *)cap)->avail;
        break;
    default:
        break;
    }
}

/* Asked anew with each group: page sizes and ranges are what all groups have in common. */
static int read_info(struct type1 *t)
{
    struct iommu_info *info = &t->iommu.info;
    struct vfio_iommu_type1_info in = {0};
    const struct vfio_iommu_type1_info *got;
    const struct vfio_info_cap_header *cap;
    cleanup_free_ void *buf = NULL;
    unsigned steps = 0;
    size_t len, size;
    int ret;

    ret = uapi_get_info(t->iommu.host, t->container.fd, VFIO_IOMMU_GET_INFO, &in, sizeof(in), &buf,
                        &len);
    if (ret) {
        log_error("IOMMU_GET_INFO: %s", strerror(-ret));
        return ret;
    }
    got = buf;
    info->pgsizes = got->flags & VFIO_IOMMU_INFO_PGSIZES ? got->iova_pgsizes : 4096;
    info->max_maps = 65535;
    info->ranges[0] = (struct iommu_range){0, UINT64_MAX};
    info->n_ranges = 1;
    info->dirty_source = NULL;
    if (got->flags & VFIO_IOMMU_INFO_CAPS) {
        for (uint32_t at = got->cap_offset; (cap = uapi_cap_at(buf, len, at, &steps, &size));
             at = cap->next)
            read_info_cap(info, cap, size);
    }
    info->coherent = host_ioctl(t->iommu.host, t->container.fd, VFIO_CHECK_EXTENSION,
                                (void *)VFIO_DMA_CC_IOMMU) == 1;
    return 0;
}

static int type1_open_device(struct iommu *iommu, const struct sysfs_device *dev, int *fd)
{
    struct type1 *t = to_type1(iommu);
    bool joined;
    int ret = container_join(&t->container, dev, &joined);

    if (!ret && joined) {
        ret = read_info(t);
        if (ret)
            container_leave(&t->container);
    }
    return ret ? ret : container_open_device(&t->container, dev, fd);
}

static int unmap_range(struct type1 *t, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .iova = iova,
        .size = size,
    };
    int ret = host_ioctl(t->iommu.host, t->container.fd, VFIO_IOMMU_UNMAP_DMA, &unmap);

    return ret >= 0 && unmap.size != size ? -EIO : ret;
}

static int map_address(struct type1 *t, uint64_t iova, uint64_t size, uint32_t prot,
                       uintptr_t address)
{
    for (uint64_t done = 0; done < size; done += IOMMU_MAP_CHUNK) {
        struct vfio_iommu_type1_dma_map map = {
            .argsz = sizeof(map),
            .flags = (prot & IOMMU_READ ? VFIO_DMA_MAP_FLAG_READ : 0u) |
                     (prot & IOMMU_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0u),
            .vaddr = address + done,
            .iova = iova + done,
            .size = MIN(size - done, (uint64_t)IOMMU_MAP_CHUNK),
        };
        int ret = host_ioctl(t->iommu.host, t->container.fd, VFIO_IOMMU_MAP_DMA, &map);

        if (ret < 0) {
            t->iommu.stray |= done && unmap_range(t, iova, done) < 0;
            return ret;
        }
    }
    return 0;
}

static int type1_map(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                     uint64_t offset, void **cookie)
{
    void *address;
    int ret = iommu_mmap_client_file(iommu->host, &address, size, prot, fd, offset);

    if (ret)
        return ret;
    ret = map_address(to_type1(iommu), iova, size, prot, (uintptr_t)address);
    if (ret) {
        host_munmap(iommu->host, address, size);
        iommu_explain_map_error(iova, size, ret);
        return ret;
    }
    *cookie = address;
    return 0;
}

static int type1_map_peer(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot,
                          const struct iommu_peer *peer, uint64_t offset, void **cookie)
{
    int ret;

    if (!peer->address)
        return -EOPNOTSUPP;
    *cookie = NULL; /* nothing of ours is mapped into the process */
    ret = map_address(to_type1(iommu), iova, size, prot, (uintptr_t)peer->address + offset);
    if (ret)
        iommu_explain_map_error(iova, size, ret);
    return ret;
}

static void type1_abandon(struct iommu *iommu, uint64_t size, void *cookie)
{
    if (cookie)
        host_munmap(iommu->host, cookie, size);
}

static int type1_unmap(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie)
{
    int ret = unmap_range(to_type1(iommu), iova, size);

    if (ret < 0) {
        log_peer_warning("UNMAP_DMA of 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s", size, iova,
                         strerror(-ret));
        return ret;
    }
    type1_abandon(iommu, size, cookie);
    return 0;
}

static int type1_track(struct iommu *iommu, bool on)
{
    return type1_dirty_track(iommu->host, to_type1(iommu)->container.fd, on);
}

/* The kernel always forgets, but for pages that a mediated device has pinned. */
static int type1_read_dirty(struct iommu *iommu, const struct iommu_range *mapping,
                            const struct iommu_range *part, bool keep,
                            const struct iommu_dirty *dirty)
{
    (void)keep;
    return type1_dirty_read(iommu->host, to_type1(iommu)->container.fd, smallest_page(&iommu->info),
                            mapping, part, dirty);
}

static int type1_unmap_dirty(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie,
                             const struct iommu_dirty *dirty)
{
    int ret = type1_dirty_unmap(iommu->host, to_type1(iommu)->container.fd,
                                smallest_page(&iommu->info), iova, size, dirty);

    if (!ret)
        type1_abandon(iommu, size, cookie);
    return ret;
}

static int type1_vacate(struct iommu *iommu, int number)
{
    return container_vacate(&to_type1(iommu)->container, number);
}

static int type1_group_file(struct iommu *iommu, int number)
{
    return container_group_file(&to_type1(iommu)->container, number);
}

static void type1_destroy(struct iommu *iommu)
{
    struct type1 *t = to_type1(iommu);

    container_close(&t->container);
    free(t);
}

static const struct iommu_ops type1_ops = {
    .name = "type1",
    .open_device = type1_open_device,
    .map = type1_map,
    .map_peer = type1_map_peer,
    .unmap = type1_unmap,
    .track = type1_track,
    .read_dirty = type1_read_dirty,
    .unmap_dirty = type1_unmap_dirty,
    .abandon = type1_abandon,
    .vacate = type1_vacate,
    .group_file = type1_group_file,
    .destroy = type1_destroy,
};

int iommu_type1_create(struct host *host, struct iommu **out)
{
    struct type1 *t = calloc(1, sizeof(*t));
    int ret;

    if (!t)
        return -ENOMEM;
    t->iommu.ops = &type1_ops;
    t->iommu.host = host;
    ret = container_open(&t->container, host, &type1v2);
    if (ret) {
        type1_destroy(&t->iommu);
        return ret;
    }
    *out = &t->iommu;
    return 0;
}
