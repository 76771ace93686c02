/*
 * QEMU's edu device (its docs/specs/edu.rst): an identification, a liveness check, a factorial and
 * a DMA engine, with an interrupt for each.
 *
 *     below 0x80: 32-bit accesses; from there on 32 or 64 bits. A wrong one of these widths reads
 *     all ones; narrower ones are not decoded at all and read zeros. Writes of a wrong width are
 *     dropped.
 *
 * Where it differs: a transfer takes DMA_DELAY_NS, not a tenth of a second; one that leaves the
 * device's buffer moves nothing (QEMU's moves something undefined); and a reset clears the
 * registers, which QEMU's keep. As there, an interrupt that is acknowledged while MSI is on does
 * not lower an INTx line that was raised before.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_model.h"
#include "proto/base/arith.h"

enum {
    REG_ID = 0x00,
    REG_LIVENESS = 0x04,
    REG_FACTORIAL = 0x08,
    REG_STATUS = 0x20,
    REG_IRQ_STATUS = 0x24,
    REG_IRQ_RAISE = 0x60,
    REG_IRQ_ACK = 0x64,
    REG_DMA_SRC = 0x80,
    REG_DMA_DST = 0x88,
    REG_DMA_CNT = 0x90,
    REG_DMA_CMD = 0x98,

    WIDE_FROM = 0x80,

    STATUS_COMPUTING = 0x01,
    STATUS_IRQ = 0x80,

    CMD_RUN = 0x1,
    CMD_TO_RAM = 0x2,
    CMD_IRQ = 0x4,

    IRQ_FACTORIAL = 0x001,
    IRQ_DMA = 0x100,

    BUFFER_START = 0x40000,
    BUFFER_SIZE = 4096,

    MSI_AT = 0x40,
    DMA_DELAY_NS = 1000000,
};

#define EDU_ID   0x010000edu
#define DMA_MASK UINT64_C(0x0fffffff)

struct edu {
    struct sim_device *dev;
    pthread_t factorial_thread, dma_thread;
    pthread_cond_t factorial_cond, dma_cond; /* with the device's mutex, as all below */
    bool stop, frozen;
    unsigned breaks; /* how often it was reset or frozen: what is under way then is not finished */

    uint32_t liveness, factorial, status, irq_status;
    uint64_t src, dst, cnt, cmd;
    uint8_t buffer[BUFFER_SIZE];
};

/* What migrates. */
struct edu_image {
    uint32_t liveness, factorial, status, irq_status;
    uint64_t src, dst, cnt, cmd;
    uint64_t intx; /* the line */
    uint8_t buffer[BUFFER_SIZE];
};

static const uint8_t config[SIM_MODEL_CONFIG] = {
    [PCI_VENDOR_ID] = 0x34,
    [PCI_VENDOR_ID + 1] = 0x12,
    [PCI_DEVICE_ID] = 0xe8,
    [PCI_DEVICE_ID + 1] = 0x11,
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
    [PCI_COMMAND + 1] = PCI_COMMAND_SERR >> 8,
    [PCI_STATUS] = PCI_STATUS_CAP_LIST,
    [PCI_REVISION_ID] = 0x10,
    [PCI_CLASS_DEVICE] = 0xff, /* a subclass of base class 0 */
    [PCI_SUBSYSTEM_VENDOR_ID] = 0xf4,
    [PCI_SUBSYSTEM_VENDOR_ID + 1] = 0x1a,
    [PCI_SUBSYSTEM_ID + 1] = 0x11,
    [PCI_CAPABILITY_LIST] = MSI_AT,
    [PCI_INTERRUPT_PIN] = 1,
    [MSI_AT] = PCI_CAP_ID_MSI,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_64BIT,
};

