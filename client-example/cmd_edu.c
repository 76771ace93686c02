/*
 * vfuc edu: QEMU's educational device, driven through all it can do. This file has the registers,
 * the reset and the order; edu_check_dma.c and edu_check_irq.c have the rest.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

int edu_check_identity(struct vfuc *c)
{
    uint16_t vendor, device;
    uint32_t id;
    int ret = cmd_read_config16(c, PCI_VENDOR_ID, &vendor);

    if (!ret)
        ret = cmd_read_config16(c, PCI_DEVICE_ID, &device);
    if (ret)
        return cmd_fail(ret, "reading the config space");
    if (vendor != EDU_VENDOR_ID || device != EDU_DEVICE_ID)
        return cmd_fail(0, "%04x:%04x is no edu device (%04x:%04x)", vendor, device, EDU_VENDOR_ID,
                        EDU_DEVICE_ID);
    ret = cmd_update_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    if (ret)
        return cmd_fail(ret, "setting Mem+ BusMaster+ in the COMMAND register");
    ret = edu_read(c, EDU_REG_ID, &id);
    if (ret)
        return cmd_fail(ret, "reading the identification register");
    if ((id & 0xffff) != 0x00ed)
        return cmd_fail(0, "the identification register is 0x%08x, not 0x....00ed", id);
    return cmd_ok("identification: %04x:%04x, version %u.%u", vendor, device, id >> 24,
                  id >> 16 & 0xff);
}

static int check_identity(struct edu_bench *b)
{
    return edu_check_identity(b->c);
}

static int check_liveness(struct edu_bench *b)
{
    static const uint32_t values[] = {0x12345678, 0, UINT32_MAX};

    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        uint32_t got = 0;
        int ret = edu_write(b->c, EDU_REG_LIVENESS, values[i]);

        if (!ret)
            ret = edu_read(b->c, EDU_REG_LIVENESS, &got);
        if (ret || got != ~values[i])
            return cmd_fail(ret, "liveness: 0x%08x came back as 0x%08x", values[i], got);
    }
    return cmd_ok("liveness: each value came back inverted");
}

/* The registers from 0x80 on also take 8 bytes. The value is one that no check uses. */
static int check_wide_access(struct edu_bench *b)
{
    const uint32_t value = 0x0abcde00;
    const uint64_t wide = htole64(value);
    uint32_t got = 0;
    int ret = vfuc_region_write(b->c, 0, EDU_REG_DMA_SOURCE, &wide, sizeof(wide));

    if (!ret)
        ret = edu_read(b->c, EDU_REG_DMA_SOURCE, &got);
    if (ret || got != value)
        return cmd_fail(ret, "8 bytes written: 0x%08x came back as 0x%08x", value, got);
    return cmd_ok("8 bytes written in one access, read back");
}

static int check_factorial(struct edu_bench *b)
{
    static const struct {
        uint32_t n;
        uint32_t result;
    } cases[] = {
        {1,  1        },
        {5,  120      },
        {12, 479001600},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint32_t got = 0;
        int ret = edu_factorial(b->c, cases[i].n, false, &got);

        if (ret || got != cases[i].result)
            return cmd_fail(ret, "factorial: %u! came as %u", cases[i].n, got);
    }
    return cmd_ok("factorial: 1!, 5!, 12! right, by polling the status");
}

/* The liveness register as a mark: by the reset of the device itself it becomes 0. */
static int check_registers_after_reset(struct edu_bench *b, uint32_t mark)
{
    uint32_t got = 0;
    int ret = edu_read(b->c, EDU_REG_LIVENESS, &got);

    if (ret || (got && got != mark))
        return cmd_fail(ret, "reset: the liveness register is 0x%08x", got);
    if (got)
        return cmd_skip(
            "reset: registers kept, as by a reset of the bus, which QEMU's edu ignores");
    return cmd_ok("reset: the registers are back at their defaults");
}

