#include "bridge/sim/sim_irqfd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_ioeventfd.h"
#include "proto/base/cleanup.h"

/* The device's address, and in its lowest bit the kind. */
static uint64_t tag(struct sim_device *dev, enum sim_irqfd_kind kind)
{
    return (uint64_t)(uintptr_t)dev | kind;
}

static void *wait_for_events(void *arg)
{
    struct sim_irqfd *irqfd = arg;

    for (;;) {
        struct epoll_event event;
        struct sim_device *dev;

        if (epoll_wait(irqfd->epoll, &event, 1, -1) != 1)
            continue;
        dev = (struct sim_device *)(uintptr_t)(event.data.u64 & ~UINT64_C(1));
        if (!dev)
            return NULL;
        if (event.data.u64 & SIM_IRQFD_DOORBELL)
            sim_ioeventfd_event(dev);
        else
            sim_irq_unmask_event(dev);
    }
}

int sim_irqfd_start(struct sim *sim)
{
    cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
    cleanup_close_ int stop = eventfd(0, EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    int ret;

    if (epoll < 0 || stop < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, stop, &event) < 0)
        return -errno;
    sim->irqfd.epoll = epoll;
    ret = sim_start_thread(&sim->irqfd.thread, wait_for_events, &sim->irqfd);
    if (ret)
        return ret;
    sim->irqfd.stop = steal_fd(&stop);
    epoll = -1; /* the thread's */
    return 0;
}

void sim_irqfd_stop(struct sim *sim)
{
    eventfd_write(sim->irqfd.stop, 1);
    pthread_join(sim->irqfd.thread, NULL);
    fd_close(&sim->irqfd.stop);
    fd_close(&sim->irqfd.epoll);
}

int sim_irqfd_add(struct sim_device *dev, int fd, enum sim_irqfd_kind kind)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag(dev, kind)};

    return epoll_ctl(dev->sim->irqfd.epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void sim_irqfd_remove(struct sim_device *dev, int fd)
{
    epoll_ctl(dev->sim->irqfd.epoll, EPOLL_CTL_DEL, fd, NULL);
}
