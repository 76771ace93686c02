/* The messages about the device. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

/* A command whose reply has no payload. */
static int command_with(struct vfuc *c, uint16_t command, const void *payload, size_t len,
                        const int *fds, unsigned nfds)
{
    size_t reply_len = 0;
    int ret = vfuc_call(c, command, payload, len, fds, nfds, NULL, &reply_len, NULL);

    return !ret && reply_len ? -EPROTO : ret;
}

int vfuc_device_info(struct vfuc *c, struct vfio_user_device_info *info)
{
    *info = (struct vfio_user_device_info){.argsz = sizeof(*info)};
    return vfuc_query(c, VFIO_USER_DEVICE_GET_INFO, info, sizeof(*info));
}

int vfuc_irq_info(struct vfuc *c, uint32_t index, struct vfio_user_irq_info *info)
{
    *info = (struct vfio_user_irq_info){.argsz = sizeof(*info), .index = index};
    return vfuc_query(c, VFIO_USER_DEVICE_GET_IRQ_INFO, info, sizeof(*info));
}

int vfuc_reset(struct vfuc *c)
{
    return command_with(c, VFIO_USER_DEVICE_RESET, NULL, 0, NULL, 0);
}

/* Asks with room for argsz bytes. */
static int ask_region_info(struct vfuc *c, uint32_t index, uint32_t argsz,
                           struct vfio_user_region_info **out, size_t *reply_len, int *fd)
{
    const struct vfio_user_region_info request = {.argsz = argsz, .index = index};
    struct vfio_user_region_info *info = calloc(1, argsz);
    int ret;

    if (!info)
        return -ENOMEM;
    *reply_len = argsz;
    ret = vfuc_call(c, VFIO_USER_DEVICE_GET_REGION_INFO, &request, sizeof(request), NULL, 0, info,
                    reply_len, fd);
    if (!ret && (info->argsz < sizeof(*info) || info->argsz > LIMIT_INFO_REPLY))
        ret = -EPROTO;
    if (ret) {
        fd_close(fd);
        free(info);
        return ret;
    }
    *out = info;
    return 0;
}

int vfuc_region_info(struct vfuc *c, uint32_t index, struct vfio_user_region_info **info, int *fd)
{
    cleanup_free_ struct vfio_user_region_info *got = NULL;
    uint32_t argsz = sizeof(*got);
    size_t len;
    int ret;

    *info = NULL;
    *fd = -1;
    ret = ask_region_info(c, index, argsz, &got, &len, fd);
    if (!ret && got->argsz > argsz) {
        argsz = got->argsz;
        fd_close(fd); /* it comes again */
        free(steal_ptr(got));
        ret = ask_region_info(c, index, argsz, &got, &len, fd);
    }
    if (ret)
        return ret;
    if (got->argsz > MIN(len, argsz)) {
        fd_close(fd);
        return -EPROTO;
    }
    *info = steal_ptr(got);
    return 0;
}

int vfuc_region_cap_data(const struct vfio_user_region_info *info, uint64_t offset, void *buf,
                         size_t len)
{
    if (!range_within(offset, len, info->argsz))
        return -EPROTO;
    memcpy(buf, (const uint8_t *)info + offset, len);
    return 0;
}

int vfuc_cap_next(const void *info, uint32_t argsz, size_t fixed, uint32_t first, uint32_t *offset,
                  struct vfio_user_cap_header *cap)
{
    uint32_t next = first;

    if (*offset) {
        if (!range_within(*offset, sizeof(*cap), argsz))
            return -EPROTO;
        memcpy(cap, (const uint8_t *)info + *offset, sizeof(*cap));
        next = cap->next;
    }
    if (!next)
        return 0;
    if (next < fixed || next <= *offset || !range_within(next, sizeof(*cap), argsz))
        return -EPROTO;
    memcpy(cap, (const uint8_t *)info + next, sizeof(*cap));
    *offset = next;
    return 1;
}

int vfuc_region_cap_next(const struct vfio_user_region_info *info, uint32_t *offset,
                         struct vfio_user_cap_header *cap)
{
    const uint32_t first = info->flags & VFIO_USER_REGION_INFO_CAPS ? info->cap_offset : 0;

    return vfuc_cap_next(info, info->argsz, sizeof(*info), first, offset, cap);
}

/* --- Regions --- */

static bool same_access(const struct vfio_user_region_access *a,
                        const struct vfio_user_region_access *b)
{
    return a->offset == b->offset && a->region == b->region && a->count == b->count;
}

int vfuc_region_read(struct vfuc *c, uint32_t region, uint64_t offset, void *buf, uint32_t count)
{
    const struct vfio_user_region_access request = {offset, region, count};
    struct vfio_user_region_access reply = {0};
    const struct iovec out = vfuc_piece(&request, sizeof(request));
    const struct iovec in[] = {vfuc_piece(&reply, sizeof(reply)), vfuc_piece(buf, count)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_REGION_READ,
        .request = &out,
        .request_cnt = 1,
        .reply = in,
        .reply_cnt = ARRAY_SIZE(in),
    };
    int ret = vfuc_run(c, &x);

    if (ret)
        return ret;
    if (x.reply_len != sizeof(reply) + (size_t)count || !same_access(&request, &reply))
        return -EPROTO;
    return 0;
}

