/* VFIO_DEVICE_RESET. */
#pragma once

#include <stdbool.h>

#include "bridge/device.h"

/* True if the device can be reset on its own. */
bool reset_is_supported(const struct device *dev);

/*
 * Resets the device. Bus mastering is off before and stays off: the kernel saves the config space
 * before the reset and restores it afterwards, so what is on comes back on. The virtual BARs and
 * the interrupt setup survive. A device that migrates runs then, and its stream is ended. Blocks
 * for as long as the device needs, up to a minute.
 *
 * -ENOTTY: the device can't be reset; -EAGAIN: it is locked by somebody else for longer than we
 * wait; else the kernel's. Logged.
 */
int reset_device(struct device *dev);