/* QEMU lets whatever no capability claims be written. */
static const uint8_t config_writable[SIM_MODEL_CONFIG] = {
    [PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER,
    [PCI_COMMAND + 1] = (PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE) >> 8,
    [PCI_CACHE_LINE_SIZE] = 0xff,
    [PCI_INTERRUPT_LINE] = 0xff,
    [MSI_AT + PCI_MSI_FLAGS] = PCI_MSI_FLAGS_ENABLE,
    [MSI_AT + PCI_MSI_ADDRESS_LO] = 0xfc,
    [MSI_AT + PCI_MSI_ADDRESS_LO + 1 ... SIM_MODEL_CONFIG - 1] = 0xff,
};

static void raise_irq(struct edu *edu, uint32_t bits)
{
    edu->irq_status |= bits;
    if (!edu->irq_status)
        return;
    if (sim_irq_msi_enabled(edu->dev))
        sim_irq_notify(edu->dev, 0);
    else
        sim_irq_set_intx(edu->dev, true);
}

static void acknowledge_irq(struct edu *edu, uint32_t bits)
{
    edu->irq_status &= ~bits;
    if (!edu->irq_status && !sim_irq_msi_enabled(edu->dev))
        sim_irq_set_intx(edu->dev, false);
}

/* Modulo 2^32, where it is 0 from 34! on: however large n is, there are few steps. */
static uint32_t factorial_of(uint32_t n)
{
    uint32_t product = 1;

    for (; n && product; n--)
        product *= n;
    return product;
}

static void compute_factorial(struct edu *edu)
{
    pthread_mutex_t *mutex = sim_device_mutex(edu->dev);
    unsigned breaks = edu->breaks;
    uint32_t n = edu->factorial;

    pthread_mutex_unlock(mutex);
    n = factorial_of(n);
    pthread_mutex_lock(mutex);
    if (breaks != edu->breaks)
        return;
    edu->factorial = n;
    edu->status &= ~(uint32_t)STATUS_COMPUTING;
    if (edu->status & STATUS_IRQ)
        raise_irq(edu, IRQ_FACTORIAL);
}

static void *factorial_thread(void *arg)
{
    struct edu *edu = arg;
    pthread_mutex_t *mutex = sim_device_mutex(edu->dev);

    pthread_mutex_lock(mutex);
    while (!edu->stop) {
        if (edu->status & STATUS_COMPUTING && !edu->frozen)
            compute_factorial(edu);
        else
            pthread_cond_wait(&edu->factorial_cond, mutex);
    }
    pthread_mutex_unlock(mutex);
    return NULL;
}

/* False: the device has been reset or frozen, or is going away. */
static bool let_time_pass(struct edu *edu)
{
    unsigned breaks = edu->breaks;
    struct timespec until;
    int ret = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += DMA_DELAY_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!ret && !edu->stop && breaks == edu->breaks)
        ret = pthread_cond_timedwait(&edu->dma_cond, sim_device_mutex(edu->dev), &until);
    return !edu->stop && breaks == edu->breaks;
}

static bool is_in_buffer(uint64_t address, uint64_t count)
{
    return address >= BUFFER_START && range_within(address - BUFFER_START, count, BUFFER_SIZE);
}

/* Gives the device's lock up while it transfers. False: it has been reset or frozen meanwhile. */
static bool transfer(struct edu *edu)
{
    pthread_mutex_t *mutex = sim_device_mutex(edu->dev);
    uint64_t epoch = sim_dma_epoch(edu->dev);
    unsigned breaks = edu->breaks;
    bool to_ram = edu->cmd & CMD_TO_RAM;
    uint64_t inside = to_ram ? edu->src : edu->dst;
    uint64_t iova = (to_ram ? edu->dst : edu->src) & DMA_MASK;
    uint64_t len = edu->cnt;
    uint8_t bounce[BUFFER_SIZE], *at;

    if (!is_in_buffer(inside, len))
        return true;
    at = edu->buffer + (inside - BUFFER_START);
    if (to_ram)
        memcpy(bounce, at, len);
    pthread_mutex_unlock(mutex);
    sim_dma_transfer(edu->dev, epoch, iova, bounce, len, to_ram);
    pthread_mutex_lock(mutex);
    if (breaks != edu->breaks)
        return false;
    if (!to_ram)
        memcpy(at, bounce, len);
    return true;
}

