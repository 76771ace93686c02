#include "bridge/config_policy.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

void config_policy_deny(struct device *dev, unsigned sorts)
{
    dev->config_denied = (uint8_t)sorts;
}

void config_policy_forget(struct device *dev)
{
    dev->config_denied = 0;
    free(dev->config_map);
    dev->config_map = NULL;
}

/* A device that does not answer lists nothing: it may come back, so that is not kept. */
static int read_map(struct device *dev)
{
    cleanup_free_ struct config_map *map = malloc(sizeof(*map));
    uint8_t config[PCI_CFG_SPACE_EXP_SIZE] = {0};
    uint32_t size = (uint32_t)MIN(dev->regions[VFIO_PCI_CONFIG_REGION_INDEX].size, sizeof(config));
    int ret;

    if (!map)
        return -ENOMEM;
    ret = region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, 0, config, size);
    if (!ret && !memcmp(config + PCI_CLASS_REVISION, "\xff\xff\xff\xff", 4))
        ret = -EIO;
    if (ret)
        return ret;
    config_map_build(map, config, size);
    dev->config_map = steal_ptr(map);
    return 0;
}

/* The header is alike in all devices: whoever stops one needs no map. */
static unsigned denied_at(const struct device *dev, uint64_t offset)
{
    unsigned sorts = offset == PCI_BIST ? CONFIG_BIST : 0;

    if (dev->config_map)
        sorts = offset < PCI_CFG_SPACE_EXP_SIZE ? dev->config_map->sorts[offset]
                                                : (unsigned)CONFIG_UNASSIGNED;
    return sorts & dev->config_denied;
}

static unsigned take_out_bits(const struct device *dev, uint64_t offset, uint8_t *byte)
{
    unsigned denied = denied_at(dev, offset);

    if (!(denied & CONFIG_VPD))
        return denied;
    if (!(*byte & PCI_VPD_ADDR_F >> 8))
        return denied & ~(unsigned)CONFIG_VPD;
    *byte &= (uint8_t) ~(PCI_VPD_ADDR_F >> 8);
    return denied;
}

int config_policy_filter(struct device *dev, uint64_t offset, uint8_t *bytes, uint32_t count)
{
    unsigned denied = 0;

    if (!dev->config_denied)
        return 0;
    if (!dev->config_map && offset + count > PCI_STD_HEADER_SIZEOF) {
        int ret = read_map(dev);

        if (ret)
            return ret;
    }
    for (uint32_t i = 0; i < count; i++)
        denied |= take_out_bits(dev, offset + i, &bytes[i]);
    if (denied)
        log_peer_warning("write to config space, offset 0x%" PRIx64 ", %u bytes: what it changes "
                         "of \"%s\" is dropped (--config-allow)",
                         offset, count, config_sort_name(denied));
    return 0;
}

static bool is_denied(const struct device *dev, uint64_t offset)
{
    return denied_at(dev, offset) & ~(unsigned)CONFIG_VPD;
}

uint32_t config_policy_run(const struct device *dev, uint64_t offset, uint32_t count, bool *denied)
{
    uint32_t n = 1;

    *denied = is_denied(dev, offset);
    while (n < count && is_denied(dev, offset + n) == *denied)
        n++;
    return n;
}
