#include "bridge/iommu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "bridge/iommufd_context.h"
#include "bridge/iommufd_memory.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

struct iommu_context {
    struct host *host;
    enum iommu_kind kind;
    _Atomic unsigned refs;
    struct iommufd_context *iommufd; /* NULL: type1 */
};

int iommu_context_create(struct host *host, enum iommu_kind kind, struct iommu_context **out)
{
    cleanup_free_ struct iommu_context *context = calloc(1, sizeof(*context));
    int ret = 0;

    if (!context)
        return -ENOMEM;
    context->host = host;
    context->kind = kind;
    context->refs = 1;
    if (kind == IOMMU_IOMMUFD)
        ret = iommufd_context_create(host, &context->iommufd);
    if (!ret)
        *out = steal_ptr(context);
    return ret;
}

struct iommu_context *iommu_context_ref(struct iommu_context *context)
{
    context->refs++;
    return context;
}

void iommu_context_unref(struct iommu_context *context)
{
    if (!context || --context->refs)
        return;
    iommufd_context_destroy(context->iommufd);
    free(context);
}

enum iommu_kind iommu_context_kind(const struct iommu_context *context)
{
    return context->kind;
}

bool iommu_context_is_shared(const struct iommu_context *context)
{
    return context->refs > 1;
}

bool iommu_context_shares_memory(const struct iommu_context *context)
{
    return context->iommufd;
}

void iommu_context_keep(struct iommu_context *context, uint64_t bytes)
{
    if (context->iommufd)
        iommufd_memory_keep(iommufd_context_memory(context->iommufd), bytes);
}

void iommu_context_forget(struct iommu_context *context)
{
    if (context->iommufd)
        iommufd_memory_forget(iommufd_context_memory(context->iommufd));
}

int iommu_create(struct iommu_context *context, struct iommu **out)
{
    switch (context->kind) {
    case IOMMU_IOMMUFD:
        return iommu_iommufd_create(context->iommufd, out);
    case IOMMU_SPAPR:
        return iommu_spapr_create(context->host, out);
    case IOMMU_NOIOMMU:
        return iommu_noiommu_create(context->host, out);
    case IOMMU_TYPE1:
        break;
    }
    return iommu_type1_create(context->host, out);
}

enum iommu_kind iommu_container_kind(struct host *host)
{
    int fd = host_open(host, "/dev/vfio/vfio", O_RDWR);
    enum iommu_kind kind = IOMMU_TYPE1;

    if (fd >= 0 && host_ioctl(host, fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU) != 1 &&
        host_ioctl(host, fd, VFIO_CHECK_EXTENSION, (void *)VFIO_SPAPR_TCE_v2_IOMMU) == 1)
        kind = IOMMU_SPAPR;
    host_close(host, &fd);
    return kind;
}

int iommu_mmap_client_file(struct host *host, void **address, uint64_t size, uint32_t prot, int fd,
                           uint64_t offset)
{
    int access = PROT_READ | (prot & IOMMU_WRITE ? PROT_WRITE : 0);
    int ret = host_mmap(host, address, size, access, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);

    if (ret)
        log_peer_warning("can't mmap 0x%" PRIx64 " bytes of the client's memory file: %s", size,
                         strerror(-ret));
    return ret;
}

void iommu_explain_map_error(uint64_t iova, uint64_t size, int ret)
{
    struct rlimit limit = {0};

    if (ret == -ENOMEM && !getrlimit(RLIMIT_MEMLOCK, &limit) && limit.rlim_cur != RLIM_INFINITY)
        log_peer_warning("can't pin 0x%" PRIx64 " bytes for DMA: the limit on locked memory "
                         "(RLIMIT_MEMLOCK) is %" PRIu64 " bytes; raise it with LimitMEMLOCK= of "
                         "systemd or 'ulimit -l', or give vfio-userd CAP_IPC_LOCK",
                         size, (uint64_t)limit.rlim_cur);
    else
        log_peer_warning("DMA mapping of 0x%" PRIx64 " bytes at 0x%" PRIx64 ": %s", size, iova,
                         strerror(-ret));
}
