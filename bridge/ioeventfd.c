#include "bridge/ioeventfd.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "bridge/device_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

static_assert(VFIO_DEVICE_IOEVENTFD_8 == 1 && VFIO_DEVICE_IOEVENTFD_16 == 2 &&
                  VFIO_DEVICE_IOEVENTFD_32 == 4 && VFIO_DEVICE_IOEVENTFD_64 == 8,
              "the flag of a width is the width");

struct ioeventfd {
    struct ioeventfd *next;
    struct doorbell bell;
    int fd; /* kept open: the kernel drops the doorbell with the last duplicate */
};

/* fd: -1 to take it away. */
static int call(struct device *dev, const struct doorbell *bell, int fd)
{
    struct vfio_device_ioeventfd arg = {
        .argsz = sizeof(arg),
        .flags = bell->width,
        .offset = dev->regions[bell->region].offset + bell->offset,
        .data = bell->data,
        .fd = fd,
    };

    return host_ioctl(dev->host, dev->fd, VFIO_DEVICE_IOEVENTFD, &arg);
}

static bool exists(const struct device *dev, const struct doorbell *bell)
{
    return bell->region < dev->info.num_regions && bell->region <= VFIO_PCI_BAR5_REGION_INDEX &&
           range_within(bell->offset, bell->width, dev->regions[bell->region].size);
}

static const char *explain(const struct device *dev, const struct doorbell *bell, int ret)
{
    if (!exists(dev, bell))
        return "outside of the device's BARs";
    switch (ret) {
    case -ENOTTY:
        return "the kernel's driver of this device has no doorbells";
    case -EINVAL:
        return "the kernel refuses it: a doorbell may not be in the MSI-X table, nor have 8 bytes "
               "on most kernels";
    case -ENOSPC:
        return "the kernel has no room for more doorbells of this device";
    default:
        return strerror(-ret);
    }
}

static int check(struct device *dev, const struct doorbell *bell, int fd)
{
    int ret = exists(dev, bell) ? call(dev, bell, fd) : -EINVAL;

    if (!ret)
        ret = call(dev, bell, -1);
    if (ret)
        log_error("doorbell %u:0x%" PRIx64 ":%u:0x%" PRIx64 " of %s: %s", bell->region,
                  bell->offset, bell->width, bell->data, dev->where.name, explain(dev, bell, ret));
    return ret;
}

int ioeventfd_check(struct device *dev, const struct doorbell *bells, size_t n)
{
    cleanup_close_ int fd = n ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    int ret = 0;

    if (n && fd < 0) {
        ret = -errno;
        log_error("an eventfd for a doorbell: %s", strerror(-ret));
    }
    for (size_t i = 0; !ret && i < n; i++)
        ret = check(dev, &bells[i], fd);
    return ret;
}

static bool same(const struct doorbell *a, const struct doorbell *b)
{
    return a->region == b->region && a->width == b->width && a->offset == b->offset &&
           a->data == b->data;
}

/* The eventfd, the list's. */
static int register_new(struct device *dev, const struct doorbell *bell)
{
    cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cleanup_free_ struct ioeventfd *e = malloc(sizeof(*e));
    int ret;

    if (fd < 0)
        return -errno;
    if (!e)
        return -ENOMEM;
    ret = exists(dev, bell) ? call(dev, bell, fd) : -EINVAL;
    if (ret)
        return ret;
    *e = (struct ioeventfd){.next = dev->ioeventfds, .bell = *bell, .fd = steal_fd(&fd)};
    dev->ioeventfds = e;
    return steal_ptr(e)->fd;
}

int ioeventfd_get(struct device *dev, const struct doorbell *bell, int *fd)
{
    const struct ioeventfd *e = dev->ioeventfds;
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    while (e && !same(&e->bell, bell))
        e = e->next;
    ret = e ? e->fd : register_new(dev, bell);
    if (ret < 0) {
        log_peer_warning("doorbell %u:0x%" PRIx64 " of %s: %s", bell->region, bell->offset,
                         dev->where.name, explain(dev, bell, ret));
        return ret;
    }
    *fd = ret;
    return 0;
}

static void drop_first(struct device *dev)
{
    struct ioeventfd *e = dev->ioeventfds;

    dev->ioeventfds = e->next;
    fd_close(&e->fd);
    free(e);
}

int ioeventfd_end(struct device *dev)
{
    int first_error = 0;

    while (dev->ioeventfds) {
        const struct doorbell *bell = &dev->ioeventfds->bell;
        int ret = call(dev, bell, -1);

        if (ret)
            log_peer_warning("taking away doorbell %u:0x%" PRIx64 " of %s: %s", bell->region,
                             bell->offset, dev->where.name, strerror(-ret));
        if (!first_error)
            first_error = ret;
        drop_first(dev);
    }
    return first_error;
}

void ioeventfd_forget(struct device *dev)
{
    while (dev->ioeventfds)
        drop_first(dev);
}
