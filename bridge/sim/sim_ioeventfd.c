#include "bridge/sim/sim_ioeventfd.h"

#include <endian.h>
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/sim/sim_bar.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_eventfd.h"
#include "bridge/sim/sim_info.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_irqfd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    MOST = 1000,
};

struct sim_ioeventfd {
    struct sim_ioeventfd *next;
    unsigned bar, width;
    uint64_t at, data;
    int eventfd;
};

static bool in_msix_table(const struct sim_device *dev, const struct sim_ioeventfd *want)
{
    uint64_t start, end;
    unsigned bar;

    return sim_pci_msix_table(dev, &bar, &start, &end) && bar == want->bar && want->at < end &&
           want->at + want->width > start;
}

/* 8 bytes are refused by all kernels on processors whose ports have not that width. */
static int take_in(const struct sim_device *dev, void *arg, struct sim_ioeventfd *want)
{
    const size_t minsz = offsetof(struct vfio_device_ioeventfd, fd) + sizeof(int32_t);
    struct vfio_device_ioeventfd in = {0};
    int ret = sim_copy_in(&in, arg, minsz);
    uint64_t at, bar;

    if (ret)
        return ret;
    bar = sim_info_region_at(dev, in.offset, &at);
    *want = (struct sim_ioeventfd){
        .bar = (unsigned)bar,
        .width = in.flags & VFIO_DEVICE_IOEVENTFD_SIZE_MASK,
        .at = at,
        .data = in.data,
        .eventfd = in.fd,
    };
    if (in.argsz < minsz || in.flags & ~(uint32_t)VFIO_DEVICE_IOEVENTFD_SIZE_MASK ||
        !is_pow2(want->width) || in.fd < -1)
        return -EINVAL;
    if (bar >= SIM_MODEL_BARS ||
        !range_within(want->at, want->width, dev->model->bars[want->bar].size) ||
        in_msix_table(dev, want) || want->width == 8)
        return -EINVAL;
    return 0;
}

static struct sim_ioeventfd **find(struct sim_device *dev, const struct sim_ioeventfd *want)
{
    struct sim_ioeventfd **e = &dev->ioeventfds.first;

    while (*e && ((*e)->bar != want->bar || (*e)->width != want->width || (*e)->at != want->at ||
                  (*e)->data != want->data))
        e = &(*e)->next;
    return e;
}

static void drop(struct sim_device *dev, struct sim_ioeventfd **at)
{
    struct sim_ioeventfd *e = *at;

    *at = e->next;
    dev->ioeventfds.count--;
    sim_irqfd_remove(dev, e->eventfd);
    sim_eventfd_put(&e->eventfd);
    free(e);
}

static int add(struct sim_device *dev, const struct sim_ioeventfd *want)
{
    cleanup_close_ int eventfd = sim_eventfd_get(dev->sim, want->eventfd);
    cleanup_free_ struct sim_ioeventfd *e = malloc(sizeof(*e));
    int ret;

    if (eventfd < 0)
        return eventfd;
    if (!e)
        return -ENOMEM;
    ret = sim_irqfd_add(dev, eventfd, SIM_IRQFD_DOORBELL);
    if (ret)
        return ret;
    *e = *want;
    e->eventfd = steal_fd(&eventfd);
    e->next = dev->ioeventfds.first;
    dev->ioeventfds.first = steal_ptr(e);
    dev->ioeventfds.count++;
    return 0;
}

int sim_ioeventfd_set(struct sim_device *dev, void *arg)
{
    struct sim_ioeventfd want, **found;
    int ret = take_in(dev, arg, &want);

    if (ret)
        return ret;
    found = find(dev, &want);
    if (*found && want.eventfd >= 0)
        return -EEXIST;
    if (*found) {
        drop(dev, found);
        return 0;
    }
    if (want.eventfd < 0)
        return -ENODEV;
    return dev->ioeventfds.count >= MOST ? -ENOSPC : add(dev, &want);
}

/* One that sleeps is not woken by it. */
void sim_ioeventfd_event(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    for (const struct sim_ioeventfd *e = dev->ioeventfds.first; e; e = e->next) {
        uint64_t data = htole64(e->data);

        if (sim_eventfd_consume(e->eventfd) && !dev->power.asleep)
            sim_bar_poke(dev, e->bar, e->at, &data, e->width);
    }
    pthread_mutex_unlock(&dev->lock);
}

void sim_ioeventfd_close(struct sim_device *dev)
{
    while (dev->ioeventfds.first)
        drop(dev, &dev->ioeventfds.first);
}
