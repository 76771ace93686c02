/*
 * The type1 ioctls as vfio_iommu_type1 of Linux 6.1 answers them: the order of the checks decides
 * the errno when several are wrong.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_iommu.h"
#include "proto/base/arith.h"

#define PGSIZES UINT64_C(0x40201000)

enum {
    MAP_PROT = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    UNMAP_FLAGS =
        VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP | VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR,
};

int sim_type1_check_extension(const struct sim *sim, bool in_use, unsigned long extension)
{
    switch (extension) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_TYPE1_NESTING_IOMMU:
    case VFIO_UNMAP_ALL:
        return 1;
    case VFIO_UPDATE_VADDR:
        return in_use;
    case VFIO_DMA_CC_IOMMU:
        return in_use && sim->coherent;
    default:
        return 0;
    }
}

/*
 * The capability chain of IOMMU_GET_INFO. Linux up to 6.5 appends capabilities without aligning
 * them: behind the 12 bytes of DMA_AVAIL the 64-bit fields of the next one are misaligned.
 */
struct caps {
    struct vfio_iommu_type1_info_cap_migration migration;
    struct vfio_iommu_type1_info_dma_avail avail;
    struct {
        struct vfio_info_cap_header header;
        uint32_t nr_iovas, reserved;
        struct vfio_iova_range ranges[SIM_DOMAIN_APERTURES];
    } __attribute__((packed)) iova;
} __attribute__((packed));

static struct vfio_info_cap_header cap_header(uint16_t id, size_t next)
{
    size_t base = sizeof(struct vfio_iommu_type1_info);

    return (struct vfio_info_cap_header){
        .id = id,
        .version = 1,
        .next = next ? (uint32_t)(base + next) : 0,
    };
}

static void fill_caps(struct caps *caps, unsigned avail)
{
    *caps = (struct caps){
        .migration.header =
            cap_header(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, offsetof(struct caps, avail)),
        .migration.pgsize_bitmap = SIM_PAGE,
        .migration.max_dirty_bitmap_size = SIM_TYPE1_MAX_BITMAP,
        .avail.header = cap_header(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, offsetof(struct caps, iova)),
        .avail.avail = avail,
        .iova.header = cap_header(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 0),
        .iova.nr_iovas = SIM_DOMAIN_APERTURES,
    };
    memcpy(caps->iova.ranges, sim_domain_apertures, sizeof(caps->iova.ranges));
}

static int get_info(struct sim_iommu *iommu, void *arg)
{
    size_t minsz = offsetof(struct vfio_iommu_type1_info, cap_offset);
    struct vfio_iommu_type1_info info = {0};
    struct caps caps;
    int ret = sim_copy_in(&info, arg, minsz);

    if (ret)
        return ret;
    if (info.argsz < minsz)
        return -EINVAL;
    if (info.argsz >= minsz + sizeof(info.cap_offset))
        minsz += sizeof(info.cap_offset);

    fill_caps(&caps, iommu->avail);
    info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
    info.iova_pgsizes = PGSIZES;
    if (info.argsz < sizeof(info) + sizeof(caps)) {
        info.argsz = sizeof(info) + sizeof(caps);
    } else {
        info.cap_offset = sizeof(info);
        memcpy((char *)arg + sizeof(info), &caps, sizeof(caps));
    }
    return sim_copy_out(arg, &info, minsz);
}

