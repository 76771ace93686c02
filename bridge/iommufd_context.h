/*
 * An open iommufd (<linux/iommufd.h>): its objects, and what memory they share.
 *
 * Functions return 0 or -errno, not logged unless they say so. Any thread: the kernel has locks of
 * its own.
 */
#pragma once

#include <stdint.h>

#include "bridge/host.h"

struct iommufd_context;
struct iommufd_memory;

/* A range of an IOAS, and how to map it. */
struct iommufd_range {
    uint32_t ioas;
    uint32_t prot; /* of iommu.h */
    uint64_t iova, size;
};

/* Opens /dev/iommu. *out: freed by iommufd_context_destroy. Logged. */
int iommufd_context_create(struct host *host, struct iommufd_context **out);
/* The kernel frees all objects. NULL is allowed. */
void iommufd_context_destroy(struct iommufd_context *context);

struct host *iommufd_context_host(const struct iommufd_context *context);
/* To bind devices to; stays the context's. */
int iommufd_context_fd(const struct iommufd_context *context);
/* The client memory that its IOASes have mapped. */
struct iommufd_memory *iommufd_context_memory(struct iommufd_context *context);

int iommufd_context_alloc_ioas(struct iommufd_context *context, uint32_t *id);
/* A page table of its own for an IOAS, which then pins without any device. dev_id: of a bound
 * device, whose IOMMU it is for. flags: UAPI_HWPT_ALLOC_*. */
int iommufd_context_alloc_hwpt(struct iommufd_context *context, uint32_t dev_id, uint32_t ioas,
                               uint32_t flags, uint32_t *id);
/* Any other of its ioctls. */
int iommufd_context_call(struct iommufd_context *context, unsigned long request, void *arg);
void iommufd_context_free_object(struct iommufd_context *context, uint32_t id);

/*
 * Map a range. iova: NULL to map it where it says, or set to where the kernel has put it.
 * Of the file from offset on; -ENOTTY: before Linux 6.13.
 */
int iommufd_context_map_file(struct iommufd_context *context, const struct iommufd_range *range,
                             uint64_t *iova, int fd, uint64_t offset);
/* Of memory of this process. */
int iommufd_context_map_address(struct iommufd_context *context, const struct iommufd_range *range,
                                uint64_t *iova, const void *address);
/* Memory that another range of the context has mapped; it is pinned once for both. */
int iommufd_context_copy(struct iommufd_context *context, const struct iommufd_range *range,
                         uint32_t from_ioas, uint64_t from_iova);
/* -EIO: another size was unmapped. prot is not used. */
int iommufd_context_unmap(struct iommufd_context *context, const struct iommufd_range *range);
