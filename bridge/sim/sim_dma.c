#include "bridge/sim/sim_dma.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_domain.h"
#include "bridge/sim/sim_internal.h"

enum {
    /* Until a device that is busy may have become free. */
    BUSY_NS = 20000,
};

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

void sim_dma_set_stopped(struct sim_device *dev, bool stopped)
{
    pthread_mutex_lock(&dev->dma.lock);
    dev->dma.stopped = stopped;
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

void sim_dma_remove_iommu(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->dma.lock);
    dev->dma.no_iommu = true;
    pthread_mutex_unlock(&dev->dma.lock);
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

struct transfer {
    struct sim_device *dev;
    uint64_t epoch;
    bool forced; /* the device cares for nothing */
    uint64_t iova;
    char *buf;
    size_t len, done;
    bool write;
    int error; /* what became of it so far */
};

/* With dma.lock held, as the next one. */
static int check(const struct transfer *t)
{
    const struct sim_dma *dma = &t->dev->dma;

    if (t->forced)
        return 0;
    if (t->epoch != dma->epoch)
        return -ECANCELED;
    return dma->bus_master ? 0 : -EPERM;
}

/* False: the rest has to be tried again. */
static bool attempt(struct transfer *t)
{
    size_t before = t->done;
    int ret = check(t);
    bool finished;

    if (!ret && t->dev->dma.no_iommu) {
        t->dev->sim->count.dma_to_host++;
        t->error = 0;
        return true;
    }
    if (!ret && t->dev->dma.domain && !t->dev->dma.stopped) {
        finished = !sim_domain_copy(t->dev->dma.domain, t->iova, t->buf, t->len, t->write, &t->done,
                                    &t->error);
        if (t->write)
            sim_log_write(&t->dev->dma.log, t->iova + before, t->done - before);
        return finished;
    }
    if (!ret) {
        /* Without a container the host has the group in a domain that translates nothing. */
        t->dev->sim->count.dma_faults++;
        ret = -EFAULT;
    }
    t->error = ret;
    return true;
}

/* Each attempt is of the device as it is then: it may be cut off, or reset, in between. */
static void run(struct transfer *t)
{
    const struct timespec pause = {.tv_nsec = BUSY_NS};
    bool finished;

    for (;;) {
        pthread_mutex_lock(&t->dev->dma.lock);
        finished = attempt(t);
        pthread_mutex_unlock(&t->dev->dma.lock);
        if (finished)
            return;
        nanosleep(&pause, NULL);
    }
}

static int transfer(struct transfer *t)
{
    struct sim_counters *count = &t->dev->sim->count;

    run(t);
    if (!t->write)
        memset(t->buf + t->done, 0, t->len - t->done);
    if (!t->error && t->write)
        count->dma_writes++;
    else if (!t->error)
        count->dma_reads++;
    return t->error;
}

int sim_dma_transfer(struct sim_device *dev, uint64_t epoch, uint64_t iova, void *buf, size_t len,
                     bool write)
{
    return transfer(&(struct transfer){
        .dev = dev,
        .epoch = epoch,
        .iova = iova,
        .buf = buf,
        .len = len,
        .write = write,
    });
}

int sim_dma_force(struct sim_device *dev, uint64_t iova, void *buf, size_t len, bool write)
{
    return transfer(&(struct transfer){
        .dev = dev,
        .forced = true,
        .iova = iova,
        .buf = buf,
        .len = len,
        .write = write,
    });
}
