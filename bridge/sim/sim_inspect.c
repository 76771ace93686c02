/*
 * What a test sees of the machine, and what it makes the hardware do.
 */
#include <errno.h>
#include <linux/vfio.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_eeh.h"
#include "bridge/sim/sim_internal.h"

void sim_get_stats(struct sim *sim, struct sim_stats *stats)
{
    *stats = (struct sim_stats){
        .containers = sim_file_count(sim, SIM_FILE_CONTAINER),
        .groups = sim_file_count(sim, SIM_FILE_GROUP),
        .devices = sim_file_count(sim, SIM_FILE_DEVICE),
        .contexts = sim_file_count(sim, SIM_FILE_IOMMUFD),
        .dmabufs = sim_file_count(sim, SIM_FILE_DMABUF),
        .bar_mappings = sim_vma_count(sim),
        .streams = sim_file_count(sim, SIM_FILE_STREAM),
        .mappings = sim->count.mappings,
        .pinned_bytes = sim->count.pinned_bytes,
        .pins = sim->count.pins_made,
        .locked_bytes = sim->count.locked_bytes,
        .dma_faults = sim->count.dma_faults,
        .peer_faults = sim->count.peer_faults,
        .dma_reads = sim->count.dma_reads,
        .dma_writes = sim->count.dma_writes,
        .dma_to_host = sim->count.dma_to_host,
        .resets = sim->count.resets,
        .ioctls = sim->count.ioctls,
    };
}

static unsigned count_msi_eventfds(const struct sim_irq *irq, bool intx)
{
    unsigned count = 0;

    for (unsigned i = 0; i < irq->count && !intx; i++)
        count += irq->triggers[i] >= 0;
    return count;
}

static bool is_logging(struct sim_device *dev)
{
    bool active;

    pthread_mutex_lock(&dev->dma.lock);
    active = dev->dma.log.active;
    pthread_mutex_unlock(&dev->dma.lock);
    return active;
}

int sim_get_device_state(struct sim *sim, const char *bdf, struct sim_device_state *state)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    bool intx;

    if (!dev)
        return -ENODEV;
    pthread_mutex_unlock(&sim->lock);
    pthread_mutex_lock(&dev->lock);
    intx = dev->irq.active == VFIO_PCI_INTX_IRQ_INDEX;
    *state = (struct sim_device_state){
        .bus_master = sim_pci_bus_master(dev),
        .memory_enabled = sim_pci_memory_enabled(dev),
        .dma_running = dev->model->dma_running(dev->state),
        .intx_eventfd = intx && dev->irq.triggers[0] >= 0,
        .may_sleep = dev->power.allowed,
        .asleep = dev->power.asleep,
        .msi_eventfds = count_msi_eventfds(&dev->irq, intx),
        .migration = dev->migration.state,
        .logging = is_logging(dev),
        .doorbells = dev->ioeventfds.count,
    };
    pthread_mutex_unlock(&dev->lock);
    return 0;
}

int sim_device_dma(struct sim *sim, const char *bdf, uint64_t iova, void *buf, size_t len,
                   bool write)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    pthread_mutex_unlock(&sim->lock);
    return sim_dma_force(dev, iova, buf, len, write);
}

int sim_freeze_pe(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    sim_eeh_freeze(dev->group);
    pthread_mutex_unlock(&sim->lock);
    return 0;
}
