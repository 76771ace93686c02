#include "bridge/sim/sim_ioas.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_pages.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

struct sim_area {
    struct sim_translation t; /* first: the domain's entry is the area */
    LIST_ENTRY(sim_area) link;
    struct sim_pages *pages;
};

struct sim_ioas *sim_ioas_create(struct sim *sim)
{
    struct sim_ioas *ioas = calloc(1, sizeof(*ioas));

    if (!ioas)
        return NULL;
    sim_domain_init(&ioas->domain, sim);
    LIST_INIT(&ioas->areas);
    return ioas;
}

/* One that is in no IOAS. */
static void free_area(struct sim_area *area)
{
    LIST_REMOVE(area, link);
    sim_pages_put(area->pages);
    free(area);
}

static void free_areas(struct sim_areas *list)
{
    while (!LIST_EMPTY(list))
        free_area(LIST_FIRST(list));
}

static void remove_area(struct sim_ioas *ioas, struct sim_area *area)
{
    sim_domain_remove(&ioas->domain, &area->t);
    if (ioas->domains)
        sim_pages_unpin(area->pages);
    free_area(area);
}

void sim_ioas_free(struct sim_ioas *ioas)
{
    assert(!ioas->domains && !ioas->devices);
    while (!LIST_EMPTY(&ioas->areas))
        remove_area(ioas, LIST_FIRST(&ioas->areas));
    sim_domain_destroy(&ioas->domain);
    free(ioas);
}

static struct sim_area *find(const struct sim_ioas *ioas, uint64_t first, uint64_t last)
{
    return (struct sim_area *)sim_domain_find(&ioas->domain, first, last);
}

static struct sim_area *find_lowest(const struct sim_ioas *ioas, uint64_t first, uint64_t last)
{
    struct sim_area *area = find(ioas, first, last);
    struct sim_area *lower = area;

    while (lower) {
        area = lower;
        lower = area->t.first > first ? find(ioas, first, area->t.first - 1) : NULL;
    }
    return area;
}

/* A domain has its end, and the devices in it their interrupt window. */
unsigned sim_ioas_ranges(const struct sim_ioas *ioas, struct uapi_iova_range *ranges)
{
    const struct vfio_iova_range *apertures = sim_domain_apertures;

    if (ioas->devices) {
        for (unsigned i = 0; i < SIM_DOMAIN_APERTURES; i++)
            ranges[i] = (struct uapi_iova_range){apertures[i].start, apertures[i].end};
        return SIM_DOMAIN_APERTURES;
    }
    ranges[0].start = 0;
    ranges[0].last = ioas->domains ? apertures[SIM_DOMAIN_APERTURES - 1].end : UINT64_MAX;
    return 1;
}

/* The bytes have their meaning, the page, only in a domain. */
uint64_t sim_ioas_alignment(const struct sim_ioas *ioas)
{
    return ioas->domains ? SIM_PAGE : 1;
}

static bool is_in_range(const struct sim_ioas *ioas, uint64_t first, uint64_t last)
{
    struct uapi_iova_range ranges[SIM_DOMAIN_APERTURES];
    unsigned n = sim_ioas_ranges(ioas, ranges);

    for (unsigned i = 0; i < n; i++) {
        if (first >= ranges[i].start && last <= ranges[i].last)
            return true;
    }
    return false;
}

static int check_iova(const struct sim_ioas *ioas, uint64_t iova, uint64_t length)
{
    uint64_t last = iova + (length - 1);

    if (!is_aligned(iova, sim_ioas_alignment(ioas)))
        return -EINVAL;
    if (last < iova)
        return -EOVERFLOW;
    if (!is_in_range(ioas, iova, last))
        return -EINVAL;
    return find(ioas, iova, last) ? -EEXIST : 0;
}

