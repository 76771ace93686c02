/* The calls that tests make of a simulated machine's iommufd, and of its devices' own files. */
#pragma once

#include "bridge/sim/sim_uapi.h"
#include "tests/unit/sim_fixture.h"

#define FD_CDEV "/dev/vfio/devices/vfio3"

enum {
    FD_RW = UAPI_IOAS_MAP_FIXED_IOVA | UAPI_IOAS_MAP_READABLE | UAPI_IOAS_MAP_WRITEABLE,
    FD_RO = UAPI_IOAS_MAP_FIXED_IOVA | UAPI_IOAS_MAP_READABLE,
};

static inline int fd_open(struct fixture *fx)
{
    int fd = fx_open(fx, "/dev/iommu");

    assert_true(fd >= 0);
    return fd;
}

static inline uint32_t fd_alloc(struct fixture *fx, int iommufd)
{
    struct uapi_ioas_alloc alloc = {.size = sizeof(alloc)};

    assert_int_equal(fx_ioctl(fx, iommufd, UAPI_IOMMU_IOAS_ALLOC, &alloc), 0);
    return alloc.out_ioas_id;
}

static inline int fd_destroy(struct fixture *fx, int iommufd, uint32_t id)
{
    struct uapi_iommu_destroy destroy = {.size = sizeof(destroy), .id = id};

    return fx_ioctl(fx, iommufd, UAPI_IOMMU_DESTROY, &destroy);
}

static inline int fd_map_flags(struct fixture *fx, int iommufd, uint32_t ioas, uint64_t iova,
                               const void *addr, uint64_t length, uint32_t flags)
{
    struct uapi_ioas_map map = {
        .size = sizeof(map),
        .flags = flags,
        .ioas_id = ioas,
        .user_va = (uintptr_t)addr,
        .length = length,
        .iova = iova,
    };

    return fx_ioctl(fx, iommufd, UAPI_IOMMU_IOAS_MAP, &map);
}

static inline int fd_map(struct fixture *fx, int iommufd, uint32_t ioas, uint64_t iova,
                         const void *addr, uint64_t length)
{
    return fd_map_flags(fx, iommufd, ioas, iova, addr, length, FD_RW);
}

static inline int fd_map_file(struct fixture *fx, int iommufd, uint32_t ioas, uint64_t iova, int fd,
                              uint64_t start, uint64_t length)
{
    struct uapi_ioas_map_file map = {
        .size = sizeof(map),
        .flags = FD_RW,
        .ioas_id = ioas,
        .fd = fd,
        .start = start,
        .length = length,
        .iova = iova,
    };

    return fx_ioctl(fx, iommufd, UAPI_IOMMU_IOAS_MAP_FILE, &map);
}

static inline int fd_copy(struct fixture *fx, int iommufd, uint32_t to, uint64_t to_iova,
                          uint32_t from, uint64_t from_iova, uint64_t length, uint32_t flags)
{
    struct uapi_ioas_copy copy = {
        .size = sizeof(copy),
        .flags = flags,
        .dst_ioas_id = to,
        .src_ioas_id = from,
        .length = length,
        .dst_iova = to_iova,
        .src_iova = from_iova,
    };

    return fx_ioctl(fx, iommufd, UAPI_IOMMU_IOAS_COPY, &copy);
}

/* The bytes that the kernel says it unmapped, or -errno. */
static inline int64_t fd_unmap(struct fixture *fx, int iommufd, uint32_t ioas, uint64_t iova,
                               uint64_t length)
{
    struct uapi_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = ioas,
        .iova = iova,
        .length = length,
    };
    int ret = fx_ioctl(fx, iommufd, UAPI_IOMMU_IOAS_UNMAP, &unmap);

    if (ret)
        assert_true(unmap.length == length);
    return ret ? ret : (int64_t)unmap.length;
}

/* *id receives the bound device's. */
static inline int fd_bind(struct fixture *fx, int device, int iommufd, uint32_t *id)
{
    struct uapi_vfio_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
    int ret = fx_ioctl(fx, device, UAPI_VFIO_DEVICE_BIND_IOMMUFD, &bind);

    if (!ret && id)
        *id = bind.out_devid;
    return ret;
}

/* *id: what to attach to; receives the HWPT's. */
static inline int fd_attach(struct fixture *fx, int device, uint32_t *id)
{
    struct uapi_vfio_attach_pt attach = {.argsz = sizeof(attach), .pt_id = *id};
    int ret = fx_ioctl(fx, device, UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

    *id = attach.pt_id;
    return ret;
}

static inline int fd_attach_to(struct fixture *fx, int device, uint32_t id)
{
    return fd_attach(fx, device, &id);
}

static inline int fd_detach(struct fixture *fx, int device)
{
    struct sim_uapi_detach_pt detach = {.argsz = sizeof(detach)};

    return fx_ioctl(fx, device, SIM_UAPI_DETACH_IOMMUFD_PT, &detach);
}

/* The HWPT's id in *out. */
static inline int fd_hwpt(struct fixture *fx, int iommufd, uint32_t device, uint32_t pt,
                          uint32_t *out)
{
    struct uapi_hwpt_alloc alloc = {.size = sizeof(alloc), .dev_id = device, .pt_id = pt};
    int ret = fx_ioctl(fx, iommufd, UAPI_IOMMU_HWPT_ALLOC, &alloc);

    *out = alloc.out_hwpt_id;
    return ret;
}
