#include "bridge/device.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/config_space.h"
#include "bridge/device_internal.h"
#include "bridge/file_holders.h"
#include "bridge/migration.h"
#include "bridge/peers.h"
#include "bridge/uapi.h"
#include "bridge/uapi_compat.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

enum {
    /* vfio-pci has 9 and a few device-specific ones; more would be no device that we know. */
    MAX_REGIONS = 256,
    MAX_IRQS = 64,
    SERVED_BUSES = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_PLATFORM | VFIO_DEVICE_FLAGS_AMBA |
                   VFIO_DEVICE_FLAGS_CCW | VFIO_DEVICE_FLAGS_FSL_MC | UAPI_VFIO_DEVICE_FLAGS_CDX,
};

static int read_info(struct device *dev)
{
    struct vfio_device_info in = {0};
    cleanup_free_ void *buf = NULL;
    const struct vfio_device_info *got;
    size_t len;
    int ret;

    /* cap_offset is of later kernels than flags and counts are. */
    ret = uapi_get_info(dev->host, dev->fd, VFIO_DEVICE_GET_INFO, &in,
                        offsetof(struct vfio_device_info, num_irqs) + sizeof(in.num_irqs), &buf,
                        &len);
    if (ret) {
        log_error("DEVICE_GET_INFO of %s: %s", dev->where.name, strerror(-ret));
        return ret;
    }
    got = buf;
    if (!(got->flags & SERVED_BUSES)) {
        log_error("%s is of no bus that is served (flags 0x%x)", dev->where.name, got->flags);
        return -ENOTSUP;
    }
    if (got->num_regions > MAX_REGIONS || got->num_irqs > MAX_IRQS) {
        log_error("%s says that it has %u regions and %u irq indexes", dev->where.name,
                  got->num_regions, got->num_irqs);
        return -EPROTO;
    }
    dev->info = (struct device_info){
        .flags = got->flags,
        .num_regions = got->num_regions,
        .num_irqs = got->num_irqs,
    };
    return device_read_caps(dev, got, len);
}

/*
 * The kernel's samples reset without saying so, and don't at an opening. ENOTTY is the answer of a
 * driver that has no reset; another error may be another one next time.
 */
static void find_unsaid_reset(struct device *dev)
{
    if (dev->where.mediated && !(dev->info.flags & VFIO_DEVICE_FLAGS_RESET) &&
        host_ioctl(dev->host, dev->fd, VFIO_DEVICE_RESET, NULL) != -ENOTTY)
        dev->info.flags |= VFIO_DEVICE_FLAGS_RESET;
}

int device_join_peers(struct device *dev, struct peers *peers)
{
    return peers_join(peers, dev, dev->as, &dev->peer);
}

void device_leave_peers(struct device *dev)
{
    if (dev->peer)
        peers_leave(dev->peer);
    dev->peer = NULL;
}

/* All that is known of the open device. */
static void forget(struct device *dev)
{
    device_leave_peers(dev);
    migration_end_stream(dev);
    dirty_forget(dev);
    dev->dirty_told = NULL;
    irq_free_infos(dev);
    ioeventfd_forget(dev);
    region_free_infos(dev);
    config_policy_forget(dev);
    free(dev->info.caps);
    dev->gfx = (struct gfx_ids){0};
    dev->info = (struct device_info){0};
}

static void close_kernel_device(struct device *dev)
{
    forget(dev);
    host_close(dev->host, &dev->fd);
}

static int describe(struct device *dev)
{
    int ret = read_info(dev);

    dev->no_dma = false;
    if (!ret)
        find_unsaid_reset(dev);
    if (!ret)
        ret = region_read_infos(dev);
    if (!ret)
        ret = irq_read_infos(dev);
    if (!ret)
        ret = irq_relay_arm(dev);
    if (!ret)
        ret = config_space_forbid_no_snoop(dev);
    if (ret)
        close_kernel_device(dev);
    return ret;
}

static int open_kernel_device(struct device *dev)
{
    int ret = address_space_open_device(dev->as, &dev->where, &dev->fd);

    if (ret)
        return ret;
    /* What has one file at a time has no other now. */
    dev->lent = dev->lent && !address_space_has_one_file(dev->as);
    return describe(dev);
}

int device_open(struct device **out, struct host *host, struct address_space *as,
                const struct sysfs_device *where)
{
    cleanup_free_ struct device *dev = calloc(1, sizeof(*dev));
    int ret;

    if (!dev)
        return -ENOMEM;
    dev->host = host;
    dev->as = as;
    dev->fd = -1;
    dev->stream.fd = -1;
    dev->err_event = dev->req_event = -1;
    dev->where = *where;
    ret = open_kernel_device(dev);
    if (ret)
        return ret;
    *out = steal_ptr(dev);
    return 0;
}

bool device_is_lent(const struct device *dev)
{
    return dev->lent;
}

bool device_is_seen_held(const struct device *dev)
{
    cleanup_free_ struct file_identity *file = NULL;
    cleanup_close_ int copy = -1;
    int ret;

    if (!dev->lent || dev->fd < 0 || !address_space_has_one_file(dev->as))
        return false;
    file = malloc(sizeof(*file));
    copy = host_share(dev->host, dev->fd);
    ret = !file ? -ENOMEM : copy < 0 ? copy : file_holders_identify(copy, file);
    if (ret)
        return true; /* it is safe to leave the device as it is */
    fd_close(&copy);
    return file_holders_seen(file);
}

int device_reopen(struct device *dev)
{
    if (device_is_seen_held(dev)) {
        log_peer_info("%s stays open: a client still has its file", dev->where.name);
        forget(dev);
        return describe(dev);
    }
    close_kernel_device(dev);
    return open_kernel_device(dev);
}

void device_close(struct device *dev)
{
    if (!dev)
        return;
    close_kernel_device(dev);
    free(dev);
}

const struct device_info *device_get_info(const struct device *dev)
{
    return &dev->info;
}

const char *device_name(const struct device *dev)
{
    return dev->where.name;
}

bool device_is_pci(const struct device *dev)
{
    return dev->info.flags & VFIO_DEVICE_FLAGS_PCI;
}
