/*
 * The device's own log (<linux/vfio.h>, VFIO_DEVICE_FEATURE_DMA_LOGGING_*). It is asked for whole
 * words: pds's moves words, and tells of more than it was asked; drivers that work page by page
 * clear a page of which a part was asked for.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/dirty_internal.h"
#include "bridge/feature.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

enum {
    /*
     * A larger page is never asked for: iova_bitmap.c of some kernels counts pages of 2 GiB and
     * more wrong. And the largest that a device may choose all the same.
     */
    ASKED_PAGE_SHIFT = 30,
    MAX_PAGE_SHIFT = 40,
    WORD_BITS = 64,
    SCRATCH = 1 << 20, /* bytes of bitmap that the kernel is asked for at a time */
};

int dirty_device_init(struct dirty_log *log)
{
    log->scratch = aligned_alloc(DIRTY_MIN_PAGE, SCRATCH);
    return log->scratch ? 0 : -ENOMEM;
}

int dirty_device_probe(struct device *dev)
{
    int ret = feature_probe(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET);

    if (!ret)
        ret = feature_probe(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET);
    return ret;
}

/* A range to be logged, in whole pages. The kernel takes none that ends with the last page. */
static void add_logged(struct dirty_log *log, uint64_t first, uint64_t last)
{
    last |= log->page_size - 1;
    if (last == UINT64_MAX)
        last -= log->page_size;
    first &= -log->page_size;
    if (first <= last)
        range_set_add(&log->logged, first, last);
}

static void copy_wanted(void *arg, uint64_t first, uint64_t last)
{
    add_logged(arg, first, last);
}

/* All that the IOMMU lets the device reach. */
static void log_reachable(struct device *dev)
{
    struct iommu_info info;

    address_space_get_info(dev->as, &info);
    for (unsigned i = 0; i < info.n_ranges; i++)
        add_logged(dev->dirty, info.ranges[i].first, info.ranges[i].last);
}

/* From the first mapping to the last. */
static void log_mapped(struct device *dev)
{
    struct range r, span = {UINT64_MAX, 0};

    for (uint64_t at = 0; address_space_next_writable(dev->as, at, &r.first, &r.last);) {
        span = (struct range){MIN(span.first, r.first), r.last};
        at = r.last + 1;
        if (!at)
            break;
    }
    dev->dirty->logged.n = 0;
    if (span.first <= span.last)
        add_logged(dev->dirty, span.first, span.last);
}

