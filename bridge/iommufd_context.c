#include "bridge/iommufd_context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_memory.h"
#include "bridge/uapi_compat.h"
#include "proto/base/log.h"

struct iommufd_context {
    struct host *host;
    int fd;
    struct iommufd_memory *memory;
};

int iommufd_context_create(struct host *host, struct iommufd_context **out)
{
    struct iommufd_context *context = calloc(1, sizeof(*context));
    int ret;

    if (!context)
        return -ENOMEM;
    context->host = host;
    context->fd = host_open(host, "/dev/iommu", O_RDWR);
    ret = context->fd < 0 ? context->fd : iommufd_memory_create(context, &context->memory);
    if (ret) {
        log_error("can't open /dev/iommu: %s%s", strerror(-ret),
                  ret == -ENOENT   ? " (the kernel has no iommufd; --iommu type1 does without)"
                  : ret == -EACCES ? " (run vfio-userd as root, or give its user access)"
                                   : "");
        iommufd_context_destroy(context);
        return ret;
    }
    *out = context;
    return 0;
}

void iommufd_context_destroy(struct iommufd_context *context)
{
    if (!context)
        return;
    iommufd_memory_destroy(context->memory);
    host_close(context->host, &context->fd);
    free(context);
}

struct host *iommufd_context_host(const struct iommufd_context *context)
{
    return context->host;
}

int iommufd_context_fd(const struct iommufd_context *context)
{
    return context->fd;
}

struct iommufd_memory *iommufd_context_memory(struct iommufd_context *context)
{
    return context->memory;
}

int iommufd_context_call(struct iommufd_context *context, unsigned long request, void *arg)
{
    int ret = host_ioctl(context->host, context->fd, request, arg);

    return ret < 0 ? ret : 0;
}

int iommufd_context_alloc_ioas(struct iommufd_context *context, uint32_t *id)
{
    struct uapi_ioas_alloc alloc = {.size = sizeof(alloc)};
    int ret = iommufd_context_call(context, UAPI_IOMMU_IOAS_ALLOC, &alloc);

    *id = alloc.out_ioas_id;
    return ret;
}

int iommufd_context_alloc_hwpt(struct iommufd_context *context, uint32_t dev_id, uint32_t ioas,
                               uint32_t flags, uint32_t *id)
{
    struct uapi_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = flags,
        .dev_id = dev_id,
        .pt_id = ioas,
    };
    int ret = iommufd_context_call(context, UAPI_IOMMU_HWPT_ALLOC, &alloc);

    *id = alloc.out_hwpt_id;
    return ret;
}

void iommufd_context_free_object(struct iommufd_context *context, uint32_t id)
{
    struct uapi_iommu_destroy destroy = {.size = sizeof(destroy), .id = id};
    int ret = iommufd_context_call(context, UAPI_IOMMU_DESTROY, &destroy);

    /* What is still in use goes when the iommufd is closed. */
    if (ret)
        log_debug("IOMMU_DESTROY: %s", strerror(-ret));
}

static uint32_t map_flags(uint32_t prot, bool fixed)
{
    return (fixed ? UAPI_IOAS_MAP_FIXED_IOVA : 0u) |
           (prot & IOMMU_READ ? UAPI_IOAS_MAP_READABLE : 0u) |
           (prot & IOMMU_WRITE ? UAPI_IOAS_MAP_WRITEABLE : 0u);
}

int iommufd_context_map_file(struct iommufd_context *context, const struct iommufd_range *range,
                             uint64_t *iova, int fd, uint64_t offset)
{
    struct uapi_ioas_map_file map = {
        .size = sizeof(map),
        .flags = map_flags(range->prot, !iova),
        .ioas_id = range->ioas,
        .fd = fd,
        .start = offset,
        .length = range->size,
        .iova = iova ? 0 : range->iova,
    };
    int ret = iommufd_context_call(context, UAPI_IOMMU_IOAS_MAP_FILE, &map);

    if (iova)
        *iova = map.iova;
    return ret;
}

int iommufd_context_map_address(struct iommufd_context *context, const struct iommufd_range *range,
                                uint64_t *iova, const void *address)
{
    struct uapi_ioas_map map = {
        .size = sizeof(map),
        .flags = map_flags(range->prot, !iova),
        .ioas_id = range->ioas,
        .user_va = (uintptr_t)address,
        .length = range->size,
        .iova = iova ? 0 : range->iova,
    };
    int ret = iommufd_context_call(context, UAPI_IOMMU_IOAS_MAP, &map);

    if (iova)
        *iova = map.iova;
    return ret;
}

int iommufd_context_copy(struct iommufd_context *context, const struct iommufd_range *range,
                         uint32_t from_ioas, uint64_t from_iova)
{
    struct uapi_ioas_copy copy = {
        .size = sizeof(copy),
        .flags = map_flags(range->prot, true),
        .dst_ioas_id = range->ioas,
        .src_ioas_id = from_ioas,
        .length = range->size,
        .dst_iova = range->iova,
        .src_iova = from_iova,
    };

    return iommufd_context_call(context, UAPI_IOMMU_IOAS_COPY, &copy);
}

int iommufd_context_unmap(struct iommufd_context *context, const struct iommufd_range *range)
{
    struct uapi_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = range->ioas,
        .iova = range->iova,
        .length = range->size,
    };
    int ret = iommufd_context_call(context, UAPI_IOMMU_IOAS_UNMAP, &unmap);

    return !ret && unmap.length != range->size ? -EIO : ret;
}
