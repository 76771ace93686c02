/*
 * DEVICE_FEATURE's features of migration, MIG_DATA_READ and MIG_DATA_WRITE.
 *
 * The protocol does not use the states in which a device runs but does no DMA to other devices: a
 * client without the extension is not told that there are any. A device that could not be brought
 * to where a client wanted it may still be found in one.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/migration.h"
#include "bridge/uapi_compat.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/features.h"
#include "server/handlers.h"

int migration_feature_probe(struct session *s)
{
    uint64_t flags;

    return migration_get_flags(s->device, &flags);
}

int migration_feature_flags(struct feature_call *call)
{
    struct vfio_user_feature_migration out;
    void *data;
    int ret = migration_get_flags(call->session->device, &out.flags);

    if (!ret)
        ret = feature_reply(call, sizeof(out), &data);
    if (ret)
        return ret;
    out.flags &= VFIO_MIGRATION_STOP_COPY | UAPI_VFIO_MIGRATION_PRE_COPY |
                 (call->session->agreed.extensions ? VFIO_MIGRATION_P2P : 0);
    memcpy(data, &out, sizeof(out));
    return 0;
}

int migration_feature_get_state(struct feature_call *call)
{
    struct vfio_user_feature_mig_state out = {.data_fd = UINT32_MAX};
    void *data;
    int ret = migration_get_state(call->session->device, &out.device_state);

    if (!ret)
        ret = feature_reply(call, sizeof(out), &data);
    if (!ret)
        memcpy(data, &out, sizeof(out));
    return ret;
}

static bool may_be_asked_for(const struct session *s, uint32_t state)
{
    switch (state) {
    case VFIO_DEVICE_STATE_STOP:
    case VFIO_DEVICE_STATE_RUNNING:
    case VFIO_DEVICE_STATE_STOP_COPY:
    case VFIO_DEVICE_STATE_RESUMING:
    case UAPI_VFIO_STATE_PRE_COPY:
        return true;
    case VFIO_DEVICE_STATE_RUNNING_P2P:
    case UAPI_VFIO_STATE_PRE_COPY_P2P:
        return s->agreed.extensions;
    default:
        return false;
    }
}

int migration_feature_set_state(struct feature_call *call)
{
    struct vfio_user_feature_mig_state in;
    int ret = feature_take(call, &in, sizeof(in));

    if (ret)
        return ret;
    if (!may_be_asked_for(call->session, in.device_state))
        return log_peer_refusal(EINVAL, "MIG_DEVICE_STATE: %u is no state to go to",
                                in.device_state);
    return migration_set_state(call->session->device, in.device_state);
}

int migration_feature_data_size(struct feature_call *call)
{
    struct vfio_user_feature_mig_data_size out;
    void *data;
    int ret = migration_get_data_size(call->session->device, &out.stop_copy_length);

    if (!ret)
        ret = feature_reply(call, sizeof(out), &data);
    if (!ret)
        memcpy(data, &out, sizeof(out));
    return ret;
}

int handle_mig_data_read(struct session *s, struct request *req)
{
    struct vfio_user_mig_data data;
    uint8_t *reply;
    size_t got;
    int ret = validate_mig_data_read(req->payload, req->len, &data);

    if (ret)
        return ret;
    /* What was read from the device is gone if the client does not take it. */
    reply = request_reply(req, sizeof(data) + data.size);
    if (!reply)
        return -ENOMEM;
    ret = migration_read(
        s->device, reply + sizeof(data), data.size,
        &(const struct migration_ends){connection_socket(req->connection), s->stop}, &got);
    if (ret)
        return ret;
    data = (struct vfio_user_mig_data){
        .argsz = (uint32_t)(sizeof(data) + got),
        .size = (uint32_t)got,
    };
    memcpy(reply, &data, sizeof(data));
    req->reply_len = data.argsz;
    return 0;
}

int handle_mig_data_write(struct session *s, struct request *req)
{
    struct vfio_user_mig_data data;
    const uint8_t *bytes;
    int ret = validate_mig_data_write(req->payload, req->len, &data, &bytes);

    if (ret)
        return ret;
    return migration_write(
        s->device, bytes, data.size,
        &(const struct migration_ends){connection_socket(req->connection), s->stop});
}

int handle_precopy_info(struct session *s, struct request *req)
{
    struct vfio_userd_precopy_info out;
    struct migration_precopy info;
    uint32_t room;
    int ret =
        validate_extension(VFIO_USERD_PRECOPY_INFO, req->payload, req->len, 0, &out, sizeof(out));

    if (!ret)
        ret = migration_feature_probe(s);
    if (!ret)
        ret = migration_get_precopy(s->device, &info);
    if (ret)
        return ret;
    room = out.argsz;
    out = (struct vfio_userd_precopy_info){
        .flags = info.reinit ? VFIO_USERD_PRECOPY_REINIT : 0,
        .initial_bytes = info.initial_bytes,
        .dirty_bytes = info.dirty_bytes,
    };
    return request_reply_info(req, room, &out, sizeof(out), NULL, 0);
}
