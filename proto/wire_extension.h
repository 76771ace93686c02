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
    VFIO_USERD_PRECOPY_INFO = 0x4002,
    VFIO_USERD_QUERY_GFX_PLANE = 0x4003,
    VFIO_USERD_GET_GFX_DMABUF = 0x4004,
    VFIO_USERD_EEH_OP = 0x4005,
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

/* VFIO_USERD_PRECOPY_INFO, request and reply: as the kernel has it. */
struct vfio_userd_precopy_info {
    uint32_t argsz;
    uint32_t flags; /* 0 in a request */
    uint64_t initial_bytes;
    uint64_t dirty_bytes;
};

enum {
    VFIO_USERD_PRECOPY_REINIT = 1 << 0, /* there is new initial data */
};

/* VFIO_USERD_QUERY_GFX_PLANE, request and reply: as the kernel has it. */
struct vfio_userd_gfx_plane {
    uint32_t argsz;
    uint32_t flags;
    uint32_t drm_plane_type; /* request: DRM_PLANE_TYPE_* of <drm/drm_mode.h> */
    uint32_t drm_format;
    uint64_t drm_format_mod;
    uint32_t width;
    uint32_t height;
    uint32_t stride;
    uint32_t size;
    uint32_t x_pos;
    uint32_t y_pos;
    uint32_t x_hot;
    uint32_t y_hot;
    uint32_t source; /* the region's index, or the dma-buf's id */
    uint32_t reserved;
};

enum {
    VFIO_USERD_GFX_PROBE = 1 << 0,
    VFIO_USERD_GFX_DMABUF = 1 << 1,
    VFIO_USERD_GFX_REGION = 1 << 2,
    VFIO_USERD_GFX_FLAGS = 7,
};

/* VFIO_USERD_GET_GFX_DMABUF, request and reply, which has the dma-buf as its descriptor. */
struct vfio_userd_gfx_dmabuf {
    uint32_t argsz;
    uint32_t flags; /* 0 */
    uint32_t dmabuf_id;
    uint32_t reserved;
};

/* VFIO_USERD_EEH_OP, request and reply. */
struct vfio_userd_eeh_op {
    uint32_t argsz;
    uint32_t flags; /* 0 */
    uint32_t op;    /* VFIO_EEH_PE_* of <linux/vfio.h> */
    uint32_t value; /* reply: of GET_STATE, VFIO_EEH_PE_STATE_* */
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

WIRE_SIZE(vfio_userd_precopy_info, 24);
WIRE_FIELD(vfio_userd_precopy_info, argsz, 0);
WIRE_FIELD(vfio_userd_precopy_info, flags, 4);
WIRE_FIELD(vfio_userd_precopy_info, initial_bytes, 8);
WIRE_FIELD(vfio_userd_precopy_info, dirty_bytes, 16);

WIRE_SIZE(vfio_userd_gfx_plane, 64);
WIRE_FIELD(vfio_userd_gfx_plane, argsz, 0);
WIRE_FIELD(vfio_userd_gfx_plane, flags, 4);
WIRE_FIELD(vfio_userd_gfx_plane, drm_plane_type, 8);
WIRE_FIELD(vfio_userd_gfx_plane, drm_format, 12);
WIRE_FIELD(vfio_userd_gfx_plane, drm_format_mod, 16);
WIRE_FIELD(vfio_userd_gfx_plane, width, 24);
WIRE_FIELD(vfio_userd_gfx_plane, height, 28);
WIRE_FIELD(vfio_userd_gfx_plane, stride, 32);
WIRE_FIELD(vfio_userd_gfx_plane, size, 36);
WIRE_FIELD(vfio_userd_gfx_plane, x_pos, 40);
WIRE_FIELD(vfio_userd_gfx_plane, y_pos, 44);
WIRE_FIELD(vfio_userd_gfx_plane, x_hot, 48);
WIRE_FIELD(vfio_userd_gfx_plane, y_hot, 52);
WIRE_FIELD(vfio_userd_gfx_plane, source, 56);
WIRE_FIELD(vfio_userd_gfx_plane, reserved, 60);

WIRE_SIZE(vfio_userd_gfx_dmabuf, 16);
WIRE_FIELD(vfio_userd_gfx_dmabuf, argsz, 0);
WIRE_FIELD(vfio_userd_gfx_dmabuf, flags, 4);
WIRE_FIELD(vfio_userd_gfx_dmabuf, dmabuf_id, 8);
WIRE_FIELD(vfio_userd_gfx_dmabuf, reserved, 12);

WIRE_SIZE(vfio_userd_eeh_op, 16);
WIRE_FIELD(vfio_userd_eeh_op, argsz, 0);
WIRE_FIELD(vfio_userd_eeh_op, flags, 4);
WIRE_FIELD(vfio_userd_eeh_op, op, 8);
WIRE_FIELD(vfio_userd_eeh_op, value, 12);

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
