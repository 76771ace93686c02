/*
 * A device for tests of what the others lack: PCI Express, so that it reports errors, behind a port
 * that completes AtomicOps; many vectors
 * of MSI and of MSI-X; VPD; registers of the vendor's own, in capabilities of both lists (4 bytes
 * behind the header of each) and in none (at 0xf0); a self-test that never ends. It is nobody's
 * hardware.
 *
 *     BAR 0, registers of 32 bits, in accesses of that width:
 *         ID          0x74736574
 *         RAISE       a write of N raises vector N of MSI or MSI-X
 *         INTX        1: the line is asserted
 *         SCRATCH     keeps what is written, until a reset
 *     BAR 2: the MSI-X table, and the pending bits at 0x800
 *     BAR 4: memory
 *     ROM: begins as one does
 *     VGA: memory at the legacy addresses
 *     Regions 9 to 11: as of Intel's graphics, the opregion and copies of two bridges' config space
 *     Regions 12, 13: of a type that nobody knows; of none
 */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/sim/sim_model.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_INTX = 0x08,
    REG_SCRATCH = 0x0c,

    ID = 0x74736574,
    MSI_AT = 0x40,
    MSIX_AT = 0x60,
    EXP_AT = 0x80,
    VPD_AT = 0xc0,
    VENDOR_AT = 0xd0,
    VENDOR_SIZE = 16,
    HIDDEN_AT = 0xf0,
    AER_AT = 0x100,
    VSEC_AT = 0x150,
    VSEC_SIZE = 16,
    MSIX_VECTORS = 64,
    MSIX_BAR = 2,
    MEMORY_BAR = 4,
    MEMORY_SIZE = 1 << 16,
    LOG2_MSI_VECTORS = 3,
};

struct testdev {
    struct sim_device *dev;
    uint32_t intx, scratch;
};

static const uint8_t config[SIM_MODEL_CONFIG] = {
    [PCI_VENDOR_ID] = 0x34,
    [PCI_VENDOR_ID + 1] = 0x12,
    [PCI_DEVICE_ID] = 0x57,
    [PCI_DEVICE_ID + 1] = 0x7e,
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
    [PCI_STATUS] = PCI_STATUS_CAP_LIST,
    [PCI_REVISION_ID] = 1,
    [PCI_CLASS_DEVICE + 1] = 0xff,
    [PCI_CAPABILITY_LIST] = MSI_AT,
    [PCI_INTERRUPT_PIN] = 1,
    [MSI_AT] = PCI_CAP_ID_MSI,
    [MSI_AT + PCI_CAP_LIST_NEXT] = MSIX_AT,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT | LOG2_MSI_VECTORS << 1,
    [MSIX_AT] = PCI_CAP_ID_MSIX,
    [MSIX_AT + PCI_CAP_LIST_NEXT] = EXP_AT,
    [MSIX_AT + PCI_MSIX_FLAGS] = MSIX_VECTORS - 1,
    [MSIX_AT + PCI_MSIX_TABLE] = MSIX_BAR,
    [MSIX_AT + PCI_MSIX_PBA] = MSIX_BAR,
    [MSIX_AT + PCI_MSIX_PBA + 1] = 0x08,
    [EXP_AT] = PCI_CAP_ID_EXP,
    [EXP_AT + PCI_CAP_LIST_NEXT] = VPD_AT,
    [EXP_AT + PCI_EXP_FLAGS] = 2, /* its version; an endpoint */
    [PCI_BIST] = PCI_BIST_CAPABLE,
    [VPD_AT] = PCI_CAP_ID_VPD,
    [VPD_AT + PCI_CAP_LIST_NEXT] = VENDOR_AT,
    [VENDOR_AT] = PCI_CAP_ID_VNDR,
    [VENDOR_AT + PCI_CAP_FLAGS] = VENDOR_SIZE,
    [AER_AT] = PCI_EXT_CAP_ID_ERR,
    [AER_AT + 2] = 2 | (VSEC_AT & 0xf) << 4, /* its version; the next one */
    [AER_AT + 3] = VSEC_AT >> 4,
    [VSEC_AT] = PCI_EXT_CAP_ID_VNDR,
    [VSEC_AT + 2] = 1,
    [VSEC_AT + PCI_VNDR_HEADER + 2] = (VSEC_SIZE & 0xf) << 4,
    [VSEC_AT + PCI_VNDR_HEADER + 3] = VSEC_SIZE >> 4,
};

