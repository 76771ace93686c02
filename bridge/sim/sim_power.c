#include "bridge/sim/sim_power.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_eventfd.h"
#include "bridge/sim/sim_feature.h"
#include "bridge/sim/sim_internal.h"

void sim_power_init(struct sim_power *power)
{
    *power = (struct sim_power){.wakeup = -1};
}

static void forbid(struct sim_device *dev)
{
    dev->power.allowed = false;
    sim_eventfd_put(&dev->power.wakeup);
}

void sim_power_get(struct sim_device *dev)
{
    struct sim_power *power = &dev->power;

    power->calls++;
    if (!power->asleep)
        return;
    power->asleep = false;
    sim_dma_set_bus_master(dev, sim_pci_bus_master(dev));
    if (power->wakeup >= 0) {
        sim_eventfd_signal(power->wakeup);
        forbid(dev);
    }
}

void sim_power_put(struct sim_device *dev)
{
    struct sim_power *power = &dev->power;

    if (--power->calls || !power->allowed || power->asleep)
        return;
    power->asleep = true;
    sim_dma_set_bus_master(dev, false);
}

void sim_power_close(struct sim_device *dev)
{
    sim_power_get(dev);
    forbid(dev);
    sim_power_put(dev);
}

void sim_power_set_state(struct sim_device *dev, unsigned state)
{
    bool was_in_d3hot = sim_pci_is_in_d3hot(dev);

    sim_pci_write_byte(dev, dev->pci.pm + PCI_PM_CTRL, (uint8_t)state, PCI_PM_CTRL_STATE_MASK);
    if (was_in_d3hot && !sim_pci_is_in_d3hot(dev))
        sim_device_soft_reset(dev);
    sim_pci_command_written(dev);
    sim_dmabuf_move(dev, !sim_config_memory_enabled(dev));
    sim_mapped_show(dev, sim_config_memory_enabled(dev) && !dev->power.allowed);
}

void sim_power_wake(struct sim_device *dev)
{
    if (sim_pci_is_in_d3hot(dev))
        sim_power_set_state(dev, SIM_D0);
}

/* wakeup: an eventfd that the device takes over on success; -1: none. */
static int allow(struct sim_device *dev, int wakeup)
{
    sim_dmabuf_move(dev, true);
    sim_mapped_show(dev, false);
    if (dev->power.allowed)
        return -EINVAL;
    dev->power.allowed = true;
    dev->power.wakeup = wakeup;
    return 0;
}

int sim_power_entry(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    int ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET, 0);

    (void)data;
    return ret == 1 ? allow(dev, -1) : ret;
}

int sim_power_entry_with_wakeup(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    struct vfio_device_low_power_entry_with_wakeup entry;
    int wakeup, ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET, sizeof(entry));

    if (ret != 1)
        return ret;
    ret = sim_copy_in(&entry, data, sizeof(entry));
    if (!ret && entry.wakeup_eventfd < 0)
        ret = -EINVAL;
    if (ret)
        return ret;
    wakeup = sim_eventfd_get(dev->sim, entry.wakeup_eventfd);
    if (wakeup < 0)
        return wakeup;
    ret = allow(dev, wakeup);
    if (ret)
        sim_eventfd_put(&wakeup);
    return ret;
}

int sim_power_exit(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    int ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET, 0);

    (void)data;
    if (ret != 1)
        return ret;
    forbid(dev);
    sim_dmabuf_move(dev, !sim_config_memory_enabled(dev));
    sim_mapped_show(dev, sim_config_memory_enabled(dev));
    return 0;
}
