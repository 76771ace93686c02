#include "bridge/irq_relay.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/irq.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

enum {
    NO_INDEX = UINT32_MAX,
};

/* Only PCI has it. */
static uint32_t err_index(const struct device *dev)
{
    return device_is_pci(dev) ? VFIO_PCI_ERR_IRQ_INDEX : (uint32_t)NO_INDEX;
}

/* Of the other buses channels alone have it, by another number. */
static uint32_t req_index(const struct device *dev)
{
    if (dev->info.flags & VFIO_DEVICE_FLAGS_CCW)
        return VFIO_CCW_REQ_IRQ_INDEX;
    return device_is_pci(dev) ? VFIO_PCI_REQ_IRQ_INDEX : (uint32_t)NO_INDEX;
}

static int own_eventfd(const struct device *dev, uint32_t index)
{
    return index == err_index(dev) ? dev->err_event : dev->req_event;
}

/* -1: takes away the one that is registered. */
static int give(struct device *dev, uint32_t index, int fd)
{
    return irq_call(dev, index, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &fd,
                    sizeof(fd));
}

static int give_own(struct device *dev, uint32_t index)
{
    int ret = give(dev, index, own_eventfd(dev, index));

    if (ret)
        log_peer_warning("%s of %s does not signal this process: %s",
                         index == err_index(dev) ? "ERR" : "REQ", dev->where.name, strerror(-ret));
    return ret;
}

/* The kernel checks what the descriptor is, and would hold it for us. */
static int check(struct device *dev, uint32_t index, int fd)
{
    int ret = give(dev, index, fd);

    return ret ? ret : give_own(dev, index);
}

static int signal_client(struct device *dev, uint32_t index, int fd)
{
    int own, ret = give(dev, index, fd);

    if (ret)
        return ret;
    ret = irq_call(dev, index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, NULL, 0);
    own = give_own(dev, index);
    return ret ? ret : own;
}

static int clients_eventfd(const struct device *dev, uint32_t index)
{
    const struct irq_index *irq = &dev->irqs[index];

    return irq->eventfd ? irq->eventfd[0] : -1;
}

bool irq_relay_has(const struct device *dev, uint32_t index)
{
    return index == err_index(dev) || index == req_index(dev);
}

static int set_eventfd(struct device *dev, struct irq_request *req)
{
    struct irq_index *irq = &dev->irqs[req->index];
    int ret;

    if (req->count != 1)
        return -EINVAL;
    ret = irq_alloc_eventfds(irq);
    if (!ret && req->eventfds[0] >= 0)
        ret = check(dev, req->index, req->eventfds[0]);
    if (ret)
        return ret;
    fd_close(&irq->eventfd[0]);
    irq->eventfd[0] = steal_fd(&req->eventfds[0]);
    return 0;
}

/* As vfio-pci answers for these indexes; what it would signal is the client's eventfd. */
int irq_relay_set(struct device *dev, struct irq_request *req)
{
    int fd = clients_eventfd(dev, req->index);

    if (!(req->flags & VFIO_IRQ_SET_ACTION_TRIGGER))
        return -ENOTTY;
    if (req->flags & VFIO_IRQ_SET_DATA_EVENTFD)
        return set_eventfd(dev, req);
    if (!req->count)
        return -EINVAL;
    if (req->flags & VFIO_IRQ_SET_DATA_BOOL)
        return req->bools[0] && fd >= 0 ? signal_client(dev, req->index, fd) : 0;
    return fd < 0 ? -EINVAL : signal_client(dev, req->index, fd);
}

int irq_relay_arm(struct device *dev)
{
    const uint32_t indexes[] = {err_index(dev), req_index(dev)};
    int ret = 0;

    for (size_t i = 0; !ret && i < 2; i++) {
        const struct irq_info *info = irq_get(dev, indexes[i]);

        if (info && info->count && own_eventfd(dev, indexes[i]) >= 0)
            ret = give_own(dev, indexes[i]);
    }
    return ret;
}

int irq_relay_watch(struct device *dev, int err, int req)
{
    dev->err_event = err;
    dev->req_event = req;
    return irq_relay_arm(dev);
}

static void relay(struct device *dev, uint32_t index)
{
    int fd = irq_get(dev, index) ? clients_eventfd(dev, index) : -1;
    int ret = fd < 0 ? 0 : signal_client(dev, index, fd);

    if (ret)
        log_peer_warning("irq index %u of %s is not relayed to its client: %s", index,
                         dev->where.name, strerror(-ret));
}

void irq_relay_error(struct device *dev)
{
    relay(dev, err_index(dev));
}

void irq_relay_request(struct device *dev)
{
    relay(dev, req_index(dev));
}
