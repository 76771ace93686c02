/*
 * Three parts make a report: what the device's log tells of the ranges that it covers; mappings
 * that are to be logged and which no log covers (all of them, with the guess as the source); and
 * what was kept.
 *
 * The device's log is asked for whole words of it: pds's moves words, and tells of more than it was
 * asked; drivers that work page by page clear a page of which a part was asked for.
 */
#include "bridge/dirty.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/dirty_bitmap.h"
#include "bridge/feature.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

enum {
    MIN_PAGE = 4096, /* the kernel's */
    /*
     * A larger page is never asked for: iova_bitmap.c of some kernels counts pages of 2 GiB and
     * more wrong. And the largest that a device may choose all the same.
     */
    ASKED_PAGE_SHIFT = 30,
    MAX_PAGE_SHIFT = 40,
    /* What the core of the kernel takes of ranges, for all sizes of its pages (64 KiB / 16). */
    MAX_RANGES = 4096,
    /* Ranges that wait to be reported; more grow together. */
    MAX_KEPT = 4096,
    WORD_BITS = 64,
    SCRATCH = 1 << 20, /* bytes of bitmap that the kernel is asked for at a time */
};

struct dirty_log {
    uint64_t page_size;
    struct range_set wanted; /* by the client */
    struct range_set logged; /* by the device */
    struct range_set kept;   /* dirty, and not reported yet */
    uint64_t *scratch;
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
    free_log(&dev->dirty);
}

/* All that a report will need, so that it can't fail for want of memory. */
static struct dirty_log *new_log(void)
{
    struct dirty_log *log = calloc(1, sizeof(*log));

    if (!log)
        return NULL;
    log->scratch = aligned_alloc(MIN_PAGE, SCRATCH);
    if (!log->scratch || range_set_init(&log->wanted, MAX_RANGES) ||
        range_set_init(&log->logged, MAX_RANGES) || range_set_init(&log->kept, MAX_KEPT))
        free_log(&log);
    return log;
}

static int probe_device(struct device *dev)
{
    int ret = feature_probe(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_SET);

    if (!ret)
        ret = feature_probe(dev, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_GET);
    return ret;
}

int dirty_probe(struct device *dev, enum dirty_policy policy)
{
    int ret = probe_device(dev);

    if (ret && ret != -ENODEV && policy == DIRTY_ALL_WRITABLE)
        return 0;
    return ret;
}

/* What the kernel would say of them, for a source that does not ask it. */
static int take_wanted(struct dirty_log *log, const struct range *ranges, size_t n)
{
    if (!is_pow2(log->page_size) || log->page_size < MIN_PAGE)
        return log_peer_refusal(EINVAL, "dirty log: page size %" PRIu64, log->page_size);
    if (n > MAX_RANGES)
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

static int ask_to_stop(struct device *dev)
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
        ask_to_stop(dev);
        return -EPROTO;
    }
    *page_size = MAX((uint64_t)control.page_size, (uint64_t)MIN_PAGE);
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

