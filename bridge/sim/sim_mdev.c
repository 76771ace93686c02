/*
 * A mediated device: registers that a driver of the host makes up. It is nobody's hardware.
 *
 *     BAR 0, registers of 32 bits, in accesses of that width:
 *         ID          0x7665646d
 *         RAISE       a write signals the vector of MSI, or asserts INTx
 *         LOWER       a write lowers INTx
 *         SCRATCH     keeps what is written, until a reset
 *     BAR 2: the picture of its display, as sim_gfx.h says
 *     Region 9, a display's EDID, of 256 bytes at most: what is written there stays
 */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/sim/sim_gfx.h"
#include "bridge/sim/sim_model.h"

enum {
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_LOWER = 0x08,
    REG_SCRATCH = 0x0c,

    ID = 0x7665646d,
    MSI_AT = 0x40,
    FRAMEBUFFER_BAR = 2,

    EDID_AT = 0x100,
    EDID_MOST = 0x100,
};

struct mdev {
    struct sim_device *dev;
    uint32_t scratch;
};

static const uint8_t config[SIM_MODEL_CONFIG] = {
    [PCI_VENDOR_ID] = 0x34,
    [PCI_VENDOR_ID + 1] = 0x12,
    [PCI_DEVICE_ID] = 0x5e,
    [PCI_DEVICE_ID + 1] = 0x3d,
    [PCI_COMMAND] = PCI_COMMAND_MEMORY,
    [PCI_STATUS] = PCI_STATUS_CAP_LIST,
    [PCI_CLASS_DEVICE + 1] = 0xff,
    [PCI_CAPABILITY_LIST] = MSI_AT,
    [PCI_INTERRUPT_PIN] = 1,
    [MSI_AT] = PCI_CAP_ID_MSI,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT,
};

/* Its driver ignores what is written to COMMAND, as the kernel's samples do. */
static const uint8_t config_writable[SIM_MODEL_CONFIG] = {
    [PCI_INTERRUPT_LINE] = 0xff,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_ENABLE,
    [MSI_AT + PCI_MSI_ADDRESS_LO] = 0xfc,
    [MSI_AT + PCI_MSI_ADDRESS_LO + 1 ... MSI_AT + PCI_MSI_DATA_64 + 1] = 0xff,
};

static const struct vfio_region_gfx_edid edid = {
    .edid_offset = EDID_AT,
    .edid_max_size = EDID_MOST,
    .max_xres = 1920,
    .max_yres = 1080,
};

static bool is_word(uint64_t offset, size_t at)
{
    return offset >= at && offset < at + sizeof(uint32_t);
}

static bool edid_is_writable(uint64_t offset)
{
    return is_word(offset, offsetof(struct vfio_region_gfx_edid, edid_size)) ||
           is_word(offset, offsetof(struct vfio_region_gfx_edid, link_state)) ||
           (offset >= EDID_AT && offset < EDID_AT + EDID_MOST);
}

static const struct sim_model_region edid_region = {
    .size = 0x1000,
    .index = VFIO_PCI_NUM_REGIONS,
    .type = VFIO_REGION_TYPE_GFX,
    .subtype = VFIO_REGION_SUBTYPE_GFX_EDID,
    .content = &edid,
    .content_len = sizeof(edid),
    .is_writable = edid_is_writable,
};

static uint64_t mdev_bar_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    const struct mdev *m = state;

    (void)bar;
    if (width != 4)
        return 0;
    switch (offset) {
    case REG_ID:
        return ID;
    case REG_SCRATCH:
        return m->scratch;
    default:
        return 0;
    }
}

static void mdev_bar_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                           unsigned width)
{
    struct mdev *m = state;

    (void)bar;
    if (width != 4)
        return;
    switch (offset) {
    case REG_RAISE:
        if (sim_irq_msi_enabled(m->dev))
            sim_irq_notify(m->dev, 0);
        else
            sim_irq_set_intx(m->dev, true);
        break;
    case REG_LOWER:
        sim_irq_set_intx(m->dev, false);
        break;
    case REG_SCRATCH:
        m->scratch = (uint32_t)value;
        break;
    default:
        break;
    }
}

static void mdev_reset(void *state)
{
    struct mdev *m = state;

    m->scratch = 0;
}

static bool mdev_dma_running(void *state)
{
    (void)state;
    return false;
}

static void *mdev_create(struct sim_device *dev)
{
    struct mdev *m = calloc(1, sizeof(*m));

    if (m)
        m->dev = dev;
    return m;
}

const struct sim_model sim_mdev_model = {
    .name = "mdev",
    .mediated = true,
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 4096,                           .flags = PCI_BASE_ADDRESS_SPACE_MEMORY},
    .bars[FRAMEBUFFER_BAR] = { .size = SIM_GFX_SIZE,
                .flags = PCI_BASE_ADDRESS_SPACE_MEMORY,
                .ram = true},
    .display = FRAMEBUFFER_BAR,
    .regions = &edid_region,
    .n_regions = 1,
    .create = mdev_create,
    .destroy = free,
    .reset = mdev_reset,
    .bar_read = mdev_bar_read,
    .bar_write = mdev_bar_write,
    .dma_running = mdev_dma_running,
};
