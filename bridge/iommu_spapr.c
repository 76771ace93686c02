/*
 * VFIO's container and groups with the SPAPR TCE IOMMU of POWER machines (<linux/vfio.h>,
 * "Additional API for SPAPR TCE (Server POWERPC) IOMMU").
 *
 * A device's addresses are translated inside of *windows* alone, whose tables have an entry (TCE)
 * for each page. There are two kinds of container, of which a machine has one. v1 has the window
 * below 4 GiB that the platform has made at boot, and ENABLE counts all of it as locked memory. v2
 * maps memory that was registered before, which pins and counts it, and can make windows.
 *
 * Windows (v2, if the platform has dynamic ones). The clients' memory must fit into them without
 * being known beforehand, and they must not be larger than need be, since their tables, 16 bytes a
 * page, count as locked memory. So each is as large as the host's memory and 4 GiB (guests have
 * holes down there), rounded up to a power of two. The kernel chooses where a window begins: in the
 * place of the default one, at 0, which is removed for it because most guests' memory is there; and
 * a second one, on bare metal at 2^59, where guests that are POWER machines themselves have theirs.
 * In the first, the addresses between the default window's end and 4 GiB are the bus's own, for the
 * registers of its devices; they are not offered. Without dynamic windows there is the default one.
 *
 * Registrations are the process's, not the container's: whatever container maps an address later
 * would get the pages that were registered for it first. Therefore addresses that could not be
 * unregistered stay mapped in this process, so that nothing else gets them, until the container is
 * gone and its registrations with it.
 *
 * The kernel pins registered memory for writing, also if the device is to read it only.
 *
 * A window's pages are at most as large as the processor's: the kernel takes larger ones for huge
 * pages alone. MAP_DMA and UNMAP_DMA return 1, not -EINVAL, for addresses that they don't like.
 *
 * EEH operations are for all groups of a container at once. So that a client recovers its own
 * device and no other, a container takes one group, which is one PE (partitionable endpoint).
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/container.h"
#include "bridge/iommu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

#define FOUR_GIB (UINT64_C(1) << 32)

enum {
    /* Entries of one level of a table, as a power of two: 2 MiB, which the kernel can find. */
    LEVEL_SHIFT = 18,
};

struct mapping {
    struct mapping *next; /* of the kept ones */
    void *address;
    uint64_t size;
    uint32_t prot;
    uint64_t registered; /* bytes, from the first one on */
};

struct spapr {
    struct iommu iommu;
    struct container container;
    int group; /* in it; -1: none */
    bool v2;
    struct iommu_range dma32; /* the default window */
    struct mapping *kept;     /* addresses that only the container's end sets free */
};

/* The kernel offers both kinds, and only with a group inside says which one the machine has. */
static const struct container_model spapr_v1 = {
    .id = VFIO_SPAPR_TCE_IOMMU,
    .refused = "it can be used by neither kind of SPAPR TCE container",
};

static const struct container_model spapr_v2 = {
    .id = VFIO_SPAPR_TCE_v2_IOMMU,
    .missing = "the kernel's VFIO has no SPAPR TCE IOMMU: this is not a POWER machine, or "
               "'modprobe vfio_iommu_spapr_tce' loads it",
    .instead = &spapr_v1,
};

static struct spapr *to_spapr(struct iommu *iommu)
{
    return (struct spapr *)iommu;
}

static int container_call(const struct spapr *s, unsigned long request, void *arg)
{
    int ret = host_ioctl(s->iommu.host, s->container.fd, request, arg);

    return ret > 0 ? -EINVAL : ret;
}

