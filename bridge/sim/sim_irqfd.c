#include "bridge/sim/sim_irqfd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/cleanup.h"

static void *wait_for_events(void *arg)
{
    struct sim_irqfd *irqfd = arg;

    for (;;) {
        struct epoll_event event;
        int n = epoll_wait(irqfd->epoll, &event, 1, -1);

        if (n == 1 && !event.data.ptr)
            return NULL;
        if (n == 1)
            sim_irq_unmask_event(event.data.ptr);
    }
}

int sim_irqfd_start(struct sim *sim)
{
    cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
    cleanup_close_ int stop = eventfd(0, EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
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

int sim_irqfd_add(struct sim_device *dev, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = dev};

    return epoll_ctl(dev->sim->irqfd.epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void sim_irqfd_remove(struct sim_device *dev, int fd)
{
    epoll_ctl(dev->sim->irqfd.epoll, EPOLL_CTL_DEL, fd, NULL);
}
