/*
 * Devices that are taken away and come back: the unbinding of their driver, hot-plug, and errors
 * that AER reports.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_dma.h"
#include "bridge/sim/sim_eventfd.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"

int sim_request_removal(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    dev->driver[0] = '\0'; /* sysfs loses it first */
    pthread_mutex_lock(&dev->lock);
    dev->irq.req_missed = dev->irq.req < 0;
    sim_eventfd_signal(dev->irq.req);
    pthread_mutex_unlock(&dev->lock);
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

/* A group that loses its last device of vfio-pci is gone when nobody has its file. */
static bool is_removed(const struct sim_device *dev)
{
    return !dev->driver[0] && !dev->opened && !dev->bound &&
           (sim_group_has_file(dev->group) || !dev->group->opened);
}

bool sim_removal_is_done(struct sim *sim, const char *bdf)
{
    struct sim_device *dev;
    bool done;

    sim_file_reap(sim, false);
    dev = sim_lock_device(sim, bdf);
    done = dev && is_removed(dev);

    if (dev)
        pthread_mutex_unlock(&sim->lock);
    return done;
}

int sim_surprise_removal(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    pthread_mutex_unlock(&sim->lock);
    pthread_mutex_lock(&dev->lock);
    sim_pci_quiesce(dev);
    sim_dma_cancel(dev);
    dev->gone = true;
    pthread_mutex_unlock(&dev->lock);
    return 0;
}

bool sim_device_is_unplugged(const struct sim_device *dev)
{
    return dev->gone && is_removed(dev);
}

/* Numbers are not used again. With sim->lock held. */
static void renumber(struct sim_device *dev)
{
    struct sim *sim = dev->sim;
    struct sim_group *group, *left = dev->group;
    int number = 0;

    for (struct sim_device *other = sim->devices; other; other = other->next) {
        if (other->cdev >= dev->cdev)
            dev->cdev = other->cdev + 1;
        if (other->group->number > number)
            number = other->group->number;
    }
    group = sim_group_has_file(left) ? NULL : sim_group_create(sim, number + 1);
    if (!group)
        return;
    group->noiommu = left->noiommu;
    dev->group = group;
    sim_group_drop_if_empty(left);
}

int sim_bring_back(struct sim *sim, const char *bdf)
{
    struct sim_device *dev;
    int ret = 0;

    sim_file_reap(sim, false);
    dev = sim_lock_device(sim, bdf);
    if (!dev)
        return -ENODEV;
    if (is_removed(dev)) {
        renumber(dev);
        pthread_mutex_lock(&dev->lock);
        if (dev->gone)
            dev->model->reset(dev->state);
        dev->gone = false;
        dev->irq.req_missed = false;
        pthread_mutex_unlock(&dev->lock);
        strcpy(dev->driver, sim_device_vfio_driver(dev));
    } else {
        ret = -EBUSY;
    }
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

int sim_report_error(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    pthread_mutex_unlock(&sim->lock);
    pthread_mutex_lock(&dev->lock);
    sim_eventfd_signal(dev->irq.err);
    pthread_mutex_unlock(&dev->lock);
    return 0;
}
