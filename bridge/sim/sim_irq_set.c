/*
 * VFIO_DEVICE_SET_IRQS as the core and vfio-pci of Linux check and carry it out.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_eventfd.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_irqfd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    ALL_FLAGS = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK,
};

struct request {
    uint32_t data_type, action, index, start, count;
    const uint8_t *data;
};

static int32_t fd_at(const struct request *req, uint32_t i)
{
    int32_t fd;

    memcpy(&fd, req->data + i * sizeof(fd), sizeof(fd));
    return fd;
}

/* DATA_NONE is for each vector, DATA_BOOL for those that have a 1. */
static bool is_chosen(const struct request *req, uint32_t i)
{
    return req->data_type == VFIO_IRQ_SET_DATA_NONE || req->data[i];
}

static bool is_idle(const struct sim_irq *irq)
{
    return irq->active == VFIO_PCI_NUM_IRQS;
}

static bool is_disabling(const struct sim_irq *irq, const struct request *req)
{
    return irq->active == req->index && !req->count && req->data_type == VFIO_IRQ_SET_DATA_NONE;
}

/* Makes an index the active one, without eventfds. */
static int activate(struct sim_device *dev, uint32_t index, uint32_t count)
{
    struct sim_irq *irq = &dev->irq;

    irq->triggers = malloc(count * sizeof(*irq->triggers));
    if (!irq->triggers)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        irq->triggers[i] = -1;
    irq->count = count;
    irq->active = index;
    sim_pci_enable_msi(dev, index, true);
    return 0;
}

static int intx_mask(struct sim_device *dev, const struct request *req)
{
    if (dev->irq.active != VFIO_PCI_INTX_IRQ_INDEX || req->start || req->count != 1)
        return -EINVAL;
    if (req->data_type == VFIO_IRQ_SET_DATA_EVENTFD)
        return -ENOTTY;
    if (is_chosen(req, 0))
        sim_irq_mask_intx(dev);
    return 0;
}

static int set_unmask_eventfd(struct sim_device *dev, int fd)
{
    struct sim_irq *irq = &dev->irq;
    cleanup_close_ int eventfd = -1;
    int ret;

    if (fd < 0) {
        if (irq->unmask >= 0)
            sim_irqfd_remove(dev, irq->unmask);
        sim_eventfd_put(&irq->unmask);
        return 0;
    }
    eventfd = sim_eventfd_get(dev->sim, fd);
    if (eventfd < 0)
        return eventfd;
    if (irq->unmask >= 0)
        return -EBUSY;
    ret = sim_irqfd_add(dev, eventfd, SIM_IRQFD_UNMASK);
    if (!ret)
        irq->unmask = steal_fd(&eventfd);
    return ret;
}

static int intx_unmask(struct sim_device *dev, const struct request *req)
{
    if (dev->irq.active != VFIO_PCI_INTX_IRQ_INDEX || req->start || req->count != 1)
        return -EINVAL;
    if (req->data_type == VFIO_IRQ_SET_DATA_EVENTFD)
        return set_unmask_eventfd(dev, fd_at(req, 0));
    if (is_chosen(req, 0))
        sim_irq_unmask_intx(dev);
    return 0;
}

static int intx_set_eventfd(struct sim_device *dev, int fd)
{
    struct sim_irq *irq = &dev->irq;
    cleanup_close_ int eventfd = -1;
    int ret = 0;

    if (fd >= 0) {
        eventfd = sim_eventfd_get(dev->sim, fd);
        if (eventfd < 0)
            return eventfd;
    }
    if (irq->active == VFIO_PCI_INTX_IRQ_INDEX) {
        sim_eventfd_put(&irq->triggers[0]);
        irq->triggers[0] = steal_fd(&eventfd);
        return 0;
    }
    ret = activate(dev, VFIO_PCI_INTX_IRQ_INDEX, 1);
    if (ret)
        return ret;
    irq->triggers[0] = steal_fd(&eventfd);
    irq->masked = irq->disabled;
    sim_irq_deliver_intx(dev);
    return 0;
}

static int intx_trigger(struct sim_device *dev, const struct request *req)
{
    const struct sim_irq *irq = &dev->irq;

    if (is_disabling(irq, req)) {
        sim_irq_disable(dev);
        return 0;
    }
    if ((irq->active != VFIO_PCI_INTX_IRQ_INDEX && !is_idle(irq)) || req->start || req->count != 1)
        return -EINVAL;
    if (req->data_type == VFIO_IRQ_SET_DATA_EVENTFD)
        return intx_set_eventfd(dev, fd_at(req, 0));
    if (is_idle(irq))
        return -EINVAL;
    if (is_chosen(req, 0))
        sim_irq_send_intx(dev);
    return 0;
}

/* The old eventfd goes first: it is gone even if the new one is refused. */
static int msi_set_vector(struct sim_device *dev, uint32_t vector, int fd)
{
    int *trigger = &dev->irq.triggers[vector];
    int eventfd;

    sim_eventfd_put(trigger);
    if (fd < 0)
        return 0;
    if (sim_irq_is_dynamic(dev, dev->irq.active) && vector >= dev->sim->vector_limit)
        return -ENOSPC;
    eventfd = sim_eventfd_get(dev->sim, fd);
    if (eventfd < 0)
        return eventfd;
    *trigger = eventfd;
    return 0;
}

static int msi_set_block(struct sim_device *dev, const struct request *req)
{
    int ret = 0;

    if (req->start >= dev->irq.count || req->start + req->count > dev->irq.count)
        return -EINVAL;
    for (uint32_t i = 0; i < req->count && !ret; i++) {
        ret = msi_set_vector(dev, req->start + i, fd_at(req, i));
        for (uint32_t done = 0; ret && done <= i; done++)
            msi_set_vector(dev, req->start + done, -1);
    }
    return ret;
}

