/*
 * Peer-to-peer DMA: a part of a device's BAR as the target of other devices' transfers, which go to
 * the hardware and not through vfio-pci. Embedded in what maps it.
 *
 * A device that receives a transfer has to be locked, and one that sends it is: two that send to
 * each other would wait for ever. So the one that sends tries, and if it fails gives up all that it
 * holds before it tries again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;
struct sim_dmabuf;

struct sim_peer {
    struct sim_device *dev; /* NULL: none */
    unsigned bar;
    uint64_t start; /* in the BAR */
    /* What the BAR was exported by, if it was, and how often that had been revoked. */
    const struct sim_dmabuf *dmabuf;
    unsigned revocations;
};

/*
 * A transfer, within the BAR. -EAGAIN: the device is busy; -EIO: it does not decode its BARs, so
 * nobody answers; -EFAULT: what it was exported by has been revoked since. What can't be read is
 * zeros.
 */
int sim_peer_copy(const struct sim_peer *peer, uint64_t offset, void *buf, size_t len, bool write);
