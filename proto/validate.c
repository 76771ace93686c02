#include "proto/validate.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/limits.h"

int validate_header(const struct vfio_user_header *hdr, uint32_t max_size)
{
    if (hdr->msg_size < sizeof(*hdr))
        return log_peer_refusal(EINVAL, "message size %" PRIu32 ": shorter than a header",
                                hdr->msg_size);
    if (hdr->msg_size > max_size)
        return log_peer_refusal(EMSGSIZE, "message size %" PRIu32 ": more than %" PRIu32,
                                hdr->msg_size, max_size);
    return 0;
}

/* The error field of a request is reserved: whatever stands in it is ignored. */
static int check_flags(const struct command *cmd, uint32_t flags)
{
    uint32_t type = flags & VFIO_USER_FLAG_TYPE_MASK;

    if (type != VFIO_USER_FLAG_TYPE_COMMAND)
        return log_peer_refusal(EINVAL, "%s: message type %" PRIu32 " where a request was due",
                                cmd->name, type);
    if (flags & ~(uint32_t)VFIO_USER_FLAG_ALL)
        return log_peer_refusal(EINVAL, "%s: unknown message flags 0x%" PRIx32, cmd->name, flags);
    if (flags & VFIO_USER_FLAG_ERROR)
        return log_peer_refusal(EINVAL, "%s: the error flag in a request", cmd->name);
    if ((flags & VFIO_USER_FLAG_NO_REPLY) && !cmd->no_reply_ok)
        return log_peer_refusal(EINVAL, "%s: asks, but wants no reply", cmd->name);
    return 0;
}

static int check_size(const struct command *cmd, uint32_t payload)
{
    if (payload < cmd->min_payload)
        return log_peer_refusal(EINVAL, "%s: payload of %" PRIu32 " bytes, at least %" PRIu32,
                                cmd->name, payload, cmd->min_payload);
    if (payload > cmd->max_payload)
        return log_peer_refusal(E2BIG, "%s: payload of %" PRIu32 " bytes, at most %" PRIu32,
                                cmd->name, payload, cmd->max_payload);
    return 0;
}

static int check_fds(const struct command *cmd, const struct fdset *fds)
{
    if (cmd->spare_fds_ok)
        return 0;
    if (fds->truncated)
        return log_peer_refusal(EMFILE,
                                "%s: descriptors were lost, more than %d or no room for them here",
                                cmd->name, LIMIT_RECV_FDS);
    if (fds->count > cmd->max_fds)
        return log_peer_refusal(EINVAL, "%s: %u descriptors, at most %" PRIu32, cmd->name,
                                fds->count, cmd->max_fds);
    return 0;
}

int validate_request(const struct command *cmd, const struct vfio_user_header *hdr,
                     const struct fdset *fds)
{
    int r;

    assert(hdr->msg_size >= sizeof(*hdr));
    if (cmd->direction != COMMAND_TO_SERVER)
        return log_peer_refusal(EINVAL, "%s: only a server sends this", cmd->name);
    r = check_flags(cmd, hdr->flags);
    if (r < 0)
        return r;
    r = check_size(cmd, hdr->msg_size - (uint32_t)sizeof(*hdr));
    if (r < 0)
        return r;
    return check_fds(cmd, fds);
}

/* Copies the fixed part, which the command's row has made sure of. */
static void copy_fixed(void *out, size_t size, const void *payload, size_t len)
{
    assert(len >= size);
    (void)len;
    memcpy(out, payload, size);
}

int validate_dma_map(const void *payload, size_t len, struct vfio_user_dma_map *out)
{
    const uint32_t known = VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE;

    copy_fixed(out, sizeof(*out), payload, len);
    if (!out->flags || (out->flags & ~known))
        return log_peer_refusal(EINVAL, "DMA_MAP: flags 0x%" PRIx32, out->flags);
    if (!out->size)
        return log_peer_refusal(EINVAL, "DMA_MAP: size 0");
    if (range_wraps(out->address, out->size))
        return log_peer_refusal(EINVAL, "DMA_MAP: address 0x%" PRIx64 " + size 0x%" PRIx64,
                                out->address, out->size);
    if (range_wraps(out->offset, out->size))
        return log_peer_refusal(EINVAL, "DMA_MAP: offset 0x%" PRIx64 " + size 0x%" PRIx64,
                                out->offset, out->size);
    return 0;
}

int validate_dma_unmap(const void *payload, size_t len, struct vfio_user_dma_unmap *out)
{
    copy_fixed(out, sizeof(*out), payload, len);
    if (out->flags == VFIO_USER_DMA_UNMAP_ALL)
        return 0;
    if (out->flags & ~(uint32_t)VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP)
        return log_peer_refusal(EINVAL, "DMA_UNMAP: flags 0x%" PRIx32, out->flags);
    if (!out->size)
        return log_peer_refusal(EINVAL, "DMA_UNMAP: size 0");
    if (range_wraps(out->address, out->size))
        return log_peer_refusal(EINVAL, "DMA_UNMAP: address 0x%" PRIx64 " + size 0x%" PRIx64,
                                out->address, out->size);
    return 0;
}

