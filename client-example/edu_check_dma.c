/*
 * DMA of the edu device: what must arrive, byte for byte, and what the IOMMU must stop.
 *
 * The device does not tell that a transfer was stopped: it ends like any other. A stopped write
 * shows in the client's memory, which stays as it was. A stopped read shows in what the device
 * has in its buffer afterwards: what was there before, or zeros, or ones, by what the bus answers;
 * never a byte of anybody's memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    GUARD = 16, /* bytes on each side that a transfer must leave alone */
    POISON = 0x5a,
    STOPPED_LEN = 256,
};

/* From memory into the device, from there to another place in memory. */
struct trip {
    uint32_t from;
    uint32_t to;
    uint32_t len;
    uint32_t buffer;
};

static int transfer(struct edu_bench *b, const struct edu_transfer *t)
{
    int ret = edu_dma(b->c, t);

    if (ret)
        return cmd_fail(ret, "DMA of %u bytes %s IOVA 0x%x", t->len, t->to_ram ? "to" : "from",
                        t->iova);
    return CMD_OK;
}

static int into_device(struct edu_bench *b, uint32_t iova, uint32_t buffer, uint32_t len)
{
    return transfer(b, &(struct edu_transfer){.iova = iova, .buffer = buffer, .len = len});
}

static int out_of_device(struct edu_bench *b, uint32_t iova, uint32_t buffer, uint32_t len)
{
    return transfer(
        b, &(struct edu_transfer){.to_ram = true, .iova = iova, .buffer = buffer, .len = len});
}

static int compare(const struct trip *t, const uint8_t *got, const uint8_t *expected)
{
    for (size_t i = 0; i < t->len + 2 * GUARD; i++) {
        if (got[i] != expected[i])
            return cmd_fail(0,
                            "DMA of %u bytes from IOVA 0x%x and back to 0x%x: the byte at 0x%zx "
                            "is 0x%02x, not 0x%02x",
                            t->len, t->from, t->to, t->to - GUARD + i, got[i], expected[i]);
    }
    return CMD_OK;
}

static int round_trip(struct edu_bench *b, const struct trip *t)
{
    uint8_t expected[EDU_BUFFER_SIZE + 2 * GUARD], got[sizeof(expected)];
    size_t len = t->len + 2 * GUARD;

    memset(expected, POISON, sizeof(expected));
    edu_bench_store(b, t->to - GUARD, expected, len);
    edu_bench_pattern(expected + GUARD, t->len, t->from ^ t->len);
    edu_bench_store(b, t->from, expected + GUARD, t->len);
    if (into_device(b, t->from, t->buffer, t->len) || out_of_device(b, t->to, t->buffer, t->len))
        return CMD_FAILED;
    edu_bench_load(b, t->to - GUARD, got, len);
    return compare(t, got, expected);
}

int edu_check_dma(struct edu_bench *b)
{
    static const struct trip trips[] = {
        {EDU_BENCH_IOVA,          EDU_BENCH_IOVA + 0x8000, 4096, 0   },
        {EDU_BENCH_IOVA + 0x123,  0x8000457,               1,    0   },
        {0x8000ffd,               EDU_BENCH_IOVA + 0x2001, 7,    4089}, /* across a page */
        {0xffff800,               0x8004000,               100,  1000},
        {EDU_BENCH_IOVA + 0xfc00, 0xffff100,               2048, 512 }, /* across two mappings */
        {0xffff000,               EDU_BENCH_IOVA + 0xf800, 4096, 0   }, /* and back across them */
    };

    for (size_t i = 0; i < ARRAY_SIZE(trips); i++) {
        const struct trip *t = &trips[i];

        if (round_trip(b, t))
            return CMD_FAILED;
        cmd_ok("DMA of %u bytes from IOVA 0x%x to the device and back to 0x%x, all bytes equal",
               t->len, t->from, t->to);
    }
    return CMD_OK;
}

int edu_check_dma_works(struct edu_bench *b)
{
    return round_trip(b, &(struct trip){EDU_BENCH_IOVA, 0x8000100, 512, 64});
}

