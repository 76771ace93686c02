/*
 * The interrupts of a device (VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS).
 *
 * A client's eventfd is handed to the kernel, which signals it from then on: no interrupt crosses
 * this process, and KVM's posted interrupts work as they do without it. This process never writes
 * to a client's eventfd: the write would block when the counter is full.
 *
 * The kernel enables MSI and MSI-X as a set, and without dynamic allocation the set can't
 * grow; clients do grow it, in chunks. So MSI-X is first enabled with all its vectors, the unused
 * ones without eventfd, and a set that must grow all the same (MSI, whose size the device itself
 * sees; or a host short of vectors) is taken down and made again, with each vector signalled once,
 * because an interrupt may have been lost in the gap.
 */
#pragma once

#include <stdint.h>

#include "bridge/device.h"

struct irq_info {
    uint32_t flags; /* VFIO_IRQ_INFO_* of <linux/vfio.h> */
    uint32_t count;
};

/* Flags as in struct vfio_irq_set; the combination of one DATA and one ACTION is the caller's to
 * check. */
struct irq_request {
    uint32_t index;
    uint32_t flags;
    uint32_t start;
    uint32_t count;
    int *eventfds;        /* DATA_EVENTFD: count of them, -1 for none */
    const uint8_t *bools; /* DATA_BOOL: count of them */
};

/* NULL for an index that the device does not have. */
const struct irq_info *irq_get(const struct device *dev, uint32_t index);

/*
 * Carries a request out; one of ERR or REQ as irq_relay.h says. Descriptors that the device keeps
 * are taken out of the request's array (set to -1); the others stay the caller's. -EINVAL: index,
 * start and count, a descriptor that is no eventfd, another index is active; -ENOTTY: not an action
 * of this index; -ENOSPC: the host has too few vectors; else the kernel's. After an error each
 * vector of the request has its old eventfd or none, the others are as they were; but if a set that
 * was taken down to grow can't be made again, the index is off. Disabling an index that is off is a
 * success.
 */
int irq_set(struct device *dev, struct irq_request *req);

/* Disables every index; 0 or the first error, logged. */
int irq_disable_all(struct device *dev);

/*
 * Gives the kernel every trigger eventfd that it has been given, once more, for a device that was
 * reset: vfio-pci keeps them over a reset, and restores the registers of MSI and MSI-X, but what a
 * driver or a quirk of the reset does to these is not told anywhere. 0 or the first error, logged;
 * the vectors of an index that fails may be without eventfd until the next call.
 */
int irq_rearm(struct device *dev);
