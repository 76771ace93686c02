#include "bridge/sim/sim_feature.h"

#include <errno.h>
#include <linux/vfio.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_dmabuf.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_log.h"
#include "bridge/sim/sim_migration.h"
#include "bridge/sim/sim_power.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    SET_GET = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_GET,
};

static const struct {
    uint32_t number;
    sim_feature_handler *handle;
} features[] = {
    {VFIO_DEVICE_FEATURE_MIGRATION,                   sim_migration_get_flags    },
    {VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,            sim_migration_device_state },
    {VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,             sim_power_entry            },
    {VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, sim_power_entry_with_wakeup},
    {VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,              sim_power_exit             },
    {VFIO_DEVICE_FEATURE_DMA_LOGGING_START,           sim_log_start              },
    {VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,            sim_log_stop               },
    {VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,          sim_log_report             },
    {UAPI_VFIO_FEATURE_MIG_DATA_SIZE,                 sim_migration_data_size    },
    {UAPI_VFIO_DEVICE_FEATURE_DMA_BUF,                sim_dmabuf_export          },
};

int sim_feature_check(uint32_t flags, size_t argsz, uint32_t ops, size_t minsz)
{
    if (flags & SET_GET & ~ops)
        return -EINVAL;
    if (flags & VFIO_DEVICE_FEATURE_PROBE)
        return 0;
    return flags & SET_GET && argsz >= minsz ? 1 : -EINVAL;
}

static int check_flags(uint32_t flags)
{
    if (flags & ~(uint32_t)(VFIO_DEVICE_FEATURE_MASK | SET_GET | VFIO_DEVICE_FEATURE_PROBE))
        return -EINVAL;
    return !(flags & VFIO_DEVICE_FEATURE_PROBE) && (flags & SET_GET) == SET_GET ? -EINVAL : 0;
}

/* No mediated device has it. */
static bool is_of_pci(uint32_t number)
{
    switch (number) {
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
    case VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP:
    case VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
    case UAPI_VFIO_DEVICE_FEATURE_DMA_BUF:
        return true;
    default:
        return false;
    }
}

int sim_feature(struct sim_device *dev, void *arg)
{
    struct vfio_device_feature request;
    int ret = sim_copy_in(&request, arg, sizeof(request));

    if (ret)
        return ret;
    if (request.argsz < sizeof(request) || check_flags(request.flags))
        return -EINVAL;
    if (!sim_device_is_on_pci(dev) && is_of_pci(request.flags & VFIO_DEVICE_FEATURE_MASK))
        return -ENOTTY;
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        if (features[i].number == (request.flags & VFIO_DEVICE_FEATURE_MASK))
            return features[i].handle(dev, request.flags, (char *)arg + sizeof(request),
                                      request.argsz - sizeof(request));
    }
    return -ENOTTY;
}
