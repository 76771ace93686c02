/*
 * What of a device's config space its client may not write.
 *
 * vfio-pci keeps from the hardware what would break the host (BARs, MSI, power states, …), and
 * passes on what drivers may need: capabilities of the vendor's own, bytes that no capability
 * describes, masks of errors, a self-test; and through the VPD capability, writes to the device's
 * persistent memory. What of this is not undone by a reset reaches the next client.
 *
 * A write of what is denied is dropped and is a success, as on a bus, where a write to read-only
 * bits is: nobody's guest reckons with a config write that fails. The other bytes of it are
 * written. A VPD write becomes a read, which the guest's driver sees as a write that does not get
 * done.
 *
 * By the device's worker.
 */
#pragma once

#include <stdbool.h>

#include "bridge/config_map.h"
#include "bridge/device.h"

/*
 * VPD: it outlives everything. AER: its registers keep their values over a reset, and the host
 * must hear of errors as it has chosen. BIST: a device in a self-test answers nobody for seconds.
 * No driver of a common device writes these. The others are written by drivers and firmware
 * (virtio's window to its BARs is a vendor's capability).
 */
#define CONFIG_DENIED_BY_DEFAULT (CONFIG_VPD | CONFIG_AER | CONFIG_BIST)

/* Denies the sorts (enum config_sort), and none else, until the device is opened again. */
void config_policy_deny(struct device *dev, unsigned sorts);

/*
 * For a write to the config space of count bytes at offset, which lies in it: takes out of the
 * bytes the bits that are denied, and tells of it. 0, or -errno of reading what capabilities the
 * device has: nothing is to be written then.
 */
int config_policy_filter(struct device *dev, uint64_t offset, uint8_t *bytes, uint32_t count);

/*
 * After that: how many bytes from offset on, at most count, are alike: *denied, so that none is to
 * be written, or not.
 */
uint32_t config_policy_run(const struct device *dev, uint64_t offset, uint32_t count, bool *denied);
