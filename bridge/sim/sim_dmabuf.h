/*
 * dma-bufs: descriptors of parts of a BAR (VFIO_DEVICE_FEATURE_DMA_BUF), that IOAS_MAP_FILE takes.
 * Whoever has one can't read or write it, but he can map it, as no kernel lets him up to Linux 7.3
 * (sim_set_dma_buf_mmap() makes it such a one). Of the simulated ones only those can be that begin
 * where a BAR of memory does.
 *
 * It is revoked while the device does not decode its memory BARs and during a reset, and for ever
 * when the device is closed. A mapping of it is gone from then on, whatever comes after.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct sim_device;
struct sim_file;
struct sim_peer;

struct sim_dmabuf {
    struct sim_device *dev;
    unsigned bar, ranges;
    uint64_t start; /* of the first range, in the BAR */
    uint64_t size;  /* of all */

    /* With the device's lock. */
    LIST_ENTRY(sim_dmabuf) link;
    bool listed; /* else the device has been closed */
    bool revoked;
    unsigned revocations;
};

LIST_HEAD(sim_dmabufs, sim_dmabuf);

/*
 * With the device's lock held.
 */

/* The handler of VFIO_DEVICE_FEATURE_DMA_BUF: a descriptor. */
int sim_dmabuf_export(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);

/* Revokes all dma-bufs of the device or takes that back. */
void sim_dmabuf_move(struct sim_device *dev, bool revoked);
/* The last descriptor of the device was closed. */
void sim_dmabuf_close(struct sim_device *dev);

/*
 * Without it.
 */

/* NULL: the file is something else. */
struct sim_dmabuf *sim_dmabuf_of_file(const struct sim_file *file);

/*
 * What an IOAS maps of it: from start on, length bytes. -EINVAL: past its end; -ENODEV: it is
 * revoked; -EOPNOTSUPP: it has several ranges. The file is to be kept for as long as the peer is.
 */
int sim_dmabuf_attach(const struct sim_dmabuf *dmabuf, uint64_t start, uint64_t length,
                      struct sim_peer *peer);