int validate_dma_unmap_bitmap(const void *payload, size_t len,
                              const struct vfio_user_dma_unmap *unmap, struct vfio_user_bitmap *out)
{
    uint64_t needed;

    if (len < sizeof(*unmap) + sizeof(*out))
        return log_peer_refusal(EINVAL, "DMA_UNMAP: a dirty bitmap is asked for in %zu bytes", len);
    memcpy(out, (const char *)payload + sizeof(*unmap), sizeof(*out));
    if (!is_pow2(out->pgsize) || out->pgsize < LIMIT_BITMAP_PGSIZE)
        return log_peer_refusal(EINVAL, "DMA_UNMAP: a dirty bitmap of pages of %" PRIu64,
                                out->pgsize);
    needed = ((unmap->size - 1) / out->pgsize / 64 + 1) * sizeof(uint64_t);
    if (needed > LIMIT_BITMAP_SIZE || out->size > LIMIT_BITMAP_SIZE)
        return log_peer_refusal(E2BIG, "DMA_UNMAP: a dirty bitmap of more than %d bytes",
                                LIMIT_BITMAP_SIZE);
    if (out->size < needed || unmap->argsz < sizeof(*unmap) + sizeof(*out) + out->size)
        return log_peer_refusal(EINVAL,
                                "DMA_UNMAP: room for %" PRIu64 " bytes of dirty bitmap in argsz "
                                "%" PRIu32 ", it has %" PRIu64,
                                out->size, unmap->argsz, needed);
    return 0;
}

static int check_argsz(uint16_t command, uint32_t argsz, size_t least)
{
    if (argsz < least)
        return log_peer_refusal(EINVAL, "%s: argsz %" PRIu32 ", at least %zu",
                                command_name(command), argsz, least);
    return 0;
}

int validate_device_info(const void *payload, size_t len, struct vfio_user_device_info *out)
{
    copy_fixed(out, sizeof(*out), payload, len);
    return check_argsz(VFIO_USER_DEVICE_GET_INFO, out->argsz, sizeof(*out));
}

int validate_region_info(const void *payload, size_t len, struct vfio_user_region_info *out)
{
    copy_fixed(out, sizeof(*out), payload, len);
    return check_argsz(VFIO_USER_DEVICE_GET_REGION_INFO, out->argsz, sizeof(*out));
}

int validate_region_io_fds(const void *payload, size_t len, struct vfio_user_region_io_fds *out)
{
    copy_fixed(out, sizeof(*out), payload, len);
    return check_argsz(VFIO_USER_DEVICE_GET_REGION_IO_FDS, out->argsz, sizeof(*out));
}

int validate_irq_info(const void *payload, size_t len, struct vfio_user_irq_info *out)
{
    copy_fixed(out, sizeof(*out), payload, len);
    return check_argsz(VFIO_USER_DEVICE_GET_IRQ_INFO, out->argsz, sizeof(*out));
}

int validate_device_feature(const void *payload, size_t len, struct vfio_user_device_feature *out)
{
    const uint32_t get_set = VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_DEVICE_FEATURE_SET;
    const uint32_t methods = get_set | VFIO_USER_DEVICE_FEATURE_PROBE;

    copy_fixed(out, sizeof(*out), payload, len);
    if (out->flags & ~(methods | VFIO_USER_DEVICE_FEATURE_MASK))
        return log_peer_refusal(EINVAL, "DEVICE_FEATURE: unknown flags 0x%" PRIx32, out->flags);
    if (!(out->flags & methods) || (out->flags & methods) == get_set)
        return log_peer_refusal(EINVAL, "DEVICE_FEATURE: flags 0x%" PRIx32 " name no method",
                                out->flags);
    return check_argsz(VFIO_USER_DEVICE_FEATURE, out->argsz, sizeof(*out));
}

static int check_mig_data(uint16_t command, const struct vfio_user_mig_data *data)
{
    if (data->size > LIMIT_DATA_XFER)
        return log_peer_refusal(EINVAL, "%s: size %" PRIu32 ", at most %d", command_name(command),
                                data->size, LIMIT_DATA_XFER);
    return check_argsz(command, data->argsz, sizeof(*data));
}

int validate_mig_data_read(const void *payload, size_t len, struct vfio_user_mig_data *out)
{
    int ret;

    copy_fixed(out, sizeof(*out), payload, len);
    ret = check_mig_data(VFIO_USER_MIG_DATA_READ, out);
    return ret ? ret : check_argsz(VFIO_USER_MIG_DATA_READ, out->argsz, sizeof(*out) + out->size);
}

int validate_mig_data_write(const void *payload, size_t len, struct vfio_user_mig_data *out,
                            const uint8_t **data)
{
    copy_fixed(out, sizeof(*out), payload, len);
    if (len - sizeof(*out) != out->size)
        return log_peer_refusal(EINVAL, "MIG_DATA_WRITE: size %" PRIu32 ", but %zu bytes came",
                                out->size, len - sizeof(*out));
    *data = (const uint8_t *)payload + sizeof(*out);
    return check_mig_data(VFIO_USER_MIG_DATA_WRITE, out);
}
