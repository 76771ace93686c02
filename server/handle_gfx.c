/* QUERY_GFX_PLANE and GET_GFX_DMABUF, of the extension. */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/gfx.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

static_assert((int)VFIO_USERD_GFX_PROBE == VFIO_GFX_PLANE_TYPE_PROBE, "same bit");
static_assert((int)VFIO_USERD_GFX_DMABUF == VFIO_GFX_PLANE_TYPE_DMABUF, "same bit");
static_assert((int)VFIO_USERD_GFX_REGION == VFIO_GFX_PLANE_TYPE_REGION, "same bit");

int handle_query_gfx_plane(struct session *s, struct request *req)
{
    struct vfio_device_gfx_plane_info plane = {0};
    struct vfio_userd_gfx_plane out;
    uint32_t room;
    int ret = validate_extension(VFIO_USERD_QUERY_GFX_PLANE, req->payload, req->len,
                                 VFIO_USERD_GFX_FLAGS, &out, sizeof(out));

    if (ret)
        return ret;
    if (!(out.flags & VFIO_USERD_GFX_DMABUF) == !(out.flags & VFIO_USERD_GFX_REGION))
        return log_peer_refusal(EINVAL, "QUERY_GFX_PLANE: flags 0x%x: not one type", out.flags);
    room = out.argsz;
    plane.flags = out.flags;
    plane.drm_plane_type = out.drm_plane_type;
    ret = gfx_query_plane(s->device, &plane);
    if (ret)
        return ret;
    out = (struct vfio_userd_gfx_plane){
        .flags = out.flags,
        .drm_plane_type = out.drm_plane_type,
        .drm_format = plane.drm_format,
        .drm_format_mod = plane.drm_format_mod,
        .width = plane.width,
        .height = plane.height,
        .stride = plane.stride,
        .size = plane.size,
        .x_pos = plane.x_pos,
        .y_pos = plane.y_pos,
        .x_hot = plane.x_hot,
        .y_hot = plane.y_hot,
        .source = plane.region_index,
    };
    return request_reply_info(req, room, &out, sizeof(out), NULL, 0);
}

int handle_get_gfx_dmabuf(struct session *s, struct request *req)
{
    struct vfio_userd_gfx_dmabuf out;
    void *reply;
    int ret =
        validate_extension(VFIO_USERD_GET_GFX_DMABUF, req->payload, req->len, 0, &out, sizeof(out));

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(out));
    if (!reply)
        return -ENOMEM;
    ret = gfx_get_dmabuf(s->device, out.dmabuf_id);
    if (ret < 0)
        return ret;
    req->reply_fds[req->reply_nfds++] = ret;
    out = (struct vfio_userd_gfx_dmabuf){.argsz = sizeof(out), .dmabuf_id = out.dmabuf_id};
    memcpy(reply, &out, sizeof(out));
    return 0;
}
