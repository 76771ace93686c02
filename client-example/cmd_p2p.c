/*
 * vfuc p2p: DMA from one device into another's memory, by a client that has both. The first is an
 * edu; of the second, BAR 2 is memory (QEMU's ivshmem-plain).
 *
 * Where a BAR lies in its guest's address space is the client's to decide, and it tells the server
 * twice: it programs the BAR of the one device, and maps that address for the other, without a
 * descriptor because there is none. Both have to hold for as long as DMA is to arrive.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "client-example/guest_memory.h"
#include "proto/base/cleanup.h"

enum {
    BAR = VFIO_PCI_BAR2_REGION_INDEX,
    BAR_REGISTER = PCI_BASE_ADDRESS_2,
    BAR_OFFSET = 0x3000, /* of what is moved */
    LEN = EDU_BUFFER_SIZE,
    POISON = 0x5a,

    /* All that edu reaches lies below 256 MiB. */
    MEMORY_IOVA = 0x100000,
    PLACE = 0x8000000,
    OTHER_PLACE = 0xa000000,
    MOST_BAR = OTHER_PLACE - PLACE,
};

struct pair {
    struct vfuc *edu;
    struct vfuc *target;
    struct guest_memory *memory;
    uint64_t bar_size;
};

static uint8_t *memory_of(const struct pair *p)
{
    return guest_memory_at(p->memory, 0, LEN);
}

/* Both halves of the 64-bit register. */
static int write_bar(const struct pair *p, uint64_t value)
{
    uint64_t raw = htole64(value);
    int ret = vfuc_region_write(p->target, VFIO_PCI_CONFIG_REGION_INDEX, BAR_REGISTER, &raw, 4);

    return ret ? ret
               : vfuc_region_write(p->target, VFIO_PCI_CONFIG_REGION_INDEX, BAR_REGISTER + 4,
                                   (uint8_t *)&raw + 4, 4);
}

static int read_bar(const struct pair *p, uint64_t *value)
{
    uint64_t raw = 0;
    int ret =
        vfuc_region_read(p->target, VFIO_PCI_CONFIG_REGION_INDEX, BAR_REGISTER, &raw, sizeof(raw));

    *value = le64toh(raw);
    return ret;
}

static int set_decode(const struct pair *p, bool on)
{
    int ret = on ? cmd_update_command(p->target, PCI_COMMAND_MEMORY, 0)
                 : cmd_update_command(p->target, 0, PCI_COMMAND_MEMORY);

    return ret ? cmd_fail(ret, "switching memory decode of the other device") : CMD_OK;
}

static int size_bar(struct pair *p)
{
    const uint64_t kind = PCI_BASE_ADDRESS_SPACE | PCI_BASE_ADDRESS_MEM_TYPE_MASK;
    uint64_t value;
    int ret = write_bar(p, UINT64_MAX);

    if (!ret)
        ret = read_bar(p, &value);
    if (ret)
        return cmd_fail(ret, "sizing BAR 2 of the other device");
    p->bar_size = ~(value & PCI_BASE_ADDRESS_MEM_MASK) + 1;
    if ((value & kind) != PCI_BASE_ADDRESS_MEM_TYPE_64 || p->bar_size < BAR_OFFSET + LEN ||
        p->bar_size > MOST_BAR)
        return cmd_fail(0, "BAR 2 of the other device reads 0x%" PRIx64 " when it is sized", value);
    return cmd_ok("BAR 2 of the other device has 0x%" PRIx64 " bytes", p->bar_size);
}

/* As a guest moves a BAR. */
static int place_bar(const struct pair *p, uint64_t address)
{
    uint64_t value = 0;
    int ret;

    if (set_decode(p, false))
        return CMD_FAILED;
    ret = write_bar(p, address);
    if (!ret)
        ret = read_bar(p, &value);
    if (ret || (value & PCI_BASE_ADDRESS_MEM_MASK) != address)
        return cmd_fail(ret, "BAR 2 programmed to 0x%" PRIx64 " reads 0x%" PRIx64, address, value);
    return set_decode(p, true);
}

static int map_place(const struct pair *p, uint64_t address)
{
    int ret = vfuc_dma_map(p->edu, address, p->bar_size,
                           VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE, -1, 0);

    return ret ? cmd_fail(ret, "mapping 0x%" PRIx64 " for DMA without a descriptor", address)
               : CMD_OK;
}

static int fill_bar(const struct pair *p, const uint8_t *bytes)
{
    int ret = vfuc_region_write_all(p->target, BAR, BAR_OFFSET, bytes, LEN);

    return ret ? cmd_fail(ret, "writing BAR 2 of the other device") : CMD_OK;
}

static int load_bar(const struct pair *p, uint8_t *bytes)
{
    int ret = vfuc_region_read_all(p->target, BAR, BAR_OFFSET, bytes, LEN);

    return ret ? cmd_fail(ret, "reading BAR 2 of the other device") : CMD_OK;
}

static int copy(const struct pair *p, uint32_t from, uint32_t to)
{
    int ret = edu_copy(p->edu, from, to, LEN);

    return ret ? cmd_fail(ret, "DMA of %d bytes from 0x%x to 0x%x", LEN, from, to) : CMD_OK;
}

