#include "client-example/edu.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>

#include "client-example/event.h"

enum {
    BAR = 0,
    BUFFER_ADDRESS = 0x40000, /* as the device's DMA engine sees its own buffer */

    DMA_RUN = 0x1,
    DMA_TO_RAM = 0x2,
    DMA_IRQ = 0x4,
};

int edu_read(struct vfuc *c, uint32_t reg, uint32_t *value)
{
    uint32_t raw = 0;
    int ret = vfuc_region_read(c, BAR, reg, &raw, sizeof(raw));

    *value = le32toh(raw);
    return ret;
}

int edu_write(struct vfuc *c, uint32_t reg, uint32_t value)
{
    uint32_t raw = htole32(value);

    return vfuc_region_write(c, BAR, reg, &raw, sizeof(raw));
}

static int wait_clear(struct vfuc *c, uint32_t reg, uint32_t bits)
{
    int64_t deadline = event_now_ms() + EVENT_TIMEOUT_MS;

    for (;;) {
        uint32_t value;
        int ret = edu_read(c, reg, &value);

        if (ret || !(value & bits))
            return ret;
        if (event_now_ms() > deadline)
            return -ETIMEDOUT;
        event_pause();
    }
}

int edu_dma_start(struct vfuc *c, const struct edu_transfer *t)
{
    uint32_t buffer = BUFFER_ADDRESS + t->buffer;
    const struct {
        uint32_t reg;
        uint32_t value;
    } writes[] = {
        {EDU_REG_DMA_SOURCE,      t->to_ram ? buffer : t->iova                                     },
        {EDU_REG_DMA_DESTINATION, t->to_ram ? t->iova : buffer                                     },
        {EDU_REG_DMA_COUNT,       t->len                                                           },
        {EDU_REG_DMA_COMMAND,     DMA_RUN | (t->to_ram ? DMA_TO_RAM : 0U) | (t->irq ? DMA_IRQ : 0U)},
    };
    int ret = 0;

    /* QEMU's device does not stay inside its own buffer. */
    assert(t->buffer <= EDU_BUFFER_SIZE && t->len <= EDU_BUFFER_SIZE - t->buffer);
    for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]) && !ret; i++)
        ret = edu_write(c, writes[i].reg, writes[i].value);
    return ret;
}

int edu_dma_wait(struct vfuc *c)
{
    return wait_clear(c, EDU_REG_DMA_COMMAND, DMA_RUN);
}

int edu_dma(struct vfuc *c, const struct edu_transfer *t)
{
    int ret = edu_dma_start(c, t);

    return ret ? ret : edu_dma_wait(c);
}

int edu_copy(struct vfuc *c, uint32_t from, uint32_t to, uint32_t len)
{
    int ret = edu_dma(c, &(struct edu_transfer){.iova = from, .len = len});

    return ret ? ret : edu_dma(c, &(struct edu_transfer){.to_ram = true, .iova = to, .len = len});
}

int edu_factorial(struct vfuc *c, uint32_t n, bool irq, uint32_t *result)
{
    int ret = edu_write(c, EDU_REG_STATUS, irq ? EDU_STATUS_IRQ : 0);

    if (!ret)
        ret = edu_write(c, EDU_REG_FACTORIAL, n);
    if (!ret)
        ret = wait_clear(c, EDU_REG_STATUS, EDU_STATUS_COMPUTING);
    return ret ? ret : edu_read(c, EDU_REG_FACTORIAL, result);
}
