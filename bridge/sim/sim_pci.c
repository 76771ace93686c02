#include "bridge/sim/sim_pci.h"

#include <assert.h>
#include <endian.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "proto/base/arith.h"

uint32_t sim_pci_read(const struct sim_device *dev, unsigned offset, unsigned width)
{
    uint32_t value = 0;

    memcpy(&value, dev->pci.config + offset, width);
    return le32toh(value);
}

static uint16_t read16(const struct sim_device *dev, unsigned offset)
{
    return (uint16_t)sim_pci_read(dev, offset, 2);
}

/* As the host writes, or the device itself. */
static void write16(struct sim_device *dev, unsigned offset, uint16_t value)
{
    value = htole16(value);
    memcpy(dev->pci.config + offset, &value, sizeof(value));
}

static void set_bits(struct sim_device *dev, unsigned offset, uint16_t bits, bool on)
{
    uint16_t value = read16(dev, offset);

    write16(dev, offset, on ? value | bits : value & (uint16_t)~bits);
}

bool sim_pci_is_64bit(const struct sim_model_bar *bar)
{
    return !(bar->flags & PCI_BASE_ADDRESS_SPACE_IO) && bar->flags & PCI_BASE_ADDRESS_MEM_TYPE_64;
}

static uint32_t take_address(uint32_t *next, uint32_t size, uint32_t align)
{
    uint32_t address;

    if (align < size)
        align = size;
    address = (*next + align - 1) & ~(align - 1);
    *next = address + size;
    return address;
}

/* Memory BARs are aligned to pages, so that vfio-pci offers to map those that are smaller too. */
static void assign_bars(struct sim_device *dev, uint32_t *memory, uint32_t *port)
{
    for (unsigned i = 0; i < SIM_MODEL_BARS; i++) {
        const struct sim_model_bar *bar = &dev->model->bars[i];
        bool is_io = bar->flags & PCI_BASE_ADDRESS_SPACE_IO;
        uint32_t address;

        if (!bar->size)
            continue;
        assert(is_pow2(bar->size));
        address = is_io ? take_address(port, bar->size, 16) : take_address(memory, bar->size, 4096);
        address = htole32(address | bar->flags);
        memcpy(dev->pci.config + PCI_BASE_ADDRESS_0 + sizeof(address) * i, &address,
               sizeof(address));
    }
}

unsigned sim_pci_next_capability(const struct sim_device *dev, unsigned at)
{
    if (!(read16(dev, PCI_STATUS) & PCI_STATUS_CAP_LIST))
        return 0;
    return dev->pci.config[at ? at + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST];
}

static void find_capabilities(struct sim_device *dev)
{
    struct sim_pci *pci = &dev->pci;

    for (unsigned at = 0; (at = sim_pci_next_capability(dev, at));) {
        switch (pci->config[at]) {
        case PCI_CAP_ID_MSI:
            pci->msi = (uint8_t)at;
            break;
        case PCI_CAP_ID_MSIX:
            pci->msix = (uint8_t)at;
            break;
        case PCI_CAP_ID_EXP:
            pci->exp = (uint8_t)at;
            break;
        case PCI_CAP_ID_VPD:
            pci->vpd = (uint8_t)at;
            break;
        case PCI_CAP_ID_PM:
            pci->pm = (uint8_t)at;
            break;
        default:
            /* Any other needs its masks in sim_config.c first. */
            assert(pci->config[at] == PCI_CAP_ID_VNDR);
        }
    }
}

void sim_pci_init(struct sim_device *dev, uint32_t *memory, uint32_t *port)
{
    memcpy(dev->pci.config, dev->model->config, SIM_MODEL_CONFIG);
    assign_bars(dev, memory, port);
    find_capabilities(dev);
    dev->pci.size = dev->pci.exp ? PCI_CFG_SPACE_EXP_SIZE : PCI_CFG_SPACE_SIZE;
}

