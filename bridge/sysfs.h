/* What sysfs says of a PCI device: its driver, its IOMMU group, who else is in it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bridge/host.h"

enum {
    SYSFS_NAME_SIZE = 64,
};

struct sysfs_device {
    char name[SYSFS_NAME_SIZE]; /* on its bus: "0000:01:00.0" */
    char driver[64];            /* "" if none is bound */
    int group;                  /* number of the IOMMU group */
    bool noiommu; /* the group is VFIO's no-IOMMU mode's: nothing translates or stops DMA */
    /* Not of sysfs: the UUID to open it with (vf_token.h), from who has it; "": none. */
    char vf_token[37];
    char cdev[32]; /* "vfio0", its file below /dev/vfio/devices; "" if it has none */
};

/* True for domain:bus:device.function in full form with lower-case digits, as sysfs names it. */
bool sysfs_is_bdf(const char *text);

/*
 * Looks a device up. -ENODEV: no such device; -ENXIO: it is in no IOMMU group; -EBUSY: a driver
 * other than vfio-pci has it; other errors of the reading. The cause and the remedy are logged.
 */
int sysfs_find_device(struct host *host, const char *bdf, struct sysfs_device *out);

/*
 * The first device of the group whose driver keeps VFIO from using the group, with that driver.
 * Returns 0, or -ENOENT if there is none.
 */
int sysfs_find_blocker(struct host *host, int group, struct sysfs_device *out);
