/*
 * A driver is as strict as the strictest of Linux: a report must lie within one logged range, and
 * begins and ends at whole words of its log, or at the range's end (pds).
 */
#include "bridge/sim/sim_log.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"

enum {
    WORD_BITS = 64,
    MIN_PAGE = 4096,
};

static bool is_logged(const struct sim_log *log, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < log->n_ranges; i++) {
        if (first <= log->ranges[i].last && last >= log->ranges[i].first)
            return true;
    }
    return false;
}

void sim_log_write(struct sim_log *log, uint64_t iova, size_t len)
{
    if (!log->active || !len)
        return;
    for (uint64_t n = iova / log->page_size; n <= (iova + len - 1) / log->page_size; n++) {
        if (is_logged(log, n * log->page_size, n * log->page_size + (log->page_size - 1)))
            sim_dirty_add(&log->written, n, n);
    }
}

static void forget(struct sim_log *log)
{
    sim_dirty_forget(&log->written);
    log->active = false;
}

void sim_log_close(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->dma.lock);
    forget(&dev->dma.log);
    pthread_mutex_unlock(&dev->dma.lock);
}

static bool overlaps_before(const struct sim_log_range *ranges, unsigned i)
{
    for (unsigned k = 0; k < i; k++) {
        if (ranges[i].first <= ranges[k].last && ranges[i].last >= ranges[k].first)
            return true;
    }
    return false;
}

/* page_size: of the caller, whose only rule is that ranges are aligned to it. */
static int take_ranges(const struct vfio_device_feature_dma_logging_control *control,
                       struct sim_log_range *ranges)
{
    for (uint32_t i = 0; i < control->num_ranges; i++) {
        struct vfio_device_feature_dma_logging_range r;
        int ret =
            sim_copy_in(&r, (const char *)(uintptr_t)control->ranges + i * sizeof(r), sizeof(r));

        if (ret)
            return ret;
        if ((r.iova | r.length) & (control->page_size - 1))
            return -EINVAL;
        if (r.iova + r.length < r.iova)
            return -EOVERFLOW;
        ranges[i] = (struct sim_log_range){.first = r.iova, .last = r.iova + r.length - 1};
        if (overlaps_before(ranges, i))
            return -EINVAL;
    }
    return 0;
}

static uint64_t choose_page_size(const struct sim_log *log, uint64_t hint)
{
    if (log->fixed_page)
        return log->fixed_page;
    return is_pow2(hint) && hint > MIN_PAGE ? hint : MIN_PAGE;
}

static int start(struct sim_log *log, struct vfio_device_feature_dma_logging_control *control)
{
    struct sim_log_range ranges[SIM_LOG_MAX_RANGES];
    int ret;

    if (!control->num_ranges)
        return -EINVAL;
    if (control->num_ranges > SIM_LOG_MAX_RANGES)
        return -E2BIG;
    ret = take_ranges(control, ranges);
    if (ret)
        return ret;
    if (log->active)
        return -EINVAL;
    control->page_size = choose_page_size(log, control->page_size);
    log->page_size = control->page_size;
    log->n_ranges = control->num_ranges;
    memcpy(log->ranges, ranges, sizeof(*ranges) * control->num_ranges);
    log->active = true;
    return 0;
}

int sim_log_start(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    struct vfio_device_feature_dma_logging_control control;
    int ret;

    if (dev->dma.log.missing)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET, sizeof(control));
    if (ret != 1)
        return ret;
    memcpy(&control, data, sizeof(control));
    pthread_mutex_lock(&dev->dma.lock);
    ret = start(&dev->dma.log, &control);
    pthread_mutex_unlock(&dev->dma.lock);
    return ret ? ret : sim_copy_out(data, &control, sizeof(control));
}

int sim_log_stop(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    int ret;

    (void)data;
    if (dev->dma.log.missing)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET, 0);
    if (ret != 1)
        return ret;
    sim_log_close(dev);
    return 0;
}

/* A report on its way through the pages. */
struct report {
    uint64_t log_page;
    struct sim_bitmap bitmap;
    uint64_t last;
};

/* A page that is partly in the range of the report is cleared as a whole. */
static void report_page(void *arg, uint64_t page)
{
    const struct report *r = arg;
    uint64_t first = page * r->log_page, last = first + (r->log_page - 1);

    sim_bitmap_set(&r->bitmap, MAX(first, r->bitmap.iova), MIN(last, r->last));
}

static bool is_reportable(const struct sim_log *log, uint64_t first, uint64_t last)
{
    const uint64_t word = log->page_size * WORD_BITS;

    for (unsigned i = 0; i < log->n_ranges; i++) {
        const struct sim_log_range *r = &log->ranges[i];

        if (first >= r->first && last <= r->last)
            return !((first - r->first) % word) &&
                   (last == r->last || !((last + 1 - r->first) % word));
    }
    return false;
}

static int report(struct sim_log *log, const struct vfio_device_feature_dma_logging_report *args)
{
    struct report r = {
        log->page_size,
        {args->iova, args->page_size, args->bitmap},
        args->iova + (args->length - 1)
    };

    if (args->page_size < MIN_PAGE || !is_pow2(args->page_size))
        return -EINVAL;
    if (args->iova + args->length < args->iova)
        return -EOVERFLOW;
    if (!log->active || !args->length ||
        !is_reportable(log, args->iova, args->iova + args->length - 1))
        return -EINVAL;
    sim_dirty_each(&log->written, args->iova / log->page_size, r.last / log->page_size, true,
                   report_page, &r);
    return 0;
}

int sim_log_report(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    struct vfio_device_feature_dma_logging_report args;
    int ret;

    if (dev->dma.log.missing)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(args));
    if (ret != 1)
        return ret;
    memcpy(&args, data, sizeof(args));
    pthread_mutex_lock(&dev->dma.lock);
    ret = report(&dev->dma.log, &args);
    pthread_mutex_unlock(&dev->dma.lock);
    return ret;
}
