#include "bridge/sim/sim_dma.h"

#include <errno.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_domain.h"
#include "bridge/sim/sim_internal.h"

void sim_dma_init(struct sim_dma *dma)
{
    pthread_mutex_init(&dma->lock, NULL);
}

void sim_dma_destroy(struct sim_dma *dma)
{
    pthread_mutex_destroy(&dma->lock);
}

void sim_dma_set_bus_master(struct sim_device *dev, bool on)
{
    pthread_mutex_lock(&dev->dma.lock);
    dev->dma.bus_master = on;
    pthread_mutex_unlock(&dev->dma.lock);
}

void sim_dma_attach(struct sim_device *dev, struct sim_domain *domain)
{
    pthread_mutex_lock(&dev->dma.lock);
    dev->dma.domain = domain;
    pthread_mutex_unlock(&dev->dma.lock);
}

void sim_dma_attach_to_sibling(struct sim_device *dev, struct sim_device *sibling)
{
    struct sim_domain *domain;

    pthread_mutex_lock(&sibling->dma.lock);
    domain = sibling->dma.domain;
    pthread_mutex_unlock(&sibling->dma.lock);
    sim_dma_attach(dev, domain);
}

void sim_dma_cancel(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->dma.lock);
    dev->dma.epoch++;
    pthread_mutex_unlock(&dev->dma.lock);
}

uint64_t sim_dma_epoch(struct sim_device *dev)
{
    uint64_t epoch;

    pthread_mutex_lock(&dev->dma.lock);
    epoch = dev->dma.epoch;
    pthread_mutex_unlock(&dev->dma.lock);
    return epoch;
}

/* With dma.lock held. */
static int translate_and_copy(struct sim_device *dev, uint64_t iova, void *buf, size_t len,
                              bool write)
{
    struct sim_counters *count = &dev->sim->count;
    int ret;

    if (dev->dma.domain) {
        ret = sim_domain_copy(dev->dma.domain, iova, buf, len, write);
    } else {
        /* The host has the group in a domain that translates nothing. */
        count->dma_faults++;
        ret = -EFAULT;
        if (!write)
            memset(buf, 0, len);
    }
    if (!ret && write)
        count->dma_writes++;
    else if (!ret)
        count->dma_reads++;
    return ret;
}

int sim_dma_transfer(struct sim_device *dev, uint64_t epoch, uint64_t iova, void *buf, size_t len,
                     bool write)
{
    int ret = 0;

    pthread_mutex_lock(&dev->dma.lock);
    if (epoch != dev->dma.epoch)
        ret = -ECANCELED;
    else if (!dev->dma.bus_master)
        ret = -EPERM;
    if (!ret)
        ret = translate_and_copy(dev, iova, buf, len, write);
    else if (!write)
        memset(buf, 0, len);
    pthread_mutex_unlock(&dev->dma.lock);
    return ret;
}

int sim_dma_force(struct sim_device *dev, uint64_t iova, void *buf, size_t len, bool write)
{
    int ret;

    pthread_mutex_lock(&dev->dma.lock);
    ret = translate_and_copy(dev, iova, buf, len, write);
    pthread_mutex_unlock(&dev->dma.lock);
    return ret;
}
