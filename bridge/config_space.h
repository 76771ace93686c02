/*
 * What the bridge itself does with a device's PCI config space, through the VFIO config region. A
 * device of another bus has none: nothing is done to it, and that is a success.
 *
 * No-snoop: a PCIe device may ask for DMA that passes the processor's caches by. Where the IOMMU
 * can't force such DMA to be coherent, a hypervisor must know of it, and the one way to tell it (a
 * VFIO file that it registers with KVM) a client of ours has not. So there the device's enable bit
 * is kept off.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/device.h"

/*
 * Clears the no-snoop enable bit of a device that has one and does its DMA itself, if the address
 * space is not coherent, and remembers where it is. At each opening; 0 or -errno, logged.
 */
int config_space_forbid_no_snoop(struct device *dev);

/*
 * Stops the device's DMA as config_space_stop_dma, and keeps bus mastering off, whatever is
 * written to COMMAND, until the device is opened again. On an error only the latter is sure.
 */
int config_space_forbid_dma(struct device *dev);

/*
 * Takes out of the bytes of a write to config space what must not reach the device. offset and
 * count: the range of the write.
 */
void config_space_filter(const struct device *dev, uint64_t offset, uint8_t *bytes, uint32_t count);

/*
 * Stops the device's DMA: clears bus mastering in COMMAND and reads it back. 0, or -errno with
 * the cause logged; -EIO if the bit stays set, which of a mediated device does not tell: what it
 * reaches is what the kernel has mapped for it.
 */
int config_space_stop_dma(struct device *dev);

/*
 * True if nothing answers where the device was: it was pulled out, or its link is down. Registers
 * that vfio-pci does not make up read all ones then. Of a device of another bus it can't be told.
 */
bool config_space_is_gone(struct device *dev);

/* Switches the device's memory and I/O decode off, the same way. */
int config_space_stop_decode(struct device *dev);

/* Where a device has its MSI-X table. */
struct config_msix_table {
    uint32_t bar;
    uint64_t offset, size;
};

/* 1: it has one; 0: it has none; -errno. */
int config_space_find_msix_table(struct device *dev, struct config_msix_table *table);
