/*
 * Three parts make a report: what the device's log tells of the ranges that it covers; mappings
 * that are to be logged and which no such log covers, of which the IOMMU tells, or else all of them
 * are dirty; and what was kept.
 */
#include "bridge/dirty.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/dirty_internal.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

enum {
    /* Ranges that wait to be reported; more grow together. */
    MAX_KEPT = 4096,
};

static void free_log(struct dirty_log **log)
{
    if (!*log)
        return;
    range_set_free(&(*log)->wanted);
    range_set_free(&(*log)->logged);
    range_set_free(&(*log)->kept);
    free((*log)->scratch);
    free(*log);
    *log = NULL;
}

void dirty_forget(struct device *dev)
{
    address_space_track_off(dev->as);
    free_log(&dev->dirty);
}

/* All that a report will need, so that it can't fail for want of memory. */
static struct dirty_log *new_log(void)
{
    struct dirty_log *log = calloc(1, sizeof(*log));

    if (!log)
        return NULL;
    if (dirty_device_init(log) || range_set_init(&log->wanted, DIRTY_MAX_RANGES) ||
        range_set_init(&log->logged, DIRTY_MAX_RANGES) || range_set_init(&log->kept, MAX_KEPT))
        free_log(&log);
    return log;
}

static bool iommu_tracks(const struct device *dev)
{
    struct iommu_info info;

    address_space_get_info(dev->as, &info);
    return info.dirty_source;
}

int dirty_probe(struct device *dev, unsigned sources)
{
    int ret = sources & DIRTY_DEVICE ? dirty_device_probe(dev) : -ENOTTY;

    if (dev->fd < 0)
        return -ENODEV;
    if (ret && ret != -ENODEV &&
        (sources & DIRTY_GUESS || (sources & DIRTY_IOMMU && iommu_tracks(dev))))
        return 0;
    return ret;
}

/* What the kernel would say of them, for a source that does not ask it. */
static int take_wanted(struct dirty_log *log, const struct range *ranges, size_t n)
{
    if (!is_pow2(log->page_size) || log->page_size < DIRTY_MIN_PAGE)
        return log_peer_refusal(EINVAL, "dirty log: page size %" PRIu64, log->page_size);
    if (n > DIRTY_MAX_RANGES)
        return log_peer_refusal(E2BIG, "dirty log: %zu ranges", n);
    if (!n)
        range_set_add(&log->wanted, 0, UINT64_MAX);
    for (const struct range *r = ranges; r < ranges + n; r++) {
        if (r->last < r->first || !is_aligned(r->first | (r->last + 1), log->page_size) ||
            range_set_overlaps(&log->wanted, r->first, r->last))
            return log_peer_refusal(EINVAL,
                                    "dirty log: range from 0x%" PRIx64 " to 0x%" PRIx64
                                    ", not aligned or in another one",
                                    r->first, r->last);
        range_set_add(&log->wanted, r->first, r->last);
    }
    return 0;
}

static const char *source_name(const struct device *dev, enum dirty_source source)
{
    struct iommu_info info;

    switch (source) {
    case DIRTY_DEVICE:
        return "its own log";
    case DIRTY_IOMMU:
        address_space_get_info(dev->as, &info);
        return info.dirty_source ? info.dirty_source : "the IOMMU";
    case DIRTY_GUESS:
        break;
    }
    return "the guess that all writable memory is dirty (--dirty-policy all-writable)";
}

/* Of one source; page_size: what is wished for. */
static int start_source(struct device *dev, enum dirty_source source, uint64_t page_size, bool all)
{
    struct dirty_log *log = dev->dirty;

    log->source = source;
    log->page_size = page_size;
    log->logged.n = 0;
    switch (source) {
    case DIRTY_DEVICE:
        return dirty_device_start(dev, all);
    case DIRTY_IOMMU:
        return address_space_track(dev->as);
    case DIRTY_GUESS:
        break;
    }
    return 0;
}

/* The best that works. An error is of the best that there is. */
static int start_best(struct device *dev, unsigned sources, uint64_t page_size, bool all)
{
    static const enum dirty_source best_first[] = {DIRTY_DEVICE, DIRTY_IOMMU, DIRTY_GUESS};
    int ret = -ENOTTY;

    for (size_t i = 0; i < ARRAY_SIZE(best_first); i++) {
        int now;

        if (!(sources & best_first[i]))
            continue;
        now = start_source(dev, best_first[i], page_size, all);
        if (!now || now == -ENODEV)
            return now;
        if (now != -ENOTTY)
            log_peer_warning("dirty log of %s by %s: %s", dev->where.name,
                             source_name(dev, best_first[i]), strerror(-now));
        if (ret == -ENOTTY)
            ret = now;
    }
    return ret;
}

/* Once a session, and again if it becomes another one. */
static void tell_source(struct device *dev)
{
    const char *name = source_name(dev, dev->dirty->source);

    if (dev->dirty_told != name)
        log_peer_info("dirty pages of %s: by %s", dev->where.name, name);
    dev->dirty_told = name;
}

