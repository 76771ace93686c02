#include "bridge/irq.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/uapi.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

enum {
    /* MSI-X has 2,048 vectors at most; no other index has more. */
    MAX_VECTORS = 2048,
    SET_TRIGGER_EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
    SET_TRIGGER_NONE = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
    SET_UNMASK_EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK,
};

int irq_read_infos(struct device *dev)
{
    dev->irqs = calloc(dev->info.num_irqs, sizeof(*dev->irqs));
    if (!dev->irqs)
        return -ENOMEM;
    for (uint32_t i = 0; i < dev->info.num_irqs; i++) {
        struct vfio_irq_info info = {.argsz = sizeof(info), .index = i};
        int ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info);

        /* vfio-pci refuses an index that this device lacks (ERR of one that is not PCIe). */
        if (ret == -EINVAL)
            continue;
        if (ret < 0 || info.count > MAX_VECTORS) {
            log_error("DEVICE_GET_IRQ_INFO of index %u of %s: %s", i, dev->where.name,
                      ret < 0 ? strerror(-ret) : "more vectors than PCI allows");
            return ret < 0 ? ret : -EPROTO;
        }
        dev->irqs[i].info = (struct irq_info){.flags = info.flags, .count = info.count};
        dev->irqs[i].unmask = -1;
    }
    return 0;
}

static void close_eventfds(struct irq_index *irq, uint32_t start, uint32_t count)
{
    for (uint32_t i = start; irq->eventfd && i < start + count; i++)
        fd_close(&irq->eventfd[i]);
}

static void forget_eventfds(struct irq_index *irq)
{
    close_eventfds(irq, 0, irq->info.count);
    if (irq->info.count)
        fd_close(&irq->unmask);
}

void irq_free_infos(struct device *dev)
{
    for (uint32_t i = 0; dev->irqs && i < dev->info.num_irqs; i++) {
        forget_eventfds(&dev->irqs[i]);
        free(dev->irqs[i].eventfd);
    }
    free(dev->irqs);
    dev->irqs = NULL;
}

const struct irq_info *irq_get(const struct device *dev, uint32_t index)
{
    return dev->irqs && index < dev->info.num_irqs ? &dev->irqs[index].info : NULL;
}

int irq_call(struct device *dev, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
             const void *data, size_t size)
{
    cleanup_free_ struct vfio_irq_set *set = malloc(sizeof(*set) + size);

    if (!set)
        return -ENOMEM;
    *set = (struct vfio_irq_set){
        .argsz = (uint32_t)(sizeof(*set) + size),
        .flags = flags,
        .index = index,
        .start = start,
        .count = count,
    };
    if (size)
        memcpy(set->data, data, size);
    return host_ioctl(dev->host, dev->fd, VFIO_DEVICE_SET_IRQS, set);
}

static int set_eventfds(struct device *dev, uint32_t index, uint32_t start, uint32_t count,
                        const int *eventfds)
{
    int ret = irq_call(dev, index, SET_TRIGGER_EVENTFD, start, count, eventfds,
                       count * sizeof(*eventfds));

    /* A positive number says how many vectors the host could have given. */
    return ret > 0 ? -ENOSPC : ret;
}

static int disable_index(struct device *dev, uint32_t index)
{
    struct irq_index *irq = &dev->irqs[index];
    int ret = irq->enabled ? irq_call(dev, index, SET_TRIGGER_NONE, 0, 0, NULL, 0) : 0;

    if (ret < 0) {
        log_peer_warning("disabling irq index %u of %s: %s", index, dev->where.name,
                         strerror(-ret));
        return ret;
    }
    irq->enabled = 0;
    forget_eventfds(irq);
    return 0;
}

int irq_disable_all(struct device *dev)
{
    int first_error = 0;

    for (uint32_t i = 0; dev->irqs && i < dev->info.num_irqs; i++) {
        int ret = disable_index(dev, i);

        if (ret && !first_error)
            first_error = ret;
    }
    return first_error;
}

