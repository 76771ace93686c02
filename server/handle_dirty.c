/* DEVICE_FEATURE's log of the pages that a device writes by DMA. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/dirty.h"
#include "bridge/dirty_bitmap.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "server/features.h"

int dirty_feature_probe(struct session *s)
{
    return dirty_probe(s->device, s->dirty_sources);
}

static int take_ranges(const uint8_t *data, uint32_t n, struct range *ranges)
{
    struct vfio_user_feature_dma_logging_range in;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(&in, data + i * sizeof(in), sizeof(in));
        if (!in.length)
            return log_peer_refusal(EINVAL, "DMA_LOGGING_START: range %u is empty", i);
        if (range_wraps(in.iova, in.length))
            return log_peer_refusal(EOVERFLOW, "DMA_LOGGING_START: range %u passes 2^64", i);
        ranges[i] = (struct range){in.iova, in.iova + (in.length - 1)};
    }
    return 0;
}

int dirty_feature_start(struct feature_call *call)
{
    struct vfio_user_feature_dma_logging_control control;
    cleanup_free_ struct range *ranges = NULL;
    void *reply;
    int ret = feature_take(call, &control, sizeof(control));

    if (ret)
        return ret;
    if (call->len - sizeof(control) <
        control.num_ranges * sizeof(struct vfio_user_feature_dma_logging_range))
        return log_peer_refusal(EINVAL, "DMA_LOGGING_START: %u ranges in %zu bytes",
                                control.num_ranges, call->len);
    ranges = calloc(control.num_ranges + (size_t)1, sizeof(*ranges));
    if (!ranges)
        return -ENOMEM;
    ret = take_ranges(call->data + sizeof(control), control.num_ranges, ranges);
    if (!ret)
        ret = feature_reply(call, call->len, &reply);
    if (!ret)
        ret = dirty_start(call->session->device, call->session->dirty_sources, ranges,
                          control.num_ranges, &control.page_size);
    if (ret)
        return ret;
    memcpy(reply, call->data, call->len);
    memcpy(reply, &control, sizeof(control));
    return 0;
}

int dirty_feature_stop(struct feature_call *call)
{
    return dirty_stop(call->session->device);
}

/* The bits are the kernel's no more once they were asked for: first is made sure that the client
 * takes them all. */
int dirty_feature_report(struct feature_call *call)
{
    struct vfio_user_feature_dma_logging_report in;
    struct device *dev = call->session->device;
    uint64_t size;
    uint8_t *bitmap;
    void *reply;
    int ret = feature_take(call, &in, sizeof(in));

    if (!ret)
        ret = dirty_check_report(dev, in.iova, in.length, in.page_size);
    if (ret)
        return ret;
    size = dirty_bitmap_size(in.iova, in.iova + (in.length - 1), in.page_size);
    if (size > LIMIT_BITMAP_SIZE)
        return log_peer_refusal(E2BIG,
                                "DMA_LOGGING_REPORT: more pages than %d bytes of bitmap have",
                                LIMIT_BITMAP_SIZE);
    ret = feature_reply(call, sizeof(in) + size, &reply);
    if (ret)
        return ret;
    memcpy(reply, &in, sizeof(in));
    bitmap = (uint8_t *)reply + sizeof(in);
    assert(!((uintptr_t)bitmap % sizeof(uint64_t)));
    memset(bitmap, 0, size);
    return dirty_report(dev, in.iova, in.length, in.page_size, (uint64_t *)(void *)bitmap);
}
