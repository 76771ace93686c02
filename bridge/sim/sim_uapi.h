/*
 * What a kernel with iommufd offers beyond what the bridge uses (bridge/uapi_compat.h): numbers and
 * layouts alone.
 */
#pragma once

#include <assert.h>

#include "bridge/uapi_compat.h"

/* <linux/vfio.h> */
#define SIM_UAPI_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

struct sim_uapi_detach_pt {
    uint32_t argsz;
    uint32_t flags;
};

static_assert(sizeof(struct sim_uapi_detach_pt) == 8, "vfio_device_detach_iommufd_pt");