static int write_region(struct vfuc *c, const struct vfio_user_region_access *request,
                        const void *buf, bool posted)
{
    struct vfio_user_region_access reply = {0};
    const struct iovec out[] = {vfuc_piece(request, sizeof(*request)),
                                vfuc_piece(buf, request->count)};
    const struct iovec in = vfuc_piece(&reply, sizeof(reply));
    struct vfuc_exchange x = {
        .command = VFIO_USER_REGION_WRITE,
        .posted = posted,
        .request = out,
        .request_cnt = ARRAY_SIZE(out),
        .reply = &in,
        .reply_cnt = 1,
    };
    int ret = vfuc_run(c, &x);

    if (ret || posted)
        return ret;
    return x.reply_len != sizeof(reply) || !same_access(request, &reply) ? -EPROTO : 0;
}

int vfuc_region_write(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                      uint32_t count)
{
    const struct vfio_user_region_access request = {offset, region, count};

    return write_region(c, &request, buf, false);
}

int vfuc_region_write_posted(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                             uint32_t count)
{
    const struct vfio_user_region_access request = {offset, region, count};

    return write_region(c, &request, buf, true);
}

int vfuc_region_read_all(struct vfuc *c, uint32_t region, uint64_t offset, void *buf, size_t len)
{
    uint8_t *at = buf;
    int ret = 0;

    while (len && !ret) {
        uint32_t n = (uint32_t)MIN(len, (size_t)vfuc_max_xfer(c));

        ret = vfuc_region_read(c, region, offset, at, n);
        offset += n;
        at += n;
        len -= n;
    }
    return ret;
}

int vfuc_region_write_all(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                          size_t len)
{
    const uint8_t *at = buf;
    int ret = 0;

    while (len && !ret) {
        uint32_t n = (uint32_t)MIN(len, (size_t)vfuc_max_xfer(c));

        ret = vfuc_region_write(c, region, offset, at, n);
        offset += n;
        at += n;
        len -= n;
    }
    return ret;
}

int64_t vfuc_region_write_multi(struct vfuc *c, const struct vfio_user_write_multi_entry *entries,
                                uint64_t n)
{
    const struct vfio_user_region_write_multi request = {.wr_cnt = n};
    struct vfio_user_region_write_multi reply = {0};
    const struct iovec out[] = {
        vfuc_piece(&request, sizeof(request)),
        vfuc_piece(entries, MIN(n, (uint64_t)LIMIT_WRITE_MULTI) * sizeof(*entries))};
    const struct iovec in = vfuc_piece(&reply, sizeof(reply));
    struct vfuc_exchange x = {
        .command = VFIO_USER_REGION_WRITE_MULTI,
        .request = out,
        .request_cnt = ARRAY_SIZE(out),
        .reply = &in,
        .reply_cnt = 1,
    };
    int ret;

    if (n > LIMIT_WRITE_MULTI)
        return -EINVAL;
    ret = vfuc_run(c, &x);
    if (ret)
        return ret;
    return x.reply_len != sizeof(reply) || reply.wr_cnt > n ? -EPROTO : (int64_t)reply.wr_cnt;
}

/* --- DMA and interrupts --- */

int vfuc_dma_map(struct vfuc *c, uint64_t iova, uint64_t size, uint32_t flags, int fd,
                 uint64_t offset)
{
    const struct vfio_user_dma_map map = {
        .argsz = sizeof(map),
        .flags = flags,
        .offset = offset,
        .address = iova,
        .size = size,
    };

    return command_with(c, VFIO_USER_DMA_MAP, &map, sizeof(map), &fd, fd >= 0 ? 1 : 0);
}

static int dma_unmap(struct vfuc *c, uint32_t flags, uint64_t iova, uint64_t size)
{
    struct vfio_user_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .flags = flags,
        .address = iova,
        .size = size,
    };

    return vfuc_query(c, VFIO_USER_DMA_UNMAP, &unmap, sizeof(unmap));
}

int vfuc_dma_unmap(struct vfuc *c, uint64_t iova, uint64_t size)
{
    return dma_unmap(c, 0, iova, size);
}

int vfuc_dma_unmap_all(struct vfuc *c)
{
    return dma_unmap(c, VFIO_USER_DMA_UNMAP_ALL, 0, 0);
}

static int set_irqs(struct vfuc *c, const struct vfio_user_irq_set *set, const uint8_t *bools,
                    const int *fds)
{
    uint32_t nbools = bools ? set->count : 0;
    struct vfio_user_irq_set request = *set;
    struct iovec out[] = {vfuc_piece(&request, sizeof(request)), vfuc_piece(bools, nbools)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_DEVICE_SET_IRQS,
        .request = out,
        .request_cnt = nbools ? 2 : 1,
        .fds = fds,
        .nfds = fds ? set->count : 0,
    };
    int ret;

    if (nbools > UINT32_MAX - sizeof(request))
        return -EINVAL;
    request.argsz = (uint32_t)sizeof(request) + nbools;
    ret = vfuc_run(c, &x);
    return !ret && x.reply_len ? -EPROTO : ret;
}

int vfuc_set_irqs(struct vfuc *c, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
                  const int *fds, const uint8_t *bools)
{
    const uint32_t chunk = (uint32_t)MIN(vfuc_caps(c)->max_msg_fds, (uint64_t)LIMIT_RECV_FDS);
    struct vfio_user_irq_set set = {.flags = flags, .index = index, .start = start, .count = count};
    int ret = 0;

    if (!fds)
        return set_irqs(c, &set, bools, NULL);
    for (uint32_t done = 0; done < count && !ret; done += set.count) {
        set.start = start + done;
        set.count = MIN(chunk, count - done);
        ret = set_irqs(c, &set, NULL, fds + done);
    }
    return ret;
}

int vfuc_irq_disable(struct vfuc *c, uint32_t index)
{
    return vfuc_set_irqs(c, index, VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
                         0, 0, NULL, NULL);
}