static const uint8_t config_writable[SIM_MODEL_CONFIG] = {
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER,
    [PCI_COMMAND + 1] = (PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE) >> 8,
    [PCI_CACHE_LINE_SIZE] = 0xff,
    [PCI_INTERRUPT_LINE] = 0xff,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE,
    [MSI_AT + PCI_MSI_ADDRESS_LO] = 0xfc,
    [MSI_AT + PCI_MSI_ADDRESS_LO + 1 ... MSI_AT + PCI_MSI_DATA_64 + 1] = 0xff,
    [PCI_BIST] = PCI_BIST_START,
    [VENDOR_AT + 4 ... VENDOR_AT + 7] = 0xff,
    [HIDDEN_AT... HIDDEN_AT + 3] = 0xff,
    [AER_AT + PCI_ERR_UNCOR_MASK... AER_AT + PCI_ERR_UNCOR_SEVER + 3] = 0xff,
    [AER_AT + PCI_ERR_COR_MASK... AER_AT + PCI_ERR_COR_MASK + 3] = 0xff,
    [AER_AT + PCI_ERR_CAP] = PCI_ERR_CAP_ECRC_GENE,
    [VSEC_AT + PCI_VNDR_HEADER + 4 ... VSEC_AT + PCI_VNDR_HEADER + 7] = 0xff,
};

enum {
    INTEL = VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x8086,
    NOBODYS = VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x1234,
};

static const uint8_t rom[] = {0x55, 0xaa, 4};
static const char opregion[] = "IntelGraphicsMem";
static const uint8_t host_bridge[] = {0x86, 0x80, 0x01, 0x59};
static const uint8_t lpc_bridge[] = {0x86, 0x80, 0x02, 0x59};
static const char secret[] = "what nobody is told";

static bool is_vga(uint64_t offset)
{
    return (offset >= 0xa0000 && offset < 0xc0000) || (offset >= 0x3b0 && offset < 0x3bc) ||
           (offset >= 0x3c0 && offset < 0x3e0);
}

static const struct sim_model_region regions[] = {
    {0x800,   VFIO_PCI_ROM_REGION_INDEX, true,  0,       0,                                      rom,         sizeof(rom),        NULL,   NULL},
    {0xc0000, VFIO_PCI_VGA_REGION_INDEX, false, 0,       0,                                      NULL,        0,                  is_vga, NULL},
    {0x2000,  9,                         true,  INTEL,   VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION, opregion,    sizeof(opregion),
     NULL,                                                                                                                                NULL},
    {0x100,   10,                        true,  INTEL,   VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG, host_bridge,
     sizeof(host_bridge),                                                                                                         NULL,   NULL},
    {0x100,   11,                        true,  INTEL,   VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG,  lpc_bridge,  sizeof(lpc_bridge),
     NULL,                                                                                                                                NULL},
    {0x1000,  12,                        false, NOBODYS, 1,                                      secret,      sizeof(secret),     NULL,   NULL},
    {0x1000,  13,                        false, 0,       0,                                      secret,      sizeof(secret),     NULL,   NULL},
};

static uint64_t testdev_bar_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    const struct testdev *t = state;

    if (bar || width != 4)
        return 0;
    switch (offset) {
    case REG_ID:
        return ID;
    case REG_INTX:
        return t->intx;
    case REG_SCRATCH:
        return t->scratch;
    default:
        return 0;
    }
}

static void testdev_bar_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                              unsigned width)
{
    struct testdev *t = state;

    if (bar || width != 4)
        return;
    switch (offset) {
    case REG_RAISE:
        sim_irq_notify(t->dev, (unsigned)value);
        break;
    case REG_INTX:
        t->intx = value & 1;
        sim_irq_set_intx(t->dev, t->intx);
        break;
    case REG_SCRATCH:
        t->scratch = (uint32_t)value;
        break;
    default:
        break;
    }
}

static void testdev_reset(void *state)
{
    struct testdev *t = state;

    t->intx = t->scratch = 0;
}

static bool testdev_dma_running(void *state)
{
    (void)state;
    return false;
}

static void *testdev_create(struct sim_device *dev)
{
    struct testdev *t = calloc(1, sizeof(*t));

    if (t)
        t->dev = dev;
    return t;
}

const struct sim_model sim_testdev_model = {
    .name = "testdev",
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 4096,                            .flags = PCI_BASE_ADDRESS_SPACE_MEMORY},
    .bars[MSIX_BAR] = {                   .size = 4096, .flags = PCI_BASE_ADDRESS_SPACE_MEMORY                                      },
    .bars[MEMORY_BAR] = { .size = MEMORY_SIZE,                            .flags = PCI_BASE_ADDRESS_SPACE_MEMORY,                                                                  .ram = true},
    .atomics = UAPI_VFIO_ATOMIC_COMP32 | UAPI_VFIO_ATOMIC_COMP64,
    .regions = regions,
    .n_regions = ARRAY_SIZE(regions),
    .create = testdev_create,
    .destroy = free,
    .reset = testdev_reset,
    .bar_read = testdev_bar_read,
    .bar_write = testdev_bar_write,
    .dma_running = testdev_dma_running,
};
