/*
 * A device for tests of what the others lack: PCI Express, so that it reports errors, behind a port
 * that completes AtomicOps; BARs of all sorts; many vectors of MSI and of MSI-X; power management;
 * VPD; registers of the vendor's own, in capabilities of both lists (4 bytes behind the header of
 * each) and in none (at 0xf0); a self-test that never ends. It is nobody's hardware.
 *
 * Its registers have 32 bits, in accesses of that width.
 *
 *     BAR 0, the registers of the device:
 *         ID          0x74736574
 *         RAISE       a write of N raises vector N of MSI or MSI-X
 *         INTX        1: the line is asserted
 *         SCRATCH     keeps what is written, until a reset
 *     BAR 1, the same through ports: INDEX, an offset in BAR 0, and DATA, what is there
 *     BAR 2: the MSI-X table, and the pending bits at 0x800
 *     BAR 3: memory, but for BAR 0 once more from 0x2000 to 0x3000, a hole in what is mapped
 *     BAR 4: memory
 *     BAR 5, smaller than a page, a DMA engine:
 *         ADDRESS     where to write; behind it, its upper half
 *         VALUE       what to write
 *         GO          a write of 1 begins; 1 until the value is written or lost, and all of these
 *                     are locked so long
 *     ROM: begins as one does
 *     VGA: memory at the legacy addresses
 *     Regions 9 to 11: as of Intel's graphics, the opregion and copies of two bridges' config space
 *     Regions 12, 13: of a type that nobody knows; of none
 *
 * It migrates with all of the BARs' registers and memory.
 */
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_model.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    REG_ID = 0x00,
    REG_RAISE = 0x04,
    REG_INTX = 0x08,
    REG_SCRATCH = 0x0c,

    PORT_INDEX = 0x00,
    PORT_DATA = 0x04,

    DMA_ADDRESS = 0x00,
    DMA_ADDRESS_HIGH = 0x04,
    DMA_VALUE = 0x08,
    DMA_GO = 0x0c,

    ID = 0x74736574,
    MSI_AT = 0x40,
    MSIX_AT = 0x60,
    PM_AT = 0x70,
    EXP_AT = 0x80,
    VPD_AT = 0xc0,
    VENDOR_AT = 0xd0,
    VENDOR_SIZE = 16,
    HIDDEN_AT = 0xf0,
    AER_AT = 0x100,
    VSEC_AT = 0x150,
    VSEC_SIZE = 16,
    MSIX_VECTORS = 64,
    PORTS_BAR = 1,
    PORTS_SIZE = 16,
    MSIX_BAR = 2,
    SPARSE_BAR = 3,
    SPARSE_SIZE = 1 << 15,
    HOLE = 0x2000,
    HOLE_SIZE = 0x1000,
    MEMORY_BAR = 4,
    MEMORY_SIZE = 1 << 16,
    DMA_BAR = 5,
    DMA_SIZE = 256,
    LOG2_MSI_VECTORS = 3,
};

struct registers {
    uint32_t intx, scratch, index;
    uint32_t address, address_high, value, go;
};

struct testdev {
    struct sim_device *dev;
    pthread_t thread;    /* of the DMA engine */
    pthread_cond_t cond; /* with the device's mutex, as all below */
    bool stop, frozen;
    unsigned breaks; /* how often it was reset or frozen: what is under way then is not finished */
    struct registers reg;
};

