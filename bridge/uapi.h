/*
 * The conventions that VFIO's information ioctls share (<linux/vfio.h>): a struct begins with
 * argsz and flags; the kernel raises argsz if it has more to say; what it has more is a chain of
 * capabilities linked by offsets from the struct's start.
 */
#pragma once

#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/host.h"

/*
 * Calls an information ioctl until the answer fits. in: the fixed part, minsz bytes, with its
 * selecting fields set and argsz left to this function. *out is allocated, *len bytes long, and
 * freed by the caller. Returns 0 or -errno; -EPROTO if the kernel's sizes make no sense.
 */
int uapi_get_info(struct host *host, int fd, unsigned long request, const void *in, size_t minsz,
                  void **out, size_t *len);

/*
 * The capability at offset of a chain within buf, or NULL at the chain's end and for an offset
 * that leaves the buffer. steps counts the links followed, starting at 0: a cycle ends there.
 * *size: bytes from the capability to the end of the buffer.
 */
const struct vfio_info_cap_header *uapi_cap_at(const void *buf, size_t len, uint32_t offset,
                                               unsigned *steps, size_t *size);

/* A chain that is made anew, to follow a struct of base bytes. Starts as zeros. */
struct uapi_caps {
    size_t base;
    void *bytes; /* the owner's to free */
    size_t len;
    size_t last; /* offset of the last one in bytes */
};

/* Adds a copy of the capability, size bytes of it. 0 or -ENOMEM. */
int uapi_caps_append(struct uapi_caps *caps, const struct vfio_info_cap_header *cap, size_t size);
