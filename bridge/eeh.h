/*
 * EEH, the error handling of POWER machines (<linux/vfio.h>, VFIO_EEH_PE_OP). After an error the
 * platform cuts a device off together with its PE (partitionable endpoint): its registers read all
 * ones, its DMA is stopped. The device's driver, a client's guest, then finds the state out,
 * unfreezes registers to look at them, or resets the PE, and configures it anew.
 *
 * A PE is an IOMMU group, and an address space with EEH has one. So these act on the device and its
 * siblings in the group, and on nobody else's.
 *
 * Functions return -errno, logged as a client's doing: -ENODEV without an open device or a PE,
 * -ENOTTY without EEH. They belong to the device's worker; a reset blocks it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/device.h"

/* What an error is like that is injected: VFIO_EEH_PE_INJECT_ERR. */
struct eeh_error {
    uint32_t type, func; /* EEH_ERR_TYPE_*, EEH_ERR_FUNC_* of the kernel */
    uint64_t addr, mask;
};

/* Valid once the device is open. */
bool eeh_is_supported(const struct device *dev);

/* VFIO_EEH_PE_STATE_*, or -errno. */
int eeh_get_state(struct device *dev);

/*
 * One of VFIO_EEH_PE_ENABLE, UNFREEZE_IO, UNFREEZE_DMA, RESET_HOT, RESET_FUNDAMENTAL,
 * RESET_DEACTIVATE, CONFIGURE. -EPERM: INJECT_ERR, and DISABLE, which would be the host's to want;
 * -EINVAL: no operation, or GET_STATE, which has a function of its own. A RESET lasts until it is
 * deactivated.
 */
int eeh_operate(struct device *dev, uint32_t op);

/* For tests of drivers: makes an error happen. Never by a client's wish alone. */
int eeh_inject(struct device *dev, const struct eeh_error *error);
