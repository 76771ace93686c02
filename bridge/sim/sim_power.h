/*
 * Low power, as vfio-pci allows it (VFIO_DEVICE_FEATURE_LOW_POWER_*): the device sleeps while
 * nobody calls it, does no DMA then, and is woken by any call on its descriptor.
 *
 * Beside it are the states of PCI's power management, into which a client puts the device: in D3hot
 * nothing of it but config space is reached, and who wakes it finds it as after a reset.
 *
 * With the device's lock held. INTx is not masked while it sleeps: nothing raises it then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;

enum {
    SIM_D0 = 0,
    SIM_D3HOT = 3,
};

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

/* SIM_D0 or SIM_D3HOT. The way back is a soft reset, over which the kernel keeps config space. */
void sim_power_set_state(struct sim_device *dev, unsigned state);
/* Into D0 if it is not in it. */
void sim_power_wake(struct sim_device *dev);

/* The last descriptor is closed. */
void sim_power_close(struct sim_device *dev);

/* The features' handlers; see sim_feature.h. */
int sim_power_entry(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
int sim_power_entry_with_wakeup(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
int sim_power_exit(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);
