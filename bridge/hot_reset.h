/*
 * The reset of a whole bus or slot (VFIO_DEVICE_PCI_HOT_RESET), for a function that can't be reset
 * on its own. All functions there are reset at the same time, so whoever calls must have all of
 * them, and keep everybody else from them meanwhile.
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
 * Resets them by the first of n devices, which are those of them that are used. group_files:
 * descriptors of the host for the groups that all are in; none: the devices were opened by their
 * own files.
 *
 * As reset_device() for the first device, and likewise for the others, whose interrupts are
 * re-armed besides. -EPERM: they are not all ours; -EBUSY: locked by somebody else for longer than
 * we wait; else the kernel's; logged. If it fails before the reset, bus mastering may be off of any
 * of the devices; nothing else has changed. If a re-arming fails, the rest is done.
 */
int hot_reset(struct device *const *devices, size_t n, const int *group_files, size_t n_files);