static uint64_t host_page(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned log2_of(uint64_t value)
{
    return 63 - (unsigned)__builtin_clzll(value);
}

static void add_range(struct iommu_info *info, uint64_t first, uint64_t last)
{
    unsigned at = info->n_ranges++;

    for (; at && info->ranges[at - 1].first > first; at--)
        info->ranges[at] = info->ranges[at - 1];
    info->ranges[at] = (struct iommu_range){first, last};
}

static void add_window(struct spapr *s, uint64_t start, uint64_t size)
{
    uint64_t last = start + (size - 1), bus = s->dma32.last + 1;

    if (start >= FOUR_GIB || last < bus || bus >= FOUR_GIB) {
        add_range(&s->iommu.info, start, last);
        return;
    }
    if (start < bus)
        add_range(&s->iommu.info, start, bus - 1);
    if (last >= FOUR_GIB)
        add_range(&s->iommu.info, FOUR_GIB, last);
}

static int create_window(struct spapr *s, const struct vfio_iommu_spapr_tce_ddw_info *ddw,
                         uint64_t size)
{
    unsigned shift = log2_of(ddw->pgsizes & (2 * host_page() - 1));
    unsigned levels = (log2_of(size) - shift + LEVEL_SHIFT - 1) / LEVEL_SHIFT;
    struct vfio_iommu_spapr_tce_create create = {
        .argsz = sizeof(create),
        .page_shift = shift,
        .window_size = size,
        .levels = MIN(levels, ddw->levels),
    };
    int ret = container_call(s, VFIO_IOMMU_SPAPR_TCE_CREATE, &create);

    if (ret) {
        log_warning("can't make a DMA window of 0x%" PRIx64 " bytes: %s%s", size, strerror(-ret),
                    ret == -ENOMEM ? " (its table counts as locked memory: is RLIMIT_MEMLOCK too "
                                     "small?)"
                                   : "");
        return ret;
    }
    if (range_wraps(create.start_addr, size)) {
        log_error("the kernel has made a DMA window at 0x%" PRIx64, (uint64_t)create.start_addr);
        return -EPROTO;
    }
    add_window(s, create.start_addr, size);
    return 0;
}

/* A power of two in which the memory of any client has room. */
static uint64_t large_size(void)
{
    uint64_t bytes = FOUR_GIB + (uint64_t)sysconf(_SC_PHYS_PAGES) * host_page();

    return UINT64_C(1) << (log2_of(bytes - 1) + 1);
}

static int make_windows(struct spapr *s, const struct vfio_iommu_spapr_tce_ddw_info *ddw)
{
    uint64_t default_size = s->dma32.last - s->dma32.first + 1;
    struct vfio_iommu_spapr_tce_remove remove = {
        .argsz = sizeof(remove),
        .start_addr = s->dma32.first,
    };
    int ret = container_call(s, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove);

    if (ret) {
        log_info("the platform keeps its DMA window of 0x%" PRIx64 " bytes: %s", default_size,
                 strerror(-ret));
        add_window(s, s->dma32.first, default_size);
    } else {
        ret = create_window(s, ddw, large_size());
        if (ret)
            ret = create_window(s, ddw, default_size);
        if (ret)
            return ret;
    }
    /* Clients have less to choose from without it, no more. */
    if (ddw->max_dynamic_windows_supported > 1)
        create_window(s, ddw, large_size());
    return 0;
}

static int enable(struct spapr *s)
{
    int ret = container_call(s, VFIO_IOMMU_ENABLE, NULL);

    if (ret)
        log_error("ENABLE of the DMA window: %s%s", strerror(-ret),
                  ret == -ENOMEM ? " (all of it counts as locked memory: raise RLIMIT_MEMLOCK, or "
                                   "give vfio-userd CAP_IPC_LOCK)"
                                 : "");
    return ret;
}

static int read_info(struct spapr *s)
{
    struct vfio_iommu_spapr_tce_info in = {.argsz = sizeof(in)};
    int ret = container_call(s, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &in);

    if (ret) {
        log_error("SPAPR_TCE_GET_INFO: %s", strerror(-ret));
        return ret;
    }
    if (!in.dma32_window_size) {
        log_error("the platform has no DMA window for the device");
        return -ENODEV;
    }
    s->dma32.first = in.dma32_window_start;
    s->dma32.last = s->dma32.first + (in.dma32_window_size - 1);
    s->iommu.info = (struct iommu_info){
        .pgsizes = -host_page(),
        .max_maps = IOMMU_NO_MAP_LIMIT,
        .pins_for_writing = s->v2,
        .eeh =
            host_ioctl(s->iommu.host, s->container.fd, VFIO_CHECK_EXTENSION, (void *)VFIO_EEH) == 1,
    };
    if (in.flags & VFIO_IOMMU_SPAPR_INFO_DDW && in.ddw.pgsizes & (2 * host_page() - 1))
        return make_windows(s, &in.ddw);
    add_window(s, s->dma32.first, in.dma32_window_size);
    return 0;
}

static int join_group(struct spapr *s, const struct sysfs_device *dev)
{
    bool joined;
    int ret;

    if (s->group >= 0) {
        log_error("%s is of another IOMMU group than the container's device: a container of this "
                  "machine takes one",
                  dev->name);
        return -EBUSY;
    }
    ret = container_join(&s->container, dev, &joined);
    if (ret)
        return ret;
    s->v2 = s->container.model == &spapr_v2;
    ret = read_info(s);
    if (!ret && !s->v2)
        ret = enable(s);
    if (ret)
        container_leave(&s->container);
    else
        s->group = dev->group;
    return ret;
}

static int spapr_open_device(struct iommu *iommu, const struct sysfs_device *dev, int *fd)
{
    struct spapr *s = to_spapr(iommu);
    int ret = s->group == dev->group ? 0 : join_group(s, dev);

    return ret ? ret : container_open_device(&s->container, dev, fd);
}

static int memory_call(const struct spapr *s, unsigned long request, const struct mapping *m,
                       uint64_t offset, uint64_t size)
{
    struct vfio_iommu_spapr_register_memory memory = {
        .argsz = sizeof(memory),
        .vaddr = (uintptr_t)m->address + offset,
        .size = size,
    };

    return container_call(s, request, &memory);
}

/* From the last chunk on, so that what is left is told by its size. */
static int unregister(struct spapr *s, struct mapping *m)
{
    while (m->registered) {
        uint64_t first = (m->registered - 1) / IOMMU_MAP_CHUNK * IOMMU_MAP_CHUNK;
        int ret =
            memory_call(s, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, m, first, m->registered - first);

        if (ret)
            return ret;
        m->registered = first;
    }
    return 0;
}

static int unmap_range(struct spapr *s, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .iova = iova,
        .size = size,
    };

    return container_call(s, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static int map_chunk(struct spapr *s, struct mapping *m, uint64_t iova, uint64_t done)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = (m->prot & IOMMU_READ ? VFIO_DMA_MAP_FLAG_READ : 0u) |
                 (m->prot & IOMMU_WRITE ? VFIO_DMA_MAP_FLAG_WRITE : 0u),
        .vaddr = (uintptr_t)m->address + done,
        .iova = iova + done,
        .size = MIN(m->size - done, (uint64_t)IOMMU_MAP_CHUNK),
    };
    int ret = 0;

    if (s->v2 && done >= m->registered) {
        ret = memory_call(s, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, m, done, map.size);
        if (ret)
            return ret;
        m->registered += map.size;
    }
    return container_call(s, VFIO_IOMMU_MAP_DMA, &map);
}

