/*
 * HOT_RESET_INFO and HOT_RESET, of the extension. A client is told of its own devices alone; which
 * others there are on a bus is the host's affair, but that there are some decides what a reset
 * does.
 */
#include "bridge/irq.h"
#include "proto/validate.h"
#include "server/group.h"
#include "server/group_reset.h"
#include "server/handlers.h"

int handle_hot_reset_info(struct session *s, struct request *req)
{
    struct vfio_userd_hot_reset_device devices[HOT_RESET_MOST];
    struct vfio_userd_hot_reset_info out;
    struct group_reset_set set;
    uint32_t room;
    int ret =
        validate_extension(VFIO_USERD_HOT_RESET_INFO, req->payload, req->len, 0, &out, sizeof(out));

    if (!ret)
        ret = session_get_reset_set(s, &set);
    if (ret)
        return ret;
    for (size_t i = 0; i < set.n_own; i++)
        devices[i] = (struct vfio_userd_hot_reset_device){
            .id = set.own[i],
            .flags = set.own[i] == s->gd->id ? VFIO_USERD_HOT_RESET_SELF : 0,
        };
    room = out.argsz;
    out = (struct vfio_userd_hot_reset_info){
        .count = (uint32_t)set.n_own,
        .others = (uint32_t)set.n_others,
    };
    return request_reply_info(req, room, &out, sizeof(out), devices,
                              set.n_own * sizeof(devices[0]));
}

int handle_hot_reset(struct session *s, struct request *req)
{
    struct vfio_userd_hot_reset in;
    int ret = validate_extension(VFIO_USERD_HOT_RESET, req->payload, req->len, 0, &in, sizeof(in));

    if (!ret)
        ret = session_hot_reset(s);
    return ret ? ret : irq_rearm(s->device);
}
