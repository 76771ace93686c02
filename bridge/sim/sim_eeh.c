#include "bridge/sim/sim_eeh.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stddef.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"

enum {
    MAX_ERROR_TYPE = 1,      /* of 32 and 64 bits */
    MAX_ERROR_FUNCTION = 19, /* what kind of access it hits */
};

static void set_stopped(struct sim_group *group, bool mmio, bool dma)
{
    group->pe.mmio_stopped = mmio;
    group->pe.dma_stopped = dma;
    for (struct sim_device *dev = NULL; (dev = sim_group_next_device(group, dev));) {
        dev->mmio_stopped = mmio;
        sim_dma_set_stopped(dev, dma);
    }
}

void sim_eeh_freeze(struct sim_group *group)
{
    set_stopped(group, true, true);
}

void sim_eeh_unfreeze(struct sim_group *group)
{
    group->pe.in_reset = false;
    set_stopped(group, false, false);
}

static int get_state(const struct sim_pe *pe)
{
    if (pe->in_reset)
        return VFIO_EEH_PE_STATE_RESET;
    if (pe->mmio_stopped)
        return pe->dma_stopped ? VFIO_EEH_PE_STATE_STOPPED : VFIO_EEH_PE_STATE_UNAVAIL;
    return pe->dma_stopped ? VFIO_EEH_PE_STATE_STOPPED_DMA : VFIO_EEH_PE_STATE_NORMAL;
}

/* The kernel restores the devices' BARs, but not bus mastering. */
static int assert_reset(struct sim_group *group)
{
    sim_eeh_freeze(group);
    group->pe.in_reset = true;
    for (struct sim_device *dev = NULL; (dev = sim_group_next_device(group, dev));)
        sim_device_bus_reset(dev);
    return 0;
}

static int inject(struct sim_group *group, const struct vfio_eeh_pe_op *op, void *arg)
{
    struct vfio_eeh_pe_op whole;
    int ret;

    if (op->argsz < sizeof(whole))
        return -EINVAL;
    ret = sim_copy_in(&whole, arg, sizeof(whole));
    if (ret)
        return ret;
    if (whole.err.type > MAX_ERROR_TYPE || whole.err.func > MAX_ERROR_FUNCTION)
        return -EINVAL;
    sim_eeh_freeze(group);
    return 0;
}

int sim_eeh_operate(struct sim_group *group, void *arg)
{
    size_t minsz = offsetof(struct vfio_eeh_pe_op, op) + sizeof(uint32_t);
    struct sim_pe *pe = &group->pe;
    struct vfio_eeh_pe_op op;
    int ret;

    if (!group->sim->eeh)
        return -ENODEV;
    ret = sim_copy_in(&op, arg, minsz);
    if (ret)
        return ret;
    if (op.argsz < minsz || op.flags)
        return -EINVAL;
    switch (op.op) {
    case VFIO_EEH_PE_DISABLE:
    case VFIO_EEH_PE_CONFIGURE:
        return 0;
    case VFIO_EEH_PE_ENABLE:
    case VFIO_EEH_PE_RESET_DEACTIVATE:
        sim_eeh_unfreeze(group);
        return 0;
    case VFIO_EEH_PE_UNFREEZE_IO:
        set_stopped(group, false, pe->dma_stopped);
        return 0;
    case VFIO_EEH_PE_UNFREEZE_DMA:
        set_stopped(group, pe->mmio_stopped, false);
        return 0;
    case VFIO_EEH_PE_GET_STATE:
        return get_state(pe);
    case VFIO_EEH_PE_RESET_HOT:
    case VFIO_EEH_PE_RESET_FUNDAMENTAL:
        return assert_reset(group);
    case VFIO_EEH_PE_INJECT_ERR:
        return inject(group, &op, arg);
    default:
        return -EINVAL;
    }
}
