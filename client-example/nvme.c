#include "client-example/nvme.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/event.h"
#include "client-example/guest_memory.h"
#include "client-example/nvme_queue.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    BAR = 0,

    REG_CAP = 0x00,
    REG_VS = 0x08,
    REG_CC = 0x14,
    REG_CSTS = 0x1c,
    REG_AQA = 0x24,
    REG_ASQ = 0x28,
    REG_ACQ = 0x30,

    CC_EN = 1 << 0,
    CC_SHN_MASK = 3 << 14,
    CC_SHN_NORMAL = 1 << 14,
    CC_IOSQES_64 = 6 << 16, /* entries are powers of two */
    CC_IOCQES_16 = 4 << 20,

    CSTS_RDY = 1 << 0,
    CSTS_CFS = 1 << 1,
    CSTS_SHST_MASK = 3 << 2,
    CSTS_SHST_COMPLETE = 2 << 2,

    ADMIN_DELETE_SQ = 0x00,
    ADMIN_CREATE_SQ = 0x01,
    ADMIN_DELETE_CQ = 0x04,
    ADMIN_CREATE_CQ = 0x05,
    ADMIN_IDENTIFY = 0x06,
    ADMIN_SET_FEATURES = 0x09,
    IDENTIFY_NAMESPACE = 0,
    IDENTIFY_CONTROLLER = 1,
    FEATURE_NUMBER_OF_QUEUES = 7,
    QUEUE_CONTIGUOUS = 1 << 0,
    QUEUE_INTERRUPT = 1 << 1,

    IO_FLUSH = 0x00,
    IO_WRITE = 0x01,
    IO_READ = 0x02,

    NAMESPACE = 1,
    PAGE = 4096, /* CC.MPS 0 */
    IOVA = 0x100000,
    POISON = 0xa5, /* what a transfer must overwrite */
};

/* The memory, a page each. */
enum page {
    PAGE_ADMIN_SQ,
    PAGE_ADMIN_CQ,
    PAGE_IO_SQ,
    PAGE_IO_CQ,
    PAGE_DATA,
    NUM_PAGES,
};

enum {
    MEMORY_SIZE = NUM_PAGES * PAGE,
};

struct nvme {
    struct vfuc *c;
    struct guest_memory *memory;
    bool mapped;
    int timeout_ms;
    uint16_t status; /* of the last command */
    struct nvme_queue admin, io;
};

static int read32(struct nvme *n, uint32_t reg, uint32_t *value)
{
    uint32_t raw = 0;
    int ret = vfuc_region_read(n->c, BAR, reg, &raw, sizeof(raw));

    *value = le32toh(raw);
    return ret;
}

static int write32(struct nvme *n, uint32_t reg, uint32_t value)
{
    uint32_t raw = htole32(value);

    return vfuc_region_write(n->c, BAR, reg, &raw, sizeof(raw));
}

/* In two halves: a controller need not take 8 bytes at once. */
static int write64(struct nvme *n, uint32_t reg, uint64_t value)
{
    int ret = write32(n, reg, (uint32_t)value);

    return ret ? ret : write32(n, reg + 4, (uint32_t)(value >> 32));
}

static uint64_t page_iova(enum page page)
{
    return IOVA + (uint64_t)page * PAGE;
}

static uint8_t *page_bytes(const struct nvme *n, enum page page)
{
    return guest_memory_at(n->memory, (size_t)page * PAGE, PAGE);
}

/* Polls CSTS until its bits under the mask have the value. */
static int wait_status(struct nvme *n, uint32_t mask, uint32_t value)
{
    int64_t deadline = event_now_ms() + n->timeout_ms;

    for (;;) {
        uint32_t csts;
        int ret = read32(n, REG_CSTS, &csts);

        if (ret || (csts & mask) == value)
            return ret;
        if (csts & CSTS_CFS)
            return -EIO;
        if (event_now_ms() > deadline)
            return -ETIMEDOUT;
        event_pause();
    }
}

static int run(struct nvme *n, struct nvme_queue *q, struct nvme_command *command)
{
    int ret = nvme_queue_run(q, command);

    n->status = q->status;
    return ret;
}

static int run_admin(struct nvme *n, uint8_t opcode, enum page page, uint32_t cdw10, uint32_t cdw11)
{
    struct nvme_command command = {
        .opcode = opcode,
        .prp1 = htole64(page_iova(page)),
        .cdw10 = htole32(cdw10),
        .cdw11 = htole32(cdw11),
    };

    return run(n, &n->admin, &command);
}

