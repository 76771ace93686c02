/* Resets of a bus: VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET. */
#pragma once

struct sim_device;

/* Without locks. arg: of the caller. -ENODEV: the device is on a root bus. */
int sim_hot_reset_info(struct sim_device *dev, void *arg);
int sim_hot_reset(struct sim_device *dev, void *arg);
