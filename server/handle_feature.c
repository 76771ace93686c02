#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/features.h"
#include "server/handlers.h"

/*
 * Of the kernel's features those that mean something to a client; of the rest VF_TOKEN is a secret
 * of the host's.
 */
static const struct feature {
    uint32_t number;
    unsigned fds; /* that may come with a request */
    int (*probe)(struct session *s);
    int (*get)(struct feature_call *call); /* NULL: there is no GET */
    int (*set)(struct feature_call *call);
} features[] = {
  /* clang-format off */
    {VFIO_USER_FEATURE_MIGRATION, 0,
     migration_feature_probe, migration_feature_flags, NULL},
    {VFIO_USER_FEATURE_MIG_DEVICE_STATE, 0,
     migration_feature_probe, migration_feature_get_state, migration_feature_set_state},
    {VFIO_USER_FEATURE_LOW_POWER_ENTRY, 0,
     power_feature_probe_entry, NULL, power_feature_enter},
    {VFIO_USER_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, 1,
     power_feature_probe_wakeup, NULL, power_feature_enter_with_wakeup},
    {VFIO_USER_FEATURE_LOW_POWER_EXIT, 0,
     power_feature_probe_exit, NULL, power_feature_exit},
    {VFIO_USER_FEATURE_DMA_LOGGING_START, 0,
     dirty_feature_probe, NULL, dirty_feature_start},
    {VFIO_USER_FEATURE_DMA_LOGGING_STOP, 0,
     dirty_feature_probe, NULL, dirty_feature_stop},
    {VFIO_USER_FEATURE_DMA_LOGGING_REPORT, 0,
     dirty_feature_probe, dirty_feature_report, NULL},
    {VFIO_USER_FEATURE_MIG_DATA_SIZE, 0,
     migration_feature_probe, migration_feature_data_size, NULL},
  /* clang-format on */
};

int feature_reply(struct feature_call *call, size_t len, void **data)
{
    struct vfio_user_device_feature head = {.flags = call->flags};
    uint8_t *reply;

    if (len > call->room)
        return log_peer_refusal(EINVAL, "DEVICE_FEATURE %u: argsz has room for %zu bytes, not %zu",
                                call->flags & VFIO_USER_DEVICE_FEATURE_MASK, call->room, len);
    head.argsz = (uint32_t)(sizeof(head) + len);
    reply = request_reply(call->request, sizeof(head) + len);
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &head, sizeof(head));
    *data = reply + sizeof(head);
    return 0;
}

int feature_take(const struct feature_call *call, void *out, size_t len)
{
    if (call->len < len)
        return log_peer_refusal(EINVAL, "DEVICE_FEATURE %u: %zu bytes of data, at least %zu",
                                call->flags & VFIO_USER_DEVICE_FEATURE_MASK, call->len, len);
    memcpy(out, call->data, len);
    return 0;
}

static const struct feature *find_feature(uint32_t number)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        if (features[i].number == number)
            return &features[i];
    }
    return NULL;
}

/* The request comes back as the reply, as for a SET too. */
static int echo(struct feature_call *call)
{
    void *data;
    int ret = feature_reply(call, call->len, &data);

    if (!ret)
        memcpy(data, call->data, call->len);
    return ret;
}

static int answer_probe(const struct feature *f, struct feature_call *call)
{
    if ((call->flags & VFIO_USER_DEVICE_FEATURE_GET && !f->get) ||
        (call->flags & VFIO_USER_DEVICE_FEATURE_SET && !f->set))
        return -EINVAL;
    return echo(call);
}

static int set(const struct feature *f, struct feature_call *call)
{
    int ret = f->set ? 0 : -EINVAL;

    /* Before anything is changed, so that the reply can't fail afterwards. */
    if (!ret)
        ret = echo(call);
    return ret ? ret : f->set(call);
}

/*
 * ENOTTY is the kernel's answer for a feature that a device does not have, to a probe as to a use.
 */
int handle_device_feature(struct session *s, struct request *req)
{
    struct vfio_user_device_feature head;
    struct feature_call call = {.session = s, .request = req};
    const struct feature *f;
    int ret = validate_device_feature(req->payload, req->len, &head);

    if (ret)
        return ret;
    f = find_feature(head.flags & VFIO_USER_DEVICE_FEATURE_MASK);
    if (req->fds->count > (f ? f->fds : 0))
        return log_peer_refusal(EINVAL, "DEVICE_FEATURE %u: with a descriptor",
                                head.flags & VFIO_USER_DEVICE_FEATURE_MASK);
    if (!f) {
        log_peer_info("device feature %u is not offered",
                      head.flags & VFIO_USER_DEVICE_FEATURE_MASK);
        return -ENOTTY;
    }
    call.flags = head.flags;
    call.data = req->payload + sizeof(head);
    call.len = req->len - sizeof(head);
    call.room = head.argsz - sizeof(head);
    ret = f->probe(s);
    if (ret)
        return ret;
    if (head.flags & VFIO_USER_DEVICE_FEATURE_PROBE)
        return answer_probe(f, &call);
    if (head.flags & VFIO_USER_DEVICE_FEATURE_SET)
        return set(f, &call);
    return f->get ? f->get(&call) : -EINVAL;
}