static void run_command(struct edu *edu)
{
    if (!let_time_pass(edu) || !transfer(edu))
        return;
    edu->cmd &= ~(uint64_t)CMD_RUN;
    if (edu->cmd & CMD_IRQ)
        raise_irq(edu, IRQ_DMA);
}

static void *dma_thread(void *arg)
{
    struct edu *edu = arg;
    pthread_mutex_t *mutex = sim_device_mutex(edu->dev);

    pthread_mutex_lock(mutex);
    while (!edu->stop) {
        if (edu->cmd & CMD_RUN && !edu->frozen)
            run_command(edu);
        else
            pthread_cond_wait(&edu->dma_cond, mutex);
    }
    pthread_mutex_unlock(mutex);
    return NULL;
}

static bool is_decoded(uint64_t offset, unsigned width)
{
    return width == 4 || (width == 8 && offset >= WIDE_FROM);
}

static uint64_t edu_bar_read(void *state, unsigned bar, uint64_t offset, unsigned width)
{
    const struct edu *edu = state;

    (void)bar;
    if (width < 4)
        return 0;
    if (!is_decoded(offset, width))
        return UINT64_MAX;
    switch (offset) {
    case REG_ID:
        return EDU_ID;
    case REG_LIVENESS:
        return edu->liveness;
    case REG_FACTORIAL:
        return edu->factorial;
    case REG_STATUS:
        return edu->status;
    case REG_IRQ_STATUS:
        return edu->irq_status;
    case REG_DMA_SRC:
        return edu->src;
    case REG_DMA_DST:
        return edu->dst;
    case REG_DMA_CNT:
        return edu->cnt;
    case REG_DMA_CMD:
        return edu->cmd;
    default:
        return UINT64_MAX;
    }
}

static void start_factorial(struct edu *edu, uint32_t n)
{
    if (edu->status & STATUS_COMPUTING)
        return;
    edu->factorial = n;
    edu->status |= STATUS_COMPUTING;
    pthread_cond_signal(&edu->factorial_cond);
}

/* The engine's registers are locked while it runs. */
static void write_dma(struct edu *edu, uint64_t *reg, uint64_t value)
{
    if (edu->cmd & CMD_RUN)
        return;
    *reg = value;
    if (edu->cmd & CMD_RUN)
        pthread_cond_signal(&edu->dma_cond);
}

static void edu_bar_write(void *state, unsigned bar, uint64_t offset, uint64_t value,
                          unsigned width)
{
    struct edu *edu = state;

    (void)bar;
    if (!is_decoded(offset, width))
        return;
    switch (offset) {
    case REG_LIVENESS:
        edu->liveness = ~(uint32_t)value;
        break;
    case REG_FACTORIAL:
        start_factorial(edu, (uint32_t)value);
        break;
    case REG_STATUS:
        edu->status = (edu->status & ~(uint32_t)STATUS_IRQ) | (value & STATUS_IRQ);
        break;
    case REG_IRQ_RAISE:
        raise_irq(edu, (uint32_t)value);
        break;
    case REG_IRQ_ACK:
        acknowledge_irq(edu, (uint32_t)value);
        break;
    case REG_DMA_SRC:
        write_dma(edu, &edu->src, value);
        break;
    case REG_DMA_DST:
        write_dma(edu, &edu->dst, value);
        break;
    case REG_DMA_CNT:
        write_dma(edu, &edu->cnt, value);
        break;
    case REG_DMA_CMD:
        if (value & CMD_RUN)
            write_dma(edu, &edu->cmd, value);
        break;
    default:
        break;
    }
}

static void edu_reset(void *state)
{
    struct edu *edu = state;

    edu->liveness = edu->factorial = edu->status = edu->irq_status = 0;
    edu->src = edu->dst = edu->cnt = edu->cmd = 0;
    memset(edu->buffer, 0, sizeof(edu->buffer));
    edu->breaks++;
    pthread_cond_signal(&edu->dma_cond);
}

