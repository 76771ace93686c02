/*
 * vfuc pair: two edu devices of one client, which maps the same memory for both.
 *
 * Devices of two IOMMU groups have a translation each. Those of one group share theirs: what one of
 * them has mapped the other reaches too, so it is there until both have unmapped it, and neither
 * can have something else in its place.
 */
#include <errno.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "client-example/guest_memory.h"
#include "proto/base/cleanup.h"

enum {
    IOVA = 0x100000,
    FROM = 0x0000, /* the pages of the memory */
    VIA = 0x1000,
    TO = 0x2000,
    MAPPED = 0x3000,
    ELSEWHERE = 0x3000, /* as much again, never mapped by both */
    SIZE = 0x6000,
    LEN = EDU_BUFFER_SIZE,
};

struct pair {
    struct vfuc *c[2];
    struct guest_memory *memory;
    bool one_group;
};

static uint8_t *page(const struct pair *p, size_t offset)
{
    return guest_memory_at(p->memory, offset, LEN);
}

static int map(const struct pair *p, unsigned which, size_t offset)
{
    return guest_memory_map(p->memory, p->c[which], IOVA, offset, MAPPED);
}

static int map_both(const struct pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        int ret = map(p, i, 0);

        if (ret)
            return cmd_fail(ret, "mapping the memory for device %u", i);
    }
    return cmd_ok("the same memory is mapped at the same address for both devices");
}

static int unmap(const struct pair *p, unsigned which)
{
    int ret = vfuc_dma_unmap(p->c[which], IOVA, MAPPED);

    return ret ? cmd_fail(ret, "DMA_UNMAP for device %u", which) : CMD_OK;
}

/* *arrived: whether a device moved a page to another. */
static int move(const struct pair *p, unsigned which, size_t from, size_t to, bool *arrived)
{
    uint8_t before[LEN];
    int ret;

    edu_bench_pattern(page(p, from), LEN, (uint32_t)(from + which + 1));
    memset(page(p, to), 0, LEN);
    memset(before, 0, LEN);
    ret = edu_copy(p->c[which], (uint32_t)(IOVA + from), (uint32_t)(IOVA + to), LEN);
    if (ret)
        return cmd_fail(ret, "DMA of device %u", which);
    *arrived = !memcmp(page(p, from), page(p, to), LEN);
    if (!*arrived && memcmp(page(p, to), before, LEN))
        return cmd_fail(0, "DMA of device %u changed the memory to something else", which);
    return CMD_OK;
}

static int expect_dma(const struct pair *p, unsigned which, bool wanted, const char *when)
{
    bool arrived = false;

    if (move(p, which, FROM, TO, &arrived))
        return CMD_FAILED;
    if (arrived != wanted)
        return cmd_fail(0, "device %u %s the memory %s", which,
                        arrived ? "reaches" : "does not reach", when);
    return cmd_ok("device %u %s the memory %s", which, arrived ? "reaches" : "was kept from", when);
}

/* What one has put there the other takes. */
static int check_relay(const struct pair *p)
{
    int ret;

    edu_bench_pattern(page(p, FROM), LEN, LEN);
    memset(page(p, VIA), 0, LEN);
    memset(page(p, TO), 0, LEN);
    ret = edu_copy(p->c[0], IOVA + FROM, IOVA + VIA, LEN);
    if (!ret)
        ret = edu_copy(p->c[1], IOVA + VIA, IOVA + TO, LEN);
    if (ret || memcmp(page(p, FROM), page(p, TO), LEN))
        return cmd_fail(ret, "DMA by one device and on by the other");
    return cmd_ok("%d bytes went through device 0 into memory, and from there through device 1",
                  LEN);
}

static int check_one_unmapped(const struct pair *p)
{
    return unmap(p, 0) || expect_dma(p, 1, true, "after device 0 has unmapped it") ||
           expect_dma(p, 0, p->one_group, "after it has unmapped it itself");
}

/* Device 0 has nothing mapped, device 1 has. */
static int check_other_memory(const struct pair *p)
{
    int wanted = p->one_group ? -EEXIST : 0;
    int ret = map(p, 0, ELSEWHERE);

    if (ret != wanted)
        return cmd_fail(ret, "mapping other memory there for device 0 alone");
    if (!ret && unmap(p, 0))
        return CMD_FAILED;
    return cmd_ok("other memory at the same address, for device 0 alone: %s",
                  ret ? strerror(-ret) : "mapped");
}

static int check_again(const struct pair *p)
{
    int ret = map(p, 0, FROM);

    if (ret)
        return cmd_fail(ret, "mapping the memory for device 0 again");
    return check_relay(p);
}

static int check_both_unmapped(const struct pair *p)
{
    return unmap(p, 1) || expect_dma(p, 0, true, "after device 1 has unmapped it") || unmap(p, 0) ||
           expect_dma(p, 0, false, "after both have unmapped it") ||
           expect_dma(p, 1, false, "after both have unmapped it");
}

static int (*const checks[])(const struct pair *p) = {
    map_both, check_relay, check_one_unmapped, check_other_memory, check_again, check_both_unmapped,
};

static int run_checks(const struct pair *p)
{
    if (edu_check_identity(p->c[0]) || edu_check_identity(p->c[1]))
        return CMD_FAILED;
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (checks[i](p))
            return CMD_FAILED;
    }
    return CMD_OK;
}

int cmd_pair(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *one = NULL;
    cleanup_(cmd_disconnectp) struct vfuc *other = NULL;
    cleanup_(guest_memory_freep) struct guest_memory *memory = NULL;
    bool one_group = argc == 2 && !strcmp(argv[1], "--one-group");
    int ret;

    if (argc != 1 && !one_group)
        return cmd_usage("pair: OTHER_SOCKET [--one-group]");
    ret = guest_memory_create(&memory, SIZE);
    if (ret)
        return cmd_error(ret, "making %d bytes of memory", SIZE);
    if (cmd_connect(target, &one) ||
        cmd_connect(&(struct cmd_target){argv[0], target->timeout_ms}, &other))
        return CMD_FAILED;
    return run_checks(&(struct pair){
        .c = {one, other},
          .memory = memory, .one_group = one_group
    });
}