int dirty_device_stop(struct device *dev)
{
    return feature_set(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

/* page_size: what the device has chosen. */
static int ask_to_start(struct device *dev, uint64_t *page_size)
{
    const struct range_set *set = &dev->dirty->logged;
    struct vfio_device_feature_dma_logging_control control = {
        .page_size = dev->dirty->page_size,
        .num_ranges = (uint32_t)set->n,
    };
    cleanup_free_ struct vfio_device_feature_dma_logging_range *ranges =
        calloc(set->n + 1, sizeof(*ranges));
    int ret;

    if (!ranges)
        return -ENOMEM;
    for (size_t i = 0; i < set->n; i++) {
        ranges[i].iova = set->at[i].first;
        ranges[i].length = set->at[i].last - set->at[i].first + 1;
    }
    control.ranges = (uintptr_t)ranges;
    ret = feature_set(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control, sizeof(control));
    if (ret)
        return ret;
    if (!is_pow2(control.page_size) || control.page_size >> MAX_PAGE_SHIFT > 1) {
        log_error("dirty log of %s: the driver's page size is 0x%" PRIx64, dev->where.name,
                  (uint64_t)control.page_size);
        dirty_device_stop(dev);
        return -EPROTO;
    }
    *page_size = MAX((uint64_t)control.page_size, (uint64_t)DIRTY_MIN_PAGE);
    return 0;
}

static bool is_whole_pages(const struct range_set *set, uint64_t page_size)
{
    for (size_t i = 0; i < set->n; i++) {
        if (!is_aligned(set->at[i].first | (set->at[i].last + 1), page_size))
            return false;
    }
    return true;
}

static void nothing_more(void *arg, uint64_t first, uint64_t last)
{
    (void)arg;
    (void)first;
    (void)last;
}

/*
 * Ranges may grow together. One that would have to reach the last page shrinks instead, so it is
 * taken out first.
 */
static void round_out(struct dirty_log *log)
{
    for (size_t i = 0; i < log->logged.n;) {
        const struct range r = log->logged.at[i];

        if (is_aligned(r.first | (r.last + 1), log->page_size)) {
            i++;
            continue;
        }
        range_set_take(&log->logged, r.first, r.last, nothing_more, NULL);
        add_logged(log, r.first, r.last);
        i = 0;
    }
}

/*
 * A device with larger pages than were wished for must log whole ones: else the page at a range's
 * edge is neither the range's nor not.
 */
static int start_with_its_pages(struct device *dev)
{
    struct dirty_log *log = dev->dirty;
    uint64_t page_size;
    int ret = ask_to_start(dev, &page_size);

    if (ret || is_whole_pages(&log->logged, page_size)) {
        log->page_size = ret ? log->page_size : page_size;
        return ret;
    }
    ret = dirty_device_stop(dev);
    if (ret)
        return ret;
    log->page_size = page_size;
    round_out(log);
    ret = ask_to_start(dev, &page_size);
    if (!ret && page_size != log->page_size) {
        dirty_device_stop(dev);
        ret = -EPROTO;
    }
    return ret;
}

int dirty_device_start(struct device *dev, bool all)
{
    struct dirty_log *log = dev->dirty;
    int ret;

    log->page_size = MIN(log->page_size, UINT64_C(1) << ASKED_PAGE_SHIFT);
    if (all)
        log_reachable(dev);
    else
        range_set_each(&log->wanted, 0, UINT64_MAX, copy_wanted, log);
    ret = start_with_its_pages(dev);
    if (!ret || !all || ret == -ENOTTY || ret == -ENODEV)
        return ret;
    /* More than it can log. What is mapped elsewhere later counts as dirty. */
    log_mapped(dev);
    return log->logged.n ? start_with_its_pages(dev) : ret;
}

/* Pages that are dirty: the client is told of those that it asked for. */
static void tell(struct dirty_report *r, uint64_t first, uint64_t last)
{
    struct range_set *kept = &r->dev->dirty->kept;

    dirty_bitmap_set(&r->out, first, last);
    if (first < r->out.first)
        range_set_add(kept, first, MIN(last, r->out.first - 1));
    if (last > r->out.last)
        range_set_add(kept, MAX(first, r->out.last + 1), last);
}

/* An error says that the log is corrupt, whatever it was asked for (<linux/vfio.h>). */
static void tell_all(struct dirty_report *r)
{
    const struct range_set *logged = &r->dev->dirty->logged;

    for (size_t i = 0; i < logged->n; i++)
        tell(r, logged->at[i].first, logged->at[i].last);
}

/* Of the device's log, which forgets it; at most SCRATCH bytes of bitmap. */
static void ask(struct dirty_report *r, uint64_t first, uint64_t last, uint64_t page_size)
{
    struct dirty_bitmap got = {first, last, page_size, r->dev->dirty->scratch};
    struct vfio_device_feature_dma_logging_report args = {
        .iova = first,
        .length = last - first + 1,
        .page_size = page_size,
        .bitmap = (uintptr_t)got.words,
    };
    int ret;

    memset(got.words, 0, dirty_bitmap_size(first, last, page_size));
    ret = feature_get(r->dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &args, sizeof(args));
    if (ret) {
        log_peer_warning("dirty log of %s from 0x%" PRIx64 " to 0x%" PRIx64
                         ": %s; all that it logs counts as dirty",
                         r->dev->where.name, first, last, strerror(-ret));
        tell_all(r);
        return;
    }
    dirty_bitmap_merge(&r->out, &got, first, last);
    if (first >= r->out.first && last <= r->out.last)
        return;
    for (uint64_t n = 0; dirty_bitmap_next(&got, &n, &first, &last);)
        tell(r, first, last);
}

/*
 * Larger pages than the log's are less work, where none of them shares bytes with two of the
 * client's: they are as large as those at most, and begin where one of those does.
 */
static uint64_t choose_page_size(const struct dirty_report *r, uint64_t first)
{
    uint64_t page_size = MIN(r->out.page_size, UINT64_C(1) << ASKED_PAGE_SHIFT);
    uint64_t offset = first - r->out.first;

    if (offset)
        page_size = MIN(page_size, offset & -offset);
    return MAX(page_size, r->dev->dirty->page_size);
}

static void ask_in_pieces(struct dirty_report *r, uint64_t first, uint64_t last)
{
    uint64_t page_size = choose_page_size(r, first);
    uint64_t piece = page_size * SCRATCH * 8;

    for (; last - first >= piece; first += piece)
        ask(r, first, first + (piece - 1), page_size);
    ask(r, first, last, page_size);
}

/* Whole words of the log. Those at the ends that tell of more than the client has asked for are
 * told apart page by page. */
static void report_logged(struct dirty_report *r, const struct range *logged)
{
    const uint64_t page_size = r->dev->dirty->page_size, word = page_size * WORD_BITS;
    uint64_t first = MAX(logged->first, r->out.first), last = MIN(logged->last, r->out.last);
    uint64_t end;

    first -= (first - logged->first) % word;
    last += MIN(logged->last - last, word - 1 - (last - logged->first) % word);
    if (first < r->out.first) {
        end = first + MIN(last - first, word - 1);
        ask(r, first, end, page_size);
        if (end == last)
            return;
        first = end + 1;
    }
    if (last > r->out.last) {
        end = last - (last - logged->first) % word;
        ask(r, end, last, page_size);
        if (end == first)
            return;
        last = end - 1;
    }
    ask_in_pieces(r, first, last);
}

void dirty_device_report(struct dirty_report *r)
{
    const struct range_set *set = &r->dev->dirty->logged;

    for (size_t i = 0; i < set->n; i++) {
        if (set->at[i].first <= r->out.last && set->at[i].last >= r->out.first)
            report_logged(r, &set->at[i]);
    }
}
