/*
 * VF tokens: the UUID that vfio-pci's users of an SR-IOV physical function and of its virtual
 * functions have in common. While the PF is vfio-pci's, the kernel opens a VF only for who knows
 * the PF's token, and the PF only for who knows it as long as a VF is open. Who opens the PF before
 * that sets the token.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/sysfs.h"

enum {
    VF_TOKEN_BYTES = 16,
};

/* True for a UUID in its usual form, with digits of either case. */
bool vf_token_is_valid(const char *text);

/* The bytes of one that is valid, in their order in the text, as the kernel's interfaces want it.
 */
void vf_token_bytes(const char *text, uint8_t bytes[VF_TOKEN_BYTES]);

/*
 * Logs why the kernel did not open the device (ret: -errno), if that is about tokens: with EACCES
 * always; with EINVAL it may be if there is one, and what else it can mean is said too (also, a
 * clause). Returns whether it did.
 */
bool vf_token_explain(const struct sysfs_device *dev, int ret, const char *also);
