/*
 * INTx is a level that may stay asserted for long, so vfio-pci masks the line when it tells the
 * client, and the client unmasks it once it has served the device; if the line is still
 * asserted then, the client is told again and the line stays masked.
 *
 * A message is a write by the device to the host's interrupt window: without bus mastering it
 * goes nowhere, as any other write. A mediated device's driver signals by itself.
 */
#include "bridge/sim/sim_irq.h"

#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_eventfd.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_irqfd.h"

void sim_irq_init(struct sim_irq *irq)
{
    irq->active = VFIO_PCI_NUM_IRQS;
    irq->unmask = -1;
    irq->err = -1;
    irq->req = -1;
}

unsigned sim_irq_count(const struct sim_device *dev, uint32_t index)
{
    switch (index) {
    case VFIO_PCI_INTX_IRQ_INDEX:
        return sim_pci_has_intx(dev);
    case VFIO_PCI_MSI_IRQ_INDEX:
        return sim_pci_msi_vectors(dev);
    case VFIO_PCI_MSIX_IRQ_INDEX:
        return sim_pci_msix_vectors(dev);
    case VFIO_PCI_ERR_IRQ_INDEX:
        return sim_pci_is_express(dev);
    case VFIO_PCI_REQ_IRQ_INDEX:
        return sim_device_is_on_pci(dev);
    default:
        return 0;
    }
}

bool sim_irq_is_dynamic(const struct sim_device *dev, uint32_t index)
{
    return index == VFIO_PCI_MSIX_IRQ_INDEX && dev->sim->dynamic_msix;
}

void sim_irq_send_intx(struct sim_device *dev)
{
    const struct sim_irq *irq = &dev->irq;

    if (irq->active == VFIO_PCI_INTX_IRQ_INDEX && !irq->disabled)
        sim_eventfd_signal(irq->triggers[0]);
}

void sim_irq_deliver_intx(struct sim_device *dev)
{
    struct sim_irq *irq = &dev->irq;

    if (irq->active != VFIO_PCI_INTX_IRQ_INDEX || !irq->level || irq->masked)
        return;
    irq->masked = true;
    sim_irq_send_intx(dev);
}

void sim_irq_mask_intx(struct sim_device *dev)
{
    if (dev->irq.active == VFIO_PCI_INTX_IRQ_INDEX)
        dev->irq.masked = true;
}

void sim_irq_unmask_intx(struct sim_device *dev)
{
    struct sim_irq *irq = &dev->irq;

    if (irq->active != VFIO_PCI_INTX_IRQ_INDEX || !irq->masked || irq->disabled)
        return;
    irq->masked = irq->level;
    if (irq->level)
        sim_irq_send_intx(dev);
}

void sim_irq_set_disabled(struct sim_device *dev, bool disabled)
{
    if (dev->irq.disabled == disabled)
        return;
    dev->irq.disabled = disabled;
    if (disabled)
        sim_irq_mask_intx(dev);
    else
        sim_irq_unmask_intx(dev);
}

void sim_irq_unmask_event(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    if (dev->irq.unmask >= 0) {
        sim_eventfd_consume(dev->irq.unmask);
        sim_irq_unmask_intx(dev);
    }
    pthread_mutex_unlock(&dev->lock);
}

void sim_irq_set_intx(struct sim_device *dev, bool level)
{
    dev->irq.level = level;
    sim_pci_set_intx_status(dev, level);
    sim_irq_deliver_intx(dev);
}

bool sim_irq_intx(const struct sim_device *dev)
{
    return dev->irq.level;
}

bool sim_irq_msi_enabled(struct sim_device *dev)
{
    return sim_pci_msi_enabled(dev);
}

void sim_irq_notify(struct sim_device *dev, unsigned vector)
{
    const struct sim_irq *irq = &dev->irq;
    bool may_write = dev->model->mediated || sim_pci_bus_master(dev);

    if (sim_pci_msi_enabled(dev) && may_write && vector < irq->count)
        sim_eventfd_signal(irq->triggers[vector]);
}

void sim_irq_disable(struct sim_device *dev)
{
    struct sim_irq *irq = &dev->irq;

    if (irq->unmask >= 0)
        sim_irqfd_remove(dev, irq->unmask);
    sim_eventfd_put(&irq->unmask);
    for (unsigned i = 0; i < irq->count; i++)
        sim_eventfd_put(&irq->triggers[i]);
    free(irq->triggers);
    irq->triggers = NULL;
    irq->count = 0;
    sim_pci_enable_msi(dev, irq->active, false);
    irq->active = VFIO_PCI_NUM_IRQS;
}

void sim_irq_close(struct sim_device *dev)
{
    sim_irq_disable(dev);
    dev->irq.disabled = false;
    sim_eventfd_put(&dev->irq.err);
    sim_eventfd_put(&dev->irq.req);
}
