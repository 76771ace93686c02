/*
 * What the bridge itself does with a device's PCI config space, through the VFIO config region.
 */
#pragma once

#include "bridge/device.h"

/*
 * Stops the device's DMA: clears bus mastering in COMMAND and reads it back. 0, or -errno with
 * the cause logged; -EIO if the bit stays set.
 */
int config_space_stop_dma(struct device *dev);

/* Switches the device's memory and I/O decode off, the same way. */
int config_space_stop_decode(struct device *dev);
