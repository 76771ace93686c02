#include "bridge/uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

enum {
    /* Far above what any driver has to tell of a region or an IOMMU. */
    MAX_INFO = 1 << 20,
    /* The answer may grow between two calls, but not for ever. */
    MAX_TRIES = 8,
    MAX_CAPS = 64,
};

int uapi_get_info(struct host *host, int fd, unsigned long request, const void *in, size_t minsz,
                  void **out, size_t *len)
{
    size_t size = minsz;

    for (unsigned i = 0; i < MAX_TRIES; i++) {
        cleanup_free_ void *buf = calloc(1, size);
        uint32_t argsz = (uint32_t)size;
        int ret;

        if (!buf)
            return -ENOMEM;
        memcpy(buf, in, minsz);
        memcpy(buf, &argsz, sizeof(argsz));
        ret = host_ioctl(host, fd, request, buf);
        if (ret < 0)
            return ret;
        memcpy(&argsz, buf, sizeof(argsz));
        if (argsz < minsz || argsz > MAX_INFO)
            return -EPROTO;
        if (argsz <= size) {
            *out = steal_ptr(buf);
            *len = size;
            return 0;
        }
        size = argsz;
    }
    return -EPROTO;
}

const struct vfio_info_cap_header *uapi_cap_at(const void *buf, size_t len, uint32_t offset,
                                               unsigned *steps, size_t *size)
{
    if (!offset || (*steps)++ >= MAX_CAPS)
        return NULL;
    if (offset % sizeof(uint32_t) || offset > len ||
        len - offset < sizeof(struct vfio_info_cap_header))
        return NULL;
    *size = len - offset;
    return (const void *)((const char *)buf + offset);
}

int uapi_caps_append(struct uapi_caps *caps, const struct vfio_info_cap_header *cap, size_t size)
{
    size_t at = caps->len;
    size_t aligned = (size + 7) & ~(size_t)7;
    struct vfio_info_cap_header *copy;
    char *grown = realloc(caps->bytes, at + aligned);

    if (!grown)
        return -ENOMEM;
    caps->bytes = grown;
    caps->len = at + aligned;
    memset(grown + at, 0, aligned);
    memcpy(grown + at, cap, size);
    copy = (void *)(grown + at);
    copy->next = 0;
    if (at) {
        copy = (void *)(grown + caps->last);
        copy->next = (uint32_t)(caps->base + at);
    }
    caps->last = at;
    return 0;
}
