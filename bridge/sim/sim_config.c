/*
 * Each byte of the space has two masks: which of its bits are the client's own copy, and which of
 * them the client can change, be it in the copy or in the hardware. What it writes to other bits
 * is dropped.
 *
 * What is in no capability is passed to the hardware raw, for there are devices that hide
 * registers there. Nothing puts it back when the client goes.
 */
#include "bridge/sim/sim_config.h"

#include <endian.h>
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_region.h"
#include "proto/base/arith.h"

enum {
    DECODE = PCI_COMMAND_MEMORY | PCI_COMMAND_IO,
};

/* The header; what is not here is read from the hardware and can't be written. */
static const struct {
    uint8_t offset, len, is_virt, is_writable;
} header[] = {
    {PCI_VENDOR_ID,       4,  0xff,                          0   },
    {PCI_COMMAND,         1,  0,                             0xff},
    {PCI_COMMAND + 1,     1,  PCI_COMMAND_INTX_DISABLE >> 8, 0xff},
    {PCI_STATUS,          1,  PCI_STATUS_CAP_LIST,           0   },
    {PCI_CACHE_LINE_SIZE, 2,  0,                             0xff}, /* and the latency timer */
    {PCI_BIST,            1,  0,                             0xff},
    {PCI_BASE_ADDRESS_0,  24, 0xff,                          0xff},
    {PCI_ROM_ADDRESS,     4,  0xff,                          0xff},
    {PCI_CAPABILITY_LIST, 1,  0xff,                          0   },
    {PCI_INTERRUPT_LINE,  1,  0xff,                          0xff},
    {PCI_INTERRUPT_PIN,   1,  0xff,                          0   },
};

static uint32_t load(const struct sim_config *config, unsigned offset, unsigned width)
{
    uint32_t value = 0;

    memcpy(&value, config->virt + offset, width);
    return le32toh(value);
}

static void store(struct sim_config *config, unsigned offset, unsigned width, uint32_t value)
{
    value = htole32(value);
    memcpy(config->virt + offset, &value, width);
}

static void set_masks(struct sim_config *config, unsigned offset, unsigned len, uint8_t is_virt,
                      uint8_t is_writable)
{
    memset(config->is_virt + offset, is_virt, len);
    memset(config->is_writable + offset, is_writable, len);
}

/* The client's address and data go nowhere: the hardware has the host's. */
static void open_msi(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;
    unsigned at = dev->pci.msi;
    uint32_t flags = sim_pci_read(dev, at + PCI_MSI_FLAGS, 2);
    unsigned end = flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 + 2 : PCI_MSI_DATA_32 + 2;

    set_masks(config, at + PCI_MSI_FLAGS, 1, 0xff, 0xff);
    set_masks(config, at + PCI_MSI_FLAGS + 1, 1, 0, 0);
    set_masks(config, at + PCI_MSI_ADDRESS_LO, end - PCI_MSI_ADDRESS_LO, 0xff, 0xff);
    if (flags & PCI_MSI_FLAGS_MASKBIT)
        set_masks(config, at + end, 2, 0, 0); /* mask and pending bits behind it stay raw */
}

/* Only the kernel changes the power state, and no client learns of PME. */
static void open_pm(struct sim_device *dev)
{
    enum {
        PME_CONTROL = (PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS) >> 8,
        PME_SUPPORT = PCI_PM_CAP_PME_MASK >> 8,
    };
    struct sim_config *config = &dev->config;
    unsigned at = dev->pci.pm;

    set_masks(config, at + PCI_PM_PMC, 1, 0, 0);
    set_masks(config, at + PCI_PM_PMC + 1, 1, PME_SUPPORT, 0);
    set_masks(config, at + PCI_PM_CTRL, 1, 0, (uint8_t)~PCI_PM_CTRL_STATE_MASK);
    set_masks(config, at + PCI_PM_CTRL + 1, 1, PME_CONTROL, (uint8_t)~PME_CONTROL);
    config->virt[at + PCI_PM_PMC + 1] &= (uint8_t)~PME_SUPPORT;
    config->virt[at + PCI_PM_CTRL + 1] &= (uint8_t)~PME_CONTROL;
}

