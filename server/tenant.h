/*
 * A tenant: a client identity that has sessions on a host's devices, and what those devices share.
 * That is an iommufd, in which the client's memory is pinned once for all of them, and that
 * they may reach each other's BARs.
 *
 * Any thread.
 */
#pragma once

#include "auth/peer.h"
#include "bridge/iommu.h"
#include "bridge/peers.h"

struct tenant;
struct tenants;

/* *out: freed by tenants_destroy. 0 or -ENOMEM. */
int tenants_create(struct tenants **out);
/* When no tenant is left. NULL is allowed. */
void tenants_destroy(struct tenants *tenants);

/*
 * Enters a session of an identity. context: of the device's domain; the tenant's from now on, if it
 * has none so far for this host and kind. Returns the tenant, to be left, or NULL without memory.
 */
struct tenant *tenant_join(struct tenants *tenants, const struct peer *who, struct host *host,
                           enum iommu_kind kind, struct iommu_context *context);
/* The tenant is gone with its last session. */
void tenant_leave(struct tenant *tenant);

/* Where the domains of its devices belong; stays the tenant's. */
struct iommu_context *tenant_context(const struct tenant *tenant);

/* Its devices; stays the tenant's. */
struct peers *tenant_peers(const struct tenant *tenant);
