/* DEVICE_INFO and IOMMU_INFO, of the extension. */
#include <linux/vfio.h>

#include "bridge/device.h"
#include "proto/base/arith.h"
#include "proto/validate.h"
#include "server/handlers.h"

static_assert(VFIO_USERD_DEVICE_RESET == VFIO_DEVICE_FLAGS_RESET, "same bit");
static_assert(VFIO_USERD_DEVICE_PCI == VFIO_DEVICE_FLAGS_PCI, "same bit");
static_assert(VFIO_USERD_DEVICE_PLATFORM == VFIO_DEVICE_FLAGS_PLATFORM, "same bit");
static_assert(VFIO_USERD_DEVICE_AMBA == VFIO_DEVICE_FLAGS_AMBA, "same bit");
static_assert(VFIO_USERD_DEVICE_CCW == VFIO_DEVICE_FLAGS_CCW, "same bit");
static_assert(VFIO_USERD_DEVICE_AP == VFIO_DEVICE_FLAGS_AP, "same bit");
static_assert(VFIO_USERD_DEVICE_FSL_MC == VFIO_DEVICE_FLAGS_FSL_MC, "same bit");
static_assert(VFIO_USERD_DEVICE_CAPS == VFIO_DEVICE_FLAGS_CAPS, "same bit");
static_assert((int)sizeof(struct vfio_userd_device_info) == DEVICE_CAPS_AT,
              "the bridge's capability chain counts from the same start");
static_assert(sizeof(struct vfio_userd_iova_range) == sizeof(struct iommu_range), "same layout");
static_assert(offsetof(struct vfio_userd_iova_range, last) == offsetof(struct iommu_range, last),
              "same layout");

int handle_device_info(struct session *s, struct request *req)
{
    const struct device_info *info = device_get_info(s->device);
    struct vfio_userd_device_info out;
    uint32_t room;
    int ret =
        validate_extension(VFIO_USERD_DEVICE_INFO, req->payload, req->len, 0, &out, sizeof(out));

    if (ret)
        return ret;
    room = out.argsz;
    out = (struct vfio_userd_device_info){
        .flags = (info->flags & VFIO_USERD_DEVICE_BUSES) |
                 (session_can_reset(s) ? VFIO_USERD_DEVICE_RESET : 0) |
                 (info->caps_len ? VFIO_USERD_DEVICE_CAPS : 0),
        .num_regions = info->num_regions,
        .num_irqs = info->num_irqs,
        .cap_offset = info->caps_len ? sizeof(out) : 0,
    };
    return request_reply_info(req, room, &out, sizeof(out), info->caps, info->caps_len);
}

int handle_iommu_info(struct session *s, struct request *req)
{
    struct vfio_userd_iommu_info out;
    struct iommu_info info;
    uint32_t room;
    int ret =
        validate_extension(VFIO_USERD_IOMMU_INFO, req->payload, req->len, 0, &out, sizeof(out));

    if (ret)
        return ret;
    address_space_get_info(s->as, &info);
    room = out.argsz;
    out = (struct vfio_userd_iommu_info){
        .flags = (info.coherent ? VFIO_USERD_IOMMU_COHERENT : 0) |
                 (info.untranslated ? VFIO_USERD_IOMMU_UNTRANSLATED : 0) |
                 (info.eeh ? VFIO_USERD_IOMMU_EEH : 0),
        .pgsizes = info.pgsizes,
        .max_maps = MIN(info.max_maps, (unsigned)LIMIT_DMA_MAPS),
        .num_ranges = info.n_ranges,
    };
    return request_reply_info(req, room, &out, sizeof(out), info.ranges,
                              info.n_ranges * sizeof(info.ranges[0]));
}
