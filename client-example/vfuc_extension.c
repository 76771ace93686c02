/* The messages of the extension. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"

bool vfuc_has_extensions(const struct vfuc *c)
{
    return vfuc_caps(c)->extensions;
}

/* Asks with room for argsz bytes. request: its head, whose argsz this sets. */
static int ask(struct vfuc *c, uint16_t command, const void *request, size_t size, uint32_t argsz,
               void **out, size_t *reply_len)
{
    cleanup_free_ void *sent = malloc(size);
    cleanup_free_ uint8_t *got = calloc(1, argsz);
    struct vfio_userd_head head;
    int ret;

    if (!sent || !got)
        return -ENOMEM;
    memcpy(sent, request, size);
    memcpy(sent, &argsz, sizeof(argsz));
    *reply_len = argsz;
    ret = vfuc_call(c, command, sent, size, NULL, 0, got, reply_len, NULL);
    if (ret)
        return ret;
    memcpy(&head, got, sizeof(head));
    if (*reply_len < size || head.argsz < size || head.argsz > LIMIT_INFO_REPLY)
        return -EPROTO;
    *out = steal_ptr(got);
    return 0;
}

/*
 * A question whose answer is the request's struct and what follows it, argsz bytes: asked again
 * with more room if there is more. *out: the caller's to free.
 */
static int query_all(struct vfuc *c, uint16_t command, const void *request, size_t size, void **out)
{
    cleanup_free_ void *got = NULL;
    struct vfio_userd_head head = {.argsz = (uint32_t)size};
    uint32_t argsz;
    size_t len;
    int ret = 0;

    *out = NULL;
    do {
        argsz = head.argsz;
        free(steal_ptr(got));
        ret = ask(c, command, request, size, argsz, &got, &len);
        if (ret)
            return ret;
        memcpy(&head, got, sizeof(head));
    } while (argsz == size && head.argsz > argsz);
    if (head.argsz > MIN(len, argsz))
        return -EPROTO;
    *out = steal_ptr(got);
    return 0;
}

/* The same, of an answer that tells at offset how many elements follow the struct. */
static int query_array(struct vfuc *c, uint16_t command, const void *request, size_t size,
                       size_t offset, size_t element, void **out)
{
    uint32_t argsz, count;
    int ret = query_all(c, command, request, size, out);

    if (ret)
        return ret;
    memcpy(&argsz, *out, sizeof(argsz));
    memcpy(&count, (const uint8_t *)*out + offset, sizeof(count));
    if (count <= (argsz - size) / element)
        return 0;
    free(*out);
    *out = NULL;
    return -EPROTO;
}

int vfuc_extended_info(struct vfuc *c, struct vfio_userd_device_info **info)
{
    const struct vfio_userd_device_info request = {0};
    void *got;
    int ret = query_all(c, VFIO_USERD_DEVICE_INFO, &request, sizeof(request), &got);

    *info = got;
    return ret;
}

int vfuc_device_cap_next(const struct vfio_userd_device_info *info, uint32_t *offset,
                         struct vfio_user_cap_header *cap)
{
    const uint32_t first = info->flags & VFIO_USERD_DEVICE_CAPS ? info->cap_offset : 0;

    return vfuc_cap_next(info, info->argsz, sizeof(*info), first, offset, cap);
}

int vfuc_iommu_info(struct vfuc *c, struct vfio_userd_iommu_info **info)
{
    const struct vfio_userd_iommu_info request = {0};
    void *got;
    int ret = query_array(c, VFIO_USERD_IOMMU_INFO, &request, sizeof(request),
                          offsetof(struct vfio_userd_iommu_info, num_ranges),
                          sizeof(struct vfio_userd_iova_range), &got);

    *info = got;
    return ret;
}

struct vfio_userd_iova_range vfuc_iova_range(const struct vfio_userd_iommu_info *info, uint32_t i)
{
    struct vfio_userd_iova_range range;

    memcpy(&range, (const uint8_t *)(info + 1) + i * sizeof(range), sizeof(range));
    return range;
}

int vfuc_precopy_info(struct vfuc *c, struct vfio_userd_precopy_info *info)
{
    *info = (struct vfio_userd_precopy_info){.argsz = sizeof(*info)};
    return vfuc_query(c, VFIO_USERD_PRECOPY_INFO, info, sizeof(*info));
}

int vfuc_gfx_plane(struct vfuc *c, uint32_t flags, uint32_t drm_plane_type,
                   struct vfio_userd_gfx_plane *plane)
{
    *plane = (struct vfio_userd_gfx_plane){
        .argsz = sizeof(*plane),
        .flags = flags,
        .drm_plane_type = drm_plane_type,
    };
    return vfuc_query(c, VFIO_USERD_QUERY_GFX_PLANE, plane, sizeof(*plane));
}

int vfuc_gfx_dmabuf(struct vfuc *c, uint32_t id, int *fd)
{
    struct vfio_userd_gfx_dmabuf request = {.argsz = sizeof(request), .dmabuf_id = id};
    size_t len = sizeof(request);
    int ret = vfuc_call(c, VFIO_USERD_GET_GFX_DMABUF, &request, len, NULL, 0, &request, &len, fd);

    return ret ? ret : *fd < 0 ? -EPROTO : 0;
}

int vfuc_eeh(struct vfuc *c, uint32_t op, uint32_t *value)
{
    struct vfio_userd_eeh_op request = {.argsz = sizeof(request), .op = op};
    int ret = vfuc_query(c, VFIO_USERD_EEH_OP, &request, sizeof(request));

    if (!ret && value)
        *value = request.value;
    return ret;
}

int vfuc_hot_reset_info(struct vfuc *c, struct vfio_userd_hot_reset_info **info)
{
    const struct vfio_userd_hot_reset_info request = {0};
    void *got;
    int ret = query_array(c, VFIO_USERD_HOT_RESET_INFO, &request, sizeof(request),
                          offsetof(struct vfio_userd_hot_reset_info, count),
                          sizeof(struct vfio_userd_hot_reset_device), &got);

    *info = got;
    return ret;
}

struct vfio_userd_hot_reset_device vfuc_hot_reset_device(
    const struct vfio_userd_hot_reset_info *info, uint32_t i)
{
    struct vfio_userd_hot_reset_device device;

    memcpy(&device, (const uint8_t *)(info + 1) + i * sizeof(device), sizeof(device));
    return device;
}

int vfuc_hot_reset(struct vfuc *c)
{
    const struct vfio_userd_hot_reset request = {.argsz = sizeof(request)};
    size_t reply_len = 0;
    int ret = vfuc_call(c, VFIO_USERD_HOT_RESET, &request, sizeof(request), NULL, 0, NULL,
                        &reply_len, NULL);

    return !ret && reply_len ? -EPROTO : ret;
}
