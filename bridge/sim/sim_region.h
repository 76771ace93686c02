/*
 * The regions of a device beyond its BARs and config space: the ROM, VGA's legacy addresses, and
 * those that its driver adds. Each is memory, of which the model says what it begins with and where
 * a write changes it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sim_device;
struct sim_model_region;

/* Makes the memory. 0 or -ENOMEM. */
int sim_region_create(struct sim_device *dev);
void sim_region_destroy(struct sim_device *dev);

/* How many regions the device has, those of PCI among them. */
uint32_t sim_region_count(const struct sim_device *dev);

/* NULL: there is nothing of this kind behind the index. */
const struct sim_model_region *sim_region_find(const struct sim_device *dev, uint32_t index);

/*
 * As vfio-pci: what fits, -EINVAL for what is not there or can't be written, -EIO for a ROM while
 * the device does not decode. With the device's lock held.
 */
ssize_t sim_region_read(struct sim_device *dev, uint32_t index, uint64_t offset, void *buf,
                        size_t len);
ssize_t sim_region_write(struct sim_device *dev, uint32_t index, uint64_t offset, const void *buf,
                         size_t len);
