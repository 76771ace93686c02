/*
 * Every limit that a peer can meet, with its reason. "The specification" is vfio-user's; a
 * client that is named ends the session on anything else.
 */
#pragma once

#include "proto/wire.h"

enum {
    /* A client proposes its version; the smaller minor wins. QEMU takes minor 0 alone. */
    LIMIT_VERSION_MAJOR = 0,
    LIMIT_VERSION_MINOR = 1,

    /*
     * The capabilities of VERSION, with their NUL. The longest that a client is known to send is
     * 214 bytes; the parser's work and memory stay small with this.
     */
    LIMIT_VERSION_DATA = 4096,
    /* Nesting of that JSON: root, capabilities, one of its objects, and a margin. */
    LIMIT_JSON_DEPTH = 8,

    /* The version of the extension (docs/protocol-extensions.md); the smaller one of both wins. */
    LIMIT_EXTENSIONS = 1,

    /* max_msg_fds that we advertise: QEMU ends the session on more than 16. */
    LIMIT_MSG_FDS = 16,
    /*
     * What we take whatever was advertised: SCM_MAX_FD of the kernel, so that no sender can make
     * the kernel truncate and lose the count. Clients batch by their own number.
     */
    LIMIT_RECV_FDS = 253,

    /* max_data_xfer_size: the specification's default, which all known clients keep to. */
    LIMIT_DATA_XFER = 1 << 20,

    /* max_dma_maps: the kernel's default dma_entry_limit; QEMU ends the session on more. */
    LIMIT_DMA_MAPS = 65535,

    /* Writes in one WRITE_MULTI; QEMU's queue never coalesces more than 60. */
    LIMIT_WRITE_MULTI = 1024,
    LIMIT_WRITE_MULTI_DATA = LIMIT_WRITE_MULTI * sizeof(struct vfio_user_write_multi_entry),

    /* What follows SET_IRQS: an int32 for each of the vectors that MSI-X can have. */
    LIMIT_IRQ_DATA = 2048 * sizeof(int32_t),

    /* What follows DMA_UNMAP with the dirty bitmap flag. */
    LIMIT_UNMAP_BITMAP = sizeof(struct vfio_user_bitmap),

    /*
     * The data of DEVICE_FEATURE. The longest is DMA_LOGGING_START, with a range for each 16
     * bytes of a page, which is what the kernel takes, and pages of 64 KiB at most.
     */
    LIMIT_FEATURE_DATA = sizeof(struct vfio_user_feature_dma_logging_control) + 65536,

    /*
     * max_bitmap_size of the migration capability: a bitmap travels in one reply, and a reply is
     * no longer than a transfer.
     */
    LIMIT_BITMAP_SIZE = LIMIT_DATA_XFER,
    /* Its pgsize: no dirty log of the kernel has a finer unit. */
    LIMIT_BITMAP_PGSIZE = 4096,

    /* One request, header included: the largest is a transfer of LIMIT_DATA_XFER. */
    LIMIT_MSG_SIZE =
        sizeof(struct vfio_user_header) + sizeof(struct vfio_user_region_access) + LIMIT_DATA_XFER,
    /* One reply: the largest is an unmap's with a bitmap of LIMIT_BITMAP_SIZE. */
    LIMIT_REPLY_SIZE = sizeof(struct vfio_user_header) + sizeof(struct vfio_user_dma_unmap) +
                       sizeof(struct vfio_user_bitmap) + LIMIT_BITMAP_SIZE,

    /*
     * argsz of an info request: the reply's buffer is the client's, this bounds ours. The payload
     * of such a request too: SPDK and libvfio-user's client send their whole buffer.
     */
    LIMIT_INFO_REPLY = 65536,
};
