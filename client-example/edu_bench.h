/*
 * What the checks of the edu device work on: the session, and client memory that is mapped for
 * DMA at several IOVAs below 256 MiB, where the device's 28-bit addresses reach.
 *
 * A check prints its "ok " lines and returns CMD_OK, or prints why not and returns CMD_FAILED.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "client-example/guest_memory.h"
#include "client-example/vfuc.h"

enum {
    EDU_BENCH_IOVA = 0x100000, /* of the first mapping */
    EDU_BENCH_NEVER_MAPPED = 0x4000000,
    EDU_BENCH_EXTRA_IOVA = 0x2000000, /* of a range that checks map and unmap */
};

struct edu_bench {
    struct vfuc *c;
    struct guest_memory *memory;
    struct vfio_user_device_info info;
};

/* Makes the memory and maps it. edu_bench_close() may follow in any case. */
int edu_bench_open(struct edu_bench *b, struct vfuc *c);
void edu_bench_close(struct edu_bench *b);

/* The range at EDU_BENCH_EXTRA_IOVA. 0 or -errno. */
int edu_bench_map_extra(struct edu_bench *b);
int edu_bench_unmap_extra(struct edu_bench *b);

/* Bytes of the client's memory, by the IOVA that it has (or that the extra range would have). */
void edu_bench_store(struct edu_bench *b, uint64_t iova, const uint8_t *bytes, size_t len);
void edu_bench_load(struct edu_bench *b, uint64_t iova, uint8_t *bytes, size_t len);

/* All of it. */
const uint8_t *edu_bench_memory(const struct edu_bench *b, size_t *len);

/* Bytes that look like nothing else; a different seed gives different ones. */
void edu_bench_pattern(uint8_t *bytes, size_t len, uint32_t seed);

/* cmd_edu.c: it is an edu device, which may do DMA from then on. */
int edu_check_identity(struct vfuc *c);

/* edu_check_dma.c */
int edu_check_dma(struct edu_bench *b);
int edu_check_dma_stopped(struct edu_bench *b);
/* A few bytes to the device and back to another place. */
int edu_check_dma_works(struct edu_bench *b);

/* edu_check_irq.c */
int edu_check_intx(struct edu_bench *b);
int edu_check_msi(struct edu_bench *b);
