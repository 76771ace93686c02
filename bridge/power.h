/*
 * Low power (VFIO_DEVICE_FEATURE_LOW_POWER_* of <linux/vfio.h>): the kernel lets a device sleep
 * while nobody uses it, and wakes it at each call. The bridge makes none of its own accord, so a
 * device sleeps until its client wants something of it. Closing the device ends it.
 *
 * By the device's worker. Functions return 0 or -errno; -ENOTTY: the kernel or the device has no
 * such feature (not logged, as of a probe; else the cause is).
 */
#pragma once

#include <stdbool.h>

#include "bridge/device.h"

/* Whether it can be entered (with an eventfd), and exited. */
int power_probe_entry(struct device *dev, bool wakeup);
int power_probe_exit(struct device *dev);

/*
 * The device may sleep. Nothing reaches its BARs by DMA until power_exit, or until they are
 * written. wakeup: an eventfd, which stays the caller's: the kernel signals it when the device
 * wakes, which ends low power; -1: the device may sleep again after each use. -EINVAL: it may
 * already; no eventfd.
 */
int power_enter(struct device *dev, int wakeup);

/* The device stays awake. Also where it was not allowed to sleep. */
int power_exit(struct device *dev);