static bool edu_dma_running(void *state)
{
    const struct edu *edu = state;

    return edu->cmd & CMD_RUN;
}

/* What is in flight when the device freezes is begun again: the registers still ask for it. */
static void edu_freeze(void *state, bool frozen)
{
    struct edu *edu = state;

    edu->frozen = frozen;
    edu->breaks++;
    pthread_cond_signal(&edu->dma_cond);
    pthread_cond_signal(&edu->factorial_cond);
}

static void edu_save(const void *state, void *image)
{
    const struct edu *edu = state;
    struct edu_image out = {
        .liveness = edu->liveness,
        .factorial = edu->factorial,
        .status = edu->status,
        .irq_status = edu->irq_status,
        .src = edu->src,
        .dst = edu->dst,
        .cnt = edu->cnt,
        .cmd = edu->cmd,
        .intx = sim_irq_intx(edu->dev),
    };

    memcpy(out.buffer, edu->buffer, sizeof(out.buffer));
    memcpy(image, &out, sizeof(out));
}

static int edu_restore(void *state, const void *image)
{
    struct edu *edu = state;
    struct edu_image in;

    memcpy(&in, image, sizeof(in));
    if (in.status & ~(uint32_t)(STATUS_COMPUTING | STATUS_IRQ) || in.intx > 1)
        return -EINVAL;
    edu->liveness = in.liveness;
    edu->factorial = in.factorial;
    edu->status = in.status;
    edu->irq_status = in.irq_status;
    edu->src = in.src;
    edu->dst = in.dst;
    edu->cnt = in.cnt;
    edu->cmd = in.cmd;
    memcpy(edu->buffer, in.buffer, sizeof(edu->buffer));
    sim_irq_set_intx(edu->dev, in.intx);
    return 0;
}

static void stop_thread(struct edu *edu, pthread_t thread, pthread_cond_t *cond)
{
    pthread_mutex_t *mutex = sim_device_mutex(edu->dev);

    pthread_mutex_lock(mutex);
    edu->stop = true;
    pthread_cond_signal(cond);
    pthread_mutex_unlock(mutex);
    pthread_join(thread, NULL);
}

static void free_edu(struct edu *edu)
{
    pthread_cond_destroy(&edu->factorial_cond);
    pthread_cond_destroy(&edu->dma_cond);
    free(edu);
}

static void edu_destroy(void *state)
{
    struct edu *edu = state;

    stop_thread(edu, edu->factorial_thread, &edu->factorial_cond);
    stop_thread(edu, edu->dma_thread, &edu->dma_cond);
    free_edu(edu);
}

static void *edu_create(struct sim_device *dev)
{
    struct edu *edu = calloc(1, sizeof(*edu));
    pthread_condattr_t monotonic;

    if (!edu)
        return NULL;
    edu->dev = dev;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&edu->factorial_cond, NULL);
    pthread_cond_init(&edu->dma_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (sim_start_thread(&edu->factorial_thread, factorial_thread, edu)) {
        free_edu(edu);
        return NULL;
    }
    if (sim_start_thread(&edu->dma_thread, dma_thread, edu)) {
        stop_thread(edu, edu->factorial_thread, &edu->factorial_cond);
        free_edu(edu);
        return NULL;
    }
    return edu;
}

const struct sim_model sim_edu_model = {
    .name = "edu",
    .config = config,
    .config_writable = config_writable,
    .bars[0] = {.size = 1 << 20, .flags = PCI_BASE_ADDRESS_SPACE_MEMORY},
    .create = edu_create,
    .destroy = edu_destroy,
    .reset = edu_reset,
    .bar_read = edu_bar_read,
    .bar_write = edu_bar_write,
    .dma_running = edu_dma_running,
    .image_size = sizeof(struct edu_image),
    .freeze = edu_freeze,
    .save = edu_save,
    .restore = edu_restore,
};
