/*
 * The picture of a device that has a display (VFIO_DEVICE_QUERY_GFX_PLANE and GET_GFX_DMABUF of
 * <linux/vfio.h>), which mediated devices may have: in a region, or in a dma-buf.
 *
 * By the device's worker. Functions return -errno: -ENOTTY: the device has no display (not logged);
 * -ENODEV: it is not open; else the kernel's, logged.
 */
#pragma once

#include <linux/vfio.h>

#include "bridge/device.h"

enum {
    GFX_MOST_IDS = 32,
};

/* The dma-bufs that were told of since the device was opened; of many the last ones. */
struct gfx_ids {
    uint32_t ids[GFX_MOST_IDS];
    unsigned count; /* ever */
};

/*
 * plane: flags and drm_plane_type are the question, the rest becomes the answer; argsz is this
 * function's. flags: one of VFIO_GFX_PLANE_TYPE_DMABUF and REGION, and PROBE to ask only whether
 * there is one: -EINVAL: there is not. A region that is told is one of region.h from then on, which
 * GET_INFO need not count. 0 or -errno.
 */
int gfx_query_plane(struct device *dev, struct vfio_device_gfx_plane_info *plane);

/*
 * The dma-buf of an id that gfx_query_plane() has told of: a descriptor of the process, the
 * caller's. -EINVAL: it has not.
 */
int gfx_get_dmabuf(struct device *dev, uint32_t id);
