#include "client-example/nvme_queue.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "client-example/event.h"

enum {
    BAR = 0,
    REG_DOORBELLS = 0x1000,
};

void nvme_queue_reset(struct nvme_queue *q, void *sq_page, void *cq_page, size_t page_size)
{
    memset(sq_page, 0, page_size);
    memset(cq_page, 0, page_size);
    q->sq = sq_page;
    q->cq = cq_page;
    q->tail = q->head = 0;
    q->phase = 1; /* the controller's first completions have it, a cleared entry has not */
}

/* The eventfd that has the value written there; -1: there is none. */
static int find_bell(const struct nvme_queue *q, uint64_t doorbell, uint32_t value)
{
    for (uint32_t i = 0; q->bells && i < q->bells->count; i++) {
        const struct vfio_user_sub_region_io_fd *sub = &q->bells->subs[i];

        if (sub->type == VFIO_USER_IO_FD_TYPE_IOEVENTFD && sub->offset == doorbell &&
            sub->size == sizeof(value) && sub->datamatch == value)
            return q->bells->fds.fd[sub->fd_index];
    }
    return -1;
}

static int ring(struct nvme_queue *q, bool completion, uint32_t value)
{
    const uint32_t raw = htole32(value);
    uint64_t doorbell = REG_DOORBELLS + (uint64_t)(2 * q->id + completion) * q->doorbell_stride;
    int bell = find_bell(q, doorbell, value);

    if (bell >= 0) {
        q->rung++;
        return event_signal(bell);
    }
    return vfuc_region_write(q->c, BAR, doorbell, &raw, sizeof(raw));
}

static bool has_completion(const struct nvme_queue *q)
{
    uint16_t status = le16toh(__atomic_load_n(&q->cq[q->head].status, __ATOMIC_ACQUIRE));

    return (status & 1) == q->phase;
}

/* With interrupts the ring is looked at after an event only. */
static int wait_completion(struct nvme_queue *q)
{
    int64_t deadline = event_now_ms() + q->timeout_ms;

    for (;;) {
        int64_t left = deadline - event_now_ms();
        int ret = 1;

        if (left < 0)
            return -ETIMEDOUT;
        if (q->event >= 0)
            ret = event_wait(q->event, (int)left);
        if (ret < 0)
            return ret;
        if (ret && has_completion(q))
            return 0;
        if (q->event < 0)
            event_pause();
    }
}

static int take_completion(struct nvme_queue *q, uint16_t id)
{
    struct nvme_completion done = q->cq[q->head];

    q->head = (q->head + 1) % NVME_QUEUE_ENTRIES;
    if (!q->head)
        q->phase ^= 1;
    if (le16toh(done.id) != id)
        return -EPROTO;
    q->status = (le16toh(done.status) >> 1) & 0x7ff;
    return q->status ? -EIO : 0;
}

int nvme_queue_run(struct nvme_queue *q, struct nvme_command *command)
{
    uint16_t id = q->next_id++;
    int done, ret;

    q->status = 0;
    command->id = htole16(id);
    q->sq[q->tail] = *command;
    q->tail = (q->tail + 1) % NVME_QUEUE_ENTRIES;
    /* A doorbell travels by system calls, which order it behind the entry. */
    ret = ring(q, false, q->tail);
    if (!ret)
        ret = wait_completion(q);
    if (ret)
        return ret;
    done = take_completion(q, id);
    ret = ring(q, true, q->head);
    return ret ? ret : done;
}