/* What migrates. */
struct image {
    struct registers reg;
    uint8_t sparse[SPARSE_SIZE], memory[MEMORY_SIZE];
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
    [MSIX_AT + PCI_CAP_LIST_NEXT] = PM_AT,
    [MSIX_AT + PCI_MSIX_FLAGS] = MSIX_VECTORS - 1,
    [MSIX_AT + PCI_MSIX_TABLE] = MSIX_BAR,
    [MSIX_AT + PCI_MSIX_PBA] = MSIX_BAR,
    [MSIX_AT + PCI_MSIX_PBA + 1] = 0x08,
    [PM_AT] = PCI_CAP_ID_PM,
    [PM_AT + PCI_CAP_LIST_NEXT] = EXP_AT,
    [PM_AT + PCI_PM_PMC] = 3, /* its version */
    [PM_AT + PCI_PM_PMC + 1] = PCI_PM_CAP_PME_D0 >> 8,
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
    [PM_AT + PCI_PM_CTRL] = PCI_PM_CTRL_STATE_MASK,
    [PM_AT + PCI_PM_CTRL + 1] = PCI_PM_CTRL_PME_ENABLE >> 8,
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

static uint32_t read_register(const struct testdev *t, uint64_t offset)
{
    switch (offset) {
    case REG_ID:
        return ID;
    case REG_INTX:
        return t->reg.intx;
    case REG_SCRATCH:
        return t->reg.scratch;
    default:
        return 0;
    }
}

static void write_register(struct testdev *t, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case REG_RAISE:
        sim_irq_notify(t->dev, value);
        break;
    case REG_INTX:
        t->reg.intx = value & 1;
        sim_irq_set_intx(t->dev, t->reg.intx);
        break;
    case REG_SCRATCH:
        t->reg.scratch = value;
        break;
    default:
        break;
    }
}

/* NULL: there is none. */
static uint32_t *dma_register(struct testdev *t, uint64_t offset)
{
    switch (offset) {
    case DMA_ADDRESS:
        return &t->reg.address;
    case DMA_ADDRESS_HIGH:
        return &t->reg.address_high;
    case DMA_VALUE:
        return &t->reg.value;
    case DMA_GO:
        return &t->reg.go;
    default:
        return NULL;
    }
}

static void write_dma(struct testdev *t, uint64_t offset, uint32_t value)
{
    uint32_t *reg = dma_register(t, offset);

    if (!reg || t->reg.go)
        return;
    *reg = reg == &t->reg.go ? value & 1 : value;
    pthread_cond_signal(&t->cond);
}

/* Gives the device's lock up while it transfers. */
static void transfer(struct testdev *t)
{
    pthread_mutex_t *mutex = sim_device_mutex(t->dev);
    uint64_t iova = (uint64_t)t->reg.address_high << 32 | t->reg.address;
    uint64_t epoch = sim_dma_epoch(t->dev);
    uint32_t value = htole32(t->reg.value);
    unsigned breaks = t->breaks;

    pthread_mutex_unlock(mutex);
    sim_dma_transfer(t->dev, epoch, iova, &value, sizeof(value), true);
    pthread_mutex_lock(mutex);
    if (breaks == t->breaks)
        t->reg.go = 0;
}

static void *dma_thread(void *arg)
{
    struct testdev *t = arg;
    pthread_mutex_t *mutex = sim_device_mutex(t->dev);

    pthread_mutex_lock(mutex);
    while (!t->stop) {
        if (t->reg.go && !t->frozen)
            transfer(t);
        else
            pthread_cond_wait(&t->cond, mutex);
    }
    pthread_mutex_unlock(mutex);
    return NULL;
}

static uint32_t read_port(const struct testdev *t, uint64_t offset)
{
    if (offset == PORT_INDEX)
        return t->reg.index;
    return offset == PORT_DATA ? read_register(t, t->reg.index) : 0;
}

static void write_port(struct testdev *t, uint64_t offset, uint32_t value)
{
    if (offset == PORT_INDEX)
        t->reg.index = value;
    else if (offset == PORT_DATA)
        write_register(t, t->reg.index, value);
}

static uint64_t testdev_bar_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    struct testdev *t = state;
    const uint32_t *reg;

    if (width != 4)
        return 0;
    switch (bar) {
    case 0:
        return read_register(t, offset);
    case PORTS_BAR:
        return read_port(t, offset);
    case SPARSE_BAR:
        return read_register(t, offset - HOLE);
    case DMA_BAR:
        reg = dma_register(t, offset);
        return reg ? *reg : 0;
    default:
        return 0;
    }
}

