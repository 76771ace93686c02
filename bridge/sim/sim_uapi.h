/*
 * What a kernel with iommufd offers beyond what the bridge uses (bridge/uapi_compat.h): numbers and
 * layouts alone.
 */
#pragma once

#include <assert.h>

#include "bridge/uapi_compat.h"

/* <linux/iommufd.h> */
#define SIM_UAPI_HWPT_ALLOC _IO(';', 0x89)

struct sim_uapi_hwpt_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t dev_id;
    uint32_t pt_id;
    uint32_t out_hwpt_id;
    uint32_t reserved;
    uint32_t data_type; /* 0: a plain page table */
    uint32_t data_len;
    uint64_t data_uptr;
    uint32_t fault_id;
    uint32_t reserved2;
};

/* <linux/vfio.h> */
#define SIM_UAPI_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

struct sim_uapi_detach_pt {
    uint32_t argsz;
    uint32_t flags;
};

static_assert(sizeof(struct sim_uapi_hwpt_alloc) == 48, "iommu_hwpt_alloc");
static_assert(sizeof(struct sim_uapi_detach_pt) == 8, "vfio_device_detach_iommufd_pt");