int irq_alloc_eventfds(struct irq_index *irq)
{
    if (irq->eventfd)
        return 0;
    irq->eventfd = malloc(irq->info.count * sizeof(*irq->eventfd));
    if (!irq->eventfd)
        return -ENOMEM;
    for (uint32_t i = 0; i < irq->info.count; i++)
        irq->eventfd[i] = -1;
    return 0;
}

/* The eventfds as they will be once the request is done: the kept ones with the request's over
 * them. */
static int *merged_eventfds(const struct irq_index *irq, const struct irq_request *req)
{
    int *merged = malloc(irq->info.count * sizeof(*merged));

    if (merged) {
        memcpy(merged, irq->eventfd, irq->info.count * sizeof(*merged));
        memcpy(merged + req->start, req->eventfds, req->count * sizeof(*merged));
    }
    return merged;
}

/* Turns an index on that is off, with the request's vectors and as many more as make sense. */
static int enable_set(struct device *dev, struct irq_index *irq, const struct irq_request *req)
{
    cleanup_free_ int *fds = merged_eventfds(irq, req);
    uint32_t needed = req->start + req->count;
    int ret;

    if (!fds)
        return -ENOMEM;
    if (req->index == VFIO_PCI_MSIX_IRQ_INDEX && irq->info.flags & VFIO_IRQ_INFO_NORESIZE &&
        needed < irq->info.count) {
        ret = set_eventfds(dev, req->index, 0, irq->info.count, fds);
        if (ret != -ENOSPC && ret != -ENOMEM) {
            irq->enabled = ret ? 0 : irq->info.count;
            return ret;
        }
    }
    ret = set_eventfds(dev, req->index, 0, needed, fds);
    irq->enabled = ret ? 0 : needed;
    return ret;
}

/* Makes the kernel's set anew with more vectors than it has. */
static int grow_set(struct device *dev, struct irq_index *irq, const struct irq_request *req)
{
    cleanup_free_ int *fds = merged_eventfds(irq, req);
    uint32_t needed = req->start + req->count;
    uint32_t before = irq->enabled;
    int ret;

    if (!fds)
        return -ENOMEM;
    ret = irq_call(dev, req->index, SET_TRIGGER_NONE, 0, 0, NULL, 0);
    if (ret < 0)
        return ret;
    irq->enabled = 0;
    ret = set_eventfds(dev, req->index, 0, needed, fds);
    if (ret) {
        int again = set_eventfds(dev, req->index, 0, before, irq->eventfd);

        if (again) {
            log_peer_warning("irq index %u of %s is off: its set of %u vectors could not be made "
                             "again: %s",
                             req->index, dev->where.name, before, strerror(-again));
            close_eventfds(irq, 0, irq->info.count);
            return ret;
        }
        needed = before;
    }
    irq->enabled = needed;
    irq_call(dev, req->index, SET_TRIGGER_NONE, 0, before, NULL, 0);
    return ret;
}

/*
 * Changes vectors of a set that is on. When the kernel fails in the middle of a block it leaves
 * some of its vectors without eventfd and some with the old one: make it all of them.
 */
static int change_set(struct device *dev, struct irq_index *irq, struct irq_request *req)
{
    cleanup_free_ int *none = NULL;
    int ret = set_eventfds(dev, req->index, req->start, req->count, req->eventfds);

    if (!ret)
        return 0;
    none = malloc(req->count * sizeof(*none));
    if (!none)
        return -ENOMEM;
    memset(none, 0xff, req->count * sizeof(*none)); /* -1 each */
    set_eventfds(dev, req->index, req->start, req->count, none);
    close_eventfds(irq, req->start, req->count);
    return ret;
}

static bool can_resize(const struct irq_index *irq)
{
    return !(irq->info.flags & VFIO_IRQ_INFO_NORESIZE);
}

static bool is_message_signalled(uint32_t index)
{
    return index == VFIO_PCI_MSI_IRQ_INDEX || index == VFIO_PCI_MSIX_IRQ_INDEX;
}