/* The lowest hole of a range that fits, page-aligned; never at 0. */
static int find_hole(const struct sim_ioas *ioas, const struct uapi_iova_range *range,
                     uint64_t length, uint64_t *iova)
{
    uint64_t at = range->start ? range->start : SIM_PAGE;
    const struct sim_area *area;

    while (at <= range->last && length - 1 <= range->last - at) {
        area = find(ioas, at, at + (length - 1));
        if (!area) {
            *iova = at;
            return 0;
        }
        at = area->t.last / SIM_PAGE * SIM_PAGE + SIM_PAGE;
        if (at < area->t.last)
            break;
    }
    return -ENOSPC;
}

static int choose_iova(const struct sim_ioas *ioas, uint64_t length, uint64_t *iova)
{
    struct uapi_iova_range ranges[SIM_DOMAIN_APERTURES];
    unsigned n = sim_ioas_ranges(ioas, ranges);
    int ret = -ENOSPC;

    if (length >= UINT64_MAX / 2)
        return -EOVERFLOW;
    for (unsigned i = 0; i < n && ret; i++)
        ret = find_hole(ioas, &ranges[i], length, iova);
    return ret;
}

static uint32_t to_prot(uint32_t flags)
{
    return (flags & UAPI_IOAS_MAP_READABLE ? SIM_DOMAIN_READ : 0u) |
           (flags & UAPI_IOAS_MAP_WRITEABLE ? SIM_DOMAIN_WRITE : 0u);
}

/* An area that is to be placed: its addresses count from 0. */
static int add_area(struct sim_areas *list, struct sim_pages *pages, uint64_t at, uint64_t length,
                    uint64_t offset)
{
    struct sim_area *area = calloc(1, sizeof(*area));

    if (!area)
        return -ENOMEM;
    area->pages = sim_pages_get(pages);
    area->t = (struct sim_translation){
        .first = at,
        .last = at + (length - 1),
        .pin = &pages->pin,
        .peer = pages->dmabuf ? &pages->peer : NULL,
        .offset = offset,
    };
    LIST_INSERT_HEAD(list, area, link);
    return 0;
}

static int check_area(const struct sim_ioas *ioas, const struct sim_area *area)
{
    if (area->t.prot & SIM_DOMAIN_WRITE && !area->pages->writable)
        return -EPERM;
    return is_aligned(area->t.offset, sim_ioas_alignment(ioas)) ? 0 : -EINVAL;
}

/* On success the area moves from its list to the IOAS. */
static int insert_area(struct sim_ioas *ioas, struct sim_area *area)
{
    int ret = check_area(ioas, area);

    if (!ret && ioas->domains)
        ret = sim_pages_pin(area->pages);
    if (ret)
        return ret;
    ret = sim_domain_insert(&ioas->domain, &area->t);
    if (ret) {
        if (ioas->domains)
            sim_pages_unpin(area->pages);
        return ret;
    }
    LIST_REMOVE(area, link);
    LIST_INSERT_HEAD(&ioas->areas, area, link);
    return 0;
}

/* All areas of the list or none. */
static int insert_areas(struct sim_ioas *ioas, struct sim_areas *list, uint64_t iova, uint64_t last,
                        uint32_t prot)
{
    struct sim_area *area;
    int ret = 0;

    while (!ret && (area = LIST_FIRST(list))) {
        area->t.first += iova;
        area->t.last += iova;
        area->t.prot = prot;
        ret = insert_area(ioas, area);
    }
    while (ret && (area = find(ioas, iova, last)))
        remove_area(ioas, area);
    return ret;
}

/* Where the areas of the list shall be, together length bytes. What is not placed is freed. */
static int place(struct sim_ioas *ioas, struct sim_areas *list, uint64_t length, uint32_t flags,
                 uint64_t *iova)
{
    int ret;

    if (!length || !is_aligned(length, sim_ioas_alignment(ioas)))
        ret = -EINVAL;
    else if (flags & UAPI_IOAS_MAP_FIXED_IOVA)
        ret = check_iova(ioas, *iova, length);
    else
        ret = choose_iova(ioas, length, iova);
    if (!ret)
        ret = insert_areas(ioas, list, *iova, *iova + (length - 1), to_prot(flags));
    free_areas(list);
    return ret;
}

