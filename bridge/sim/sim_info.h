/*
 * VFIO_DEVICE_GET_INFO, GET_REGION_INFO, GET_IRQ_INFO. With the device's lock held.
 */
#pragma once

struct sim_device;

enum {
    /* A region's index in an offset of the device's descriptor. */
    SIM_INFO_REGION_SHIFT = 40,
};

int sim_info_get_device(struct sim_device *dev, void *arg);
int sim_info_get_region(struct sim_device *dev, void *arg);
int sim_info_get_irq(struct sim_device *dev, void *arg);
