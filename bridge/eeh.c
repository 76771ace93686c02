#include "bridge/eeh.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

enum eeh_permission {
    EEH_NONE,
    EEH_CLIENT,
    EEH_DENIED,
};

static const struct {
    const char *name;
    enum eeh_permission permission; /* to be done by eeh_operate() */
} ops[] = {
    [VFIO_EEH_PE_DISABLE] = {"DISABLE",           EEH_DENIED},
    [VFIO_EEH_PE_ENABLE] = {"ENABLE",            EEH_CLIENT},
    [VFIO_EEH_PE_UNFREEZE_IO] = {"UNFREEZE_IO",       EEH_CLIENT},
    [VFIO_EEH_PE_UNFREEZE_DMA] = {"UNFREEZE_DMA",      EEH_CLIENT},
    [VFIO_EEH_PE_GET_STATE] = {"GET_STATE",         EEH_NONE  },
    [VFIO_EEH_PE_RESET_DEACTIVATE] = {"RESET_DEACTIVATE",  EEH_CLIENT},
    [VFIO_EEH_PE_RESET_HOT] = {"RESET_HOT",         EEH_CLIENT},
    [VFIO_EEH_PE_RESET_FUNDAMENTAL] = {"RESET_FUNDAMENTAL", EEH_CLIENT},
    [VFIO_EEH_PE_CONFIGURE] = {"CONFIGURE",         EEH_CLIENT},
    [VFIO_EEH_PE_INJECT_ERR] = {"INJECT_ERR",        EEH_DENIED},
};

bool eeh_is_supported(const struct device *dev)
{
    struct iommu_info info;

    address_space_get_info(dev->as, &info);
    return info.eeh;
}

static int call(struct device *dev, struct vfio_eeh_pe_op *op)
{
    int ret = -ENODEV;

    if (dev->fd >= 0)
        ret = eeh_is_supported(dev) ? address_space_eeh(dev->as, op) : -ENOTTY;
    if (ret < 0)
        log_peer_warning("EEH %s of %s: %s", ops[op->op].name, dev->where.name, strerror(-ret));
    return ret;
}

int eeh_get_state(struct device *dev)
{
    struct vfio_eeh_pe_op op = {.argsz = sizeof(op), .op = VFIO_EEH_PE_GET_STATE};

    return call(dev, &op);
}

/* The kernel returns the state in which the PE has stayed if it would not come back. */
static int finish(const struct device *dev, uint32_t op, int ret)
{
    if (ret <= 0)
        return ret;
    log_peer_warning("EEH %s of %s: the device stays cut off (%d)", ops[op].name, dev->where.name,
                     ret);
    return -EIO;
}

int eeh_operate(struct device *dev, uint32_t op)
{
    struct vfio_eeh_pe_op request = {.argsz = sizeof(request), .op = op};

    if (op >= ARRAY_SIZE(ops) || ops[op].permission == EEH_NONE) {
        log_peer_warning("EEH operation %u: there is none", op);
        return -EINVAL;
    }
    if (ops[op].permission == EEH_DENIED) {
        log_peer_warning("EEH %s of %s is refused", ops[op].name, dev->where.name);
        return -EPERM;
    }
    return finish(dev, op, call(dev, &request));
}

int eeh_inject(struct device *dev, const struct eeh_error *error)
{
    struct vfio_eeh_pe_op request = {
        .argsz = sizeof(request),
        .op = VFIO_EEH_PE_INJECT_ERR,
        .err =
            {
                  .type = error->type,
                  .func = error->func,
                  .addr = error->addr,
                  .mask = error->mask,
                  },
    };

    return finish(dev, request.op, call(dev, &request));
}