int sim_ioas_map(struct sim_ioas *ioas, struct sim_pages *pages, uint64_t length, uint32_t flags,
                 uint64_t *iova)
{
    struct sim_areas list = LIST_HEAD_INITIALIZER(list);
    int ret = add_area(&list, pages, 0, length, pages->first);

    return ret ? ret : place(ioas, &list, length, flags, iova);
}

/* The source's areas, or their parts, that make up the range. */
static int collect(const struct sim_ioas *source, uint64_t from, uint64_t last,
                   struct sim_areas *list)
{
    for (uint64_t at = from;;) {
        const struct sim_area *area = find(source, at, at);
        uint64_t end;
        int ret;

        if (!area)
            return -ENOENT;
        end = MIN(last, area->t.last);
        ret = add_area(list, area->pages, at - from, end - at + 1,
                       area->t.offset + (at - area->t.first));
        if (ret || end == last)
            return ret;
        at = end + 1;
    }
}

int sim_ioas_copy(struct sim_ioas *ioas, const struct sim_ioas *source, uint64_t from,
                  uint64_t length, uint32_t flags, uint64_t *iova)
{
    struct sim_areas list = LIST_HEAD_INITIALIZER(list);
    int ret;

    if (!length)
        return -EINVAL;
    if (range_wraps(from, length))
        return -EOVERFLOW;
    ret = collect(source, from, from + (length - 1), &list);
    if (ret) {
        free_areas(&list);
        return ret;
    }
    return place(ioas, &list, length, flags, iova);
}

int sim_ioas_unmap(struct sim_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped)
{
    *unmapped = 0;
    for (struct sim_area *area; (area = find_lowest(ioas, first, last));) {
        if (area->t.first < first || area->t.last > last)
            return -ENOENT;
        *unmapped += area->t.last - area->t.first + 1;
        remove_area(ioas, area);
    }
    return *unmapped ? 0 : -ENOENT;
}

/* What there is must do with the ranges and the alignment of the first domain. */
static int check_areas(const struct sim_ioas *ioas)
{
    const struct sim_area *area;

    LIST_FOREACH(area, &ioas->areas, link)
    {
        uint64_t length = area->t.last - area->t.first + 1;

        if (!is_aligned(area->t.first | length | area->t.offset, SIM_PAGE))
            return -EADDRINUSE;
        if (area->t.last > sim_domain_apertures[SIM_DOMAIN_APERTURES - 1].end)
            return -EADDRINUSE;
    }
    return 0;
}

/* end NULL: all */
static void unpin_until(struct sim_ioas *ioas, const struct sim_area *end)
{
    struct sim_area *area;

    for (area = LIST_FIRST(&ioas->areas); area != end; area = LIST_NEXT(area, link))
        sim_pages_unpin(area->pages);
}

static int pin_all(struct sim_ioas *ioas)
{
    struct sim_area *area;
    int ret;

    LIST_FOREACH(area, &ioas->areas, link)
    {
        ret = sim_pages_pin(area->pages);
        if (ret) {
            unpin_until(ioas, area);
            return ret;
        }
    }
    return 0;
}

int sim_ioas_add_domain(struct sim_ioas *ioas)
{
    int ret = 0;

    if (!ioas->domains)
        ret = check_areas(ioas);
    if (!ret && !ioas->domains)
        ret = pin_all(ioas);
    if (!ret)
        ioas->domains++;
    return ret;
}

void sim_ioas_remove_domain(struct sim_ioas *ioas)
{
    if (--ioas->domains == 0)
        unpin_until(ioas, NULL);
}

int sim_ioas_add_devices(struct sim_ioas *ioas, unsigned count)
{
    uint64_t first = sim_domain_apertures[0].end + 1;
    uint64_t last = sim_domain_apertures[1].start - 1;

    if (find(ioas, first, last))
        return -EADDRINUSE;
    ioas->devices += count;
    return 0;
}

void sim_ioas_remove_devices(struct sim_ioas *ioas, unsigned count)
{
    ioas->devices -= count;
}