static int read_capabilities(struct nvme *n)
{
    uint32_t low, high;
    int timeout_ms;
    int ret = read32(n, REG_CAP, &low);

    if (!ret)
        ret = read32(n, REG_CAP + 4, &high);
    if (ret)
        return ret;
    /* CAP.MPSMIN: pages of 4 KiB; CAP.MQES: counted from 0. */
    if ((high >> 16 & 0xf) || (low & 0xffff) + 1 < NVME_QUEUE_ENTRIES)
        return -EOPNOTSUPP;
    timeout_ms = (int)(low >> 24) * 500;
    n->timeout_ms = timeout_ms > EVENT_TIMEOUT_MS ? timeout_ms : EVENT_TIMEOUT_MS;
    n->admin.doorbell_stride = n->io.doorbell_stride = 4U << (high & 0xf);
    n->admin.timeout_ms = n->io.timeout_ms = n->timeout_ms;
    return 0;
}

static int disable(struct nvme *n)
{
    int ret = write32(n, REG_CC, 0);

    return ret ? ret : wait_status(n, CSTS_RDY, 0);
}

static int enable(struct nvme *n)
{
    const uint32_t entries = NVME_QUEUE_ENTRIES - 1;
    int ret = write32(n, REG_AQA, entries << 16 | entries);

    if (!ret)
        ret = write64(n, REG_ASQ, page_iova(PAGE_ADMIN_SQ));
    if (!ret)
        ret = write64(n, REG_ACQ, page_iova(PAGE_ADMIN_CQ));
    if (!ret)
        ret = write32(n, REG_CC, CC_EN | CC_IOSQES_64 | CC_IOCQES_16);
    return ret ? ret : wait_status(n, CSTS_RDY, CSTS_RDY);
}

static int start(struct nvme *n)
{
    int ret = guest_memory_create(&n->memory, MEMORY_SIZE);

    if (!ret)
        ret = guest_memory_map(n->memory, n->c, IOVA, 0, MEMORY_SIZE);
    if (ret)
        return ret;
    n->mapped = true;
    nvme_queue_reset(&n->admin, page_bytes(n, PAGE_ADMIN_SQ), page_bytes(n, PAGE_ADMIN_CQ), PAGE);
    nvme_queue_reset(&n->io, page_bytes(n, PAGE_IO_SQ), page_bytes(n, PAGE_IO_CQ), PAGE);
    ret = read_capabilities(n);
    if (!ret)
        ret = disable(n);
    return ret ? ret : enable(n);
}

int nvme_open(struct nvme **out, struct vfuc *c, const int *events)
{
    struct nvme *n = calloc(1, sizeof(*n));
    int ret;

    *out = NULL;
    if (!n)
        return -ENOMEM;
    n->c = c;
    n->admin = (struct nvme_queue){.c = c, .event = events ? events[NVME_ADMIN_VECTOR] : -1};
    n->io = (struct nvme_queue){.c = c, .id = 1, .event = events ? events[NVME_IO_VECTOR] : -1};
    ret = start(n);
    if (ret) {
        nvme_close(n);
        return ret;
    }
    *out = n;
    return 0;
}

void nvme_use_doorbells(struct nvme *n, const struct vfuc_io_fds *bells)
{
    n->admin.bells = n->io.bells = bells;
}

unsigned nvme_rung(const struct nvme *n)
{
    return n->admin.rung + n->io.rung;
}

void nvme_close(struct nvme *n)
{
    if (!n)
        return;
    /* The session's end unmaps it anyway: an error has no consequence. */
    if (n->mapped)
        vfuc_dma_unmap(n->c, IOVA, MEMORY_SIZE);
    guest_memory_free(n->memory);
    free(n);
}

uint16_t nvme_status(const struct nvme *n)
{
    return n->status;
}

/* A field of text: padded with blanks, printable by its definition, which is not relied on. */
static void copy_text(char *to, const uint8_t *from, size_t len)
{
    while (len && from[len - 1] == ' ')
        len--;
    for (size_t i = 0; i < len; i++)
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
    to[len] = '\0';
}

static int identify(struct nvme *n, uint32_t nsid, uint32_t what)
{
    struct nvme_command command = {
        .opcode = ADMIN_IDENTIFY,
        .nsid = htole32(nsid),
        .prp1 = htole64(page_iova(PAGE_DATA)),
        .cdw10 = htole32(what),
    };

    memset(page_bytes(n, PAGE_DATA), POISON, PAGE);
    return run(n, &n->admin, &command);
}

