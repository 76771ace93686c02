/* Regions that the client maps by the server's descriptor. */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"

/* The area of the capability if there is one, else all. Of several the first will do. */
static int find_area(const struct vfio_user_region_info *info,
                     struct vfio_region_sparse_mmap_area *area)
{
    struct vfio_region_info_cap_sparse_mmap sparse;
    struct vfio_user_cap_header cap;
    uint32_t at = 0;
    int ret;

    *area = (struct vfio_region_sparse_mmap_area){.size = info->size};
    while ((ret = vfuc_region_cap_next(info, &at, &cap)) > 0) {
        if (cap.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP)
            continue;
        ret = vfuc_region_cap_data(info, at, &sparse, sizeof(sparse));
        if (!ret && !sparse.nr_areas)
            ret = -EOPNOTSUPP;
        return ret ? ret : vfuc_region_cap_data(info, at + sizeof(sparse), area, sizeof(*area));
    }
    return ret;
}

int vfuc_region_map(struct vfuc *c, uint32_t index, struct vfuc_mapping *out)
{
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    struct vfio_region_sparse_mmap_area area;
    cleanup_close_ int fd = -1;
    int prot = 0, ret = vfuc_region_info(c, index, &info, &fd);
    void *at;

    if (!ret && (fd < 0 || !(info->flags & VFIO_USER_REGION_INFO_MMAP)))
        ret = -EOPNOTSUPP;
    if (!ret)
        ret = find_area(info, &area);
    if (!ret && !range_within(area.offset, area.size, info->size))
        ret = -EPROTO;
    if (ret)
        return ret;
    if (info->flags & VFIO_USER_REGION_INFO_READ)
        prot |= PROT_READ;
    if (info->flags & VFIO_USER_REGION_INFO_WRITE)
        prot |= PROT_WRITE;
    at = mmap(NULL, area.size, prot, MAP_SHARED, fd, (off_t)(info->offset + area.offset));
    if (at == MAP_FAILED)
        return -errno;
    *out = (struct vfuc_mapping){.at = at, .offset = area.offset, .size = area.size};
    return 0;
}

void vfuc_region_unmap(struct vfuc_mapping *mapping)
{
    if (mapping->at)
        munmap((void *)(uintptr_t)mapping->at, mapping->size);
    mapping->at = NULL;
}
