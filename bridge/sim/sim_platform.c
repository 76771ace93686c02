/*
 * A device of the platform bus: registers, and an interrupt that is a level. It is nobody's
 * hardware.
 *
 *     Region 0, registers of 32 bits, in accesses of that width:
 *         ID          0x6d746c70
 *         LEVEL       1: the interrupt is asserted
 *         SCRATCH     keeps what is written, until a reset
 */
#include <linux/pci_regs.h>
#include <stdlib.h>

#include "bridge/sim/sim_model.h"

enum {
    REG_ID = 0x00,
    REG_LEVEL = 0x04,
    REG_SCRATCH = 0x08,

    ID = 0x6d746c70,
};

struct platform {
    struct sim_device *dev;
    uint32_t scratch;
};

/* What the machine is built on; nobody sees it. */
static const uint8_t config[SIM_MODEL_CONFIG] = {
    [PCI_COMMAND] = PCI_COMMAND_MEMORY,
    [PCI_INTERRUPT_PIN] = 1,
};

static const uint8_t config_writable[SIM_MODEL_CONFIG];

static uint64_t platform_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    const struct platform *p = state;

    (void)bar;
    if (width != 4)
        return 0;
    switch (offset) {
    case REG_ID:
        return ID;
    case REG_LEVEL:
        return sim_irq_intx(p->dev);
    case REG_SCRATCH:
        return p->scratch;
    default:
        return 0;
    }
}

static void platform_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                           unsigned width)
{
    struct platform *p = state;

    (void)bar;
    if (width != 4)
        return;
    if (offset == REG_LEVEL)
        sim_irq_set_intx(p->dev, value & 1);
    else if (offset == REG_SCRATCH)
        p->scratch = (uint32_t)value;
}

static void platform_reset(void *state)
{
    struct platform *p = state;

    p->scratch = 0;
}

static bool platform_dma_running(void *state)
{
    (void)state;
    return false;
}

static void *platform_create(struct sim_device *dev)
{
    struct platform *p = calloc(1, sizeof(*p));

    if (p)
        p->dev = dev;
    return p;
}

const struct sim_model sim_platform_model = {
    .name = "platform",
    .platform = true,
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 4096, .flags = PCI_BASE_ADDRESS_SPACE_MEMORY},
    .create = platform_create,
    .destroy = free,
    .reset = platform_reset,
    .bar_read = platform_read,
    .bar_write = platform_write,
    .dma_running = platform_dma_running,
};
