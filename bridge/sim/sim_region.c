#include "bridge/sim/sim_region.h"

#include <assert.h>
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_config.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_model.h"
#include "proto/base/arith.h"

int sim_region_create(struct sim_device *dev)
{
    assert(dev->model->n_regions <= SIM_MODEL_REGIONS);
    for (size_t i = 0; i < dev->model->n_regions; i++) {
        const struct sim_model_region *region = &dev->model->regions[i];

        dev->region[i] = calloc(1, region->size);
        if (!dev->region[i])
            return -ENOMEM;
        if (region->content)
            memcpy(dev->region[i], region->content, region->content_len);
    }
    return 0;
}

void sim_region_destroy(struct sim_device *dev)
{
    for (size_t i = 0; i < SIM_MODEL_REGIONS; i++)
        free(dev->region[i]);
}

uint32_t sim_region_count(const struct sim_device *dev)
{
    uint32_t count = dev->model->platform ? 1 : VFIO_PCI_NUM_REGIONS;

    for (size_t i = 0; i < dev->model->n_regions; i++)
        count = MAX(count, dev->model->regions[i].index + 1);
    return count;
}

const struct sim_model_region *sim_region_find(const struct sim_device *dev, uint32_t index)
{
    for (size_t i = 0; i < dev->model->n_regions; i++) {
        if (dev->model->regions[i].index == index)
            return &dev->model->regions[i];
    }
    return NULL;
}

/* The number of bytes, all of which can be accessed, or -errno. */
static ssize_t check(const struct sim_device *dev, const struct sim_model_region *region,
                     uint64_t offset, size_t len, bool write)
{
    if (!region || offset >= region->size || (write && region->read_only))
        return -EINVAL;
    if (region->index == VFIO_PCI_ROM_REGION_INDEX && !sim_config_memory_enabled(dev))
        return -EIO;
    len = MIN(len, region->size - offset);
    for (size_t i = 0; region->is_decoded && i < len; i++) {
        if (!region->is_decoded(offset + i))
            return -EINVAL;
    }
    return (ssize_t)len;
}

ssize_t sim_region_read(struct sim_device *dev, uint32_t index, uint64_t offset, void *buf,
                        size_t len)
{
    const struct sim_model_region *region = sim_region_find(dev, index);
    ssize_t n = check(dev, region, offset, len, false);

    if (n > 0 && dev->gone)
        memset(buf, 0xff, (size_t)n);
    else if (n > 0)
        memcpy(buf, dev->region[region - dev->model->regions] + offset, (size_t)n);
    return n;
}

ssize_t sim_region_write(struct sim_device *dev, uint32_t index, uint64_t offset, const void *buf,
                         size_t len)
{
    const struct sim_model_region *region = sim_region_find(dev, index);
    ssize_t n = check(dev, region, offset, len, true);

    for (ssize_t i = 0; i < n && !dev->gone; i++) {
        if (!region->is_writable || region->is_writable(offset + (uint64_t)i))
            dev->region[region - dev->model->regions][offset + (uint64_t)i] =
                ((const char *)buf)[i];
    }
    return n;
}
