/*
 * A model for tests: PCI Express, with every capability and kind of BAR that the machine knows,
 * and nothing behind them but a note of the last access.
 *
 *     BAR 0   memory, 4 KiB, MSI-X table of 8 vectors at 0x800
 *     BAR 1   memory, 64 bits, prefetchable, 64 KiB
 *     BAR 3   ports, 32 bytes
 *     BAR 5   memory, 256 bytes
 *     0x40    MSI, 4 vectors, 32 bits, maskable
 *     0x60    MSI-X
 *     0x70    vendor-specific, 8 bytes
 *     0x80    PCI Express
 */
#pragma once

#include "tests/unit/sim_fixture.h"

struct probe {
    struct sim_device *dev;
    unsigned bar, width, reads, writes, resets;
    uint64_t offset, value;
};

/* Of the machine at hand: a test has one. */
static struct probe *the_probe;

static void *probe_create(struct sim_device *dev)
{
    the_probe = calloc(1, sizeof(*the_probe));
    the_probe->dev = dev;
    return the_probe;
}

static void probe_destroy(void *state)
{
    the_probe = NULL;
    free(state);
}

static void probe_reset(void *state)
{
    ((struct probe *)state)->resets++;
}

static uint64_t probe_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    struct probe *probe = state;

    probe->bar = bar;
    probe->offset = offset;
    probe->width = width;
    probe->reads++;
    return UINT64_C(0x1122334455667788);
}

static void probe_write(void *state, unsigned bar, uint64_t offset, uint64_t value, unsigned width)
{
    struct probe *probe = state;

    probe->bar = bar;
    probe->offset = offset;
    probe->width = width;
    probe->value = value;
    probe->writes++;
}

static bool probe_dma_running(void *state)
{
    (void)state;
    return false;
}

static const uint8_t probe_config[SIM_MODEL_CONFIG] = {
    [PCI_VENDOR_ID] = 0xf4,
    [PCI_VENDOR_ID + 1] = 0x1a,
    [PCI_STATUS] = PCI_STATUS_CAP_LIST,
    [PCI_CAPABILITY_LIST] = 0x40,
    [PCI_INTERRUPT_PIN] = 1,
    [0x40] = PCI_CAP_ID_MSI,
    [0x41] = 0x60,
    [0x40 + PCI_MSI_FLAGS] = 2 << 1,
    [0x40 + PCI_MSI_FLAGS + 1] = PCI_MSI_FLAGS_MASKBIT >> 8,
    [0x60] = PCI_CAP_ID_MSIX,
    [0x61] = 0x70,
    [0x60 + PCI_MSIX_FLAGS] = 8 - 1,
    [0x60 + PCI_MSIX_TABLE + 1] = 0x08,
    [0x70] = PCI_CAP_ID_VNDR,
    [0x71] = 0x80,
    [0x72] = 8,
    [0x80] = PCI_CAP_ID_EXP,
    [0x82] = 0x02,
    [0x88] = 0x55, /* DEVCTL */
};

static const uint8_t probe_writable[SIM_MODEL_CONFIG] = {
    [0 ... PCI_CFG_SPACE_SIZE - 1] = 0xff,
};

static const struct sim_model probe_model = {
    .name = "probe",
    .config = probe_config,
    .config_writable = probe_writable,
    .bars =
        {
               [0] = {.size = 0x1000},
               [1] = {.size = 0x10000,
                   .flags = PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH},
               [3] = {.size = 32, .flags = PCI_BASE_ADDRESS_SPACE_IO},
               [5] = {.size = 256},
               },
    .create = probe_create,
    .destroy = probe_destroy,
    .reset = probe_reset,
    .bar_read = probe_read,
    .bar_write = probe_write,
    .dma_running = probe_dma_running,
};

static inline int probe_setup(void **state)
{
    fx_setup_model(state, &probe_model);
    fx_open_device(*state);
    return 0;
}

/* The device raises a message. */
static inline void probe_notify(unsigned vector)
{
    pthread_mutex_lock(sim_device_mutex(the_probe->dev));
    sim_irq_notify(the_probe->dev, vector);
    pthread_mutex_unlock(sim_device_mutex(the_probe->dev));
}

static inline void probe_set_intx(bool level)
{
    pthread_mutex_lock(sim_device_mutex(the_probe->dev));
    sim_irq_set_intx(the_probe->dev, level);
    pthread_mutex_unlock(sim_device_mutex(the_probe->dev));
}
