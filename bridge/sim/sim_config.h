/*
 * PCI configuration space as vfio-pci lets a client see and change it.
 *
 * With the device's lock held.
 */
#pragma once

#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sim_device;

struct sim_config {
    uint8_t virt[PCI_CFG_SPACE_EXP_SIZE];        /* the client's copy */
    uint8_t is_virt[PCI_CFG_SPACE_EXP_SIZE];     /* bits that live there, not in the hardware */
    uint8_t is_writable[PCI_CFG_SPACE_EXP_SIZE]; /* bits that a client may change */
    bool bars_written;
    uint8_t saved[PCI_STD_HEADER_SIZEOF]; /* the hardware's, to be put back at the last close */
};

/* The first open and the last close; the caller resets the device. */
void sim_config_open(struct sim_device *dev);
void sim_config_close(struct sim_device *dev);

/* A client's access; -EFAULT, without effect, if any of it lies outside. */
ssize_t sim_config_read(struct sim_device *dev, uint64_t offset, void *buf, size_t len);
ssize_t sim_config_write(struct sim_device *dev, uint64_t offset, const void *buf, size_t len);

/* What vfio-pci grants access to memory BARs by. */
bool sim_config_memory_enabled(const struct sim_device *dev);
