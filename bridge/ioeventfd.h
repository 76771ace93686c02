/*
 * Doorbells: registers of a BAR to which a constant is written (VFIO_DEVICE_IOEVENTFD of
 * <linux/vfio.h>). The kernel makes the write whenever an eventfd is signalled, and a hypervisor
 * lets KVM signal that when the guest makes it: no process is in between.
 *
 * By the device's worker.
 */
#pragma once

#include <stddef.h>

#include "bridge/device.h"
#include "bridge/doorbell.h"

/*
 * Whether the kernel takes all n of them, which are none of the device's so far. 0, or -errno of
 * the first that it does not, logged as an operator's mistake.
 */
int ioeventfd_check(struct device *dev, const struct doorbell *bells, size_t n);

/*
 * The doorbell's eventfd, registered at the first call: *fd, the device's, until ioeventfd_end or
 * until the device is closed. A client may have a duplicate of it. 0 or -errno, logged: -ENODEV:
 * the device is not open; -ENOSPC: the kernel has no more for it.
 */
int ioeventfd_get(struct device *dev, const struct doorbell *bell, int *fd);

/*
 * Takes all of them away, so that no duplicate of their eventfds rings anything any more. Every one
 * is tried; 0 or the first error, logged.
 */
int ioeventfd_end(struct device *dev);
