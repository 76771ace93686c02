#include "bridge/address_space.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/map_table.h"
#include "bridge/memory_file.h"
#include "bridge/tracker.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

struct entry {
    struct map_entry at;
    struct domain_mapping *mapping; /* NULL: unbacked */
    bool writable;                  /* by the device */
    struct peer_wish wish;          /* of an unbacked one, if there are peers */
};

struct address_space {
    struct domain *domain;
    struct tracker *tracker; /* NULL: off */
    struct peers *peers;     /* NULL: none */
    _Atomic size_t granted;  /* wishes; the peers change it */
    struct map_table table;
    struct address_space_stats stats;
};

static void count_entry(struct address_space *as, const struct entry *e)
{
    as->stats.maps++;
    if (e->mapping)
        as->stats.backed_bytes += e->at.size;
    else
        as->stats.unbacked++;
}

static void drop_entry(struct address_space *as, struct entry *e)
{
    as->stats.maps--;
    if (e->mapping)
        as->stats.backed_bytes -= e->at.size;
    else
        as->stats.unbacked--;
    map_table_remove(&as->table, &e->at);
    free(e);
}

int address_space_create(struct domain *domain, struct address_space **out)
{
    struct address_space *as = calloc(1, sizeof(*as));

    if (!as)
        return -ENOMEM;
    as->domain = domain_ref(domain);
    map_table_init(&as->table);
    *out = as;
    return 0;
}

static struct entry *next_entry(const struct address_space *as, uint64_t iova)
{
    return (struct entry *)map_table_next(&as->table, iova);
}

static void abandon_entry(struct address_space *as, struct entry *e)
{
    if (e->mapping)
        domain_abandon(as->domain, e->mapping);
    else
        peers_abandon_wish(as->peers, &e->wish);
}

void address_space_destroy(struct address_space *as)
{
    if (!as)
        return;
    address_space_track_off(as);
    address_space_unmap_all(as);
    /* What the kernel would not unmap goes with the domain. */
    for (struct entry *e; (e = next_entry(as, 0));) {
        abandon_entry(as, e);
        drop_entry(as, e);
    }
    domain_unref(as->domain);
    free(as);
}

void address_space_set_peers(struct address_space *as, struct peers *peers)
{
    assert(!as->table.count);
    as->peers = peers;
}

bool address_space_has_one_file(const struct address_space *as)
{
    return domain_has_one_file(as->domain);
}

enum iommu_kind address_space_kind(const struct address_space *as)
{
    return domain_kind(as->domain);
}

int address_space_open_device(struct address_space *as, const struct sysfs_device *dev, int *fd)
{
    return domain_open_device(as->domain, dev, fd);
}

const char *address_space_backend(const struct address_space *as)
{
    return domain_backend(as->domain);
}

void address_space_get_info(const struct address_space *as, struct iommu_info *info)
{
    domain_get_info(as->domain, info);
}

void address_space_get_stats(const struct address_space *as, struct address_space_stats *stats)
{
    *stats = as->stats;
    stats->peers = as->granted;
}

int address_space_eeh(struct address_space *as, struct vfio_eeh_pe_op *op)
{
    return domain_eeh(as->domain, op);
}

bool address_space_next_writable(const struct address_space *as, uint64_t iova, uint64_t *first,
                                 uint64_t *last)
{
    const struct map_entry *at = map_table_from(&as->table, iova);

    while (at) {
        const struct entry *e = (const struct entry *)at;

        *first = at->iova;
        *last = at->iova + (at->size - 1);
        if (e->mapping && e->writable)
            return true;
        at = *last == UINT64_MAX ? NULL : map_table_next(&as->table, *last + 1);
    }
    return false;
}

int address_space_track(struct address_space *as)
{
    assert(!as->tracker);
    return tracker_start(as->domain, &as->tracker);
}

int address_space_track_off(struct address_space *as)
{
    struct tracker *tracker = as->tracker;

    as->tracker = NULL;
    return tracker ? tracker_stop(tracker) : 0;
}

void address_space_read_dirty(struct address_space *as, uint64_t first, uint64_t last,
                              void (*tell)(void *arg, const struct dirty_bitmap *written),
                              void *arg)
{
    tracker_read(as->tracker, first, last, tell, arg);
}

