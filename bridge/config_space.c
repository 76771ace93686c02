#include "bridge/config_space.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdint.h>

#include "bridge/device_internal.h"
#include "bridge/region.h"
#include "proto/base/log.h"

/* A device of another bus; what a closed one is, is not known. */
static bool has_none(const struct device *dev)
{
    return dev->fd >= 0 && !device_is_pci(dev);
}

static int clear_command_bits(struct device *dev, uint16_t bits)
{
    uint16_t command;
    int ret;

    if (has_none(dev))
        return 0;
    ret = region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    if (ret)
        return ret;
    if (!(command & htole16(bits)))
        return 0;
    command &= (uint16_t)~htole16(bits);
    ret = region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    /* Some mediated devices keep what they began with, which then means nothing. */
    if (ret || dev->where.mediated)
        return ret;
    ret = region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, sizeof(command));
    if (!ret && command & htole16(bits)) {
        log_peer_warning("%s keeps bits 0x%x of its COMMAND register set (it reads 0x%x)",
                         device_name(dev), bits, le16toh(command));
        ret = -EIO;
    }
    return ret;
}

static int read_config(struct device *dev, uint64_t offset, void *buf, uint32_t count)
{
    return region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, buf, count);
}

/* Offset of a capability, 0 if the device lacks it; -errno. The list is the device's own word. */
static int find_capability(struct device *dev, uint8_t id)
{
    enum { MOST_CAPABILITIES = (256 - PCI_STD_HEADER_SIZEOF) / PCI_CAP_SIZEOF };
    uint16_t status;
    uint8_t at, header[2];
    int ret = read_config(dev, PCI_STATUS, &status, sizeof(status));

    if (ret || !(status & htole16(PCI_STATUS_CAP_LIST)))
        return ret;
    ret = read_config(dev, PCI_CAPABILITY_LIST, &at, sizeof(at));
    for (int i = 0; !ret && at >= PCI_STD_HEADER_SIZEOF && i < MOST_CAPABILITIES; i++) {
        at &= (uint8_t)~3u;
        ret = read_config(dev, at, header, sizeof(header));
        if (!ret && header[PCI_CAP_LIST_ID] == id)
            return at;
        at = header[PCI_CAP_LIST_NEXT];
    }
    return ret;
}

int config_space_forbid_no_snoop(struct device *dev)
{
    struct iommu_info iommu;
    uint16_t control;
    int at, ret;

    dev->no_snoop_at = 0;
    address_space_get_info(dev->as, &iommu);
    if (iommu.coherent || dev->where.mediated || has_none(dev))
        return 0;
    at = find_capability(dev, PCI_CAP_ID_EXP);
    if (at <= 0)
        return at;
    ret = read_config(dev, (uint64_t)at + PCI_EXP_DEVCTL, &control, sizeof(control));
    if (ret)
        return ret;
    dev->no_snoop_at = (uint16_t)(at + PCI_EXP_DEVCTL);
    /* The write goes through the filter. */
    return region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, dev->no_snoop_at, &control,
                        sizeof(control));
}

/* Clears bits of the byte at a config offset, if the write covers it. */
static void clear_bits(uint64_t at, uint8_t bits, uint64_t offset, uint8_t *bytes, uint32_t count)
{
    if (at >= offset && at - offset < count)
        bytes[at - offset] &= (uint8_t)~bits;
}

/* Registers are little-endian. */
void config_space_filter(const struct device *dev, uint64_t offset, uint8_t *bytes, uint32_t count)
{
    if (dev->no_snoop_at)
        clear_bits(dev->no_snoop_at + 1u, PCI_EXP_DEVCTL_NOSNOOP_EN >> 8, offset, bytes, count);
    if (dev->no_dma)
        clear_bits(PCI_COMMAND, PCI_COMMAND_MASTER, offset, bytes, count);
}

int config_space_stop_dma(struct device *dev)
{
    return clear_command_bits(dev, PCI_COMMAND_MASTER);
}

int config_space_forbid_dma(struct device *dev)
{
    dev->no_dma = true;
    return config_space_stop_dma(dev);
}

/* No device has this class code and revision; vendor and device are vfio-pci's copies. */
bool config_space_is_gone(struct device *dev)
{
    uint32_t class_revision = 0;
    int ret;

    if (has_none(dev))
        return false;
    ret = read_config(dev, PCI_CLASS_REVISION, &class_revision, sizeof(class_revision));
    return ret ? ret == -ENODEV : class_revision == UINT32_MAX;
}

int config_space_stop_decode(struct device *dev)
{
    return clear_command_bits(dev, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
}

int config_space_find_msix_table(struct device *dev, struct config_msix_table *table)
{
    uint16_t flags;
    uint32_t place;
    int at = find_capability(dev, PCI_CAP_ID_MSIX);
    int ret;

    if (at <= 0)
        return at;
    ret = read_config(dev, (uint64_t)at + PCI_MSIX_FLAGS, &flags, sizeof(flags));
    if (!ret)
        ret = read_config(dev, (uint64_t)at + PCI_MSIX_TABLE, &place, sizeof(place));
    if (ret)
        return ret;
    place = le32toh(place);
    *table = (struct config_msix_table){
        .bar = place & PCI_MSIX_TABLE_BIR,
        .offset = place & PCI_MSIX_TABLE_OFFSET,
        .size = ((uint64_t)(le16toh(flags) & PCI_MSIX_FLAGS_QSIZE) + 1) * PCI_MSIX_ENTRY_SIZE,
    };
    return 1;
}
