#include "bridge/feature.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "proto/base/cleanup.h"

static int call(struct device *dev, uint32_t flags, void *data, size_t size)
{
    cleanup_free_ struct vfio_device_feature *request = NULL;
    int ret;

    if (dev->fd < 0)
        return -ENODEV;
    if (size > UINT32_MAX - sizeof(*request))
        return -E2BIG;
    request = malloc(sizeof(*request) + size);
    if (!request)
        return -ENOMEM;
    request->argsz = (uint32_t)(sizeof(*request) + size);
    request->flags = flags;
    if (size)
        memcpy(request->data, data, size);
    ret = host_ioctl(dev->host, dev->fd, VFIO_DEVICE_FEATURE, request);
    if (ret >= 0 && size)
        memcpy(data, request->data, size);
    return ret;
}

int feature_probe(struct device *dev, uint32_t number, uint32_t ops)
{
    int ret = call(dev, VFIO_DEVICE_FEATURE_PROBE | ops | number, NULL, 0);

    return ret < 0 ? ret : 0;
}

int feature_get(struct device *dev, uint32_t number, void *data, size_t size)
{
    return call(dev, VFIO_DEVICE_FEATURE_GET | number, data, size);
}

int feature_set(struct device *dev, uint32_t number, void *data, size_t size)
{
    return call(dev, VFIO_DEVICE_FEATURE_SET | number, data, size);
}
