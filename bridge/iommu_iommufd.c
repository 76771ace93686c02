/*
 * iommufd and VFIO's device files (<linux/iommufd.h>, <linux/vfio.h> "Character device").
 *
 * The kernel's order: open /dev/iommu (a context), allocate an IOAS in it, open the device's file,
 * bind it to the context (no ioctl of the device works before), attach it to the IOAS. Closing the
 * device's file detaches and unbinds; the IOAS stays, and with it its mappings, which are pinned
 * only while something is attached.
 *
 * Where the IOMMU has dirty bits, the device is attached to a page table made with them
 * (iommufd_hwpt.h) instead of the IOAS itself. That one pins for as long as the IOAS is there.
 *
 * IOAS_MAP_FILE takes the client's file itself. Nothing of the client is then mapped into this
 * process. Kernels before 6.13 lack it; there IOAS_MAP pins by virtual address, as type1
 * does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/iommufd_hwpt.h"
#include "bridge/iommufd_memory.h"
#include "bridge/uapi_compat.h"
#include "bridge/vf_token.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

enum {
    MIN_PAGE = 4096, /* that what is written is told in */
    CDEV_PATH_SIZE = sizeof("/dev/vfio/devices/") + sizeof(((struct sysfs_device *)0)->cdev),
};

struct iommufd {
    struct iommu iommu;
    struct iommufd_context *context;
    struct iommufd_memory *memory; /* the context's */
    uint32_t ioas;
    uint32_t hwpt; /* with dirty bits; 0: none */
    bool hwpt_tried;
    uint32_t dev_id; /* of the device that was bound last */
};

/* The cookie of a mapping: its pieces. */
struct iommufd_mapping {
    struct iommufd_places places;
};

static struct iommufd *to_iommufd(struct iommu *iommu)
{
    return (struct iommufd *)iommu;
}

static void cdev_path(const struct sysfs_device *dev, char path[CDEV_PATH_SIZE])
{
    snprintf(path, CDEV_PATH_SIZE, "/dev/vfio/devices/%s", dev->cdev);
}

static int open_cdev(struct host *host, const struct sysfs_device *dev)
{
    char path[CDEV_PATH_SIZE];
    int fd;

    if (!dev->cdev[0]) {
        log_error("%s has no file below /dev/vfio/devices: the kernel has VFIO without device "
                  "files; --iommu type1 does without",
                  dev->name);
        return -ENOENT;
    }
    cdev_path(dev, path);
    fd = host_open(host, path, O_RDWR);
    if (fd == -EACCES || fd == -EPERM)
        log_error("no permission to open %s for %s: run vfio-userd as root, or make its user the "
                  "file's owner (chown USER %s)",
                  path, dev->name, path);
    else if (fd < 0)
        log_error("can't open %s for %s: %s", path, dev->name, strerror(-fd));
    return fd;
}

static int explain_bind_error(const struct sysfs_device *dev, int ret)
{
    switch (ret) {
    case -EBUSY:
        log_error("%s is busy: its group's file /dev/vfio/%d is open", dev->name, dev->group);
        break;
    case -EACCES:
        vf_token_explain(dev, ret, "");
        break;
    case -EINVAL:
        if (vf_token_explain(dev, ret,
                             "the kernel's device files take none yet (--iommu type1 does), or "
                             "another process or export has it"))
            break;
        log_error("%s is busy: /dev/vfio/devices/%s is in use by another process or export",
                  dev->name, dev->cdev);
        break;
    case -EPERM:
        log_error("the kernel refuses %s: a device of its IOMMU group %d belongs to another "
                  "program or driver, or the IOMMU has no interrupt remapping",
                  dev->name, dev->group);
        break;
    default:
        log_error("BIND_IOMMUFD of %s: %s", dev->name, strerror(-ret));
    }
    return ret;
}

/* The token's field only if there is one: what is behind MIN_SIZE older kernels do not know. */
static int bind_device(struct iommufd *f, const struct sysfs_device *dev, int fd)
{
    uint8_t token[VF_TOKEN_BYTES];
    struct uapi_vfio_bind_iommufd bind = {
        .argsz = UAPI_VFIO_BIND_MIN_SIZE,
        .iommufd = iommufd_context_fd(f->context),
    };
    int ret;

    if (dev->vf_token[0]) {
        vf_token_bytes(dev->vf_token, token);
        bind.argsz = sizeof(bind);
        bind.flags = UAPI_VFIO_BIND_TOKEN;
        bind.token_uuid_ptr = (uintptr_t)token;
    }
    ret = host_ioctl(f->iommu.host, fd, UAPI_VFIO_DEVICE_BIND_IOMMUFD, &bind);
    if (ret < 0)
        return explain_bind_error(dev, ret);
    f->dev_id = bind.out_devid;
    return 0;
}