static void testdev_bar_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                              unsigned width)
{
    struct testdev *t = state;

    if (width != 4)
        return;
    switch (bar) {
    case 0:
        write_register(t, offset, (uint32_t)value);
        break;
    case PORTS_BAR:
        write_port(t, offset, (uint32_t)value);
        break;
    case SPARSE_BAR:
        write_register(t, offset - HOLE, (uint32_t)value);
        break;
    case DMA_BAR:
        write_dma(t, offset, (uint32_t)value);
        break;
    default:
        break;
    }
}

static void testdev_reset(void *state)
{
    struct testdev *t = state;

    t->reg = (struct registers){0};
    t->breaks++;
}

static bool testdev_dma_running(void *state)
{
    const struct testdev *t = state;

    return t->reg.go;
}

static void testdev_freeze(void *state, bool frozen)
{
    struct testdev *t = state;

    t->frozen = frozen;
    t->breaks++;
    pthread_cond_signal(&t->cond);
}

static void testdev_save(const void *state, void *image)
{
    const struct testdev *t = state;
    uint8_t *to = image;

    memcpy(to + offsetof(struct image, reg), &t->reg, sizeof(t->reg));
    memcpy(to + offsetof(struct image, sparse), sim_bar_memory(t->dev, SPARSE_BAR), SPARSE_SIZE);
    memcpy(to + offsetof(struct image, memory), sim_bar_memory(t->dev, MEMORY_BAR), MEMORY_SIZE);
}

static int testdev_restore(void *state, const void *image)
{
    struct testdev *t = state;
    const uint8_t *from = image;
    struct registers reg;

    memcpy(&reg, from + offsetof(struct image, reg), sizeof(reg));
    if (reg.intx > 1 || reg.go > 1)
        return -EINVAL;
    t->reg = reg;
    memcpy(sim_bar_memory(t->dev, SPARSE_BAR), from + offsetof(struct image, sparse), SPARSE_SIZE);
    memcpy(sim_bar_memory(t->dev, MEMORY_BAR), from + offsetof(struct image, memory), MEMORY_SIZE);
    sim_irq_set_intx(t->dev, reg.intx);
    return 0;
}

static void testdev_destroy(void *state)
{
    struct testdev *t = state;
    pthread_mutex_t *mutex = sim_device_mutex(t->dev);

    pthread_mutex_lock(mutex);
    t->stop = true;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(mutex);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->cond);
    free(t);
}

static void *testdev_create(struct sim_device *dev)
{
    struct testdev *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->dev = dev;
    pthread_cond_init(&t->cond, NULL);
    if (sim_start_thread(&t->thread, dma_thread, t)) {
        pthread_cond_destroy(&t->cond);
        free(t);
        return NULL;
    }
    return t;
}

const struct sim_model sim_testdev_model = {
    .name = "testdev",
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 4096           },
    .bars[PORTS_BAR] = {.size = PORTS_SIZE,      .flags = PCI_BASE_ADDRESS_SPACE_IO},
    .bars[MSIX_BAR] = {.size = 8192                      },
    .bars[SPARSE_BAR] = {.size = SPARSE_SIZE, .ram = true, .hole = HOLE, .hole_size = HOLE_SIZE},
    .bars[MEMORY_BAR] = {.size = MEMORY_SIZE,            .ram = true},
    .bars[DMA_BAR] = {.size = DMA_SIZE},
    .atomics = UAPI_VFIO_ATOMIC_COMP32 | UAPI_VFIO_ATOMIC_COMP64,
    .regions = regions,
    .n_regions = ARRAY_SIZE(regions),
    .create = testdev_create,
    .destroy = testdev_destroy,
    .reset = testdev_reset,
    .bar_read = testdev_bar_read,
    .bar_write = testdev_bar_write,
    .dma_running = testdev_dma_running,
    .image_size = sizeof(struct image),
    .freeze = testdev_freeze,
    .save = testdev_save,
    .restore = testdev_restore,
};