int dirty_start(struct device *dev, unsigned sources, const struct range *ranges, size_t n,
                uint64_t *page_size)
{
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (dev->dirty)
        return log_peer_refusal(EINVAL, "the dirty log is on");
    dev->dirty = new_log();
    if (!dev->dirty)
        return -ENOMEM;
    dev->dirty->page_size = *page_size;
    ret = take_wanted(dev->dirty, ranges, n);
    if (!ret)
        ret = start_best(dev, sources, *page_size, !n);
    if (ret) {
        dirty_forget(dev);
        return ret;
    }
    tell_source(dev);
    *page_size = dev->dirty->page_size;
    return 0;
}

int dirty_stop(struct device *dev)
{
    int ret = 0;

    if (dev->dirty && dev->dirty->source == DIRTY_DEVICE && dev->dirty->logged.n)
        ret = dirty_device_stop(dev);
    else if (dev->dirty)
        ret = address_space_track_off(dev->as);
    if (ret)
        log_peer_warning("end of the dirty log of %s: %s", dev->where.name, strerror(-ret));
    dirty_forget(dev);
    return ret;
}

struct unlogged {
    const struct dirty_log *log;
    range_part *part;
    void *arg;
};

static void cut_logged(void *arg, uint64_t first, uint64_t last)
{
    const struct unlogged *u = arg;

    range_set_gaps(&u->log->logged, first, last, u->part, u->arg);
}

/* Memory that the device may write, that is to be logged, and that no log covers. */
static void each_unlogged(struct device *dev, uint64_t first, uint64_t last, range_part *part,
                          void *arg)
{
    struct unlogged u = {dev->dirty, part, arg};
    struct range r;

    while (address_space_next_writable(dev->as, first, &r.first, &r.last) && r.first <= last) {
        range_set_each(&dev->dirty->wanted, MAX(r.first, first), MIN(r.last, last), cut_logged, &u);
        if (r.last >= last)
            break;
        first = r.last + 1;
    }
}

static void set_dirty(void *arg, uint64_t first, uint64_t last)
{
    dirty_bitmap_set(&((struct dirty_report *)arg)->out, first, last);
}

/* What was kept of memory that was not to be logged is dropped. */
static void set_wanted(void *arg, uint64_t first, uint64_t last)
{
    const struct dirty_report *r = arg;

    range_set_each(&r->dev->dirty->wanted, first, last, set_dirty, arg);
}

/* A part of a mapping that the IOMMU is asked for. */
struct tracked_part {
    struct dirty_bitmap *out;
    uint64_t first, last;
};

static void merge(void *arg, const struct dirty_bitmap *written)
{
    const struct tracked_part *part = arg;

    dirty_bitmap_merge(part->out, written, part->first, part->last);
}

static void report_tracked(void *arg, uint64_t first, uint64_t last)
{
    struct dirty_report *r = arg;
    struct tracked_part part = {&r->out, first, last};

    address_space_read_dirty(r->dev->as, first, last, merge, &part);
}

int dirty_check_report(const struct device *dev, uint64_t iova, uint64_t length, uint64_t page_size)
{
    if (dev->fd < 0)
        return -ENODEV;
    if (!dev->dirty)
        return log_peer_refusal(EINVAL, "report of a dirty log that is not on");
    if (!is_pow2(page_size) || page_size < DIRTY_MIN_PAGE || !length)
        return log_peer_refusal(EINVAL, "dirty report: %" PRIu64 " bytes in pages of %" PRIu64,
                                length, page_size);
    if (range_wraps(iova, length))
        return log_peer_refusal(EOVERFLOW, "dirty report: 0x%" PRIx64 " bytes from 0x%" PRIx64,
                                length, iova);
    return 0;
}

int dirty_report(struct device *dev, uint64_t iova, uint64_t length, uint64_t page_size,
                 uint64_t *bitmap)
{
    struct dirty_report r = {
        dev, {iova, iova + (length - 1), page_size, bitmap}
    };
    int ret = dirty_check_report(dev, iova, length, page_size);

    if (ret)
        return ret;
    range_set_take(&dev->dirty->kept, r.out.first, r.out.last, set_dirty, &r);
    if (dev->dirty->source == DIRTY_IOMMU) {
        each_unlogged(dev, r.out.first, r.out.last, report_tracked, &r);
        address_space_take_kept(dev->as, r.out.first, r.out.last, set_wanted, &r);
        return 0;
    }
    dirty_device_report(&r);
    each_unlogged(dev, r.out.first, r.out.last, set_dirty, &r);
    return 0;
}

static void keep(void *arg, uint64_t first, uint64_t last)
{
    range_set_add(arg, first, last);
}

/* The IOMMU's bits are kept by the unmap itself. */
void dirty_keep(struct device *dev, uint64_t first, uint64_t last)
{
    if (dev->dirty && dev->dirty->source != DIRTY_IOMMU)
        each_unlogged(dev, first, last, keep, &dev->dirty->kept);
}