/* *mapped: how much, also after an error. */
static int map_chunks(struct spapr *s, struct mapping *m, uint64_t iova, uint64_t *mapped)
{
    for (*mapped = 0; *mapped < m->size; *mapped += IOMMU_MAP_CHUNK) {
        int ret = map_chunk(s, m, iova, *mapped);

        if (ret)
            return ret;
    }
    return 0;
}

/* Undoes map_chunks(). True: no translation is left. */
static bool take_back(struct spapr *s, struct mapping *m, uint64_t iova, uint64_t mapped)
{
    bool gone = !mapped || !unmap_range(s, iova, mapped);

    s->iommu.stray |= !gone || unregister(s, m);
    return gone;
}

static void free_mapping(struct spapr *s, struct mapping *m)
{
    host_munmap(s->iommu.host, m->address, m->size);
    free(m);
}

static void keep(struct spapr *s, struct mapping *m)
{
    m->next = s->kept;
    s->kept = m;
}

static void release_mapping(struct spapr *s, struct mapping *m)
{
    if (m->registered)
        keep(s, m);
    else
        free_mapping(s, m);
}

static int spapr_map(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                     uint64_t offset, void **cookie)
{
    struct spapr *s = to_spapr(iommu);
    cleanup_free_ struct mapping *m = calloc(1, sizeof(*m));
    uint64_t mapped;
    int ret;

    if (!m)
        return -ENOMEM;
    m->size = size;
    m->prot = prot;
    ret = iommu_mmap_client_file(iommu->host, &m->address, size, prot | (s->v2 ? IOMMU_WRITE : 0),
                                 fd, offset);
    if (ret)
        return ret;
    ret = map_chunks(s, m, iova, &mapped);
    if (!ret) {
        *cookie = steal_ptr(m);
        return 0;
    }
    iommu_explain_map_error(iova, size, ret);
    take_back(s, m, iova, mapped);
    release_mapping(s, steal_ptr(m));
    return ret;
}

