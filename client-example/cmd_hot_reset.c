/* vfuc hot-reset: which devices the whole bus or slot has, and its reset. */
#include <stdio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "proto/base/cleanup.h"

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

int cmd_hot_reset(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    bool only_show = argc == 1 && !strcmp(argv[0], "--info");
    int ret;

    if (argc && !only_show)
        return cmd_usage("hot-reset: [--info]");
    ret = cmd_connect(target, &c);
    if (!ret)
        ret = show(c);
    if (ret || only_show)
        return ret;
    ret = vfuc_hot_reset(c);
    return ret ? cmd_error(ret, "hot reset") : cmd_ok("hot reset");
}
