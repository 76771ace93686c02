/*
 * A bus behind a port can be reset, a root bus can't. Whoever asks must own all devices on it:
 * give the files of all their groups, or have all of them bound to the iommufd of the asking one.
 */
#include "bridge/sim/sim_hot_reset.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/uapi_compat.h"

enum {
    MOST_GROUPS = 32,
};

struct owned {
    const struct sim_context *context;
    const struct sim_group *groups[MOST_GROUPS];
    uint32_t count;
};

/* With sim->lock held, as those below. dev NULL: the first one. */
static struct sim_device *next_on_bus(const struct sim_device *asking, struct sim_device *dev)
{
    dev = dev ? dev->next : asking->sim->devices;
    while (dev && dev->bus != asking->bus)
        dev = dev->next;
    return dev;
}

static struct vfio_pci_dependent_device describe(const struct sim_device *dev, bool by_cdev)
{
    unsigned segment = 0, bus = 0, slot = 0, function = 0;

    sscanf(dev->name, "%x:%x:%x.%u", &segment, &bus, &slot, &function);
    return (struct vfio_pci_dependent_device){
        .group_id = by_cdev ? 0 : (uint32_t)dev->group->number,
        .segment = (uint16_t)segment,
        .bus = (uint8_t)bus,
        .devfn = (uint8_t)(slot << 3 | function),
    };
}

static int fill_info(struct sim_device *dev, struct vfio_pci_hot_reset_info *info, size_t room)
{
    bool by_cdev = dev->group->owner;

    if (!dev->bus)
        return -ENODEV;
    info->flags = by_cdev ? UAPI_VFIO_HOT_RESET_DEV_ID | UAPI_VFIO_HOT_RESET_DEV_ID_OWNED : 0;
    info->count = 0;
    for (struct sim_device *d = NULL; (d = next_on_bus(dev, d)); info->count++) {
        if (info->count < room)
            info->devices[info->count] = describe(d, by_cdev);
    }
    return info->count > room ? -ENOSPC : 0;
}

int sim_hot_reset_info(struct sim_device *dev, void *arg)
{
    struct vfio_pci_hot_reset_info info;
    int ret = sim_copy_in(&info, arg, sizeof(info));

    if (ret)
        return ret;
    if (info.argsz < sizeof(info))
        return -EINVAL;
    pthread_mutex_lock(&dev->sim->lock);
    ret =
        fill_info(dev, arg, (info.argsz - sizeof(info)) / sizeof(struct vfio_pci_dependent_device));
    pthread_mutex_unlock(&dev->sim->lock);
    return ret;
}

static int take_groups(struct sim *sim, const struct vfio_pci_hot_reset *request,
                       struct owned *owned)
{
    if (!request->count || request->count > MOST_GROUPS)
        return -EINVAL;
    for (; owned->count < request->count; owned->count++) {
        struct sim_file *file = sim_file_get(sim, request->group_fds[owned->count]);
        bool is_group = file && file->ops->kind == SIM_FILE_GROUP;

        if (is_group)
            owned->groups[owned->count] = file->object;
        if (file)
            sim_file_put(file);
        if (!is_group)
            return file ? -EINVAL : -EBADF;
    }
    return 0;
}

static bool is_owned(const struct sim_device *dev, const struct owned *owned)
{
    if (owned->context)
        return dev->group->owner == owned->context;
    for (uint32_t i = 0; i < owned->count; i++) {
        if (owned->groups[i] == dev->group)
            return true;
    }
    return false;
}

static int reset_bus(struct sim_device *asking, const struct owned *owned)
{
    struct sim_device *dev;

    if (!asking->bus)
        return -ENODEV;
    for (dev = NULL; (dev = next_on_bus(asking, dev));) {
        if (!sim_device_has_vfio(dev) || !is_owned(dev, owned))
            return -EINVAL;
    }
    for (dev = NULL; (dev = next_on_bus(asking, dev));) {
        pthread_mutex_lock(&dev->lock);
        sim_power_get(dev);
        sim_dmabuf_move(dev, true);
        sim_device_reset(dev);
        sim_dmabuf_move(dev, !sim_config_memory_enabled(dev));
        sim_power_put(dev);
        pthread_mutex_unlock(&dev->lock);
    }
    return 0;
}

int sim_hot_reset(struct sim_device *dev, void *arg)
{
    struct vfio_pci_hot_reset request;
    struct sim *sim = dev->sim;
    struct owned owned = {0};
    int ret = sim_copy_in(&request, arg, sizeof(request));

    if (ret)
        return ret;
    if (request.argsz < sizeof(request) || request.flags)
        return -EINVAL;
    pthread_mutex_lock(&sim->lock);
    owned.context = dev->group->owner;
    if (!dev->bus)
        ret = -ENODEV;
    else if (owned.context)
        ret = request.count ? -EINVAL : 0;
    else
        ret = take_groups(sim, arg, &owned);
    if (!ret)
        ret = reset_bus(dev, &owned);
    pthread_mutex_unlock(&sim->lock);
    return ret;
}
