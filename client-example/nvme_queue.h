/*
 * A pair of NVMe queues in memory that the controller reads and writes: a ring of commands and a
 * ring of completions, one command at a time.
 */
#pragma once

#include <assert.h>
#include <stdint.h>

#include "client-example/vfuc.h"

enum {
    NVME_QUEUE_ENTRIES = 8, /* few, so that the rings wrap */
};

/* Both in little-endian. */
struct nvme_command {
    uint8_t opcode;
    uint8_t flags;
    uint16_t id; /* nvme_queue_run() sets it */
    uint32_t nsid;
    uint64_t reserved;
    uint64_t metadata;
    uint64_t prp1;
    uint64_t prp2;
    uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
static_assert(sizeof(struct nvme_command) == 64, "submission queue entry");

struct nvme_completion {
    uint32_t result;
    uint32_t reserved;
    uint16_t sq_head;
    uint16_t sq_id;
    uint16_t id;
    uint16_t status; /* bit 0: the phase */
};
static_assert(sizeof(struct nvme_completion) == 16, "completion queue entry");

struct nvme_queue {
    struct vfuc *c;
    unsigned id;              /* 0: the admin queues */
    unsigned doorbell_stride; /* in bytes */
    int timeout_ms;
    int event;                       /* -1: the completions are polled */
    const struct vfuc_io_fds *bells; /* of the doorbells' BAR, signalled where they fit; or NULL */
    unsigned rung;                   /* so often */

    struct nvme_command *sq;
    struct nvme_completion *cq;
    unsigned tail, head;
    uint16_t phase; /* of the next completion */
    uint16_t next_id;
    uint16_t status; /* of the last command: status code type and status code */
};

/* Gives an empty pair of rings the two pages, which are cleared. The rest is the caller's to set.
 */
void nvme_queue_reset(struct nvme_queue *q, void *sq_page, void *cq_page, size_t page_size);

/*
 * Submits the command and waits for its completion. 0; -EIO if its status is an error; -EPROTO if
 * it is the completion of another command; -ETIMEDOUT; else the session's.
 */
int nvme_queue_run(struct nvme_queue *q, struct nvme_command *command);
