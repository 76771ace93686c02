#include "bridge/iommu.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "proto/base/log.h"

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
