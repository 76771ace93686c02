/* As mdpy and mbochs of Linux's samples answer, the one with a region and the other with dma-bufs.
 */
#include "bridge/sim/sim_gfx.h"

#include <errno.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/cleanup.h"

enum {
    PROBE = VFIO_GFX_PLANE_TYPE_PROBE,
    DMABUF = VFIO_GFX_PLANE_TYPE_DMABUF,
    REGION = VFIO_GFX_PLANE_TYPE_REGION,
    PRIMARY = 1,           /* DRM_PLANE_TYPE_PRIMARY */
    XRGB8888 = 0x34325258, /* its fourcc */
};

int sim_gfx_query_plane(struct sim_device *dev, void *arg)
{
    const size_t minsz = offsetof(struct vfio_device_gfx_plane_info, dmabuf_id) + sizeof(uint32_t);
    struct vfio_device_gfx_plane_info plane;
    int ret = dev->model->display ? sim_copy_in(&plane, arg, minsz) : -ENOTTY;

    if (ret)
        return ret;
    if (plane.argsz < minsz)
        return -EINVAL;
    if (plane.flags == (PROBE | DMABUF) || plane.flags == (PROBE | REGION))
        return 0;
    if ((plane.flags != DMABUF && plane.flags != REGION) || plane.drm_plane_type != PRIMARY)
        return -EINVAL;
    plane.drm_format = XRGB8888;
    plane.drm_format_mod = 0;
    plane.width = SIM_GFX_WIDTH;
    plane.height = SIM_GFX_HEIGHT;
    plane.stride = SIM_GFX_WIDTH * 4;
    plane.size = SIM_GFX_SIZE;
    plane.x_pos = plane.y_pos = 0;
    plane.x_hot = plane.y_hot = UINT32_MAX;
    if (plane.flags == REGION)
        plane.region_index = SIM_GFX_REGION;
    else
        plane.dmabuf_id = SIM_GFX_DMABUF_ID;
    return sim_copy_out(arg, &plane, minsz);
}

int sim_gfx_get_dmabuf(struct sim_device *dev, void *arg)
{
    cleanup_close_ int fd = -1;
    uint32_t id;
    int ret = dev->model->display ? sim_copy_in(&id, arg, sizeof(id)) : -ENOTTY;

    if (ret)
        return ret;
    if (id != SIM_GFX_DMABUF_ID)
        return -EINVAL;
    fd = memfd_create("sim-gfx", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, dev->ram[dev->model->display], SIM_GFX_SIZE) != SIM_GFX_SIZE)
        return -ENOSPC;
    return steal_fd(&fd);
}