/* A positive number: as many vectors as could be had. */
static int msi_enable(struct sim_device *dev, const struct request *req)
{
    uint32_t count = req->start + req->count;
    unsigned limit = dev->sim->vector_limit;
    int ret;

    if (!count)
        return -ERANGE;
    if (limit < count)
        return limit ? (int)limit : -ENOSPC;
    if (sim_irq_is_dynamic(dev, req->index))
        count = sim_irq_count(dev, req->index);
    ret = activate(dev, req->index, count);
    if (ret)
        return ret;
    ret = msi_set_block(dev, req);
    if (ret)
        sim_irq_disable(dev);
    return ret;
}

static int msi_trigger(struct sim_device *dev, const struct request *req)
{
    const struct sim_irq *irq = &dev->irq;
    bool is_active = irq->active == req->index;

    if (is_disabling(irq, req)) {
        sim_irq_disable(dev);
        return 0;
    }
    if (!is_active && !is_idle(irq))
        return -EINVAL;
    if (req->data_type == VFIO_IRQ_SET_DATA_EVENTFD)
        return is_active ? msi_set_block(dev, req) : msi_enable(dev, req);
    if (!is_active || req->start + req->count > irq->count)
        return -EINVAL;
    for (uint32_t i = 0; i < req->count; i++) {
        if (is_chosen(req, i))
            sim_eventfd_signal(irq->triggers[req->start + i]);
    }
    return 0;
}

static int single_set_eventfd(struct sim_device *dev, int *trigger, int fd)
{
    int eventfd = -1;

    if (fd < -1)
        return 0;
    if (fd >= 0) {
        eventfd = sim_eventfd_get(dev->sim, fd);
        if (eventfd < 0)
            return eventfd;
    }
    sim_eventfd_put(trigger);
    *trigger = eventfd;
    return 0;
}

static int single_trigger(struct sim_device *dev, int *trigger, const struct request *req)
{
    if (req->data_type == VFIO_IRQ_SET_DATA_NONE) {
        if (*trigger < 0)
            return -EINVAL;
        if (req->count)
            sim_eventfd_signal(*trigger);
        else
            sim_eventfd_put(trigger);
        return 0;
    }
    if (!req->count)
        return -EINVAL;
    if (req->data_type == VFIO_IRQ_SET_DATA_EVENTFD)
        return single_set_eventfd(dev, trigger, fd_at(req, 0));
    if (is_chosen(req, 0))
        sim_eventfd_signal(*trigger);
    return 0;
}

static int err_trigger(struct sim_device *dev, const struct request *req)
{
    return single_trigger(dev, &dev->irq.err, req);
}

static int req_trigger(struct sim_device *dev, const struct request *req)
{
    int ret = single_trigger(dev, &dev->irq.req, req);

    if (!ret && dev->irq.req >= 0 && dev->irq.req_missed) {
        dev->irq.req_missed = false;
        sim_eventfd_signal(dev->irq.req);
    }
    return ret;
}

/* What is not here answers ENOTTY. */
static const struct {
    uint32_t index, action;
    int (*set)(struct sim_device *dev, const struct request *req);
} actions[] = {
    {VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_MASK,    intx_mask   },
    {VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK,  intx_unmask },
    {VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, intx_trigger},
    {VFIO_PCI_MSI_IRQ_INDEX,  VFIO_IRQ_SET_ACTION_TRIGGER, msi_trigger },
    {VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, msi_trigger },
    {VFIO_PCI_ERR_IRQ_INDEX,  VFIO_IRQ_SET_ACTION_TRIGGER, err_trigger },
    {VFIO_PCI_REQ_IRQ_INDEX,  VFIO_IRQ_SET_ACTION_TRIGGER, req_trigger },
};

/* The checks that the core makes for every driver. */
static int check_header(const struct sim_device *dev, const struct vfio_irq_set *set, size_t *size)
{
    unsigned vectors = sim_irq_count(dev, set->index);
    size_t unit;

    if (set->argsz < sizeof(*set) || set->index >= VFIO_PCI_NUM_IRQS ||
        set->count >= UINT32_MAX - set->start || set->flags & ~(uint32_t)ALL_FLAGS)
        return -EINVAL;
    if (set->start >= vectors || set->start + set->count > vectors)
        return -EINVAL;
    switch (set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
    case VFIO_IRQ_SET_DATA_NONE:
        unit = 0;
        break;
    case VFIO_IRQ_SET_DATA_BOOL:
        unit = sizeof(uint8_t);
        break;
    case VFIO_IRQ_SET_DATA_EVENTFD:
        unit = sizeof(int32_t);
        break;
    default:
        return -EINVAL;
    }
    *size = unit * set->count;
    return set->argsz - sizeof(*set) < *size ? -EINVAL : 0;
}

static int dispatch(struct sim_device *dev, const struct request *req)
{
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        if (actions[i].index == req->index && actions[i].action == req->action)
            return actions[i].set(dev, req);
    }
    return -ENOTTY;
}

int sim_irq_set(struct sim_device *dev, void *arg)
{
    struct vfio_irq_set set;
    size_t size;
    int ret = sim_copy_in(&set, arg, sizeof(set));

    if (!ret)
        ret = check_header(dev, &set, &size);
    if (ret)
        return ret;
    return dispatch(dev, &(struct request){
                             .data_type = set.flags & VFIO_IRQ_SET_DATA_TYPE_MASK,
                             .action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK,
                             .index = set.index,
                             .start = set.start,
                             .count = set.count,
                             .data = (const uint8_t *)arg + sizeof(set),
                         });
}