/* Ids begin at 1. */
static uint32_t page_table(struct iommufd *f)
{
    if (!f->hwpt_tried && iommufd_hwpt_create(f->context, f->dev_id, f->ioas, &f->hwpt))
        f->iommu.info.dirty_source = "the IOMMU's dirty bits (HWPT)";
    f->hwpt_tried = true;
    return f->hwpt ? f->hwpt : f->ioas;
}

static int bind_and_attach(struct iommufd *f, const struct sysfs_device *dev, int fd)
{
    struct uapi_vfio_attach_pt attach = {.argsz = sizeof(attach)};
    int ret = bind_device(f, dev, fd);

    if (ret)
        return ret;
    attach.pt_id = page_table(f);
    ret = host_ioctl(f->iommu.host, fd, UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
    if (ret < 0)
        log_error("ATTACH_IOMMUFD_PT of %s: %s", dev->name, strerror(-ret));
    return ret;
}

/* Asked anew with each device: the ranges are what all of them can reach. */
static int read_info(struct iommufd *f)
{
    struct iommu_info *info = &f->iommu.info;
    struct uapi_iova_range ranges[IOMMU_MAX_RANGES];
    struct uapi_ioas_iova_ranges get = {
        .size = sizeof(get),
        .ioas_id = f->ioas,
        .num_iovas = IOMMU_MAX_RANGES,
        .allowed_iovas = (uintptr_t)ranges,
    };
    int ret = host_ioctl(f->iommu.host, iommufd_context_fd(f->context), UAPI_IOMMU_IOAS_IOVA_RANGES,
                         &get);

    /* With more ranges than room the kernel fills the room; what is beyond is not used. */
    if (ret < 0 && ret != -EMSGSIZE) {
        log_error("IOAS_IOVA_RANGES: %s", strerror(-ret));
        return ret;
    }
    if (!is_pow2(get.out_iova_alignment)) {
        log_error("IOAS_IOVA_RANGES: an alignment of 0x%" PRIx64, get.out_iova_alignment);
        return -EPROTO;
    }
    /* The alignment is all that it tells; any larger size that is a multiple will do. */
    info->pgsizes = -get.out_iova_alignment;
    info->max_maps = IOMMU_NO_MAP_LIMIT;
    info->n_ranges = MIN(get.num_iovas, (uint32_t)IOMMU_MAX_RANGES);
    for (unsigned i = 0; i < info->n_ranges; i++)
        info->ranges[i] = (struct iommu_range){ranges[i].start, ranges[i].last};
    /* There is no way to ask, so the safe answer. */
    info->coherent = false;
    return 0;
}

static int iommufd_open_device(struct iommu *iommu, const struct sysfs_device *dev, int *fd)
{
    struct iommufd *f = to_iommufd(iommu);
    int device = open_cdev(iommu->host, dev);
    int ret;

    if (device < 0)
        return device;
    ret = bind_and_attach(f, dev, device);
    if (ret >= 0)
        ret = read_info(f);
    if (ret < 0) {
        host_close(iommu->host, &device);
        return ret;
    }
    *fd = device;
    return 0;
}

static struct iommufd_range range_of(const struct iommufd *f, uint64_t iova, uint64_t size,
                                     uint32_t prot)
{
    return (struct iommufd_range){.ioas = f->ioas, .prot = prot, .iova = iova, .size = size};
}

static void free_mapping(struct iommufd_mapping *mapping)
{
    struct iommufd_place *place;

    while ((place = SLIST_FIRST(&mapping->places))) {
        SLIST_REMOVE_HEAD(&mapping->places, next);
        free(place);
    }
    free(mapping);
}

/* Its beginning is mapped, to be undone since the rest failed. */
static void undo_map(struct iommufd *f, uint64_t iova, uint64_t size,
                     struct iommufd_mapping *mapping)
{
    struct iommufd_range done = range_of(f, iova, size, 0);

    if (size && iommufd_memory_unmap(f->memory, &done, &mapping->places)) {
        iommufd_memory_abandon(f->memory, &mapping->places);
        f->iommu.stray = true;
    }
    free_mapping(mapping);
}

/* Maps the next piece. Returns its size, or -errno. */
static int64_t map_piece(struct iommufd *f, struct iommufd_mapping *mapping,
                         const struct iommufd_range *range, int fd, uint64_t offset)
{
    struct iommufd_place *place = malloc(sizeof(*place));
    int ret = place ? iommufd_memory_map(f->memory, place, range, f->dev_id, fd, offset) : -ENOMEM;

    if (ret) {
        free(place);
        return ret;
    }
    SLIST_INSERT_HEAD(&mapping->places, place, next);
    return (int64_t)place->size;
}

static int iommufd_map(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot, int fd,
                       uint64_t offset, void **cookie)
{
    struct iommufd *f = to_iommufd(iommu);
    struct iommufd_mapping *mapping = calloc(1, sizeof(*mapping));
    int64_t piece;

    if (!mapping)
        return -ENOMEM;
    for (uint64_t done = 0; done < size; done += (uint64_t)piece) {
        struct iommufd_range rest = range_of(f, iova + done, size - done, prot);

        piece = map_piece(f, mapping, &rest, fd, offset + done);
        if (piece < 0) {
            undo_map(f, iova, done, mapping);
            iommu_explain_map_error(iova, size, (int)piece);
            return (int)piece;
        }
    }
    *cookie = mapping;
    return 0;
}

/* Nothing is pinned, so it is done at once, and is no piece of memory to share. */
static int iommufd_map_peer(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot,
                            const struct iommu_peer *peer, uint64_t offset, void **cookie)
{
    struct iommufd *f = to_iommufd(iommu);
    struct iommufd_range range = range_of(f, iova, size, prot);
    cleanup_free_ struct iommufd_mapping *mapping = calloc(1, sizeof(*mapping));
    int ret;

    if (!mapping)
        return -ENOMEM;
    if (peer->dmabuf < 0)
        return -EOPNOTSUPP;
    ret = iommufd_context_map_file(f->context, &range, NULL, peer->dmabuf, offset);
    if (ret == -ENOTTY || ret == -EOPNOTSUPP)
        return -EOPNOTSUPP;
    if (ret)
        iommu_explain_map_error(iova, size, ret);
    else
        *cookie = steal_ptr(mapping);
    return ret;
}

static void iommufd_abandon(struct iommu *iommu, uint64_t size, void *cookie)
{
    struct iommufd_mapping *mapping = cookie;

    (void)size;
    iommufd_memory_abandon(to_iommufd(iommu)->memory, &mapping->places);
    free_mapping(mapping);
}

static int iommufd_unmap(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie)
{
    struct iommufd *f = to_iommufd(iommu);
    struct iommufd_mapping *mapping = cookie;
    struct iommufd_range range = range_of(f, iova, size, 0);
    int ret = iommufd_memory_unmap(f->memory, &range, &mapping->places);

    if (ret)
        log_peer_warning("IOAS_UNMAP of 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s", size, iova,
                         strerror(-ret));
    else
        free_mapping(mapping);
    return ret;
}

static int iommufd_track(struct iommu *iommu, bool on)
{
    struct iommufd *f = to_iommufd(iommu);

    return iommufd_hwpt_track(f->context, f->hwpt, on);
}

static int iommufd_read_dirty(struct iommu *iommu, const struct iommu_range *mapping,
                              const struct iommu_range *part, bool keep,
                              const struct iommu_dirty *dirty)
{
    const struct iommufd *f = to_iommufd(iommu);
    const uint64_t page_size = iommu->info.pgsizes & -iommu->info.pgsizes;

    return iommufd_hwpt_read(f->context, f->hwpt, MAX(page_size, (uint64_t)MIN_PAGE), mapping, part,
                             keep, dirty);
}

static void iommufd_destroy(struct iommu *iommu)
{
    struct iommufd *f = to_iommufd(iommu);

    if (f->hwpt)
        iommufd_context_free_object(f->context, f->hwpt);
    iommufd_context_free_object(f->context, f->ioas);
    free(f);
}

static const struct iommu_ops iommufd_ops = {
    .name = "iommufd",
    .has_one_file = true,
    .open_device = iommufd_open_device,
    .map = iommufd_map,
    .map_peer = iommufd_map_peer,
    .unmap = iommufd_unmap,
    .track = iommufd_track,
    .read_dirty = iommufd_read_dirty,
    .abandon = iommufd_abandon,
    .destroy = iommufd_destroy,
};

static bool can_open(struct host *host, const char *path)
{
    int fd = host_open(host, path, O_RDWR);
    bool opened = fd >= 0;

    host_close(host, &fd);
    return opened;
}

enum iommu_kind iommu_best_kind(struct host *host, const struct sysfs_device *dev)
{
    char path[CDEV_PATH_SIZE];

    if (!dev->cdev[0])
        return iommu_container_kind(host);
    cdev_path(dev, path);
    return can_open(host, "/dev/iommu") && can_open(host, path) ? IOMMU_IOMMUFD
                                                                : iommu_container_kind(host);
}

int iommu_iommufd_create(struct iommufd_context *context, struct iommu **out)
{
    cleanup_free_ struct iommufd *f = calloc(1, sizeof(*f));
    int ret;

    if (!f)
        return -ENOMEM;
    f->iommu.ops = &iommufd_ops;
    f->iommu.host = iommufd_context_host(context);
    f->context = context;
    f->memory = iommufd_context_memory(context);
    ret = iommufd_context_alloc_ioas(context, &f->ioas);
    if (ret) {
        log_error("IOAS_ALLOC: %s", strerror(-ret));
        return ret;
    }
    *out = &steal_ptr(f)->iommu;
    return 0;
}
