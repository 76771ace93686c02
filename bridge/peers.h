/*
 * Peer-to-peer DMA: what lets the devices of one client reach each other's BARs.
 *
 * A client maps what its guest's physical address space has, and the BARs of its devices are in
 * there: memory that has no descriptor to share. Such a mapping is unbacked, until it lies in a BAR
 * of another device of the same client, at the address that the client itself has programmed there.
 * Then it becomes a real one, for as long as the BAR stays where it is and is decoded.
 *
 * Each device publishes where its BARs are, and withdraws that before anything that may change it:
 * a write of its COMMAND or BAR registers, a reset, its end. Each mapping without a descriptor is a
 * wish, which is granted while there is a window for it.
 *
 * The worker of one device so changes what another one's mappings do; therefore all of this is
 * under one lock of the client's, taken before a domain's. Any thread, but a device's functions are
 * called by whoever has the device.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "bridge/domain.h"

struct device;
struct peers;
struct peer_device;

/* *out: one reference, for peers_unref. 0 or -ENOMEM. */
int peers_create(struct peers **out);
struct peers *peers_ref(struct peers *peers);
/* NULL is allowed. */
void peers_unref(struct peers *peers);

/* A mapping without a descriptor: the caller's storage. */
struct peer_wish {
    struct domain *domain;
    const void *owner;       /* a device does not reach its own BARs by this */
    _Atomic size_t *granted; /* counts the owner's that are */
    uint64_t iova, size;
    uint32_t prot;

    TAILQ_ENTRY(peer_wish) link; /* the peers' own */
    const void *window;
    struct domain_mapping *mapping; /* NULL: not granted */
};

void peers_add_wish(struct peers *peers, struct peer_wish *wish);
/* It is unmapped. 0, or -errno of the kernel, and the wish stays. */
int peers_remove_wish(struct peers *peers, struct peer_wish *wish);
/* For a wish that can't be unmapped, whose domain will end. */
void peers_abandon_wish(struct peers *peers, struct peer_wish *wish);
/*
 * Enters a device, which has published nothing. owner: of the wishes that are its own. *out: for
 * peers_leave. It keeps a reference to the peers. 0 or -ENOMEM.
 */
int peers_join(struct peers *peers, struct device *dev, const void *owner,
               struct peer_device **out);
/* Withdraws, and takes the device out. */
void peers_leave(struct peer_device *pd);

/* Reads where the device's BARs are, and grants the wishes that lie there. What was published is
 * withdrawn. */
void peers_publish(struct peer_device *pd);
/* Unmaps what reaches the device's BARs. Does nothing if it has published nothing. */
void peers_withdraw(struct peer_device *pd);
