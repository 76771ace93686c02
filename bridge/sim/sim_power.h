/*
 * Low power, as vfio-pci allows it (VFIO_DEVICE_FEATURE_LOW_POWER_*): the device sleeps while
 * nobody calls it, does no DMA then, and is woken by any call on its descriptor.
 *
 * With the device's lock held. INTx is not masked while it sleeps: nothing raises it then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;

struct sim_power {
    bool allowed; /* it may sleep: between an entry and an exit */
    bool asleep;
    int wakeup;     /* eventfd that is signalled when it wakes, and may sleep no more; -1: none */
    unsigned calls; /* on its descriptors, under way */
};

void sim_power_init(struct sim_power *power);

/* Around each call: it wakes before the first, and may sleep after the last. */
void sim_power_get(struct sim_device *dev);
void sim_power_put(struct sim_device *dev);

/* The last descriptor is closed. */
void sim_power_close(struct sim_device *dev);

/* The features' handlers; see sim_feature.h. */
int sim_power_entry(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
int sim_power_entry_with_wakeup(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
int sim_power_exit(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