static void open_capabilities(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;

    for (unsigned at = 0; (at = sim_pci_next_capability(dev, at));) {
        if (at == dev->pci.msi)
            open_msi(dev);
        else if (at == dev->pci.msix)
            set_masks(config, at, PCI_CAP_MSIX_SIZEOF, 0, 0);
        else if (at == dev->pci.exp)
            set_masks(config, at, PCI_CAP_EXP_ENDPOINT_SIZEOF_V2, 0, 0);
        else if (at == dev->pci.pm)
            open_pm(dev);
        else if (at == dev->pci.vpd)
            set_masks(config, at + PCI_VPD_ADDR, 6, 0xff, 0xff);
        set_masks(config, at + PCI_CAP_LIST_ID, 2, 0xff, 0);
    }
}

void sim_config_open(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;

    memcpy(config->saved, dev->pci.config, sizeof(config->saved));
    memcpy(config->virt, dev->pci.config, sizeof(config->virt));
    set_masks(config, 0, PCI_STD_HEADER_SIZEOF, 0, 0);
    set_masks(config, PCI_STD_HEADER_SIZEOF, PCI_CFG_SPACE_EXP_SIZE - PCI_STD_HEADER_SIZEOF, 0,
              0xff);
    for (size_t i = 0; i < ARRAY_SIZE(header); i++)
        set_masks(config, header[i].offset, header[i].len, header[i].is_virt,
                  header[i].is_writable);
    open_capabilities(dev);
    config->bars_written = true;
}

