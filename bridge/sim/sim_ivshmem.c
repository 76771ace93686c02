/*
 * QEMU's ivshmem-plain (its docs/specs/ivshmem-spec.rst): a megabyte of memory in BAR 2, and in
 * BAR 0 the registers, which mean nothing without peers to interrupt. There is nobody whom the
 * memory is shared with but those who map the BAR. A reset clears the registers, not the memory.
 *
 *     32-bit registers, one after the other in a wider access. Of a narrower one the write is of
 * the whole register, and what is read not from its first byte is 0. Reading STATUS clears it.
 */
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "bridge/sim/sim_model.h"

enum {
    REG_MASK = 0x00,
    REG_STATUS = 0x04,
};

struct ivshmem {
    uint32_t mask, status;
};

static const uint8_t config[SIM_MODEL_CONFIG] = {
    [PCI_VENDOR_ID] = 0xf4,
    [PCI_VENDOR_ID + 1] = 0x1a,
    [PCI_DEVICE_ID] = 0x10,
    [PCI_DEVICE_ID + 1] = 0x11,
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
    [PCI_REVISION_ID] = 1,
    [PCI_CLASS_DEVICE + 1] = 0x05, /* memory, RAM */
    [PCI_SUBSYSTEM_VENDOR_ID] = 0xf4,
    [PCI_SUBSYSTEM_VENDOR_ID + 1] = 0x1a,
    [PCI_SUBSYSTEM_ID + 1] = 0x11,
};

static const uint8_t config_writable[SIM_MODEL_CONFIG] = {
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER,
    [PCI_COMMAND + 1] = (PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE) >> 8,
    [PCI_CACHE_LINE_SIZE] = 0xff,
    [PCI_INTERRUPT_LINE] = 0xff,
};

static uint32_t read_register(struct ivshmem *shm, uint64_t offset)
{
    uint32_t value = 0;

    switch (offset) {
    case REG_MASK:
        return shm->mask;
    case REG_STATUS:
        value = shm->status;
        shm->status = 0;
        return value;
    default:
        return 0; /* the position too: there are no peers */
    }
}

static void write_register(struct ivshmem *shm, uint64_t offset, uint32_t value)
{
    if (offset == REG_MASK)
        shm->mask = value;
    else if (offset == REG_STATUS)
        shm->status = value;
}

static uint64_t ivshmem_bar_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    uint64_t value = read_register(state, offset);

    (void)bar;
    if (width == 8)
        value |= (uint64_t)read_register(state, offset + 4) << 32;
    return value;
}

static void ivshmem_bar_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                              unsigned width)
{
    (void)bar;
    write_register(state, offset & ~UINT64_C(3), (uint32_t)value);
    if (width == 8)
        write_register(state, offset + 4, (uint32_t)(value >> 32));
}

static void ivshmem_reset(void *state)
{
    *(struct ivshmem *)state = (struct ivshmem){0};
}

static bool ivshmem_dma_running(void *state)
{
    (void)state;
    return false;
}

static void *ivshmem_create(struct sim_device *dev)
{
    (void)dev;
    return calloc(1, sizeof(struct ivshmem));
}

const struct sim_model sim_ivshmem_model = {
    .name = "ivshmem",
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 256,                           .flags = PCI_BASE_ADDRESS_SPACE_MEMORY},
    .bars[2] = { .size = 1 << 20,
                .flags = PCI_BASE_ADDRESS_SPACE_MEMORY | PCI_BASE_ADDRESS_MEM_PREFETCH |
                         PCI_BASE_ADDRESS_MEM_TYPE_64,                            .ram = true},
    .create = ivshmem_create,
    .destroy = free,
    .reset = ivshmem_reset,
    .bar_read = ivshmem_bar_read,
    .bar_write = ivshmem_bar_write,
    .dma_running = ivshmem_dma_running,
};
