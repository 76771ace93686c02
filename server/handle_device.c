#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/device.h"
#include "bridge/irq.h"
#include "proto/validate.h"
#include "server/handlers.h"

static_assert(VFIO_USER_DEVICE_FLAGS_RESET == VFIO_DEVICE_FLAGS_RESET, "same bit");
static_assert(VFIO_USER_DEVICE_FLAGS_PCI == VFIO_DEVICE_FLAGS_PCI, "same bit");

int handle_device_get_info(struct session *s, struct request *req)
{
    const struct device_info *info = device_get_info(s->device);
    struct vfio_user_device_info out;
    void *reply;
    int ret = validate_device_info(req->payload, req->len, &out);

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(out));
    if (!reply)
        return -ENOMEM;
    out = (struct vfio_user_device_info){
        .argsz = sizeof(out),
        .flags = (info->flags & VFIO_USER_DEVICE_FLAGS_PCI) |
                 (session_can_reset(s) ? VFIO_USER_DEVICE_FLAGS_RESET : 0),
        .num_regions = info->num_regions,
        .num_irqs = info->num_irqs,
    };
    memcpy(reply, &out, sizeof(out));
    return 0;
}

int handle_device_reset(struct session *s, struct request *req)
{
    int ret = session_reset(s);

    (void)req;
    return ret ? ret : irq_rearm(s->device);
}
