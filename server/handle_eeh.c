/* EEH_OP, of the extension. */
#include <errno.h>
#include <linux/vfio.h>

#include "bridge/eeh.h"
#include "proto/validate.h"
#include "server/handlers.h"

int handle_eeh_op(struct session *s, struct request *req)
{
    struct vfio_userd_eeh_op out;
    uint32_t room;
    int ret = validate_extension(VFIO_USERD_EEH_OP, req->payload, req->len, 0, &out, sizeof(out));

    if (ret)
        return ret;
    room = out.argsz;
    if (!eeh_is_supported(s->device))
        return -ENOTTY;
    out.value = 0;
    ret =
        out.op == VFIO_EEH_PE_GET_STATE ? eeh_get_state(s->device) : eeh_operate(s->device, out.op);
    if (ret < 0)
        return ret;
    out.value = (uint32_t)ret;
    return request_reply_info(req, room, &out, sizeof(out), NULL, 0);
}
