/*
 * A domain: the translations that the devices of one IOMMU group see, as the kernel holds them (a
 * type1 or SPAPR container, an IOAS of iommufd).
 *
 * The IOMMU can't tell the devices of a group apart, so they share a domain, though each has a
 * session and an address space of its own. When two of those map the same memory at the same
 * address the kernel is asked once, and the mapping stays until both have unmapped it.
 *
 * Reference-counted; any thread. Functions return 0 or -errno, logged.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/iommu.h"
#include "bridge/memory_file.h"
#include "bridge/sysfs.h"

struct domain;
struct domain_mapping;
struct vfio_eeh_pe_op;

/* In a context, of which it keeps a reference. *out: one reference, for domain_unref. */
int domain_create(struct iommu_context *context, struct domain **out);
struct domain *domain_ref(struct domain *domain);
/* The last one takes the translations away. Devices opened through it are closed before, and its
 * mappings unmapped or abandoned. NULL is allowed. */
void domain_unref(struct domain *domain);

struct iommu_context *domain_context(const struct domain *domain);
enum iommu_kind domain_kind(const struct domain *domain);
/* "type1", "iommufd", "spapr", "no-IOMMU" */
const char *domain_backend(const struct domain *domain);

/* The open file of the group of that number, the domain's; -1: devices are opened by other files.
 */
int domain_group_file(struct domain *domain, int number);

/* Opens a device of the group inside the domain; see struct iommu_ops. */
int domain_open_device(struct domain *domain, const struct sysfs_device *dev, int *fd);

/* See struct iommu_ops. */
bool domain_has_one_file(const struct domain *domain);
int domain_vacate(struct domain *domain, int number);

/* Page sizes, limits and ranges as they are now; valid after a device was opened. */
void domain_get_info(struct domain *domain, struct iommu_info *info);

/*
 * Maps size bytes of a file that was checked. *out: for domain_unmap or domain_abandon. -EEXIST:
 * another device of the group has something else mapped there. A mapping that is there already is
 * the same whether IOMMU_STABLE or not, and stays what it was made as.
 */
int domain_map(struct domain *domain, uint64_t iova, uint64_t size, uint32_t prot,
               const struct memory_file *file, struct domain_mapping **out);

/*
 * Maps size bytes of another device's BAR from offset on; see struct iommu_ops. The peer is known
 * by its address, and the same one if it comes from several devices of the group. Errors as above.
 */
int domain_map_peer(struct domain *domain, uint64_t iova, uint64_t size, uint32_t prot,
                    const struct iommu_peer *peer, uint64_t offset, struct domain_mapping **out);

/* After an error the mapping is as it was. */
int domain_unmap(struct domain *domain, struct domain_mapping *mapping);

/*
 * For a mapping that can't be unmapped: its translation may stay for as long as the domain, and so
 * the memory that the kernel knows by its address in this process. Its range is taken until then.
 */
void domain_abandon(struct domain *domain, struct domain_mapping *mapping);

/* VFIO_EEH_PE_OP on the group: what the kernel returns, not logged; -ENOTTY without EEH. */
int domain_eeh(struct domain *domain, struct vfio_eeh_pe_op *op);

/* The kernel may have translations that nobody has mapped; only the domain's end removes them. */
bool domain_is_stray(struct domain *domain);
