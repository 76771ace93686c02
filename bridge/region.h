/*
 * The regions of a device: what they are, and access to them (VFIO_DEVICE_GET_REGION_INFO, read
 * and write of the device's file).
 *
 * An access reaches the hardware with the width that the client used: one system call of exactly
 * that many bytes. For 1, 2, 4 and 8 aligned bytes the kernel makes it one bus access; what is
 * larger or unaligned it splits itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/device.h"
#include "bridge/uapi.h"

struct region_area {
    uint64_t offset, size; /* in the region */
};

struct region_info {
    uint32_t flags;  /* VFIO_REGION_INFO_FLAG_*; MMAP never: that depends on the client */
    uint64_t size;   /* 0: the region does not exist */
    uint64_t offset; /* in the kernel's device file */
    /* The ones that mean something to a client, with next relative to a struct vfio_region_info in
     * front of them. */
    struct uapi_caps caps;
    uint32_t edid_max_size; /* bytes of EDID that it takes; 0: it is not a display's EDID region */

    /* For region_map.h. */
    struct region_area mappable;  /* what the kernel maps in one piece; size 0: nothing */
    bool msix_mappable;           /* an MSI-X table may be in it */
    struct uapi_caps sparse_caps; /* caps, and what of it a client may map */
    int dmabuf;                   /* of the host; -1: none so far */
};

/* NULL for an index that the device does not have. Lives until the device is closed or reopened. */
const struct region_info *region_get(const struct device *dev, uint32_t index);

/*
 * Read or write exactly count bytes. -EINVAL: no such region, an offset outside of it,
 * or an EDID's size that can't be;
 * -EACCES: the region can't be read or written; -EIO also while the device's memory decode is
 * off; else the kernel's. Part of a long access may have happened on an error.
 */
int region_read(struct device *dev, uint32_t index, uint64_t offset, void *buf, uint32_t count);
int region_write(struct device *dev, uint32_t index, uint64_t offset, const void *buf,
                 uint32_t count);
