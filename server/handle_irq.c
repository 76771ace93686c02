#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/irq.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

static_assert(VFIO_USER_IRQ_SET_DATA_NONE == VFIO_IRQ_SET_DATA_NONE, "same bit");
static_assert(VFIO_USER_IRQ_SET_DATA_BOOL == VFIO_IRQ_SET_DATA_BOOL, "same bit");
static_assert(VFIO_USER_IRQ_SET_DATA_EVENTFD == VFIO_IRQ_SET_DATA_EVENTFD, "same bit");
static_assert(VFIO_USER_IRQ_SET_ACTION_MASK == VFIO_IRQ_SET_ACTION_MASK, "same bit");
static_assert(VFIO_USER_IRQ_SET_ACTION_UNMASK == VFIO_IRQ_SET_ACTION_UNMASK, "same bit");
static_assert(VFIO_USER_IRQ_SET_ACTION_TRIGGER == VFIO_IRQ_SET_ACTION_TRIGGER, "same bit");

static const struct irq_info *find_irq(const struct session *s, uint32_t index)
{
    const struct irq_info *info = irq_get(s->device, index);

    if (!info)
        log_peer_warning("irq index %u: the device has none of that index", index);
    return info;
}

int handle_irq_info(struct session *s, struct request *req)
{
    struct vfio_user_irq_info out;
    const struct irq_info *info;
    void *reply;
    int ret = validate_irq_info(req->payload, req->len, &out);

    if (ret)
        return ret;
    info = find_irq(s, out.index);
    if (!info)
        return -EINVAL;
    reply = request_reply(req, sizeof(out));
    if (!reply)
        return -ENOMEM;
    out = (struct vfio_user_irq_info){
        .argsz = sizeof(out),
        .flags = info->flags,
        .index = out.index,
        .count = info->count,
    };
    memcpy(reply, &out, sizeof(out));
    return 0;
}

/*
 * One descriptor a vector, -1 where there is none. The three forms on the wire: a descriptor for
 * each; none at all, which de-assigns; and an array of indexes into the descriptors that came.
 */
static void collect_eventfds(struct request *req, const struct vfio_user_irq_set *set,
                             const uint8_t *indexes, int *eventfds)
{
    for (uint32_t i = 0; i < set->count; i++) {
        int32_t index = req->fds->count ? (int32_t)i : -1;

        if (indexes)
            memcpy(&index, indexes + i * sizeof(index), sizeof(index));
        eventfds[i] = index < 0 ? -1 : fdset_take(req->fds, (unsigned)index);
    }
}

static int set_with_eventfds(struct session *s, struct request *req,
                             const struct vfio_user_irq_set *set, const uint8_t *indexes,
                             struct irq_request *irq)
{
    cleanup_free_ int *eventfds = calloc(set->count, sizeof(*eventfds));
    int ret;

    if (!eventfds)
        return -ENOMEM;
    collect_eventfds(req, set, indexes, eventfds);
    irq->eventfds = eventfds;
    ret = irq_set(s->device, irq);
    for (uint32_t i = 0; i < set->count; i++)
        fd_close(&eventfds[i]);
    return ret;
}

int handle_set_irqs(struct session *s, struct request *req)
{
    struct vfio_user_irq_set set;
    const struct irq_info *info;
    const uint8_t *bools, *indexes;
    struct irq_request irq;
    int ret = validate_irq_set(req->payload, req->len, req->fds->count, &set, &bools, &indexes);

    if (ret)
        return ret;
    info = find_irq(s, set.index);
    if (!info)
        return -EINVAL;
    /* Before anything is sized by the client's number. */
    if (set.count > info->count) {
        log_peer_warning("SET_IRQS: %u vectors of irq index %u, which has %u", set.count, set.index,
                         info->count);
        return -EINVAL;
    }
    irq = (struct irq_request){
        .index = set.index,
        .flags = set.flags,
        .start = set.start,
        .count = set.count,
        .bools = bools,
    };
    if (set.flags & VFIO_USER_IRQ_SET_DATA_EVENTFD)
        return set_with_eventfds(s, req, &set, indexes, &irq);
    return irq_set(s->device, &irq);
}