static int map_dma(struct sim_iommu *iommu, void *arg)
{
    struct vfio_iommu_type1_dma_map map;
    int ret = sim_copy_in(&map, arg, sizeof(map));
    uint32_t prot;

    if (ret)
        return ret;
    if (map.argsz < sizeof(map) || map.flags & ~(uint32_t)(MAP_PROT | VFIO_DMA_MAP_FLAG_VADDR))
        return -EINVAL;
    /* Either rights, or the address alone. */
    if (!(map.flags & MAP_PROT) == !(map.flags & VFIO_DMA_MAP_FLAG_VADDR))
        return -EINVAL;
    if (!map.size || !is_aligned(map.size | map.iova | map.vaddr, SIM_PAGE))
        return -EINVAL;
    if (range_wraps(map.iova, map.size) || range_wraps(map.vaddr, map.size))
        return -EINVAL;
    if (map.flags & VFIO_DMA_MAP_FLAG_VADDR)
        return sim_iommu_update_vaddr(iommu, map.iova, map.size, map.vaddr);

    prot = (map.flags & VFIO_DMA_MAP_FLAG_READ ? SIM_DOMAIN_READ : 0u) |
           (map.flags & VFIO_DMA_MAP_FLAG_WRITE ? SIM_DOMAIN_WRITE : 0u);
    return sim_iommu_map(iommu, map.iova, map.size, map.vaddr, prot);
}

static int check_unmap(const struct vfio_iommu_type1_dma_unmap *unmap)
{
    if (unmap->argsz < sizeof(*unmap) || unmap->flags & ~(uint32_t)UNMAP_FLAGS)
        return -EINVAL;
    if (unmap->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP &&
        (unmap->flags != VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP ||
         unmap->argsz < sizeof(*unmap) + sizeof(struct vfio_bitmap)))
        return -EINVAL;
    if (unmap->flags & VFIO_DMA_UNMAP_FLAG_ALL)
        return unmap->iova || unmap->size ? -EINVAL : 0;
    if (!unmap->size || !is_aligned(unmap->size | unmap->iova, SIM_PAGE) ||
        range_wraps(unmap->iova, unmap->size))
        return -EINVAL;
    return 0;
}

static int unmap_dma(struct sim_iommu *iommu, void *arg)
{
    struct vfio_iommu_type1_dma_unmap unmap;
    struct vfio_bitmap bitmap;
    uint64_t last, unmapped;
    int ret = sim_copy_in(&unmap, arg, sizeof(unmap));

    if (!ret)
        ret = check_unmap(&unmap);
    if (ret)
        return ret;
    /* ALL: the size is 0, and so the last byte is that of the whole. */
    last = unmap.iova + (unmap.size - 1);
    if (unmap.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
        memcpy(&bitmap, (char *)arg + sizeof(unmap), sizeof(bitmap));
        ret = sim_type1_read_unmapped(iommu, &bitmap, unmap.iova, last);
    }
    if (ret)
        return ret;
    if (unmap.flags & VFIO_DMA_UNMAP_FLAG_VADDR)
        ret = sim_iommu_invalidate_vaddr(iommu, unmap.iova, last, &unmapped);
    else if (unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL)
        sim_iommu_unmap_all(iommu, &unmapped);
    else
        ret = sim_iommu_unmap(iommu, unmap.iova, last, &unmapped);
    if (ret)
        return ret;
    unmap.size = unmapped;
    return sim_copy_out(arg, &unmap, sizeof(unmap));
}

static int dispatch(struct sim_iommu *iommu, unsigned long request, void *arg)
{
    switch (request) {
    case VFIO_IOMMU_GET_INFO:
        return get_info(iommu, arg);
    case VFIO_IOMMU_MAP_DMA:
        return map_dma(iommu, arg);
    case VFIO_IOMMU_UNMAP_DMA:
        return unmap_dma(iommu, arg);
    case VFIO_IOMMU_DIRTY_PAGES:
        return sim_type1_dirty_pages(iommu, arg);
    default:
        return -ENOTTY;
    }
}

int sim_type1_ioctl(struct sim_driver *driver, unsigned long request, void *arg)
{
    struct sim_iommu *iommu = (struct sim_iommu *)driver;
    int ret;

    pthread_mutex_lock(&iommu->lock);
    ret = iommu->released ? -EINVAL : dispatch(iommu, request, arg);
    pthread_mutex_unlock(&iommu->lock);
    return ret;
}
