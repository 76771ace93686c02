#include "bridge/config_space.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdint.h>

#include "bridge/region.h"
#include "proto/base/log.h"

static int clear_command_bits(struct device *dev, uint16_t bits)
{
    uint16_t command;
    int ret;

    ret = region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    if (ret)
        return ret;
    if (!(command & htole16(bits)))
        return 0;
    command &= (uint16_t)~htole16(bits);
    ret = region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    if (!ret)
        ret =
            region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    if (!ret && command & htole16(bits)) {
        log_error("%s keeps bits 0x%x of its COMMAND register set (it reads 0x%x)", device_bdf(dev),
                  bits, le16toh(command));
        ret = -EIO;
    }
    return ret;
}

int config_space_stop_dma(struct device *dev)
{
    return clear_command_bits(dev, PCI_COMMAND_MASTER);
}

int config_space_stop_decode(struct device *dev)
{
    return clear_command_bits(dev, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
}
