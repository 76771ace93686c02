#include "client-example/edu_bench.h"

#include <assert.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "proto/base/arith.h"

enum {
    MEMORY_SIZE = 0x50000,
};

/*
 * The first two are neighbours as the device sees them, but not in memory: a transfer across
 * their border proves that each is translated by itself.
 */
static const struct range {
    uint64_t iova;
    size_t offset;
    size_t len;
} ranges[] = {
    {EDU_BENCH_IOVA,           0x00000, 0x10000},
    {EDU_BENCH_IOVA + 0x10000, 0x20000, 0x10000},
    {0x8000000,                0x10000, 0x10000},
    {0xffff000,                0x30000, 0x1000 }, /* the last page that 28 bits reach */
    {EDU_BENCH_EXTRA_IOVA,     0x40000, 0x10000},
};

static const struct range *const extra = &ranges[ARRAY_SIZE(ranges) - 1];

int edu_bench_open(struct edu_bench *b, struct vfuc *c)
{
    int ret;

    *b = (struct edu_bench){.c = c};
    ret = guest_memory_create(&b->memory, MEMORY_SIZE);
    if (ret)
        return cmd_error(ret, "making %d bytes of memory", MEMORY_SIZE);
    for (const struct range *r = ranges; r < extra; r++) {
        ret = guest_memory_map(b->memory, c, r->iova, r->offset, r->len);
        if (ret)
            return cmd_fail(ret, "mapping %zu bytes for DMA at IOVA 0x%jx", r->len,
                            (uintmax_t)r->iova);
    }
    ret = vfuc_device_info(c, &b->info);
    return ret ? cmd_error(ret, "asking for the device") : CMD_OK;
}

void edu_bench_close(struct edu_bench *b)
{
    guest_memory_free(b->memory);
}

int edu_bench_map_extra(struct edu_bench *b)
{
    return guest_memory_map(b->memory, b->c, extra->iova, extra->offset, extra->len);
}

int edu_bench_unmap_extra(struct edu_bench *b)
{
    return vfuc_dma_unmap(b->c, extra->iova, extra->len);
}

/* The memory from an IOVA on; *len is cut to what lies together. */
static uint8_t *at(struct edu_bench *b, uint64_t iova, size_t *len)
{
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        const struct range *r = &ranges[i];

        if (iova >= r->iova && iova - r->iova < r->len) {
            size_t offset = (size_t)(iova - r->iova);

            *len = MIN(*len, r->len - offset);
            return guest_memory_at(b->memory, r->offset + offset, *len);
        }
    }
    assert(!"an IOVA without memory");
    return NULL;
}

void edu_bench_store(struct edu_bench *b, uint64_t iova, const uint8_t *bytes, size_t len)
{
    for (size_t n = len; len; n = len) {
        memcpy(at(b, iova, &n), bytes, n);
        iova += n;
        bytes += n;
        len -= n;
    }
}

void edu_bench_load(struct edu_bench *b, uint64_t iova, uint8_t *bytes, size_t len)
{
    for (size_t n = len; len; n = len) {
        memcpy(bytes, at(b, iova, &n), n);
        iova += n;
        bytes += n;
        len -= n;
    }
}

const uint8_t *edu_bench_memory(const struct edu_bench *b, size_t *len)
{
    *len = MEMORY_SIZE;
    return guest_memory_at(b->memory, 0, MEMORY_SIZE);
}

void edu_bench_pattern(uint8_t *bytes, size_t len, uint32_t seed)
{
    uint32_t state = seed * 2654435761U + 1; /* xorshift must not start at 0 */

    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (uint8_t)(state >> 24);
    }
}
