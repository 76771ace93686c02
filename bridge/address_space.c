#include "bridge/address_space.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/map_table.h"
#include "bridge/memory_file.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

struct address_space {
    struct iommu *iommu;
    struct map_table table;
    struct address_space_stats stats;
};

static void count_entry(struct address_space *as, const struct map_entry *e)
{
    as->stats.maps++;
    if (e->backed)
        as->stats.backed_bytes += e->size;
    else
        as->stats.unbacked++;
}

static void drop_entry(struct address_space *as, struct map_entry *e)
{
    as->stats.maps--;
    if (e->backed)
        as->stats.backed_bytes -= e->size;
    else
        as->stats.unbacked--;
    map_table_remove(&as->table, e);
    free(e);
}

int address_space_create(struct host *host, enum iommu_kind kind, struct address_space **out)
{
    cleanup_free_ struct address_space *as = calloc(1, sizeof(*as));
    int ret;

    if (!as)
        return -ENOMEM;
    map_table_init(&as->table);
    ret = kind == IOMMU_IOMMUFD ? iommu_iommufd_create(host, &as->iommu)
                                : iommu_type1_create(host, &as->iommu);
    if (ret)
        return ret;
    *out = steal_ptr(as);
    return 0;
}

void address_space_destroy(struct address_space *as)
{
    if (!as)
        return;
    address_space_unmap_all(as);
    /* What the kernel would not unmap goes with the last group. */
    for (struct map_entry *e; (e = map_table_next(&as->table, 0));) {
        as->iommu->ops->abandon(as->iommu, e->size, e->cookie);
        drop_entry(as, e);
    }
    as->iommu->ops->destroy(as->iommu);
    free(as);
}

int address_space_open_device(struct address_space *as, const struct sysfs_device *dev, int *fd)
{
    return as->iommu->ops->open_device(as->iommu, dev, fd);
}

const char *address_space_backend(const struct address_space *as)
{
    return as->iommu->ops->name;
}

const struct iommu_info *address_space_info(const struct address_space *as)
{
    return &as->iommu->info;
}

void address_space_get_stats(const struct address_space *as, struct address_space_stats *stats)
{
    *stats = as->stats;
}

static bool within_ranges(const struct iommu_info *info, uint64_t iova, uint64_t size)
{
    uint64_t last = iova + (size - 1);

    for (unsigned i = 0; i < info->n_ranges; i++) {
        if (iova >= info->ranges[i].first && last <= info->ranges[i].last)
            return true;
    }
    return false;
}

static int check_mapping(const struct address_space *as, uint64_t iova, uint64_t size,
                         uint32_t prot, bool backed, uint64_t offset)
{
    const struct iommu_info *info = &as->iommu->info;
    uint64_t page = info->pgsizes & -info->pgsizes;

    if (!size || range_wraps(iova, size) || !prot) {
        log_peer_warning("DMA_MAP: empty, past 2^64 or without access: 0x%" PRIx64
                         " bytes at 0x%" PRIx64,
                         size, iova);
        return -EINVAL;
    }
    if (!is_aligned(iova | size | offset, page)) {
        log_peer_warning("DMA_MAP: 0x%" PRIx64 " bytes at 0x%" PRIx64 ", offset 0x%" PRIx64
                         ": not aligned to the IOMMU's page of 0x%" PRIx64,
                         size, iova, offset, page);
        return -EINVAL;
    }
    if (backed && !within_ranges(info, iova, size)) {
        log_peer_warning("DMA_MAP: 0x%" PRIx64 " bytes at 0x%" PRIx64
                         " are outside of what the IOMMU can translate",
                         size, iova);
        return -EINVAL;
    }
    if (as->table.count >= info->max_maps) {
        log_peer_warning("DMA_MAP: all %u mappings are in use", info->max_maps);
        return -ENOSPC;
    }
    return 0;
}

int address_space_map(struct address_space *as, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                      uint64_t offset)
{
    cleanup_free_ struct map_entry *e = NULL;
    int ret = check_mapping(as, iova, size, prot, fd >= 0, offset);

    if (!ret && fd >= 0)
        ret = memory_file_check(fd, offset, size, prot & IOMMU_WRITE);
    if (ret)
        return ret;

    e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->iova = iova;
    e->size = size;
    e->prot = prot;
    e->backed = fd >= 0;
    ret = map_table_insert(&as->table, e);
    if (ret) {
        log_peer_warning("DMA_MAP: 0x%" PRIx64 " bytes at 0x%" PRIx64 " overlap a mapping", size,
                         iova);
        return ret;
    }
    if (e->backed)
        ret = as->iommu->ops->map(as->iommu, iova, size, prot, fd, offset, &e->cookie);
    if (ret) {
        map_table_remove(&as->table, e);
        return ret;
    }
    count_entry(as, steal_ptr(e));
    return 0;
}

int address_space_probe(struct address_space *as)
{
    const struct iommu_info *info = &as->iommu->info;
    cleanup_close_ int fd = memfd_create("vfio-userd-probe", MFD_CLOEXEC);
    uint64_t page = info->pgsizes & -info->pgsizes;
    int ret;

    if (fd < 0 || ftruncate(fd, (off_t)page) < 0)
        return -errno;
    if (!info->n_ranges)
        return 0;
    ret = address_space_map(as, info->ranges[0].first, page, IOMMU_READ, fd, 0);
    return ret ? ret : address_space_unmap(as, info->ranges[0].first, page);
}

static int unmap_entry(struct address_space *as, struct map_entry *e)
{
    int ret = 0;

    if (e->backed)
        ret = as->iommu->ops->unmap(as->iommu, e->iova, e->size, e->cookie);
    if (!ret)
        drop_entry(as, e);
    return ret;
}

int address_space_unmap(struct address_space *as, uint64_t iova, uint64_t size)
{
    struct map_entry *e = map_table_find(&as->table, iova);

    if (!e || e->size != size) {
        log_peer_warning("DMA_UNMAP: 0x%" PRIx64 " bytes at 0x%" PRIx64 " are no mapping%s", size,
                         iova, e ? " (one of another size begins there)" : "");
        return e ? -EINVAL : -ENOENT;
    }
    return unmap_entry(as, e);
}

int address_space_unmap_all(struct address_space *as)
{
    struct map_entry *e = map_table_next(&as->table, 0);
    int first_error = 0;

    while (e) {
        uint64_t last = e->iova + (e->size - 1);
        int ret = unmap_entry(as, e);

        if (ret && !first_error)
            first_error = ret;
        e = last == UINT64_MAX ? NULL : map_table_next(&as->table, last + 1);
    }
    return first_error || !as->iommu->stray ? first_error : -EIO;
}
