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
    VFIO_USERD_HOT_RESET_INFO = 0x4006,
    VFIO_USERD_HOT_RESET = 0x4007,
};

/* Each message begins so, as the kernel's structs do: argsz counts from here. */
struct vfio_userd_head {
    uint32_t argsz; /* request: what the client takes of the reply; reply: what there is */
    uint32_t flags;
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
