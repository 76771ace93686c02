/*
 * The reset of a whole bus or slot (VFIO_DEVICE_PCI_HOT_RESET), for a function that can't be reset
 * on its own. All functions there are reset at the same time, so whoever calls must have all of
 * them, and must know that nobody uses the others.
 *
 * The kernel asks for proof: the files of all their groups; or, of a device that was opened by its
 * own file, that all are bound to one iommufd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bridge/device.h"

enum {
    HOT_RESET_MOST = 256, /* the functions of a bus */
};

struct hot_reset_function {
    char bdf[13];
    int group; /* the number of its IOMMU group; -1: not told */
};

struct hot_reset_set {
    size_t count;
    struct hot_reset_function functions[HOT_RESET_MOST];
};

/*
 * The functions that are reset with the device, itself among them. -ENODEV: neither its bus nor its
 * slot can be reset (not logged); -E2BIG: too many; else the kernel's, logged.
 */
int hot_reset_get_set(struct device *dev, struct hot_reset_set *set);

/*
 * Resets them. group_files: descriptors of the host for the n groups that they are in; n 0: the
 * devices were opened by their own files. As reset_device() for the device itself; the others are
 * nobody's. -EPERM: they are not all ours; -EBUSY: locked by somebody else for longer than we wait;
 * else the kernel's. Logged.
 */
int hot_reset(struct device *dev, const int *group_files, size_t n);
