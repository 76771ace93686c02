/*
 * One bit of the IOMMU stands for a page of its table, of up to 1 GiB. The kernel clears it when
 * any part of that page is asked for, and tells of that part alone. So the kernel is asked for
 * whole multiples of the largest page, as far as they are in the mapping: no page of a table is in
 * two.
 *
 * It stops at the first hole in a range, without an error: it is never asked across one.
 */
#include "bridge/iommufd_hwpt.h"

#include <string.h>

#include "bridge/dirty_bitmap.h"
#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

static bool has_dirty_bits(struct iommufd_context *context, uint32_t dev_id)
{
    struct uapi_hw_info info = {.size = sizeof(info), .dev_id = dev_id};

    return !iommufd_context_call(context, UAPI_IOMMU_GET_HW_INFO, &info) &&
           info.out_capabilities & UAPI_HW_CAP_DIRTY_TRACKING;
}

bool iommufd_hwpt_create(struct iommufd_context *context, uint32_t dev_id, uint32_t ioas,
                         uint32_t *hwpt)
{
    uint32_t id;
    int ret;

    if (!has_dirty_bits(context, dev_id))
        return false;
    ret = iommufd_context_alloc_hwpt(context, dev_id, ioas, UAPI_HWPT_ALLOC_DIRTY_TRACKING, &id);
    if (!ret)
        *hwpt = id;
    else
        log_warning("the IOMMU has dirty bits, but no page table with them could be made: %s",
                    strerror(-ret));
    return !ret;
}

int iommufd_hwpt_track(struct iommufd_context *context, uint32_t hwpt, bool on)
{
    struct uapi_hwpt_set_dirty set = {
        .size = sizeof(set),
        .flags = on ? UAPI_HWPT_DIRTY_ENABLE : 0,
        .hwpt_id = hwpt,
    };

    return iommufd_context_call(context, UAPI_IOMMU_HWPT_SET_DIRTY, &set);
}

/* The kernel sets bits, and clears none. */
static int read_piece(struct iommufd_context *context, struct uapi_hwpt_get_dirty *get,
                      const struct iommu_dirty *dirty)
{
    const struct dirty_bitmap got = {get->iova, get->iova + (get->length - 1), get->page_size,
                                     dirty->words};
    int ret;

    memset(got.words, 0, dirty_bitmap_size(got.first, got.last, got.page_size));
    get->data = (uintptr_t)got.words;
    ret = iommufd_context_call(context, UAPI_IOMMU_HWPT_GET_DIRTY, get);
    if (!ret)
        dirty->tell(dirty->arg, &got);
    return ret;
}

int iommufd_hwpt_read(struct iommufd_context *context, uint32_t hwpt, uint64_t page_size,
                      const struct iommu_range *mapping, const struct iommu_range *part, bool keep,
                      const struct iommu_dirty *dirty)
{
    const uint64_t mask = IOMMU_MAP_CHUNK - 1;
    const uint64_t last = MIN(part->last | mask, mapping->last);
    uint64_t at = MAX(part->first & ~mask, mapping->first);

    for (;;) {
        uint64_t end = MIN(at | mask, last);
        struct uapi_hwpt_get_dirty get = {
            .size = sizeof(get),
            .hwpt_id = hwpt,
            .flags = keep ? UAPI_HWPT_GET_DIRTY_NO_CLEAR : 0,
            .iova = at,
            .length = end - at + 1,
            .page_size = page_size,
        };
        int ret = read_piece(context, &get, dirty);

        if (ret || end == last)
            return ret;
        at = end + 1;
    }
}