static int identify_controller(struct nvme *n, struct nvme_identity *id)
{
    const uint8_t *data = page_bytes(n, PAGE_DATA);
    uint32_t version;
    int ret = read32(n, REG_VS, &version);

    if (!ret)
        ret = identify(n, 0, IDENTIFY_CONTROLLER);
    if (ret)
        return ret;
    copy_text(id->serial, data + 4, sizeof(id->serial) - 1);
    copy_text(id->model, data + 24, sizeof(id->model) - 1);
    id->version_major = (uint16_t)(version >> 16);
    id->version_minor = version >> 8 & 0xff;
    return 0;
}

static int identify_namespace(struct nvme *n, struct nvme_namespace *ns)
{
    const uint8_t *data = page_bytes(n, PAGE_DATA);
    uint8_t format, shift;
    uint64_t blocks;
    int ret = identify(n, NAMESPACE, IDENTIFY_NAMESPACE);

    if (ret)
        return ret;
    memcpy(&blocks, data, sizeof(blocks)); /* NSZE */
    format = data[26] & 0xf;               /* FLBAS, an index into the LBAFs */
    shift = data[128 + 4 * format + 2];    /* its LBADS */
    if (shift < 9 || 1U << MIN(shift, 31) > NVME_MAX_BLOCK)
        return -EOPNOTSUPP;
    *ns = (struct nvme_namespace){.blocks = le64toh(blocks), .block_size = 1U << shift};
    return 0;
}

int nvme_identify(struct nvme *n, struct nvme_identity *id, struct nvme_namespace *ns)
{
    int ret = identify_controller(n, id);

    return ret ? ret : identify_namespace(n, ns);
}

int nvme_create_io_queues(struct nvme *n)
{
    const uint32_t size_and_id = (NVME_QUEUE_ENTRIES - 1) << 16 | n->io.id;
    uint32_t cq_flags = QUEUE_CONTIGUOUS;
    int ret;

    if (n->io.event >= 0)
        cq_flags |= (uint32_t)NVME_IO_VECTOR << 16 | QUEUE_INTERRUPT;
    /* One of each kind; counted from 0. */
    ret = run_admin(n, ADMIN_SET_FEATURES, PAGE_DATA, FEATURE_NUMBER_OF_QUEUES, 0);
    if (!ret)
        ret = run_admin(n, ADMIN_CREATE_CQ, PAGE_IO_CQ, size_and_id, cq_flags);
    if (!ret)
        ret = run_admin(n, ADMIN_CREATE_SQ, PAGE_IO_SQ, size_and_id,
                        n->io.id << 16 | QUEUE_CONTIGUOUS);
    return ret;
}

int nvme_delete_io_queues(struct nvme *n)
{
    int ret = run_admin(n, ADMIN_DELETE_SQ, PAGE_DATA, n->io.id, 0);

    return ret ? ret : run_admin(n, ADMIN_DELETE_CQ, PAGE_DATA, n->io.id, 0);
}

static int run_io(struct nvme *n, uint8_t opcode, uint64_t lba)
{
    struct nvme_command command = {
        .opcode = opcode,
        .nsid = htole32(NAMESPACE),
        .prp1 = htole64(page_iova(PAGE_DATA)),
        .cdw10 = htole32((uint32_t)lba),
        .cdw11 = htole32((uint32_t)(lba >> 32)),
        .cdw12 = 0, /* one block, counted from 0 */
    };

    return run(n, &n->io, &command);
}

int nvme_read(struct nvme *n, uint64_t lba, uint8_t *block, uint32_t block_size)
{
    uint8_t *data = page_bytes(n, PAGE_DATA);
    int ret;

    memset(data, POISON, PAGE);
    ret = run_io(n, IO_READ, lba);
    if (!ret)
        memcpy(block, data, block_size);
    return ret;
}

int nvme_write(struct nvme *n, uint64_t lba, const uint8_t *block, uint32_t block_size)
{
    struct nvme_command flush = {.opcode = IO_FLUSH, .nsid = htole32(NAMESPACE)};
    int ret;

    memcpy(page_bytes(n, PAGE_DATA), block, block_size);
    ret = run_io(n, IO_WRITE, lba);
    return ret ? ret : run(n, &n->io, &flush);
}

int nvme_shutdown(struct nvme *n)
{
    uint32_t cc;
    int ret = read32(n, REG_CC, &cc);

    if (!ret)
        ret = write32(n, REG_CC, (cc & ~(uint32_t)CC_SHN_MASK) | CC_SHN_NORMAL);
    if (!ret)
        ret = wait_status(n, CSTS_SHST_MASK, CSTS_SHST_COMPLETE);
    return ret ? ret : disable(n);
}
