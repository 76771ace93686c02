/*
 * vfuc ring: signals the eventfds of a region's doorbells, as KVM does when a guest writes there,
 * and shows what the register reads before and after. What a doorbell does is the device's own.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdio.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"

struct ring {
    struct vfuc *c;
    struct vfuc_io_fds io;
    uint32_t region;
};

static void ring_close(struct ring *r)
{
    vfuc_io_fds_free(&r->io);
    vfuc_close(r->c);
}

static int read_register(const struct ring *r, const struct vfio_user_sub_region_io_fd *sub,
                         uint64_t *value)
{
    *value = 0;
    if (sub->size > sizeof(*value))
        return -EPROTO;
    return vfuc_region_read(r->c, r->region, sub->offset, value, (uint32_t)sub->size);
}

/* Of a register that reads what is written to it. Others don't, which is nobody's mistake. */
static int await_change(const struct ring *r, const struct vfio_user_sub_region_io_fd *sub,
                        uint64_t before, uint64_t *after)
{
    int64_t deadline = event_now_ms() + EVENT_QUIET_MS;
    int ret;

    do {
        ret = read_register(r, sub, after);
        if (!ret && *after == before)
            event_pause();
    } while (!ret && *after == before && event_now_ms() < deadline);
    return ret;
}

static int ring_one(const struct ring *r, const struct vfio_user_sub_region_io_fd *sub)
{
    int fd = r->io.fds.fd[sub->fd_index];
    uint64_t before, after;
    int ret;

    if (sub->type != VFIO_USER_IO_FD_TYPE_IOEVENTFD)
        return cmd_skip("doorbell at 0x%" PRIx64 ": of type %u", sub->offset, sub->type);
    ret = read_register(r, sub, &before);
    if (!ret)
        ret = event_signal(fd);
    if (!ret)
        ret = await_change(r, sub, before, &after);
    if (ret)
        return cmd_fail(ret, "ringing the doorbell at 0x%" PRIx64, sub->offset);
    return cmd_ok("doorbell at 0x%" PRIx64 ", %" PRIu64 " bytes, data 0x%" PRIx64
                  ": rung; it read 0x%" PRIx64 ", and now 0x%" PRIx64,
                  sub->offset, sub->size, sub->datamatch, before, after);
}

static int ring_all(const struct ring *r, uint64_t offset)
{
    unsigned rung = 0;

    for (uint32_t i = 0; i < r->io.count; i++) {
        if (r->io.subs[i].offset != offset)
            continue;
        if (ring_one(r, &r->io.subs[i]))
            return CMD_FAILED;
        rung++;
    }
    return rung ? CMD_OK : cmd_fail(0, "the server has no doorbell there");
}

int cmd_ring(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(ring_close) struct ring r = {0};
    uint64_t offset;
    int ret;

    if (argc != 2 || cmd_parse_region(argv[0], &r.region) || cmd_parse_number(argv[1], &offset))
        return cmd_usage("ring: REGION OFFSET");
    ret = cmd_connect(target, &r.c);
    if (ret)
        return ret;
    ret = cmd_update_command(r.c, PCI_COMMAND_MEMORY, 0);
    if (ret)
        return cmd_fail(ret, "setting Mem+ in the COMMAND register");
    ret = vfuc_region_io_fds(r.c, r.region, &r.io);
    if (ret)
        return cmd_fail(ret, "asking for the doorbells");
    return ring_all(&r, offset);
}
