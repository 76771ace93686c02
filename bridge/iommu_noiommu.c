/*
 * VFIO's no-IOMMU mode: a container and groups without any IOMMU behind them (<linux/vfio.h>,
 * VFIO_NOIOMMU_IOMMU). There is nothing to map, so the container has no ioctl beyond the model's
 * choice, and no client's addresses mean anything to the device.
 *
 * The kernel wants CAP_SYS_RAWIO for each step.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/container.h"
#include "bridge/iommu.h"

struct noiommu {
    struct iommu iommu;
    struct container container;
};

static const struct container_model noiommu_model = {
    .id = VFIO_NOIOMMU_IOMMU,
    .missing = "VFIO's no-IOMMU mode is off "
               "(/sys/module/vfio/parameters/enable_unsafe_noiommu_mode)",
    .refused = "no-IOMMU mode needs CAP_SYS_RAWIO: run vfio-userd as root, or give it that "
               "capability",
};

static struct noiommu *to_noiommu(struct iommu *iommu)
{
    return (struct noiommu *)iommu;
}

static int noiommu_open_device(struct iommu *iommu, const struct sysfs_device *dev, int *fd)
{
    struct container *container = &to_noiommu(iommu)->container;
    bool joined;
    int ret = container_join(container, dev, &joined);

    return ret ? ret : container_open_device(container, dev, fd);
}

static int noiommu_vacate(struct iommu *iommu, int number)
{
    return container_vacate(&to_noiommu(iommu)->container, number);
}

static int noiommu_group_file(struct iommu *iommu, int number)
{
    return container_group_file(&to_noiommu(iommu)->container, number);
}

static void noiommu_destroy(struct iommu *iommu)
{
    container_close(&to_noiommu(iommu)->container);
    free(iommu);
}

/* An address space that translates nothing never asks for more. */
static const struct iommu_ops noiommu_ops = {
    .name = "no-IOMMU",
    .open_device = noiommu_open_device,
    .vacate = noiommu_vacate,
    .group_file = noiommu_group_file,
    .destroy = noiommu_destroy,
};

int iommu_noiommu_create(struct host *host, struct iommu **out)
{
    struct noiommu *n = calloc(1, sizeof(*n));
    int ret;

    if (!n)
        return -ENOMEM;
    n->iommu.ops = &noiommu_ops;
    n->iommu.host = host;
    n->iommu.info = (struct iommu_info){
        .untranslated = true,
        .pgsizes = 4096,
        .max_maps = IOMMU_NO_MAP_LIMIT,
    };
    ret = container_open(&n->container, host, &noiommu_model);
    if (ret) {
        noiommu_destroy(&n->iommu);
        return ret;
    }
    *out = &n->iommu;
    return 0;
}
