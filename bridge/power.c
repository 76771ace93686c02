#include "bridge/power.h"

#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/feature.h"
#include "bridge/peers.h"
#include "proto/base/log.h"

enum {
    ENTRY = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    ENTRY_WITH_WAKEUP = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    EXIT = VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
};

int power_probe_entry(struct device *dev, bool wakeup)
{
    return feature_probe(dev, wakeup ? ENTRY_WITH_WAKEUP : ENTRY, VFIO_DEVICE_FEATURE_SET);
}

int power_probe_exit(struct device *dev)
{
    return feature_probe(dev, EXIT, VFIO_DEVICE_FEATURE_SET);
}

static int explain(const struct device *dev, const char *what, int ret)
{
    if (ret < 0 && ret != -ENOTTY)
        log_peer_warning("%s of %s: %s", what, dev->where.name, strerror(-ret));
    return ret < 0 ? ret : 0;
}

/* What else uses the BARs would keep the device awake, or find them gone. */
int power_enter(struct device *dev, int wakeup)
{
    struct vfio_device_low_power_entry_with_wakeup entry = {.wakeup_eventfd = wakeup};
    int ret;

    if (dev->peer)
        peers_withdraw(dev->peer);
    ret = wakeup < 0 ? feature_set(dev, ENTRY, NULL, 0)
                     : feature_set(dev, ENTRY_WITH_WAKEUP, &entry, sizeof(entry));
    if (ret < 0 && dev->peer)
        peers_publish(dev->peer);
    return explain(dev, "LOW_POWER_ENTRY", ret);
}

int power_exit(struct device *dev)
{
    int ret = feature_set(dev, EXIT, NULL, 0);

    if (ret >= 0 && dev->peer)
        peers_publish(dev->peer);
    return explain(dev, "LOW_POWER_EXIT", ret);
}