static int set_triggers(struct device *dev, struct irq_request *req)
{
    struct irq_index *irq = &dev->irqs[req->index];
    uint32_t needed = req->start + req->count;
    int ret = irq_alloc_eventfds(irq);

    if (ret)
        return ret;
    if (!irq->enabled)
        ret = enable_set(dev, irq, req);
    else if (needed <= irq->enabled || can_resize(irq) || !is_message_signalled(req->index))
        ret = change_set(dev, irq, req);
    else
        ret = grow_set(dev, irq, req);
    if (ret)
        return ret;

    if (needed > irq->enabled)
        irq->enabled = needed;
    close_eventfds(irq, req->start, req->count);
    for (uint32_t i = 0; i < req->count; i++)
        irq->eventfd[req->start + i] = steal_fd(&req->eventfds[i]);
    return 0;
}

static int forward(struct device *dev, const struct irq_request *req)
{
    int ret;

    if (req->flags & VFIO_IRQ_SET_DATA_EVENTFD)
        ret = irq_call(dev, req->index, req->flags, req->start, req->count, req->eventfds,
                       req->count * sizeof(*req->eventfds));
    else if (req->flags & VFIO_IRQ_SET_DATA_BOOL)
        ret = irq_call(dev, req->index, req->flags, req->start, req->count, req->bools, req->count);
    else
        ret = irq_call(dev, req->index, req->flags, req->start, req->count, NULL, 0);
    return ret < 0 ? ret : 0;
}

/*
 * The kernel refuses a second one (EBUSY), so the first goes before. It keeps no reference to the
 * file, and drops the eventfd when nobody has it open: hence it is kept here.
 */
static int set_unmask(struct device *dev, struct irq_index *irq, struct irq_request *req)
{
    const int none = -1;
    int ret = 0;

    if (irq->unmask >= 0 && req->eventfds[0] >= 0)
        ret = irq_call(dev, req->index, SET_UNMASK_EVENTFD, 0, 1, &none, sizeof(none));
    if (ret < 0)
        return ret;
    fd_close(&irq->unmask);
    ret = forward(dev, req);
    if (!ret)
        irq->unmask = steal_fd(&req->eventfds[0]);
    return ret;
}

static int carry_out(struct device *dev, struct irq_request *req)
{
    if (irq_relay_has(dev, req->index))
        return irq_relay_set(dev, req);
    if (req->flags == SET_TRIGGER_EVENTFD && req->count)
        return set_triggers(dev, req);
    if (req->flags == SET_UNMASK_EVENTFD && req->count == 1)
        return set_unmask(dev, &dev->irqs[req->index], req);
    return forward(dev, req);
}

int irq_rearm(struct device *dev)
{
    int first_error = 0;

    for (uint32_t i = 0; dev->irqs && i < dev->info.num_irqs; i++) {
        const struct irq_index *irq = &dev->irqs[i];
        int ret = irq->enabled ? set_eventfds(dev, i, 0, irq->enabled, irq->eventfd) : 0;

        if (ret)
            log_peer_warning("irq index %u of %s is not re-armed after the reset: %s", i,
                             dev->where.name, strerror(-ret));
        if (ret && !first_error)
            first_error = ret;
    }
    return first_error;
}

int irq_set(struct device *dev, struct irq_request *req)
{
    const struct irq_info *info = irq_get(dev, req->index);
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (!info || req->start > info->count || req->count > info->count - req->start) {
        log_peer_warning("SET_IRQS: index %u, vectors %u and %u more: the device has %u of that "
                         "index",
                         req->index, req->start, req->count, info ? info->count : 0);
        return -EINVAL;
    }
    if (req->flags == SET_TRIGGER_NONE && !req->count)
        return disable_index(dev, req->index);
    ret = carry_out(dev, req);
    if (ret)
        log_peer_warning("SET_IRQS: index %u, flags 0x%x, vectors %u and %u more: %s", req->index,
                         req->flags, req->start, req->count, strerror(-ret));
    return ret;
}
