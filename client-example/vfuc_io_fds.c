/* GET_REGION_IO_FDS: the doorbells of a region. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct answer {
    struct vfio_user_region_io_fds head;
    uint8_t entries[LIMIT_RECV_FDS * sizeof(struct vfio_user_sub_region_io_fd)];
};

static int ask(struct vfuc *c, uint32_t region, struct answer *answer, struct fdset *fds,
               size_t *len)
{
    const struct vfio_user_region_io_fds request = {.argsz = sizeof(*answer), .index = region};
    const struct iovec out = vfuc_piece(&request, sizeof(request));
    const struct iovec in = vfuc_piece(answer, sizeof(*answer));
    struct vfuc_exchange x = {
        .command = VFIO_USER_DEVICE_GET_REGION_IO_FDS,
        .request = &out,
        .request_cnt = 1,
        .reply = &in,
        .reply_cnt = 1,
        .received = fds,
    };
    int ret = vfuc_run(c, &x);

    *len = x.reply_len;
    return ret;
}

/* An entry may be larger than what is known of it: argsz tells how large. */
static int take_entries(const struct answer *answer, size_t len, struct vfuc_io_fds *io)
{
    const struct vfio_user_region_io_fds *head = &answer->head;
    size_t stride;

    if (len < sizeof(*head) || head->argsz > len || head->argsz < sizeof(*head) ||
        head->count > LIMIT_RECV_FDS)
        return -EPROTO;
    stride = head->count ? (head->argsz - sizeof(*head)) / head->count : sizeof(*io->subs);
    if (stride < sizeof(*io->subs))
        return -EPROTO;
    io->subs = calloc(head->count + 1u, sizeof(*io->subs));
    if (!io->subs)
        return -ENOMEM;
    for (; io->count < head->count; io->count++) {
        memcpy(&io->subs[io->count], answer->entries + io->count * stride, sizeof(*io->subs));
        if (io->subs[io->count].fd_index >= io->fds.count)
            return -EPROTO;
    }
    return 0;
}

int vfuc_region_io_fds(struct vfuc *c, uint32_t region, struct vfuc_io_fds *io)
{
    cleanup_free_ struct answer *answer = calloc(1, sizeof(*answer));
    size_t len;
    int ret;

    *io = (struct vfuc_io_fds){0};
    fdset_init(&io->fds);
    if (!answer)
        return -ENOMEM;
    ret = ask(c, region, answer, &io->fds, &len);
    return ret ? ret : take_entries(answer, len, io);
}

void vfuc_io_fds_free(struct vfuc_io_fds *io)
{
    fdset_close(&io->fds);
    free(io->subs);
    io->subs = NULL;
}
