/*
 * The regions that a device has beyond its BARs, ROM and config space: VGA's, and those that tell
 * by a capability what they are. Which of them a client gets; what it may write there.
 *
 * A display's EDID is made to be written by whoever has the device. VGA's is not the device's
 * alone: the host's bridges pass its addresses on to one card at a time. The regions of Intel's
 * integrated graphics hold what the host's firmware left for its driver (opregion), and registers
 * of two other devices, the host bridge and the LPC bridge, which tell what machine this is. A
 * guest's firmware or driver may need them, so the operator may give them; they are read-only. What
 * nobody here knows is not given: such a region is of size 0 to a client.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bridge/host.h"
#include "bridge/region.h"
#include "bridge/sysfs.h"

/* What is given only if the operator allows it. */
enum region_allow {
    REGION_ALLOW_VGA = 1 << 0,
    REGION_ALLOW_IGD_OPREGION = 1 << 1,
    REGION_ALLOW_IGD_BRIDGES = 1 << 2,
};

/* The one of that name ("vga", "igd-opregion", "igd-bridges"), len bytes; 0: none. */
unsigned region_allow_parse(const char *name, size_t len);

/*
 * Makes of a region that the kernel has described what a client gets, of the device that fd is.
 * For every index, once. 0 or -errno of reading how long an EDID may be, logged.
 */
int region_type_admit(struct host *host, int fd, const struct sysfs_device *where, uint32_t index,
                      struct region_info *region);

/*
 * Whether an EDID region may be written so: its size must be written at once, and not be more than
 * the device has room for. 0 or -EINVAL, logged.
 */
int region_type_check_edid(const struct region_info *region, uint64_t offset, const void *buf,
                           uint32_t count);
