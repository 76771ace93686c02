/*
 * What one client identity may hold of the host's memory, over all its sessions: DMA mappings and
 * the bytes that they pin. Charged before the kernel is asked, given back when the mapping has
 * gone.
 *
 * A quota is shared by all workers; its functions may be called by any thread.
 */
#pragma once

#include <stdint.h>

#include "auth/peer.h"

struct quota;

struct quota_amount {
    uint64_t maps;
    uint64_t bytes;
};

/* limit: of each identity. *out: freed by quota_destroy. 0 or -ENOMEM. */
int quota_create(struct quota **out, struct quota_amount limit);

/* When nobody uses it any more. NULL is allowed. */
void quota_destroy(struct quota *q);

/*
 * Charges an identity. -ENOSPC: too many mappings; -ENOMEM: too many bytes, or no memory here.
 * Nothing is charged then, and one line of log tells the limit.
 */
int quota_charge(struct quota *q, const struct peer *who, struct quota_amount amount);

/* Gives back what was charged. */
void quota_release(struct quota *q, const struct peer *who, struct quota_amount amount);
