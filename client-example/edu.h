/*
 * A driver for QEMU's educational PCI device, over region accesses (QEMU, docs/specs/edu.rst).
 * Every access is 4 bytes wide: allowed on all registers, and enough, as the device's DMA
 * addresses have 28 bits. Functions return 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client-example/vfuc.h"

enum {
    EDU_VENDOR_ID = 0x1234,
    EDU_DEVICE_ID = 0x11e8,

    EDU_REG_ID = 0x00,
    EDU_REG_LIVENESS = 0x04,
    EDU_REG_FACTORIAL = 0x08,
    EDU_REG_STATUS = 0x20,
    EDU_REG_IRQ_STATUS = 0x24,
    EDU_REG_IRQ_RAISE = 0x60,
    EDU_REG_IRQ_ACK = 0x64,
    EDU_REG_DMA_SOURCE = 0x80,
    EDU_REG_DMA_DESTINATION = 0x88,
    EDU_REG_DMA_COUNT = 0x90,
    EDU_REG_DMA_COMMAND = 0x98,

    EDU_STATUS_COMPUTING = 0x01,
    EDU_STATUS_IRQ = 0x80, /* raise EDU_IRQ_FACTORIAL when a factorial is done */

    EDU_IRQ_FACTORIAL = 0x001,
    EDU_IRQ_DMA = 0x100,

    EDU_BUFFER_SIZE = 4096,
};

struct edu_transfer {
    bool to_ram;     /* from the device's buffer; else into it */
    bool irq;        /* raise EDU_IRQ_DMA at the end */
    uint32_t iova;   /* in the client's memory */
    uint32_t buffer; /* offset in the device's; buffer + len is within EDU_BUFFER_SIZE */
    uint32_t len;
};

int edu_read(struct vfuc *c, uint32_t reg, uint32_t *value);
int edu_write(struct vfuc *c, uint32_t reg, uint32_t value);

/* Starts a transfer; only when none runs. */
int edu_dma_start(struct vfuc *c, const struct edu_transfer *t);

/* Polls until the transfer is over, also one that the IOMMU stopped: the device does not tell. */
int edu_dma_wait(struct vfuc *c);

/* Both. */
int edu_dma(struct vfuc *c, const struct edu_transfer *t);

/* From memory into the device's buffer and from there to memory; len: at most EDU_BUFFER_SIZE. */
int edu_copy(struct vfuc *c, uint32_t from, uint32_t to, uint32_t len);

/* *result: n! modulo 2^32. irq: raise EDU_IRQ_FACTORIAL at the end. */
int edu_factorial(struct vfuc *c, uint32_t n, bool irq, uint32_t *result);
