/* What sysfs says of a device: its bus, its driver, its IOMMU group, who else is in it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "bridge/host.h"

enum {
    SYSFS_BUS_SIZE = 16,
    SYSFS_NAME_SIZE = 64,
    SYSFS_PATH_SIZE = 256,
};

struct sysfs_device {
    char bus[SYSFS_BUS_SIZE];   /* "pci", "mdev", "platform" */
    char name[SYSFS_NAME_SIZE]; /* on its bus: "0000:01:00.0"; a mediated device's UUID */
    char driver[64];            /* "" if none is bound */
    int group;                  /* number of the IOMMU group */
    bool noiommu; /* the group is VFIO's no-IOMMU mode's: nothing translates or stops DMA */
    /*
     * Made up by a driver. It is alone in its group, whose IOMMU is emulated: the driver itself
     * looks its addresses up, and pins what it uses.
     */
    bool mediated;
    /* Not of sysfs: the UUID to open it with (vf_token.h), from who has it; "": none. */
    char vf_token[37];
    /* Nor this: enum region_allow (region_type.h), from who knows whom the device is served to. */
    unsigned regions;
    char cdev[32]; /* "vfio0", its file below /dev/vfio/devices; "" if it has none */
};

/* True for domain:bus:device.function in full form with lower-case digits, as sysfs names it. */
bool sysfs_is_bdf(const char *text);

/*
 * True for what sysfs_find_device takes: such an address, a mediated device's UUID in lower-case
 * digits, or the path of a device's directory in sysfs, without a slash behind it.
 */
bool sysfs_is_device(const char *text);

/*
 * Looks a device up. -ENODEV: no such device; -ENXIO: it is in no IOMMU group; -EBUSY: no VFIO
 * driver has it; -ENOTSUP: it is of a bus or, mediated, of an API that can't be served; other
 * errors of the reading. The cause and the remedy are logged.
 */
int sysfs_find_device(struct host *host, const char *text, struct sysfs_device *out);

/*
 * The first device of the group whose driver keeps VFIO from using the group, with that driver.
 * Returns 0, or -ENOENT if there is none.
 */
int sysfs_find_blocker(struct host *host, int group, struct sysfs_device *out);
