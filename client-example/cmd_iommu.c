/* vfuc iommu: which addresses a device's DMA can have. */
#include <inttypes.h>
#include <stdio.h>

#include "client-example/cmd.h"
#include "proto/base/cleanup.h"

int cmd_iommu(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_free_ struct vfio_userd_iommu_info *info = NULL;
    int ret;

    if (argc)
        return cmd_usage("iommu: takes no argument, not \"%s\"", argv[0]);
    ret = cmd_connect(target, &c);
    if (ret)
        return ret;
    ret = vfuc_iommu_info(c, &info);
    if (ret)
        return cmd_error(ret, "asking for the IOMMU");
    printf("iommu: page sizes 0x%" PRIx64 ", at most %u mappings%s%s%s\n", (uint64_t)info->pgsizes,
           info->max_maps, info->flags & VFIO_USERD_IOMMU_COHERENT ? ", coherent" : "",
           info->flags & VFIO_USERD_IOMMU_UNTRANSLATED ? ", not there" : "",
           info->flags & VFIO_USERD_IOMMU_EEH ? ", EEH" : "");
    for (uint32_t i = 0; i < info->num_ranges; i++) {
        const struct vfio_userd_iova_range range = vfuc_iova_range(info, i);

        printf("  0x%" PRIx64 " - 0x%" PRIx64 "\n", (uint64_t)range.first, (uint64_t)range.last);
    }
    return CMD_OK;
}
