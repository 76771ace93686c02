#include <errno.h>
#include <string.h>

#include "bridge/address_space.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

int handle_dma_map(struct session *s, struct request *req)
{
    struct vfio_user_dma_map map;
    struct address_space_stats stats;
    cleanup_close_ int fd = -1;
    uint32_t prot;
    int ret = validate_dma_map(req->payload, req->len, &map);

    if (ret)
        return ret;
    address_space_get_stats(s->as, &stats);
    if (stats.maps >= s->agreed.max_dma_maps) {
        log_peer_warning("DMA_MAP: the %zu mappings that were negotiated are in use", stats.maps);
        return -ENOSPC;
    }
    fd = fdset_take(req->fds, 0);
    prot = (map.flags & VFIO_USER_DMA_MAP_READ ? IOMMU_READ : 0) |
           (map.flags & VFIO_USER_DMA_MAP_WRITE ? IOMMU_WRITE : 0);
    return address_space_map(s->as, map.address, map.size, prot, fd, map.offset);
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
        return address_space_unmap_all(s->as);
    return address_space_unmap(s->as, unmap.address, unmap.size);
}
