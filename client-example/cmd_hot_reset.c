/*
 * vfuc hot-reset: which devices the whole bus or slot has, and its reset; of one device, or of two
 * that the client has there, edu's or ivshmem's. Each that did not ask is reset too, and an edu has
 * its interrupt and its memory afterwards.
 */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "client-example/event.h"
#include "client-example/guest_memory.h"
#include "proto/base/cleanup.h"

enum {
    IOVA = 0x100000,
    SIZE = 0x2000,
    LEN = EDU_BUFFER_SIZE,
    MARK = 0x5a,
    IVSHMEM_REG_MASK = 0x00, /* of its interrupts; kept until a reset */
};

struct pair {
    struct vfuc *c[2];
    bool is_edu[2];
    int event[2]; /* of their MSI */
    struct guest_memory *memory;
};

static int show(struct vfuc *c)
{
    cleanup_free_ struct vfio_userd_hot_reset_info *info = NULL;
    int ret = vfuc_hot_reset_info(c, &info);

    if (ret)
        return cmd_error(ret, "asking for what a hot reset resets");
    printf("hot reset: %u of this client's devices, %u others\n", info->count, info->others);
    for (uint32_t i = 0; i < info->count; i++) {
        const struct vfio_userd_hot_reset_device device = vfuc_hot_reset_device(info, i);

        printf("  device %u%s\n", device.id,
               device.flags & VFIO_USERD_HOT_RESET_SELF ? ", this one" : "");
    }
    return CMD_OK;
}

static int start_edu(const struct pair *p, unsigned which)
{
    struct vfuc *c = p->c[which];
    int ret = guest_memory_map(p->memory, c, IOVA, 0, SIZE);

    if (!ret)
        ret = vfuc_set_irqs(c, VFIO_PCI_MSI_IRQ_INDEX,
                            VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER, 0, 1,
                            &p->event[which], NULL);
    return ret;
}

static int start(struct pair *p, unsigned which)
{
    uint16_t device = 0;
    int ret = cmd_read_config16(p->c[which], PCI_DEVICE_ID, &device);

    p->is_edu[which] = device == EDU_DEVICE_ID;
    if (!ret)
        ret = cmd_update_command(p->c[which], PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
    if (!ret && p->is_edu[which])
        ret = start_edu(p, which);
    return ret ? cmd_fail(ret, "starting device %u", which) : CMD_OK;
}

/* A register that is 0 after a reset of the device; an edu's is inverted by writing it. */
static int set_mark(const struct pair *p, unsigned which)
{
    const uint32_t mark = p->is_edu[which] ? ~MARK : MARK;
    const uint64_t at = p->is_edu[which] ? EDU_REG_LIVENESS : IVSHMEM_REG_MASK;

    return vfuc_region_write(p->c[which], VFIO_PCI_BAR0_REGION_INDEX, at, &mark, sizeof(mark));
}

static int get_mark(const struct pair *p, unsigned which, uint32_t *mark)
{
    const uint64_t at = p->is_edu[which] ? EDU_REG_LIVENESS : IVSHMEM_REG_MASK;

    return vfuc_region_read(p->c[which], VFIO_PCI_BAR0_REGION_INDEX, at, mark, sizeof(*mark));
}

static int check_was_reset(const struct pair *p, unsigned which)
{
    uint16_t command = 0;
    uint32_t mark = 0;
    int ret = get_mark(p, which, &mark);

    if (!ret)
        ret = cmd_read_config16(p->c[which], PCI_COMMAND, &command);
    if (ret || command & PCI_COMMAND_MASTER)
        return cmd_fail(ret, "device %u was not reset: COMMAND is 0x%04x", which, command);
    if (mark == MARK && p->is_edu[which])
        return cmd_ok("device %u: bus mastering is off; registers are kept, as QEMU's edu ignores "
                      "a reset of the bus",
                      which);
    if (mark)
        return cmd_fail(0, "device %u was not reset: its register is 0x%x", which, mark);
    return cmd_ok("device %u was reset: bus mastering is off, its register is 0", which);
}

static int check_works(const struct pair *p, unsigned which)
{
    struct vfuc *c = p->c[which];
    uint8_t *from = guest_memory_at(p->memory, 0, LEN), *to = guest_memory_at(p->memory, LEN, LEN);
    int ret = cmd_update_command(c, PCI_COMMAND_MASTER, 0);

    if (!p->is_edu[which])
        return ret ? cmd_fail(ret, "device %u: switching bus mastering on", which) : CMD_OK;
    if (!ret)
        ret = edu_write(c, EDU_REG_IRQ_RAISE, 1);
    if (ret || event_wait(p->event[which], EVENT_TIMEOUT_MS) != 1)
        return cmd_fail(ret, "device %u: its MSI does not come", which);
    edu_bench_pattern(from, LEN, which + 1);
    memset(to, 0, LEN);
    ret = edu_copy(c, IOVA, IOVA + LEN, LEN);
    if (ret || memcmp(from, to, LEN))
        return cmd_fail(ret, "device %u: its DMA does not arrive", which);
    return cmd_ok("device %u: MSI comes and DMA arrives, set up before", which);
}

static int reset_and_check(const struct pair *p, const char *how, int (*reset)(struct vfuc *c),
                           unsigned by)
{
    int ret = 0;

    for (unsigned i = 0; i < 2 && !ret; i++)
        ret = set_mark(p, i);
    if (!ret)
        ret = reset(p->c[by]);
    if (ret)
        return cmd_fail(ret, "%s by device %u", how, by);
    cmd_ok("%s by device %u", how, by);
    return check_was_reset(p, 0) || check_was_reset(p, 1) || check_works(p, 0) || check_works(p, 1);
}

/* Neither has a reset of its own: so DEVICE_RESET is of both too. */
static int reset_pair(struct vfuc *one, struct vfuc *other)
{
    cleanup_(guest_memory_freep) struct guest_memory *memory = NULL;
    cleanup_close_ int event = event_create(), other_event = event_create();
    struct pair p = {
        .c = {one,   other      },
          .event = {event, other_event}
    };
    int ret = event < 0 ? event : other_event < 0 ? other_event : 0;

    if (!ret)
        ret = guest_memory_create(&memory, SIZE);
    if (ret)
        return cmd_error(ret, "making memory and eventfds");
    p.memory = memory;
    return start(&p, 0) || start(&p, 1) || show(one) ||
           reset_and_check(&p, "HOT_RESET", vfuc_hot_reset, 0) ||
           reset_and_check(&p, "HOT_RESET", vfuc_hot_reset, 1) ||
           reset_and_check(&p, "DEVICE_RESET", vfuc_reset, 0);
}

int cmd_hot_reset(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_(cmd_disconnectp) struct vfuc *other = NULL;
    bool only_show = argc == 1 && !strcmp(argv[0], "--info");
    bool pair = argc == 2 && !strcmp(argv[0], "--with");
    int ret;

    if (argc && !only_show && !pair)
        return cmd_usage("hot-reset: [--info | --with OTHER_SOCKET]");
    ret = cmd_connect(target, &c);
    if (!ret && pair)
        ret = cmd_connect(&(struct cmd_target){argv[1], target->timeout_ms}, &other);
    if (ret)
        return ret;
    if (pair)
        return reset_pair(c, other);
    ret = show(c);
    if (ret || only_show)
        return ret;
    ret = vfuc_hot_reset(c);
    return ret ? cmd_error(ret, "hot reset") : cmd_ok("hot reset");
}
