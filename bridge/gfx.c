#include "bridge/gfx.h"

#include <errno.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

static bool knows(const struct gfx_ids *known, uint32_t id)
{
    for (unsigned i = 0; i < MIN(known->count, (unsigned)GFX_MOST_IDS); i++) {
        if (known->ids[i] == id)
            return true;
    }
    return false;
}

static void remember(struct gfx_ids *known, uint32_t id)
{
    if (!knows(known, id))
        known->ids[known->count++ % GFX_MOST_IDS] = id;
}

static int explain(const struct device *dev, const char *what, int ret)
{
    if (ret < 0 && ret != -ENOTTY)
        log_peer_warning("%s of %s: %s", what, dev->where.name, strerror(-ret));
    return ret;
}

int gfx_query_plane(struct device *dev, struct vfio_device_gfx_plane_info *plane)
{
    const uint32_t flags = plane->flags;
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    plane->argsz = sizeof(*plane);
    ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_QUERY_GFX_PLANE, plane);
    if (ret >= 0 && flags == VFIO_GFX_PLANE_TYPE_DMABUF)
        remember(&dev->gfx, plane->dmabuf_id);
    if (ret >= 0 && flags == VFIO_GFX_PLANE_TYPE_REGION && !region_get(dev, plane->region_index))
        ret = region_add(dev, plane->region_index);
    if (ret == -EINVAL && flags & VFIO_GFX_PLANE_TYPE_PROBE)
        return ret;
    return explain(dev, "QUERY_GFX_PLANE", MIN(ret, 0));
}

int gfx_get_dmabuf(struct device *dev, uint32_t id)
{
    if (dev->fd < 0)
        return -ENODEV;
    if (!knows(&dev->gfx, id))
        return log_peer_refusal(EINVAL, "GET_GFX_DMABUF of %s: %u was not told of", dev->where.name,
                                id);
    return explain(dev, "GET_GFX_DMABUF",
                   host_ioctl(dev->host, dev->fd, VFIO_DEVICE_GET_GFX_DMABUF, &id));
}
