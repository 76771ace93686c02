#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/region.h"
#include "bridge/region_map.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

static_assert(VFIO_USER_REGION_INFO_READ == VFIO_REGION_INFO_FLAG_READ, "same bit");
static_assert(VFIO_USER_REGION_INFO_WRITE == VFIO_REGION_INFO_FLAG_WRITE, "same bit");
static_assert(VFIO_USER_REGION_INFO_CAPS == VFIO_REGION_INFO_FLAG_CAPS, "same bit");
static_assert(sizeof(struct vfio_user_region_info) == sizeof(struct vfio_region_info),
              "the bridge's capability chain counts from the same start");

static const struct region_info *find_region(const struct session *s, uint32_t index)
{
    const struct region_info *region = region_get(s->device, index);

    if (!region)
        log_peer_warning("region %u: the device has none of that index", index);
    return region;
}

/* A client whose policy or device has no descriptor for it gets messages instead. */
static bool map_region(struct session *s, uint32_t index, struct region_mapping *mapping)
{
    return s->map_by != REGION_MAP_NONE && !region_map(s->device, index, s->map_by, mapping);
}

/* The descriptor goes with each reply that has the MMAP flag, as clients want it. */
int handle_region_info(struct session *s, struct request *req)
{
    struct vfio_user_region_info out;
    struct region_mapping mapping = {.fd = -1};
    const struct region_info *region;
    const struct uapi_caps *caps;
    uint32_t room;
    int ret = validate_region_info(req->payload, req->len, &out);

    if (ret)
        return ret;
    region = find_region(s, out.index);
    if (!region)
        return -EINVAL;
    room = MIN(out.argsz, (uint32_t)LIMIT_INFO_REPLY);
    caps = &region->caps;
    out = (struct vfio_user_region_info){
        .flags = region->flags,
        .index = out.index,
        .size = region->size,
    };
    if (map_region(s, out.index, &mapping)) {
        out.flags |= VFIO_USER_REGION_INFO_MMAP;
        out.offset = mapping.offset;
        caps = mapping.caps;
        if (caps->len)
            out.flags |= VFIO_USER_REGION_INFO_CAPS;
        req->reply_fds[req->reply_nfds++] = mapping.fd;
    }
    /*
     * Also where the chain does not fit and only argsz tells what to ask for: QEMU takes the CAPS
     * flag without an offset for an error.
     */
    if (caps->len)
        out.cap_offset = sizeof(out);
    return request_reply_info(req, room, &out, sizeof(out), caps->bytes, caps->len);
}

/*
 * EIO means that the device did not answer: its memory decode is off, or it is gone. A bus then
 * reads all ones and drops writes, and that is what a client's guest can deal with; an error
 * reply, being shorter, makes clients hang that wait for a reply of full size (rust-vmm's).
 * What the client itself did wrong is an error for it.
 */
static bool bus_would_not_tell(int ret)
{
    return ret == -EIO;
}

int handle_region_read(struct session *s, struct request *req)
{
    struct vfio_user_region_access access;
    uint8_t *reply;
    int ret = validate_region_read(req->payload, req->len, &access);

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(access) + access.count);
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &access, sizeof(access));
    ret =
        region_read(s->device, access.region, access.offset, reply + sizeof(access), access.count);
    if (bus_would_not_tell(ret)) {
        memset(reply + sizeof(access), 0xff, access.count);
        ret = 0;
    }
    return ret;
}

int handle_region_write(struct session *s, struct request *req)
{
    struct vfio_user_region_access access;
    const uint8_t *data;
    void *reply;
    int ret = validate_region_write(req->payload, req->len, &access, &data);

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(access));
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &access, sizeof(access));
    ret = region_write(s->device, access.region, access.offset, data, access.count);
    return bus_would_not_tell(ret) ? 0 : ret;
}

int handle_region_read_gone(struct session *s, struct request *req)
{
    struct vfio_user_region_access access;
    uint8_t *reply;
    int ret = validate_region_read(req->payload, req->len, &access);

    (void)s;
    if (ret)
        return ret;
    reply = request_reply(req, sizeof(access) + access.count);
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &access, sizeof(access));
    memset(reply + sizeof(access), 0xff, access.count);
    return 0;
}

int handle_region_write_gone(struct session *s, struct request *req)
{
    struct vfio_user_region_access access;
    const uint8_t *data;
    void *reply;
    int ret = validate_region_write(req->payload, req->len, &access, &data);

    (void)s;
    if (ret)
        return ret;
    reply = request_reply(req, sizeof(access));
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &access, sizeof(access));
    return 0;
}

int handle_region_write_multi(struct session *s, struct request *req)
{
    struct vfio_user_region_write_multi out = {0};
    const uint8_t *entries;
    uint64_t wr_cnt;
    void *reply;
    int ret = validate_write_multi(req->payload, req->len, &wr_cnt, &entries);

    if (ret)
        return ret;
    reply = request_reply(req, sizeof(out));
    if (!reply)
        return -ENOMEM;
    for (; out.wr_cnt < wr_cnt; out.wr_cnt++) {
        struct vfio_user_write_multi_entry e;

        ret = validate_write_multi_entry(entries, out.wr_cnt, &e);
        if (!ret)
            ret = region_write(s->device, e.region, e.offset, e.data, e.count);
        if (ret && !bus_would_not_tell(ret))
            break;
    }
    memcpy(reply, &out, sizeof(out));
    return out.wr_cnt ? 0 : ret;
}
