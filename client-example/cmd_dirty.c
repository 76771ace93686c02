/*
 * vfuc dirty: whether the server tells which memory an edu device has written by DMA: in a report
 * of its dirty log, in the next one no more than its source allows, and when the memory is
 * unmapped.
 */
#include <errno.h>
#include <linux/pci_regs.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/guest_memory.h"
#include "proto/base/cleanup.h"

enum {
    PAGE = 4096,
    PAGES = 64, /* a word of bitmap */
    SIZE = PAGES * PAGE,
    IOVA = 0x100000,
};

static int start_log(struct vfuc *c)
{
    const struct vfio_user_feature_dma_logging_range range = {IOVA, SIZE};
    uint64_t page_size = PAGE;

    return vfuc_dma_log_start(c, &range, 1, &page_size);
}

static int device_writes(struct vfuc *c, unsigned page)
{
    const struct edu_transfer t = {.to_ram = true, .iova = IOVA + page * PAGE, .len = 16};
    int ret = edu_dma(c, &t);

    return ret ? cmd_fail(ret, "DMA to page %u", page) : CMD_OK;
}

static int check_told(uint64_t told, unsigned page, const char *by)
{
    if (!(told >> page & 1))
        return cmd_fail(0, "%s does not tell of page %u, which was written", by, page);
    return cmd_ok("DMA to page %u: %s tells of it, and of %d others of %d", page, by,
                  __builtin_popcountll(told) - 1, PAGES);
}

static int check_report(struct vfuc *c, unsigned page)
{
    uint64_t told;
    int ret;

    if (device_writes(c, page))
        return CMD_FAILED;
    ret = vfuc_dma_log_report(c, IOVA, SIZE, PAGE, &told);
    if (ret)
        return cmd_fail(ret, "a report of the dirty log");
    return check_told(told, page, "the report");
}

static int check_unmap(struct vfuc *c, unsigned page)
{
    uint64_t told;
    int ret;

    if (device_writes(c, page))
        return CMD_FAILED;
    ret = vfuc_dma_unmap_dirty(c, IOVA, SIZE, PAGE, &told);
    if (ret)
        return cmd_fail(ret, "DMA_UNMAP with a dirty bitmap");
    return check_told(told, page, "DMA_UNMAP");
}

static int run(struct vfuc *c)
{
    int ret = start_log(c);

    if (ret == -ENOTTY)
        return cmd_skip("dirty log: nothing logs what this device writes");
    if (ret)
        return cmd_fail(ret, "the start of the dirty log");
    if (check_report(c, 5) || check_report(c, 6) || check_unmap(c, 7))
        return CMD_FAILED;
    ret = vfuc_dma_log_stop(c);
    return ret ? cmd_fail(ret, "the end of the dirty log") : CMD_OK;
}

int cmd_dirty(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_(guest_memory_freep) struct guest_memory *memory = NULL;
    int ret;

    (void)argv;
    if (argc)
        return cmd_usage("dirty: no arguments");
    ret = guest_memory_create(&memory, SIZE);
    if (ret)
        return cmd_error(ret, "making %d bytes of memory", SIZE);
    if (cmd_connect(target, &c))
        return CMD_FAILED;
    ret = cmd_update_command(c, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    if (!ret)
        ret = guest_memory_map(memory, c, IOVA, 0, SIZE);
    if (ret)
        return cmd_fail(ret, "mapping memory for DMA");
    return run(c);
}
