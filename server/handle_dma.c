#include <assert.h>
#include <errno.h>
#include <string.h>

#include "bridge/address_space.h"
#include "bridge/config_space.h"
#include "bridge/dirty.h"
#include "bridge/dirty_bitmap.h"
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

/* An unmap, and the reply that it will have. */
struct unmap {
    struct vfio_user_dma_unmap head;
    struct vfio_user_bitmap bitmap;
    bool wants_bitmap;
    uint64_t *words; /* the reply's, zeroed */
};

static uint64_t last_of(const struct unmap *u)
{
    return u->head.address + (u->head.size - 1);
}

static int take_unmap(const struct request *req, struct unmap *u)
{
    int ret = validate_dma_unmap(req->payload, req->len, &u->head);

    u->wants_bitmap = !ret && u->head.flags & VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP;
    return u->wants_bitmap ? validate_dma_unmap_bitmap(req->payload, req->len, &u->head, &u->bitmap)
                           : ret;
}

/* Before anything is done, so that it can't fail afterwards. */
static int make_reply(struct request *req, struct unmap *u)
{
    const size_t head = sizeof(u->head) + (u->wants_bitmap ? sizeof(u->bitmap) : 0);
    const size_t words = u->wants_bitmap ? u->bitmap.size : 0;
    uint8_t *reply = request_reply(req, head + words);

    if (!reply)
        return -ENOMEM;
    memcpy(reply, &u->head, sizeof(u->head));
    if (!u->wants_bitmap)
        return 0;
    memcpy(reply + sizeof(u->head), &u->bitmap, sizeof(u->bitmap));
    memset(reply + head, 0, words);
    assert(!((uintptr_t)(reply + head) % sizeof(uint64_t)));
    u->words = (uint64_t *)(void *)(reply + head);
    return 0;
}

/* Nothing is mapped any more. What was written until then nobody knows: all of it. */
int handle_dma_unmap_gone(struct session *s, struct request *req)
{
    struct unmap u = {0};
    struct dirty_bitmap all;
    int ret = take_unmap(req, &u);

    (void)s;
    if (!ret)
        ret = make_reply(req, &u);
    if (ret || !u.wants_bitmap)
        return ret;
    all = (struct dirty_bitmap){u.head.address, last_of(&u), u.bitmap.pgsize, u.words};
    dirty_bitmap_set(&all, all.first, all.last);
    return 0;
}

static int unmap_all(struct session *s)
{
    dirty_keep(s->device, 0, UINT64_MAX);
    return address_space_unmap_all(s->as);
}

static int unmap_one(struct session *s, const struct unmap *u)
{
    int ret = address_space_check_unmap(s->as, u->head.address, u->head.size);

    if (ret)
        return ret;
    dirty_keep(s->device, u->head.address, last_of(u));
    return address_space_unmap(s->as, u->head.address, u->head.size);
}

/*
 * The bitmap is a report of what is unmapped. It is made when that is done, of what was kept: so an
 * unmap that fails tells of nothing, and forgets nothing.
 */
int handle_dma_unmap(struct session *s, struct request *req)
{
    struct unmap u = {0};
    int ret = take_unmap(req, &u);

    if (!ret && u.wants_bitmap)
        ret = dirty_check_report(s->device, u.head.address, u.head.size, u.bitmap.pgsize);
    if (!ret)
        ret = make_reply(req, &u);
    if (ret)
        return ret;
    ret = u.head.flags & VFIO_USER_DMA_UNMAP_ALL ? unmap_all(s) : unmap_one(s, &u);
    session_settle(s);
    if (ret || !u.wants_bitmap || req->no_reply)
        return ret;
    return dirty_report(s->device, u.head.address, u.head.size, u.bitmap.pgsize, u.words);
}
