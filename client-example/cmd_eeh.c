/* vfuc eeh: the error handling of POWER machines. */
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

static const struct {
    const char *name;
    uint32_t op;
} ops[] = {
    {"state",             VFIO_EEH_PE_GET_STATE        },
    {"enable",            VFIO_EEH_PE_ENABLE           },
    {"unfreeze-io",       VFIO_EEH_PE_UNFREEZE_IO      },
    {"unfreeze-dma",      VFIO_EEH_PE_UNFREEZE_DMA     },
    {"reset-hot",         VFIO_EEH_PE_RESET_HOT        },
    {"reset-fundamental", VFIO_EEH_PE_RESET_FUNDAMENTAL},
    {"reset-deactivate",  VFIO_EEH_PE_RESET_DEACTIVATE },
    {"configure",         VFIO_EEH_PE_CONFIGURE        },
};

static const char *const states[] = {
    [VFIO_EEH_PE_STATE_NORMAL] = "normal",
    [VFIO_EEH_PE_STATE_RESET] = "in reset",
    [VFIO_EEH_PE_STATE_STOPPED] = "stopped",
    [VFIO_EEH_PE_STATE_STOPPED_DMA] = "registers work, DMA is stopped",
    [VFIO_EEH_PE_STATE_UNAVAIL] = "unavailable",
};

static int operate(struct vfuc *c, const char *name, uint32_t op)
{
    uint32_t value = 0;
    int ret = vfuc_eeh(c, op, &value);

    if (ret)
        return cmd_error(ret, "EEH %s", name);
    if (op == VFIO_EEH_PE_GET_STATE)
        printf("%u %s\n", value,
               value < ARRAY_SIZE(states) && states[value] ? states[value] : "unknown");
    return CMD_OK;
}

int cmd_eeh(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    int ret;

    for (size_t i = 0; argc == 1 && i < ARRAY_SIZE(ops); i++) {
        if (strcmp(argv[0], ops[i].name))
            continue;
        ret = cmd_connect(target, &c);
        return ret ? ret : operate(c, ops[i].name, ops[i].op);
    }
    return cmd_usage("eeh: one of state, enable, unfreeze-io, unfreeze-dma, reset-hot, "
                     "reset-fundamental, reset-deactivate, configure");
}
