/*
 * VFIO_DEVICE_FEATURE (<linux/vfio.h>): what a device can do beyond regions and interrupts, by
 * numbers.
 *
 * Not logged: whoever asks knows what it means to do without. By the device's worker.
 *
 * Each returns what the kernel does, or -errno: -ENOTTY: the device or the kernel has no such
 * feature; -EINVAL: the feature has it not for GET or SET, or data is not what it takes; -ENODEV:
 * the device is not open.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bridge/device.h"

/* ops: VFIO_DEVICE_FEATURE_GET, SET, or both. 0: the feature has them. */
int feature_probe(struct device *dev, uint32_t number, uint32_t ops);

/* data, size bytes, is what the kernel reads of the request and what it answers. */
int feature_get(struct device *dev, uint32_t number, void *data, size_t size);
/* data may be changed by the kernel too (a descriptor that it makes). */
int feature_set(struct device *dev, uint32_t number, void *data, size_t size);