static int check_reached(const struct pair *p, uint32_t address, const char *when)
{
    uint8_t pattern[LEN], got[LEN];

    memset(got, POISON, LEN);
    edu_bench_pattern(memory_of(p), LEN, address);
    memcpy(pattern, memory_of(p), LEN);
    if (fill_bar(p, got) || copy(p, MEMORY_IOVA, address + BAR_OFFSET) || load_bar(p, got))
        return CMD_FAILED;
    if (memcmp(got, pattern, LEN))
        return cmd_fail(0, "DMA to 0x%x did not reach the BAR %s", address + BAR_OFFSET, when);
    edu_bench_pattern(pattern, LEN, ~address);
    if (fill_bar(p, pattern) || copy(p, address + BAR_OFFSET, MEMORY_IOVA))
        return CMD_FAILED;
    if (memcmp(memory_of(p), pattern, LEN))
        return cmd_fail(0, "DMA from 0x%x did not read the BAR %s", address + BAR_OFFSET, when);
    return cmd_ok("DMA of %d bytes into the BAR at 0x%x and of others out of it, all bytes equal, "
                  "%s",
                  LEN, address, when);
}

static int poison_bar(const struct pair *p)
{
    uint8_t poison[LEN];

    memset(poison, POISON, LEN);
    return fill_bar(p, poison);
}

static int shoot(const struct pair *p, uint32_t address)
{
    edu_bench_pattern(memory_of(p), LEN, address);
    return copy(p, MEMORY_IOVA, address + BAR_OFFSET);
}

static int expect_poison(const struct pair *p, uint32_t address, const char *when)
{
    uint8_t poison[LEN], got[LEN];

    memset(poison, POISON, LEN);
    if (load_bar(p, got))
        return CMD_FAILED;
    if (memcmp(got, poison, LEN))
        return cmd_fail(0, "DMA to 0x%x reached the BAR %s", address + BAR_OFFSET, when);
    return cmd_ok("DMA to 0x%x was stopped %s: the BAR is unchanged", address, when);
}

static int check_stopped(const struct pair *p, uint32_t address, const char *when)
{
    return poison_bar(p) || shoot(p, address) || expect_poison(p, address, when);
}

static int check_mapping(const struct pair *p)
{
    return place_bar(p, PLACE) || check_stopped(p, PLACE, "before it was mapped") ||
           map_place(p, PLACE) || check_reached(p, PLACE, "when it was mapped");
}

/* While it is not decoded nobody can look into it. */
static int check_decode(const struct pair *p)
{
    return poison_bar(p) || set_decode(p, false) || shoot(p, PLACE) || set_decode(p, true) ||
           expect_poison(p, PLACE, "while the BAR was not decoded") ||
           check_reached(p, PLACE, "when it was decoded again");
}

static int check_move(const struct pair *p)
{
    return map_place(p, OTHER_PLACE) ||
           check_stopped(p, OTHER_PLACE, "when the BAR was elsewhere") ||
           place_bar(p, OTHER_PLACE) || check_stopped(p, PLACE, "when the BAR had moved") ||
           check_reached(p, OTHER_PLACE, "where it had moved");
}

/* VFIO's reset restores the config space. Nothing is written to it here before the DMA. */
static int check_reset(const struct pair *p)
{
    uint64_t value = 0;
    uint16_t command = 0;
    int ret = vfuc_reset(p->target);

    if (ret == -EOPNOTSUPP || ret == -EINVAL)
        return cmd_skip("reset: the other device offers none");
    if (!ret)
        ret = read_bar(p, &value);
    if (!ret)
        ret = cmd_read_config16(p->target, PCI_COMMAND, &command);
    if (ret)
        return cmd_fail(ret, "resetting the other device");
    if (command & PCI_COMMAND_MEMORY && (value & PCI_BASE_ADDRESS_MEM_MASK) == OTHER_PLACE)
        return check_reached(p, OTHER_PLACE, "after a reset, which has left it there");
    return place_bar(p, OTHER_PLACE) ||
           check_reached(p, OTHER_PLACE, "where it was placed after a reset");
}

static int unmap_place(const struct pair *p)
{
    int ret = vfuc_dma_unmap(p->edu, PLACE, p->bar_size);

    return ret ? cmd_fail(ret, "DMA_UNMAP of 0x%x", PLACE) : CMD_OK;
}

static int check_unmap(const struct pair *p)
{
    return place_bar(p, PLACE) || check_reached(p, PLACE, "when it was back") || unmap_place(p) ||
           check_stopped(p, PLACE, "after DMA_UNMAP");
}

static int (*const checks[])(const struct pair *p) = {check_mapping, check_decode, check_move,
                                                      check_reset, check_unmap};

static int run_checks(struct pair *p)
{
    int ret = edu_check_identity(p->edu);

    if (ret || size_bar(p))
        return CMD_FAILED;
    ret = guest_memory_map(p->memory, p->edu, MEMORY_IOVA, 0, LEN);
    if (ret)
        return cmd_fail(ret, "mapping memory for DMA");
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (checks[i](p))
            return CMD_FAILED;
    }
    return CMD_OK;
}

int cmd_p2p(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *edu = NULL;
    cleanup_(cmd_disconnectp) struct vfuc *other = NULL;
    cleanup_(guest_memory_freep) struct guest_memory *memory = NULL;
    int ret;

    if (argc != 1)
        return cmd_usage("p2p: OTHER_SOCKET");
    ret = guest_memory_create(&memory, LEN);
    if (ret)
        return cmd_error(ret, "making %d bytes of memory", LEN);
    if (cmd_connect(target, &edu) ||
        cmd_connect(&(struct cmd_target){argv[0], target->timeout_ms}, &other))
        return CMD_FAILED;
    return run_checks(&(struct pair){.edu = edu, .target = other, .memory = memory});
}