/* Ranges may grow together. */
static void round_out(struct dirty_log *log)
{
    for (size_t i = 0; i < log->logged.n;) {
        const struct range r = log->logged.at[i];

        if (is_aligned(r.first | (r.last + 1), log->page_size)) {
            i++;
            continue;
        }
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
    ret = ask_to_stop(dev);
    if (ret)
        return ret;
    log->page_size = page_size;
    round_out(log);
    ret = ask_to_start(dev, &page_size);
    if (!ret && page_size != log->page_size) {
        ask_to_stop(dev);
        ret = -EPROTO;
    }
    return ret;
}

static int start_device(struct device *dev, bool all)
{
    struct dirty_log *log = dev->dirty;
    int ret;

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

int dirty_start(struct device *dev, enum dirty_policy policy, const struct range *ranges, size_t n,
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
    dev->dirty->page_size = MIN(*page_size, UINT64_C(1) << ASKED_PAGE_SHIFT);
    if (!ret)
        ret = start_device(dev, !n);
    else
        policy = DIRTY_EXACT;
    if (ret && ret != -ENODEV && policy == DIRTY_ALL_WRITABLE) {
        log_peer_info("%s can't log what it writes (%s): all writable memory counts as dirty",
                      dev->where.name, strerror(-ret));
        dev->dirty->logged.n = 0;
        dev->dirty->page_size = *page_size;
        ret = 0;
    }
    if (ret) {
        if (ret != -ENOTTY)
            log_peer_warning("dirty log of %s: %s", dev->where.name, strerror(-ret));
        dirty_forget(dev);
        return ret;
    }
    *page_size = dev->dirty->page_size;
    return 0;
}

int dirty_stop(struct device *dev)
{
    int ret = 0;

    if (dev->dirty && dev->dirty->logged.n)
        ret = ask_to_stop(dev);
    if (ret)
        log_peer_warning("end of the dirty log of %s: %s", dev->where.name, strerror(-ret));
    dirty_forget(dev);
    return ret;
}

/* A report on its way. */
struct report {
    struct device *dev;
    struct dirty_bitmap out;
};

/* Pages that are dirty: the client is told of those that it asked for. */
static void tell(struct report *r, uint64_t first, uint64_t last)
{
    struct range_set *kept = &r->dev->dirty->kept;

    dirty_bitmap_set(&r->out, first, last);
    if (first < r->out.first)
        range_set_add(kept, first, MIN(last, r->out.first - 1));
    if (last > r->out.last)
        range_set_add(kept, MAX(first, r->out.last + 1), last);
}

/* An error says that the log is corrupt, whatever it was asked for (<linux/vfio.h>). */
static void tell_all(struct report *r)
{
    const struct range_set *logged = &r->dev->dirty->logged;

    for (size_t i = 0; i < logged->n; i++)
        tell(r, logged->at[i].first, logged->at[i].last);
}

/* Of the device's log, which forgets it; at most SCRATCH bytes of bitmap. */
static void ask(struct report *r, uint64_t first, uint64_t last, uint64_t page_size)
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
    for (uint64_t n = 0; dirty_bitmap_next(&got, &n, &first, &last);)
        tell(r, first, last);
}

/*
 * Larger pages than the log's are less work, where none of them shares bytes with two of the
 * client's: they are as large as those at most, and begin where one of those does.
 */
static uint64_t choose_page_size(const struct report *r, uint64_t first)
{
    uint64_t page_size = MIN(r->out.page_size, UINT64_C(1) << ASKED_PAGE_SHIFT);
    uint64_t offset = first - r->out.first;

    if (offset)
        page_size = MIN(page_size, offset & -offset);
    return MAX(page_size, r->dev->dirty->page_size);
}

static void ask_in_pieces(struct report *r, uint64_t first, uint64_t last)
{
    uint64_t page_size = choose_page_size(r, first);
    uint64_t piece = page_size * SCRATCH * 8;

    for (; last - first >= piece; first += piece)
        ask(r, first, first + (piece - 1), page_size);
    ask(r, first, last, page_size);
}

/* Whole words of the log. Those at the ends that tell of more than the client has asked for are
 * told apart page by page. */
static void report_logged(struct report *r, const struct range *logged)
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
    dirty_bitmap_set(&((struct report *)arg)->out, first, last);
}

int dirty_check_report(const struct device *dev, uint64_t iova, uint64_t length, uint64_t page_size)
{
    if (dev->fd < 0)
        return -ENODEV;
    if (!dev->dirty)
        return log_peer_refusal(EINVAL, "report of a dirty log that is not on");
    if (!is_pow2(page_size) || page_size < MIN_PAGE || !length)
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
    struct report r = {
        dev, {iova, iova + (length - 1), page_size, bitmap}
    };
    int ret = dirty_check_report(dev, iova, length, page_size);

    if (ret)
        return ret;
    range_set_take(&dev->dirty->kept, r.out.first, r.out.last, set_dirty, &r);
    for (size_t i = 0; i < dev->dirty->logged.n; i++) {
        const struct range *logged = &dev->dirty->logged.at[i];

        if (logged->first <= r.out.last && logged->last >= r.out.first)
            report_logged(&r, logged);
    }
    each_unlogged(dev, r.out.first, r.out.last, set_dirty, &r);
    return 0;
}

static void keep(void *arg, uint64_t first, uint64_t last)
{
    range_set_add(arg, first, last);
}

void dirty_keep(struct device *dev, uint64_t first, uint64_t last)
{
    if (dev->dirty)
        each_unlogged(dev, first, last, keep, &dev->dirty->kept);
}