void sim_config_close(struct sim_device *dev)
{
    bool level = sim_pci_read(dev, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;

    memcpy(dev->pci.config, dev->config.saved, sizeof(dev->config.saved));
    sim_pci_set_intx_status(dev, level); /* the line's, not the memory's */
    sim_pci_command_written(dev);
}

bool sim_config_memory_enabled(const struct sim_device *dev)
{
    return !sim_pci_is_in_d3hot(dev) && load(&dev->config, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
}

static bool overlaps(unsigned offset, unsigned width, unsigned start, unsigned len)
{
    return offset < start + len && start < offset + width;
}

static bool touches_bars(unsigned offset, unsigned width)
{
    return overlaps(offset, width, PCI_BASE_ADDRESS_0, 4 * SIM_MODEL_BARS) ||
           overlaps(offset, width, PCI_ROM_ADDRESS, 4);
}

/* Makes the client's BARs what a device would: size bits are zeros, type bits are fixed. */
static void fix_bars(struct sim_device *dev)
{
    const struct sim_model_region *rom = sim_region_find(dev, VFIO_PCI_ROM_REGION_INDEX);
    struct sim_config *config = &dev->config;

    if (!config->bars_written)
        return;
    for (unsigned i = 0; i < SIM_MODEL_BARS; i++) {
        const struct sim_model_bar *bar = &dev->model->bars[i];
        unsigned at = PCI_BASE_ADDRESS_0 + 4 * i;
        uint32_t value = bar->size ? (load(config, at, 4) & ~(bar->size - 1)) | bar->flags : 0;

        store(config, at, 4, value);
        if (bar->size && sim_pci_is_64bit(bar))
            i++; /* the upper half is all address */
    }
    store(config, PCI_ROM_ADDRESS, 4,
          rom ? load(config, PCI_ROM_ADDRESS, 4) & (~(rom->size - 1) | PCI_ROM_ADDRESS_ENABLE) : 0);
    config->bars_written = false;
}

static void read_chunk(struct sim_device *dev, unsigned offset, uint8_t *buf, unsigned width)
{
    const struct sim_config *config = &dev->config;

    if (touches_bars(offset, width))
        fix_bars(dev);
    for (unsigned i = offset; i < offset + width; i++) {
        uint8_t hw = dev->mmio_stopped || dev->gone ? 0xff : dev->pci.config[i];

        buf[i - offset] =
            (hw & (uint8_t)~config->is_virt[i]) | (config->virt[i] & config->is_virt[i]);
    }
}

static void write_byte(struct sim_device *dev, unsigned offset, uint8_t value)
{
    uint8_t *virt = &dev->config.virt[offset];
    uint8_t is_virt = dev->config.is_virt[offset];
    uint8_t writable = dev->config.is_writable[offset];

    *virt = (*virt & (uint8_t) ~(writable & is_virt)) | (value & writable & is_virt);
    if (!dev->mmio_stopped)
        sim_pci_write_byte(dev, offset, value, writable & (uint8_t)~is_virt);
}

/* The copy has the decode bits too: access to memory BARs is granted by them. */
static void command_written(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;
    uint32_t hw = sim_pci_read(dev, PCI_COMMAND, 2);
    uint32_t virt = load(config, PCI_COMMAND, 2);

    store(config, PCI_COMMAND, 2, (virt & ~(uint32_t)DECODE) | (hw & DECODE));
    sim_pci_command_written(dev);
    sim_dmabuf_move(dev, !sim_config_memory_enabled(dev));
    sim_mapped_show(dev, sim_config_memory_enabled(dev) && !dev->power.allowed);
    sim_irq_set_disabled(dev, virt & PCI_COMMAND_INTX_DISABLE);
}

static unsigned log2_of_msi_set(const struct sim_irq *irq)
{
    unsigned log = 0;

    while (irq->active == VFIO_PCI_MSI_IRQ_INDEX && 1u << log < irq->count)
        log++;
    return log;
}

/* SET_IRQS turns MSI on; until then the client's enable bit does not stick. */
static void msi_flags_written(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;
    unsigned at = dev->pci.msi + PCI_MSI_FLAGS;
    uint32_t flags = load(config, at, 1);
    unsigned most = log2_of_msi_set(&dev->irq);

    if (dev->irq.active != VFIO_PCI_MSI_IRQ_INDEX)
        flags &= ~(uint32_t)PCI_MSI_FLAGS_ENABLE;
    if ((flags & PCI_MSI_FLAGS_QSIZE) >> 4 > most)
        flags = (flags & ~(uint32_t)PCI_MSI_FLAGS_QSIZE) | most << 4;
    store(config, at, 1, flags);
    sim_pci_write_byte(dev, at, (uint8_t)flags, 0xff);
}

/*
 * The kernel makes the transfer, and turns the flag over when it is done. Of an address that is
 * none it leaves it, so that the client runs out of patience.
 */
static void vpd_address_written(struct sim_device *dev)
{
    struct sim_config *config = &dev->config;
    unsigned vpd = dev->pci.vpd;
    uint32_t address = load(config, vpd + PCI_VPD_ADDR, 2);
    uint8_t *at = dev->pci.vpd_data + (address & PCI_VPD_ADDR_MASK);

    if (!range_within(address & PCI_VPD_ADDR_MASK, 4, SIM_VPD_SIZE))
        return;
    if (address & PCI_VPD_ADDR_F)
        memcpy(at, config->virt + vpd + PCI_VPD_DATA, 4);
    else
        memcpy(config->virt + vpd + PCI_VPD_DATA, at, 4);
    store(config, vpd + PCI_VPD_ADDR, 2, address ^ PCI_VPD_ADDR_F);
}

/* No model has the states between. */
static void power_state_written(struct sim_device *dev, unsigned state)
{
    if (!dev->mmio_stopped && (state == SIM_D0 || state == SIM_D3HOT))
        sim_power_set_state(dev, state);
}

static void write_chunk(struct sim_device *dev, unsigned offset, const uint8_t *buf, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        write_byte(dev, offset + i, buf[i]);
    if (overlaps(offset, width, PCI_COMMAND, 2))
        command_written(dev);
    if (touches_bars(offset, width))
        dev->config.bars_written = true;
    if (dev->pci.msi && overlaps(offset, width, dev->pci.msi + PCI_MSI_FLAGS, 1))
        msi_flags_written(dev);
    if (dev->pci.pm && overlaps(offset, width, dev->pci.pm + PCI_PM_CTRL, 1))
        power_state_written(dev, buf[0] & PCI_PM_CTRL_STATE_MASK);
    if (dev->pci.vpd && overlaps(offset, width, dev->pci.vpd + PCI_VPD_ADDR + 1, 1))
        vpd_address_written(dev);
}

/* Accesses are cut into aligned ones of 4, 2 and 1 bytes, as the hardware takes them. */
static unsigned chunk_width(uint64_t offset, size_t len)
{
    if (len >= 4 && offset % 4 == 0)
        return 4;
    return len >= 2 && offset % 2 == 0 ? 2 : 1;
}

ssize_t sim_config_read(struct sim_device *dev, uint64_t offset, void *buf, size_t len)
{
    unsigned width;

    if (!range_within(offset, len, dev->pci.size))
        return -EFAULT;
    for (size_t done = 0; done < len; done += width) {
        width = chunk_width(offset + done, len - done);
        read_chunk(dev, (unsigned)(offset + done), (uint8_t *)buf + done, width);
    }
    return (ssize_t)len;
}

ssize_t sim_config_write(struct sim_device *dev, uint64_t offset, const void *buf, size_t len)
{
    unsigned width;

    if (!range_within(offset, len, dev->pci.size))
        return -EFAULT;
    for (size_t done = 0; done < len; done += width) {
        width = chunk_width(offset + done, len - done);
        write_chunk(dev, (unsigned)(offset + done), (const uint8_t *)buf + done, width);
    }
    return (ssize_t)len;
}