/* The kernel pins memory alone. */
static int spapr_map_peer(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot,
                          const struct iommu_peer *peer, uint64_t offset, void **cookie)
{
    (void)iommu;
    (void)iova;
    (void)size;
    (void)prot;
    (void)peer;
    (void)offset;
    (void)cookie;
    return -EOPNOTSUPP;
}

/*
 * Of a mapping without translations. If it can't be unregistered it is made again, since after an
 * error it must be as it was: others may come to share it. If not even that can be done, at least
 * the device does not reach the memory any more.
 */
static int give_back(struct spapr *s, struct mapping *m, uint64_t iova)
{
    int ret = unregister(s, m);
    uint64_t mapped;

    if (!ret || !map_chunks(s, m, iova, &mapped))
        return ret;
    return take_back(s, m, iova, mapped) ? 0 : ret;
}

static int spapr_unmap(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie)
{
    struct spapr *s = to_spapr(iommu);
    int ret = unmap_range(s, iova, size);

    if (!ret)
        ret = give_back(s, cookie, iova);
    if (ret) {
        log_peer_warning("UNMAP_DMA of 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s", size, iova,
                         strerror(-ret));
        return ret;
    }
    release_mapping(s, cookie);
    return 0;
}

static void spapr_abandon(struct iommu *iommu, uint64_t size, void *cookie)
{
    (void)size;
    keep(to_spapr(iommu), cookie);
}

static int spapr_eeh(struct iommu *iommu, struct vfio_eeh_pe_op *op)
{
    return host_ioctl(iommu->host, to_spapr(iommu)->container.fd, VFIO_EEH_PE_OP, op);
}

static void spapr_destroy(struct iommu *iommu)
{
    struct spapr *s = to_spapr(iommu);

    container_close(&s->container);
    while (s->kept) {
        struct mapping *m = s->kept;

        s->kept = m->next;
        free_mapping(s, m);
    }
    free(s);
}

static int spapr_vacate(struct iommu *iommu, int number)
{
    return container_vacate(&to_spapr(iommu)->container, number);
}

static int spapr_group_file(struct iommu *iommu, int number)
{
    return container_group_file(&to_spapr(iommu)->container, number);
}

static const struct iommu_ops spapr_ops = {
    .name = "spapr",
    .open_device = spapr_open_device,
    .map = spapr_map,
    .map_peer = spapr_map_peer,
    .unmap = spapr_unmap,
    .abandon = spapr_abandon,
    .eeh = spapr_eeh,
    .vacate = spapr_vacate,
    .group_file = spapr_group_file,
    .destroy = spapr_destroy,
};

int iommu_spapr_create(struct host *host, struct iommu **out)
{
    struct spapr *s = calloc(1, sizeof(*s));
    int ret;

    if (!s)
        return -ENOMEM;
    s->iommu.ops = &spapr_ops;
    s->iommu.host = host;
    s->group = -1;
    ret = container_open(&s->container, host, &spapr_v2);
    if (ret) {
        spapr_destroy(&s->iommu);
        return ret;
    }
    *out = &s->iommu;
    return 0;
}