static int check_reset(struct edu_bench *b)
{
    const uint32_t mark = 0x00c0ffee;
    uint16_t command = 0;
    int ret;

    if (!(b->info.flags & VFIO_USER_DEVICE_FLAGS_RESET))
        return cmd_skip("reset: the device offers none");
    ret = edu_write(b->c, EDU_REG_LIVENESS, ~mark);
    if (!ret)
        ret = vfuc_reset(b->c);
    if (!ret)
        ret = cmd_read_config16(b->c, PCI_COMMAND, &command);
    if (ret || command & PCI_COMMAND_MASTER)
        return cmd_fail(ret, "reset: the COMMAND register is 0x%04x", command);
    cmd_ok("reset: done, bus mastering is off");
    ret = cmd_update_command(b->c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    if (ret)
        return cmd_fail(ret, "reset: setting Mem+ BusMaster+ again");
    return check_registers_after_reset(b, mark) || edu_check_dma_works(b) ||
           cmd_ok("reset: DMA works again with bus mastering on, through the same mappings");
}

static int (*const checks[])(struct edu_bench *b) = {
    check_identity,        check_liveness, check_wide_access, check_factorial, edu_check_dma,
    edu_check_dma_stopped, edu_check_intx, edu_check_msi,     check_reset,
};

/* In both directions by turns, until the process is killed or the server goes. */
static int run_forever(struct edu_bench *b)
{
    struct edu_transfer t = {.iova = EDU_BENCH_IOVA, .len = EDU_BUFFER_SIZE};
    int ret = check_identity(b);

    if (ret)
        return ret;
    ret = edu_dma_start(b->c, &t);
    if (!ret)
        printf("dma running\n");
    while (!ret) {
        ret = edu_dma_wait(b->c);
        t.to_ram = !t.to_ram;
        if (!ret)
            ret = edu_dma_start(b->c, &t);
    }
    return cmd_error(ret, "DMA");
}

static int run_checks(struct edu_bench *b)
{
    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        if (checks[i](b))
            return CMD_FAILED;
    }
    return CMD_OK;
}

struct copy {
    uint64_t from, to, len;
};

/* The device's addresses have 28 bits, its buffer 4096 bytes. */
static int parse_copy(char **argv, struct copy *copy)
{
    const uint64_t end = UINT64_C(1) << 28;

    if (cmd_parse_number(argv[0], &copy->from) || cmd_parse_number(argv[1], &copy->to) ||
        cmd_parse_number(argv[2], &copy->len))
        return -EINVAL;
    return copy->len <= EDU_BUFFER_SIZE && range_within(copy->from, copy->len, end) &&
                   range_within(copy->to, copy->len, end)
               ? 0
               : -EINVAL;
}

/* Nothing is mapped: the addresses are what they are to the device. */
static int run_copy(const struct cmd_target *target, const struct copy *copy)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    uint32_t len = (uint32_t)copy->len;
    int ret = cmd_connect(target, &c);

    if (!ret)
        ret = edu_check_identity(c);
    if (ret)
        return ret;
    ret = edu_copy(c, (uint32_t)copy->from, (uint32_t)copy->to, len);
    if (ret)
        return cmd_fail(ret, "DMA");
    return cmd_ok("DMA of %u bytes from 0x%" PRIx64 " to the device and from there to 0x%" PRIx64,
                  len, copy->from, copy->to);
}

int cmd_edu(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_(edu_bench_close) struct edu_bench bench = {0};
    struct copy copy;
    int ret;

    if (argc == 4 && !strcmp(argv[0], "--copy") && !parse_copy(argv + 1, &copy))
        return run_copy(target, &copy);
    if (argc > 1 || (argc == 1 && strcmp(argv[0], "--dma-forever")))
        return cmd_usage("edu: [--dma-forever | --copy FROM TO COUNT]");
    ret = cmd_connect(target, &c);
    if (!ret)
        ret = edu_bench_open(&bench, c);
    if (ret)
        return ret;
    return argc ? run_forever(&bench) : run_checks(&bench);
}
