/*
 * ERR and REQ: the irq indexes by which the kernel speaks to the device's owner, of an error that
 * AER reports (VFIO_PCI_ERR_IRQ_INDEX) and of somebody who wants the device back
 * (VFIO_PCI_REQ_IRQ_INDEX). The owner is this process, so the eventfds that the kernel has are its
 * own; a client that registers one has the events relayed.
 *
 * A relayed event is the kernel's own signal too, as this process never writes to a client's
 * eventfd (irq.h): for a moment the client's is registered, and is triggered. An event of that
 * moment goes to the client alone. REQ comes again ten seconds later, and every ten seconds after.
 */
#pragma once

#include "bridge/device.h"

/*
 * From now on, and again whenever the device is reopened, the kernel signals these eventfds of ERR
 * and REQ (-1: none), which stay the caller's and outlive the device. An index that the device
 * lacks is left out. 0 or -errno, logged.
 */
int irq_relay_watch(struct device *dev, int err, int req);

/* Signal the client's eventfd of ERR, of REQ, if it has registered one. An error is logged. */
void irq_relay_error(struct device *dev);
void irq_relay_request(struct device *dev);
