#include "bridge/hot_reset.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/config_space.h"
#include "bridge/device_internal.h"
#include "bridge/irq.h"
#include "bridge/migration.h"
#include "bridge/peers.h"
#include "bridge/uapi_compat.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

enum {
    RETRIES = 50,
    RETRY_MS = 100,
};

static void take_functions(const struct vfio_pci_hot_reset_info *info, struct hot_reset_set *set)
{
    set->count = info->count;
    for (size_t i = 0; i < set->count; i++) {
        const struct vfio_pci_dependent_device *d = &info->devices[i];
        struct hot_reset_function *f = &set->functions[i];

        snprintf(f->bdf, sizeof(f->bdf), "%04x:%02x:%02x.%u", d->segment, d->bus, d->devfn >> 3,
                 d->devfn & 7u);
        f->group = info->flags & UAPI_VFIO_HOT_RESET_DEV_ID ? -1 : (int)d->group_id;
    }
}

int hot_reset_get_set(struct device *dev, struct hot_reset_set *set)
{
    const size_t size = sizeof(struct vfio_pci_hot_reset_info) +
                        HOT_RESET_MOST * sizeof(struct vfio_pci_dependent_device);
    cleanup_free_ struct vfio_pci_hot_reset_info *info = calloc(1, size);
    int ret;

    if (dev->fd < 0 || dev->where.mediated || !device_is_pci(dev))
        return -ENODEV;
    if (!info)
        return -ENOMEM;
    info->argsz = (uint32_t)size;
    ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info);
    if (ret == -ENODEV || ret == -ENOTTY) /* a root bus; no PCI, or no real device */
        return -ENODEV;
    if (ret == -ENOSPC || (ret >= 0 && info->count > HOT_RESET_MOST))
        ret = -E2BIG;
    if (ret < 0) {
        log_peer_warning("GET_PCI_HOT_RESET_INFO of %s: %s", dev->where.name, strerror(-ret));
        return ret;
    }
    take_functions(info, set);
    return 0;
}

static int reset_with_retries(struct device *dev, struct vfio_pci_hot_reset *request)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    int ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_PCI_HOT_RESET, request);

    for (int i = 0; (ret == -EBUSY || ret == -EAGAIN) && i < RETRIES; i++) {
        nanosleep(&pause, NULL);
        ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_PCI_HOT_RESET, request);
    }
    /* That a group or device is missing. */
    return ret == -EINVAL ? -EPERM : ret < 0 ? ret : 0;
}

static int stop_dma(struct device *const *devices, size_t n)
{
    int ret = 0;

    for (size_t i = 0; !ret && i < n; i++)
        ret = config_space_stop_dma(devices[i]);
    return ret;
}

static void withdraw(struct device *const *devices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (devices[i]->peer)
            peers_withdraw(devices[i]->peer);
    }
}

static void publish(struct device *const *devices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (devices[i]->peer)
            peers_publish(devices[i]->peer);
    }
}

/* After a reset. */
static int set_going(struct device *const *devices, size_t n)
{
    int first_error = 0;

    for (size_t i = 0; i < n; i++) {
        int ret = i ? irq_rearm(devices[i]) : 0;

        migration_end_stream(devices[i]);
        if (ret && !first_error)
            first_error = ret;
    }
    return first_error;
}

int hot_reset(struct device *const *devices, size_t n, const int *group_files, size_t n_files)
{
    const size_t size = sizeof(struct vfio_pci_hot_reset) + n_files * sizeof(*group_files);
    cleanup_free_ struct vfio_pci_hot_reset *request = calloc(1, size);
    struct device *dev = devices[0];
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (!request)
        return -ENOMEM;
    request->argsz = (uint32_t)size;
    request->count = (uint32_t)n_files;
    if (n_files)
        memcpy(request->group_fds, group_files, n_files * sizeof(*group_files));
    ret = stop_dma(devices, n);
    if (ret)
        return ret;
    withdraw(devices, n);
    ret = reset_with_retries(dev, request);
    publish(devices, n);
    if (ret) {
        log_peer_warning("hot reset of %s: %s", dev->where.name, strerror(-ret));
        return ret;
    }
    return set_going(devices, n);
}
