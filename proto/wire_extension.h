/*
 * Our own messages, which the specification does not have: layouts and numbers, no logic. There are
 * none of them unless VERSION has negotiated the extension. docs/protocol-extensions.md says what
 * they mean.
 */
#pragma once

#include "proto/wire.h"

/* Far from the specification's, which count from 1. */
enum vfio_userd_command {
    VFIO_USERD_BASE = 0x4000,
    VFIO_USERD_DEVICE_INFO = 0x4000,
    VFIO_USERD_IOMMU_INFO = 0x4001,
    VFIO_USERD_HOT_RESET_INFO = 0x4006,
    VFIO_USERD_HOT_RESET = 0x4007,
};

/* Each message begins so, as the kernel's structs do: argsz counts from here. */
struct vfio_userd_head {
    uint32_t argsz; /* request: what the client takes of the reply; reply: what there is */
    uint32_t flags;
};

/* VFIO_USERD_DEVICE_INFO, request and reply: as the kernel has it. */
struct vfio_userd_device_info {
    uint32_t argsz;
    uint32_t flags; /* 0 in a request */
    uint32_t num_regions;
    uint32_t num_irqs;
    uint32_t cap_offset; /* of a chain of struct vfio_user_cap_header, from here; 0: none */
    uint32_t reserved;
    /* the capabilities, in a reply that has room for them */
};

enum {
    VFIO_USERD_DEVICE_RESET = 1 << 0,
    VFIO_USERD_DEVICE_PCI = 1 << 1,
    VFIO_USERD_DEVICE_PLATFORM = 1 << 2,
    VFIO_USERD_DEVICE_AMBA = 1 << 3,
    VFIO_USERD_DEVICE_CCW = 1 << 4,
    VFIO_USERD_DEVICE_AP = 1 << 5,
    VFIO_USERD_DEVICE_FSL_MC = 1 << 6,
    VFIO_USERD_DEVICE_CAPS = 1 << 7,
    VFIO_USERD_DEVICE_CDX = 1 << 8,
    VFIO_USERD_DEVICE_BUSES = 0x17e, /* all but RESET and CAPS */
};

/* VFIO_USERD_IOMMU_INFO, request and reply. */
struct vfio_userd_iommu_info {
    uint32_t argsz;
    uint32_t flags;    /* 0 in a request */
    uint64_t pgsizes;  /* that mappings may be aligned to, or'ed */
    uint32_t max_maps; /* at the same time */
    uint32_t num_ranges;
    /* struct vfio_userd_iova_range ranges[num_ranges] in a reply that has room for them */
};

enum {
    VFIO_USERD_IOMMU_COHERENT = 1 << 0,     /* it is known that no-snoop DMA snoops too */
    VFIO_USERD_IOMMU_UNTRANSLATED = 1 << 1, /* there is none: nothing can be mapped */
    VFIO_USERD_IOMMU_EEH = 1 << 2,          /* VFIO_USERD_EEH_OP is served */
};

/* Both ends belong to it. */
struct vfio_userd_iova_range {
    uint64_t first;
    uint64_t last;
};

/* VFIO_USERD_HOT_RESET_INFO, request and reply. */
struct vfio_userd_hot_reset_info {
    uint32_t argsz;
    uint32_t flags;  /* 0 */
    uint32_t count;  /* of the client's devices that would be reset, this one among them */
    uint32_t others; /* devices that would be reset too and are not the client's */
    /* struct vfio_userd_hot_reset_device devices[count] in a reply that has room for it */
};

struct vfio_userd_hot_reset_device {
    uint32_t id; /* of the device among the server's, the same in every session */
    uint32_t flags;
};

enum {
    VFIO_USERD_HOT_RESET_SELF = 1 << 0, /* the device that was asked */
};

/* VFIO_USERD_HOT_RESET, request; the reply is empty. */
struct vfio_userd_hot_reset {
    uint32_t argsz;
    uint32_t flags; /* 0 */
};

WIRE_SIZE(vfio_userd_head, 8);
WIRE_FIELD(vfio_userd_head, argsz, 0);
WIRE_FIELD(vfio_userd_head, flags, 4);

WIRE_SIZE(vfio_userd_device_info, 24);
WIRE_FIELD(vfio_userd_device_info, argsz, 0);
WIRE_FIELD(vfio_userd_device_info, flags, 4);
WIRE_FIELD(vfio_userd_device_info, num_regions, 8);
WIRE_FIELD(vfio_userd_device_info, num_irqs, 12);
WIRE_FIELD(vfio_userd_device_info, cap_offset, 16);
WIRE_FIELD(vfio_userd_device_info, reserved, 20);

WIRE_SIZE(vfio_userd_iommu_info, 24);
WIRE_FIELD(vfio_userd_iommu_info, argsz, 0);
WIRE_FIELD(vfio_userd_iommu_info, flags, 4);
WIRE_FIELD(vfio_userd_iommu_info, pgsizes, 8);
WIRE_FIELD(vfio_userd_iommu_info, max_maps, 16);
WIRE_FIELD(vfio_userd_iommu_info, num_ranges, 20);

WIRE_SIZE(vfio_userd_iova_range, 16);
WIRE_FIELD(vfio_userd_iova_range, first, 0);
WIRE_FIELD(vfio_userd_iova_range, last, 8);

WIRE_SIZE(vfio_userd_hot_reset_info, 16);
WIRE_FIELD(vfio_userd_hot_reset_info, argsz, 0);
WIRE_FIELD(vfio_userd_hot_reset_info, flags, 4);
WIRE_FIELD(vfio_userd_hot_reset_info, count, 8);
WIRE_FIELD(vfio_userd_hot_reset_info, others, 12);

WIRE_SIZE(vfio_userd_hot_reset_device, 8);
WIRE_FIELD(vfio_userd_hot_reset_device, id, 0);
WIRE_FIELD(vfio_userd_hot_reset_device, flags, 4);

WIRE_SIZE(vfio_userd_hot_reset, 8);
WIRE_FIELD(vfio_userd_hot_reset, argsz, 0);
WIRE_FIELD(vfio_userd_hot_reset, flags, 4);
