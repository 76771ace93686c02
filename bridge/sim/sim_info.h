/*
 * VFIO_DEVICE_GET_INFO, GET_REGION_INFO, GET_IRQ_INFO. With the device's lock held.
 */
#pragma once

#include <stdint.h>

struct sim_device;

/*
 * Where a region begins in the device's descriptor, and which one an offset lies in (*at: where in
 * it). A BAR that can be mapped is at 0, so that the same file is one of its dma-buf; the others
 * are where vfio-pci has them, but for BAR 0 then, which takes that one's place.
 */
uint64_t sim_info_region_offset(const struct sim_device *dev, uint32_t index);
uint64_t sim_info_region_at(const struct sim_device *dev, uint64_t offset, uint64_t *at);

int sim_info_get_device(struct sim_device *dev, void *arg);
int sim_info_get_region(struct sim_device *dev, void *arg);
int sim_info_get_irq(struct sim_device *dev, void *arg);
