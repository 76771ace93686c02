/*
 * HOT_RESET_INFO and HOT_RESET, of the extension. A client is told of its own devices alone; which
 * others there are on a bus is the host's affair, but that there are some decides what a reset
 * does.
 */
#include <errno.h>
#include <string.h>

#include "bridge/irq.h"
#include "proto/base/arith.h"
#include "proto/validate.h"
#include "server/group.h"
#include "server/group_reset.h"
#include "server/handlers.h"

static void put_devices(uint8_t *at, const struct group_reset_set *set, unsigned self)
{
    for (size_t i = 0; i < set->n_own; i++) {
        const struct vfio_userd_hot_reset_device device = {
            .id = set->own[i],
            .flags = set->own[i] == self ? VFIO_USERD_HOT_RESET_SELF : 0,
        };

        memcpy(at + i * sizeof(device), &device, sizeof(device));
    }
}

int handle_hot_reset_info(struct session *s, struct request *req)
{
    struct vfio_userd_hot_reset_info out;
    struct group_reset_set set;
    size_t len = sizeof(out);
    uint32_t room;
    uint8_t *reply;
    int ret =
        validate_extension(VFIO_USERD_HOT_RESET_INFO, req->payload, req->len, 0, &out, sizeof(out));

    if (!ret)
        ret = session_get_reset_set(s, &set);
    if (ret)
        return ret;
    room = out.argsz;
    out = (struct vfio_userd_hot_reset_info){
        .argsz = (uint32_t)(sizeof(out) + set.n_own * sizeof(struct vfio_userd_hot_reset_device)),
        .count = (uint32_t)set.n_own,
        .others = (uint32_t)set.n_others,
    };
    if (out.argsz <= room)
        len = out.argsz;
    reply = request_reply(req, len);
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &out, sizeof(out));
    if (len > sizeof(out))
        put_devices(reply + sizeof(out), &set, s->gd->id);
    return 0;
}

int handle_hot_reset(struct session *s, struct request *req)
{
    struct vfio_userd_hot_reset in;
    int ret = validate_extension(VFIO_USERD_HOT_RESET, req->payload, req->len, 0, &in, sizeof(in));

    if (!ret)
        ret = session_hot_reset(s);
    return ret ? ret : irq_rearm(s->device);
}
