#include <errno.h>
#include <string.h>

#include "bridge/address_space.h"
#include "bridge/config_space.h"
#include "bridge/dirty.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

/*
 * A client that maps takes the device's addresses for its own memory's, and QEMU for one goes on
 * after this error: its guest's DMA would hit the host's memory.
 */
static int refuse_untranslated(struct session *s)
{
    log_peer_warning("DMA_MAP: there is no IOMMU that could translate for the device; in this "
                     "session it may do no DMA");
    config_space_forbid_dma(s->device);
    return -ENOTTY;
}

static int check_map(struct session *s, bool has_fd)
{
    struct address_space_stats stats;

    if (address_space_kind(s->as) == IOMMU_NOIOMMU)
        return refuse_untranslated(s);
    if (!has_fd && s->strict_dma) {
        log_peer_warning("DMA_MAP without a descriptor (--strict-dma)");
        return -EINVAL;
    }
    address_space_get_stats(s->as, &stats);
    if (stats.maps >= s->agreed.max_dma_maps) {
        log_peer_warning("DMA_MAP: the %zu mappings that were negotiated are in use", stats.maps);
        return -ENOSPC;
    }
    return 0;
}

int handle_dma_map(struct session *s, struct request *req)
{
    struct vfio_user_dma_map map;
    cleanup_close_ int fd = fdset_take(req->fds, 0);
    uint32_t prot;
    int ret = validate_dma_map(req->payload, req->len, &map);

    if (!ret)
        ret = check_map(s, fd >= 0);
    if (!ret)
        ret = session_charge(s, (struct quota_amount){1, fd >= 0 ? map.size : 0});
    if (ret)
        return ret;
    prot = (map.flags & VFIO_USER_DMA_MAP_READ ? IOMMU_READ : 0) |
           (map.flags & VFIO_USER_DMA_MAP_WRITE ? IOMMU_WRITE : 0) |
           (s->stable_memory ? IOMMU_STABLE : 0);
    ret = address_space_map(s->as, map.address, map.size, prot, fd, map.offset);
    session_settle(s);
    return ret;
}

int handle_dma_unmap_gone(struct session *s, struct request *req)
{
    struct vfio_user_dma_unmap unmap;
    void *reply;
    int ret = validate_dma_unmap(req->payload, req->len, &unmap);

    (void)s;
    if (ret)
        return ret;
    reply = request_reply(req, sizeof(unmap));
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &unmap, sizeof(unmap));
    return 0;
}

int handle_dma_unmap(struct session *s, struct request *req)
{
    struct vfio_user_dma_unmap unmap;
    void *reply;
    int ret = validate_dma_unmap(req->payload, req->len, &unmap);

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(unmap));
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &unmap, sizeof(unmap));
    if (unmap.flags & VFIO_USER_DMA_UNMAP_ALL)
        dirty_keep(s->device, 0, UINT64_MAX);
    else
        dirty_keep(s->device, unmap.address, unmap.address + (unmap.size - 1));
    ret = unmap.flags & VFIO_USER_DMA_UNMAP_ALL
              ? address_space_unmap_all(s->as)
              : address_space_unmap(s->as, unmap.address, unmap.size);
    session_settle(s);
    return ret;
}
