/*
 * A small NVMe driver over region accesses and memory mapped for DMA (NVM Express Base
 * Specification, revision 1.4): the admin queue pair, one I/O queue pair, one command at a time.
 *
 * Functions return 0 or -errno: the session's, -ETIMEDOUT for a controller that does not get on,
 * -EIO for a command that it completed with an error (nvme_status() has it) or for its fatal
 * status, -EPROTO for a completion of no command.
 */
#pragma once

#include <stdint.h>

#include "client-example/vfuc.h"

struct nvme;

enum {
    NVME_ADMIN_VECTOR = 0,
    NVME_IO_VECTOR = 1,
    NVME_NUM_VECTORS = 2,

    NVME_MAX_BLOCK = 4096, /* a block goes in one page */
};

struct nvme_identity {
    char model[41];
    char serial[21];
    uint16_t version_major, version_minor;
};

struct nvme_namespace {
    uint64_t blocks;
    uint32_t block_size;
};

/*
 * Makes and maps the queues' memory, resets the controller and enables it. Bus mastering must be
 * on. events: NULL, or NVME_NUM_VECTORS eventfds that the controller's MSI-X vectors fire; then
 * no queue is looked at before its event came. *out: freed by nvme_close, also after an error of
 * another function.
 */
int nvme_open(struct nvme **out, struct vfuc *c, const int *events);

/*
 * From now on doorbells of BAR 0 that have an eventfd are rung by it; bells outlives the
 * controller. nvme_rung: how often that was so far.
 */
void nvme_use_doorbells(struct nvme *n, const struct vfuc_io_fds *bells);
unsigned nvme_rung(const struct nvme *n);

/* Forgets the controller as it is and takes its memory back. NULL is allowed. */
void nvme_close(struct nvme *n);

/* Status code type and status code of the last command, 0: success. */
uint16_t nvme_status(const struct nvme *n);

/* Of the controller, and of namespace 1, to which all blocks belong. */
int nvme_identify(struct nvme *n, struct nvme_identity *id, struct nvme_namespace *ns);

int nvme_create_io_queues(struct nvme *n);
int nvme_delete_io_queues(struct nvme *n);

/* One block of block_size bytes. A write is on the medium when it returns. */
int nvme_read(struct nvme *n, uint64_t lba, uint8_t *block, uint32_t block_size);
int nvme_write(struct nvme *n, uint64_t lba, const uint8_t *block, uint32_t block_size);

/* Normal shutdown, then disables the controller. */
int nvme_shutdown(struct nvme *n);
