/* Migration and the log of DMA writes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

int vfuc_feature(struct vfuc *c, uint32_t flags, const void *in, size_t in_len, void *out,
                 size_t out_len)
{
    const struct vfio_user_device_feature request = {
        .argsz = (uint32_t)(sizeof(request) + (in_len > out_len ? in_len : out_len)),
        .flags = flags,
    };
    struct vfio_user_device_feature reply = {0};
    const struct iovec pieces[] = {vfuc_piece(&request, sizeof(request)), vfuc_piece(in, in_len)};
    const struct iovec into[] = {vfuc_piece(&reply, sizeof(reply)), vfuc_piece(out, out_len)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_DEVICE_FEATURE,
        .request = pieces,
        .request_cnt = in_len ? 2 : 1,
        .reply = into,
        .reply_cnt = out_len ? 2 : 1,
    };
    int ret = vfuc_run(c, &x);

    if (ret)
        return ret;
    return x.reply_len < sizeof(reply) + out_len || reply.flags != flags ? -EPROTO : 0;
}

int vfuc_migration_flags(struct vfuc *c, uint64_t *flags)
{
    return vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_FEATURE_MIGRATION, NULL, 0,
                        flags, sizeof(*flags));
}

int vfuc_migration_state(struct vfuc *c, uint32_t *state)
{
    struct vfio_user_feature_mig_state s = {0};
    int ret = vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_FEATURE_MIG_DEVICE_STATE,
                           NULL, 0, &s, sizeof(s));

    *state = s.device_state;
    return ret;
}

int vfuc_set_migration_state(struct vfuc *c, uint32_t state)
{
    const struct vfio_user_feature_mig_state s = {.device_state = state};

    return vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_SET | VFIO_USER_FEATURE_MIG_DEVICE_STATE, &s,
                        sizeof(s), NULL, 0);
}

int64_t vfuc_migration_read(struct vfuc *c, void *buf, uint32_t size)
{
    const struct vfio_user_mig_data request = {
        .argsz = (uint32_t)sizeof(request) + size,
        .size = size,
    };
    struct vfio_user_mig_data reply = {0};
    const struct iovec out = vfuc_piece(&request, sizeof(request));
    const struct iovec in[] = {vfuc_piece(&reply, sizeof(reply)), vfuc_piece(buf, size)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_MIG_DATA_READ,
        .request = &out,
        .request_cnt = 1,
        .reply = in,
        .reply_cnt = ARRAY_SIZE(in),
    };
    int ret = vfuc_run(c, &x);

    if (ret)
        return ret;
    if (reply.size > size || x.reply_len != sizeof(reply) + (size_t)reply.size)
        return -EPROTO;
    return reply.size;
}

int vfuc_migration_write(struct vfuc *c, const void *buf, uint32_t size)
{
    const struct vfio_user_mig_data request = {
        .argsz = (uint32_t)sizeof(request) + size,
        .size = size,
    };
    const struct iovec out[] = {vfuc_piece(&request, sizeof(request)), vfuc_piece(buf, size)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_MIG_DATA_WRITE,
        .request = out,
        .request_cnt = ARRAY_SIZE(out),
    };
    int ret = vfuc_run(c, &x);

    return !ret && x.reply_len ? -EPROTO : ret;
}

int vfuc_dma_log_start(struct vfuc *c, const struct vfio_user_feature_dma_logging_range *ranges,
                       uint32_t n, uint64_t *page_size)
{
    const size_t len = sizeof(struct vfio_user_feature_dma_logging_control) + n * sizeof(*ranges);
    cleanup_free_ struct vfio_user_feature_dma_logging_control *control = calloc(1, len);
    int ret;

    if (!control)
        return -ENOMEM;
    control->page_size = *page_size;
    control->num_ranges = n;
    if (n)
        memcpy(control + 1, ranges, n * sizeof(*ranges));
    ret = vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_SET | VFIO_USER_FEATURE_DMA_LOGGING_START,
                       control, len, control, len);
    *page_size = control->page_size;
    return ret;
}

int vfuc_dma_log_stop(struct vfuc *c)
{
    return vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_SET | VFIO_USER_FEATURE_DMA_LOGGING_STOP, NULL,
                        0, NULL, 0);
}

int vfuc_dma_log_report(struct vfuc *c, uint64_t iova, uint64_t length, uint64_t page_size,
                        uint64_t *bitmap)
{
    const struct vfio_user_feature_dma_logging_report args = {iova, length, page_size};
    const size_t bits = (length - 1) / page_size + 1, words = (bits - 1) / 64 + 1;
    const size_t len = sizeof(args) + words * sizeof(*bitmap);
    cleanup_free_ uint8_t *reply = malloc(len);
    int ret;

    if (!reply)
        return -ENOMEM;
    ret = vfuc_feature(c, VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_FEATURE_DMA_LOGGING_REPORT,
                       &args, sizeof(args), reply, len);
    if (!ret)
        memcpy(bitmap, reply + sizeof(args), words * sizeof(*bitmap));
    return ret;
}

int vfuc_dma_unmap_dirty(struct vfuc *c, uint64_t iova, uint64_t size, uint64_t page_size,
                         uint64_t *bitmap)
{
    const size_t bits = (size - 1) / page_size + 1, words = (bits - 1) / 64 + 1;
    const struct vfio_user_bitmap wanted = {page_size, words * sizeof(*bitmap)};
    const struct vfio_user_dma_unmap request = {
        .argsz = (uint32_t)(sizeof(request) + sizeof(wanted) + wanted.size),
        .flags = VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP,
        .address = iova,
        .size = size,
    };
    struct vfio_user_dma_unmap reply;
    struct vfio_user_bitmap got;
    const struct iovec pieces[] = {vfuc_piece(&request, sizeof(request)),
                                   vfuc_piece(&wanted, sizeof(wanted))};
    const struct iovec into[] = {vfuc_piece(&reply, sizeof(reply)), vfuc_piece(&got, sizeof(got)),
                                 vfuc_piece(bitmap, wanted.size)};
    struct vfuc_exchange x = {
        .command = VFIO_USER_DMA_UNMAP,
        .request = pieces,
        .request_cnt = ARRAY_SIZE(pieces),
        .reply = into,
        .reply_cnt = ARRAY_SIZE(into),
    };
    int ret = vfuc_run(c, &x);

    if (ret)
        return ret;
    return x.reply_len == request.argsz && got.size == wanted.size ? 0 : -EPROTO;
}
