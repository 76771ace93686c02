#include "bridge/reset.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>
#include <time.h>

#include "bridge/config_space.h"
#include "bridge/device_internal.h"
#include "bridge/migration.h"
#include "bridge/peers.h"
#include "proto/base/log.h"

enum {
    /* The lock is held by another reset on the bus or by a hot-plug operation. */
    RETRIES = 50,
    RETRY_MS = 100,
};

bool reset_is_supported(const struct device *dev)
{
    return dev->info.flags & VFIO_DEVICE_FLAGS_RESET;
}

static int reset_with_retries(struct device *dev)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    int ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_RESET, NULL);

    for (int i = 0; ret == -EAGAIN && i < RETRIES; i++) {
        nanosleep(&pause, NULL);
        ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_RESET, NULL);
    }
    return ret < 0 ? ret : 0;
}

int reset_device(struct device *dev)
{
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (!reset_is_supported(dev)) {
        log_peer_warning("%s has no reset of its own", dev->where.name);
        return -ENOTTY;
    }
    ret = config_space_stop_dma(dev);
    if (ret)
        return ret;
    if (dev->peer)
        peers_withdraw(dev->peer);
    ret = reset_with_retries(dev);
    if (dev->peer)
        peers_publish(dev->peer);
    if (ret)
        log_peer_warning("reset of %s: %s", dev->where.name, strerror(-ret));
    else
        migration_end_stream(dev);
    return ret;
}
