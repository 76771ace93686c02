/*
 * GET_REGION_IO_FDS: the doorbells that the operator has named, as ioeventfds. They are registered
 * when a client first asks for them, so that one that does not costs nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/ioeventfd.h"
#include "bridge/region.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

/*
 * Those in a region, as many as the client takes descriptors: what it is not told of it rings by
 * messages.
 */
static uint32_t pick(const struct session *s, uint32_t region,
                     const struct doorbell *picked[LIMIT_MSG_FDS])
{
    uint32_t count = 0;

    for (unsigned i = 0; i < s->n_doorbells && count < s->max_fds; i++) {
        if (s->doorbells[i].region == region)
            picked[count++] = &s->doorbells[i];
    }
    return count;
}

/* What the guest does to an I/O BAR is to be caught as a port's. */
static int flags_of(struct device *dev, uint32_t bar, uint32_t *flags)
{
    uint8_t low;
    int ret = region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX,
                          PCI_BASE_ADDRESS_0 + sizeof(uint32_t) * bar, &low, sizeof(low));

    *flags = VFIO_USER_IO_FD_DATAMATCH;
    if (!ret && low & PCI_BASE_ADDRESS_SPACE_IO)
        *flags |= VFIO_USER_IO_FD_PIO;
    return ret;
}

static int add_fd(struct session *s, struct request *req, const struct doorbell *bell)
{
    int fd, copy, ret = ioeventfd_get(s->device, bell, &fd);

    if (ret)
        return ret;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        ret = -errno;
        log_peer_warning("GET_REGION_IO_FDS: %s", strerror(-ret));
        return ret;
    }
    req->reply_fds[req->reply_nfds++] = copy;
    return 0;
}

static int add_doorbells(struct session *s, struct request *req, uint8_t *entries, uint32_t count,
                         const struct doorbell *picked[])
{
    uint32_t flags;
    int ret = flags_of(s->device, picked[0]->region, &flags);

    for (uint32_t i = 0; !ret && i < count; i++) {
        const struct vfio_user_sub_region_io_fd entry = {
            .offset = picked[i]->offset,
            .size = picked[i]->width,
            .fd_index = i,
            .type = VFIO_USER_IO_FD_TYPE_IOEVENTFD,
            .flags = flags,
            .datamatch = picked[i]->data,
        };

        memcpy(entries + i * sizeof(entry), &entry, sizeof(entry));
        ret = add_fd(s, req, picked[i]);
    }
    return ret;
}

int handle_region_io_fds(struct session *s, struct request *req)
{
    const struct doorbell *picked[LIMIT_MSG_FDS];
    struct vfio_user_region_io_fds out;
    size_t len = sizeof(out);
    uint32_t count, room;
    uint8_t *reply;
    int ret = validate_region_io_fds(req->payload, req->len, &out);

    if (ret)
        return ret;
    if (!region_get(s->device, out.index))
        return log_peer_refusal(EINVAL, "GET_REGION_IO_FDS: the device has no region %u",
                                out.index);
    room = out.argsz;
    count = pick(s, out.index, picked);
    out = (struct vfio_user_region_io_fds){
        .argsz = (uint32_t)(sizeof(out) + count * sizeof(struct vfio_user_sub_region_io_fd)),
        .index = out.index,
        .count = count,
    };
    /* Too little room: the fixed part alone, whose argsz tells what to ask for. */
    if (out.argsz <= room)
        len = out.argsz;
    reply = request_reply(req, len);
    if (!reply)
        return -ENOMEM;
    memcpy(reply, &out, sizeof(out));
    return len > sizeof(out) ? add_doorbells(s, req, reply + sizeof(out), count, picked) : 0;
}
