/*
 * One VFIO device: opened in an address space, described once, driven by region.h, irq.h,
 * reset.h and config_space.h.
 *
 * Not thread-safe: a device belongs to one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/address_space.h"
#include "bridge/host.h"

struct device;

struct device_info {
    uint32_t flags; /* VFIO_DEVICE_FLAGS_* of <linux/vfio.h>; RESET of a mediated device that can */
    uint32_t num_regions;
    uint32_t num_irqs;
    /*
     * The capabilities that a client may know, a chain whose offsets count from DEVICE_CAPS_AT
     * bytes before it. NULL: none.
     */
    void *caps;
    size_t caps_len;
};

enum {
    DEVICE_CAPS_AT = 24, /* the size of the kernel's struct, with its padding */
};

/*
 * Opens a device that sysfs_find_device has found in an address space, which must outlive it, and
 * reads what it has. The kernel resets it on the way, if it can. *out: freed by
 * device_close. 0 or -errno; the cause and its remedy are logged.
 */
int device_open(struct device **out, struct host *host, struct address_space *as,
                const struct sysfs_device *where);

/*
 * Closes the kernel's device and opens it again: what a client left in the virtual part of the
 * config space and in interrupt setups is gone, the device is reset once more. On an error the
 * device is not open, each of its functions answers -ENODEV, and the call may be repeated.
 *
 * A device that could not be opened again because a client still has its file stays as it is: it is
 * told of anew only, and what the client left in config space stays too.
 */
int device_reopen(struct device *dev);

/*
 * The device's file was given to a client (region_map.h), who may have it still: its owner gives
 * the device to nobody else before he knows (see iommu_ops.vacate) that nobody has.
 */
bool device_is_lent(const struct device *dev);

/*
 * Whether another process is seen to have the file of a device that is lent. False also of a device
 * that may be opened meanwhile, which tells for sure.
 */
bool device_is_seen_held(const struct device *dev);

/* NULL is allowed. */
void device_close(struct device *dev);

/*
 * Lets the client's other devices reach this one's BARs, as they will be programmed from now on. It
 * keeps a reference to the peers. 0 or -ENOMEM.
 */
int device_join_peers(struct device *dev, struct peers *peers);
/* Ends that; does nothing with a device that did not join. */
void device_leave_peers(struct device *dev);

const struct device_info *device_get_info(const struct device *dev);
const char *device_name(const struct device *dev);

/*
 * Whether VFIO says that it is a PCI device. Others are regions and interrupts, by indexes that
 * mean what the bus says, without config space: what is done to COMMAND, to BARs and to the bus, is
 * not done to them.
 */
bool device_is_pci(const struct device *dev);