static bool all_are(const uint8_t *bytes, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != value)
            return false;
    }
    return true;
}

/* Puts a pattern into the device's buffer, by a transfer that works, and nowhere else. */
static int fill_device(struct edu_bench *b, uint8_t pattern[STOPPED_LEN])
{
    uint8_t poison[STOPPED_LEN];
    int ret;

    edu_bench_pattern(pattern, STOPPED_LEN, STOPPED_LEN);
    edu_bench_store(b, EDU_BENCH_IOVA, pattern, STOPPED_LEN);
    ret = into_device(b, EDU_BENCH_IOVA, 0, STOPPED_LEN);
    memset(poison, POISON, sizeof(poison));
    edu_bench_store(b, EDU_BENCH_IOVA, poison, sizeof(poison));
    return ret;
}

static int check_read_stopped(struct edu_bench *b, uint32_t iova, const char *when)
{
    const uint32_t back = EDU_BENCH_IOVA + 0x1000;
    uint8_t pattern[STOPPED_LEN], got[STOPPED_LEN];
    const char *found;

    if (fill_device(b, pattern) || into_device(b, iova, 0, STOPPED_LEN) ||
        out_of_device(b, back, 0, STOPPED_LEN))
        return CMD_FAILED;
    edu_bench_load(b, back, got, STOPPED_LEN);
    if (all_are(got, STOPPED_LEN, 0))
        found = "zeros";
    else if (all_are(got, STOPPED_LEN, 0xff))
        found = "ones";
    else if (!memcmp(got, pattern, STOPPED_LEN))
        found = "nothing";
    else
        return cmd_fail(0, "DMA from unmapped IOVA 0x%x%s: the device read 0x%02x%02x%02x%02x…",
                        iova, when, got[0], got[1], got[2], got[3]);
    return cmd_ok("DMA to unmapped IOVA 0x%x was stopped: the device read %s%s", iova, found, when);
}

static int check_write_stopped(struct edu_bench *b, uint32_t iova, const char *when)
{
    cleanup_free_ uint8_t *before = NULL;
    uint8_t pattern[STOPPED_LEN];
    const uint8_t *memory;
    size_t len;

    if (fill_device(b, pattern))
        return CMD_FAILED;
    memory = edu_bench_memory(b, &len);
    before = malloc(len);
    if (!before)
        return cmd_error(-ENOMEM, "keeping a copy of the memory");
    memcpy(before, memory, len);
    if (out_of_device(b, iova, 0, STOPPED_LEN))
        return CMD_FAILED;
    if (memcmp(before, memory, len))
        return cmd_fail(0, "DMA to unmapped IOVA 0x%x%s changed the client's memory", iova, when);
    return cmd_ok("DMA to unmapped IOVA 0x%x was stopped: the client's memory is unchanged%s", iova,
                  when);
}

static int check_stopped(struct edu_bench *b, uint32_t iova, const char *when)
{
    return check_read_stopped(b, iova, when) || check_write_stopped(b, iova, when);
}

/* The same range once with and once without its mapping. */
static int check_unmapped_again(struct edu_bench *b)
{
    const struct trip t = {EDU_BENCH_EXTRA_IOVA, EDU_BENCH_EXTRA_IOVA + 0x1000, STOPPED_LEN, 0};
    int ret = edu_bench_map_extra(b);

    if (ret)
        return cmd_fail(ret, "mapping for DMA at IOVA 0x%x", t.from);
    if (round_trip(b, &t))
        return CMD_FAILED;
    ret = edu_bench_unmap_extra(b);
    if (ret)
        return cmd_fail(ret, "DMA_UNMAP at IOVA 0x%x", t.from);
    cmd_ok("DMA at IOVA 0x%x worked, then its range was unmapped", t.from);
    return check_stopped(b, t.from, " after DMA_UNMAP");
}

int edu_check_dma_stopped(struct edu_bench *b)
{
    return check_stopped(b, EDU_BENCH_NEVER_MAPPED, "") || check_unmapped_again(b) ||
           edu_check_dma_works(b) || cmd_ok("DMA to mapped memory still works after that");
}