void sim_pci_write_byte(struct sim_device *dev, unsigned offset, uint8_t value, uint8_t mask)
{
    uint8_t *byte = &dev->pci.config[offset];

    if (dev->gone)
        return;
    mask &= offset < SIM_MODEL_CONFIG ? dev->model->config_writable[offset] : 0;
    *byte = (*byte & (uint8_t)~mask) | (value & mask);
}

void sim_pci_command_written(struct sim_device *dev)
{
    sim_dma_set_bus_master(dev, sim_pci_bus_master(dev));
}

void sim_pci_set_command(struct sim_device *dev, uint16_t command)
{
    write16(dev, PCI_COMMAND, command);
    sim_pci_command_written(dev);
}

uint16_t sim_pci_quiesce(struct sim_device *dev)
{
    uint16_t command = read16(dev, PCI_COMMAND);

    sim_pci_set_command(dev, PCI_COMMAND_INTX_DISABLE);
    return command;
}

bool sim_pci_is_in_d3hot(const struct sim_device *dev)
{
    unsigned at = dev->pci.pm;

    return at && (read16(dev, at + PCI_PM_CTRL) & PCI_PM_CTRL_STATE_MASK) == SIM_D3HOT;
}

static bool is_enabled(const struct sim_device *dev, uint16_t what)
{
    return !sim_pci_is_in_d3hot(dev) && read16(dev, PCI_COMMAND) & what;
}

bool sim_pci_bus_master(const struct sim_device *dev)
{
    return is_enabled(dev, PCI_COMMAND_MASTER);
}

bool sim_pci_memory_enabled(const struct sim_device *dev)
{
    return is_enabled(dev, PCI_COMMAND_MEMORY);
}

bool sim_pci_io_enabled(const struct sim_device *dev)
{
    return is_enabled(dev, PCI_COMMAND_IO);
}

bool sim_pci_has_intx(const struct sim_device *dev)
{
    return dev->pci.config[PCI_INTERRUPT_PIN];
}

bool sim_pci_is_express(const struct sim_device *dev)
{
    return dev->pci.exp;
}

unsigned sim_pci_msi_vectors(const struct sim_device *dev)
{
    if (!dev->pci.msi)
        return 0;
    return 1u << ((read16(dev, dev->pci.msi + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_QMASK) >> 1);
}

unsigned sim_pci_msix_vectors(const struct sim_device *dev)
{
    if (!dev->pci.msix)
        return 0;
    return (read16(dev, dev->pci.msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_QSIZE) + 1u;
}

bool sim_pci_msix_table(const struct sim_device *dev, unsigned *bar, uint64_t *start, uint64_t *end)
{
    uint32_t table;

    if (!dev->pci.msix)
        return false;
    table = sim_pci_read(dev, dev->pci.msix + PCI_MSIX_TABLE, 4);
    *bar = table & PCI_MSIX_TABLE_BIR;
    *start = table & PCI_MSIX_TABLE_OFFSET;
    *end = *start + (uint64_t)sim_pci_msix_vectors(dev) * PCI_MSIX_ENTRY_SIZE;
    return true;
}

void sim_pci_set_intx_status(struct sim_device *dev, bool level)
{
    set_bits(dev, PCI_STATUS, PCI_STATUS_INTERRUPT, level);
}

void sim_pci_enable_msi(struct sim_device *dev, uint32_t index, bool on)
{
    if (index == VFIO_PCI_MSI_IRQ_INDEX)
        set_bits(dev, dev->pci.msi + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE, on);
    else if (index == VFIO_PCI_MSIX_IRQ_INDEX)
        set_bits(dev, dev->pci.msix + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, on);
}

bool sim_pci_msi_enabled(const struct sim_device *dev)
{
    const struct sim_pci *pci = &dev->pci;

    if (pci->msi && read16(dev, pci->msi + PCI_MSI_FLAGS) & PCI_MSI_FLAGS_ENABLE)
        return true;
    return pci->msix && read16(dev, pci->msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_ENABLE;
}