void address_space_take_kept(struct address_space *as, uint64_t first, uint64_t last,
                             range_part *part, void *arg)
{
    tracker_take_kept(as->tracker, first, last, part, arg);
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
    struct iommu_info info;
    uint64_t page;

    domain_get_info(as->domain, &info);
    /* The kernel's answer to such a call too; an unbacked entry would promise a translation. */
    if (info.untranslated) {
        log_peer_warning("DMA_MAP: there is no IOMMU that could translate for the device");
        return -ENOTTY;
    }
    page = info.pgsizes & -info.pgsizes;
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
    if (backed && !within_ranges(&info, iova, size)) {
        log_peer_warning("DMA_MAP: 0x%" PRIx64 " bytes at 0x%" PRIx64
                         " are outside of what the IOMMU can translate",
                         size, iova);
        return -EINVAL;
    }
    if (as->table.count >= info.max_maps) {
        log_peer_warning("DMA_MAP: all %u mappings are in use", info.max_maps);
        return -ENOSPC;
    }
    return 0;
}

static bool is_written(const struct address_space *as, uint32_t prot)
{
    struct iommu_info info;

    domain_get_info(as->domain, &info);
    return prot & IOMMU_WRITE || info.pins_for_writing;
}

int address_space_map(struct address_space *as, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                      uint64_t offset)
{
    cleanup_free_ struct entry *e = NULL;
    struct memory_file file;
    int ret = check_mapping(as, iova, size, prot, fd >= 0, offset);

    if (!ret && fd >= 0)
        ret = memory_file_check(fd, offset, size, is_written(as, prot), &file);
    if (ret)
        return ret;

    e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->at.iova = iova;
    e->at.size = size;
    e->writable = prot & IOMMU_WRITE;
    ret = map_table_insert(&as->table, &e->at);
    if (ret) {
        log_peer_warning("DMA_MAP: 0x%" PRIx64 " bytes at 0x%" PRIx64 " overlap a mapping", size,
                         iova);
        return ret;
    }
    if (fd >= 0)
        ret = domain_map(as->domain, iova, size, prot, &file, &e->mapping);
    if (ret) {
        map_table_remove(&as->table, &e->at);
        return ret;
    }
    if (!e->mapping && as->peers) {
        e->wish = (struct peer_wish){
            .domain = as->domain,
            .owner = as,
            .granted = &as->granted,
            .iova = iova,
            .size = size,
            .prot = prot,
        };
        peers_add_wish(as->peers, &e->wish);
    }
    count_entry(as, steal_ptr(e));
    return 0;
}

int address_space_probe(struct address_space *as)
{
    cleanup_close_ int fd = memfd_create("vfio-userd-probe", MFD_CLOEXEC);
    struct iommu_info info;
    uint64_t page;
    int ret;

    domain_get_info(as->domain, &info);
    page = info.pgsizes & -info.pgsizes;
    if (fd < 0 || ftruncate(fd, (off_t)page) < 0)
        return -errno;
    if (!info.n_ranges)
        return 0;
    ret = address_space_map(as, info.ranges[0].first, page, IOMMU_READ, fd, 0);
    return ret ? ret : address_space_unmap(as, info.ranges[0].first, page);
}

static int unmap_entry(struct address_space *as, struct entry *e)
{
    int ret = 0;

    if (e->mapping && e->writable && as->tracker)
        ret = tracker_unmap(as->tracker, e->mapping);
    else if (e->mapping)
        ret = domain_unmap(as->domain, e->mapping);
    else if (as->peers)
        ret = peers_remove_wish(as->peers, &e->wish);
    if (!ret)
        drop_entry(as, e);
    return ret;
}

int address_space_check_unmap(struct address_space *as, uint64_t iova, uint64_t size)
{
    const struct map_entry *at = map_table_find(&as->table, iova);

    if (at && at->size == size)
        return 0;
    log_peer_warning("DMA_UNMAP: 0x%" PRIx64 " bytes at 0x%" PRIx64 " are no mapping%s", size, iova,
                     at ? " (one of another size begins there)" : "");
    return at ? -EINVAL : -ENOENT;
}

int address_space_unmap(struct address_space *as, uint64_t iova, uint64_t size)
{
    int ret = address_space_check_unmap(as, iova, size);

    return ret ? ret : unmap_entry(as, (struct entry *)map_table_find(&as->table, iova));
}

int address_space_unmap_all(struct address_space *as)
{
    struct entry *e = next_entry(as, 0);
    int first_error = 0;

    while (e) {
        uint64_t last = e->at.iova + (e->at.size - 1);
        int ret = unmap_entry(as, e);

        if (ret && !first_error)
            first_error = ret;
        e = last == UINT64_MAX ? NULL : next_entry(as, last + 1);
    }
    return first_error || !domain_is_stray(as->domain) ? first_error : -EIO;
}
