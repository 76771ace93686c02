/*
 * Compiled against the kernel's newest headers by tests/lint/uapi_compat. The structs of VFIO's
 * device files have grown since; the kernel takes the sizes that they began with.
 */
#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "bridge/uapi_compat.h"

#define SAME_NUMBER(ours, theirs) static_assert((long)(ours) == (long)(theirs), #theirs)
#define SAME_FIELD(ours, theirs, field)                                                            \
    static_assert(offsetof(struct ours, field) == offsetof(struct theirs, field) &&                \
                      sizeof(((struct ours *)0)->field) == sizeof(((struct theirs *)0)->field),    \
                  #theirs "." #field)
#define SAME_SIZE(ours, theirs) static_assert(sizeof(struct ours) == sizeof(struct theirs), #theirs)

SAME_NUMBER(UAPI_IOMMU_DESTROY, IOMMU_DESTROY);
SAME_NUMBER(UAPI_IOMMU_IOAS_ALLOC, IOMMU_IOAS_ALLOC);
SAME_NUMBER(UAPI_IOMMU_IOAS_COPY, IOMMU_IOAS_COPY);
SAME_NUMBER(UAPI_IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_IOVA_RANGES);
SAME_NUMBER(UAPI_IOMMU_IOAS_MAP, IOMMU_IOAS_MAP);
SAME_NUMBER(UAPI_IOMMU_IOAS_UNMAP, IOMMU_IOAS_UNMAP);
SAME_NUMBER(UAPI_IOMMU_HWPT_ALLOC, IOMMU_HWPT_ALLOC);
SAME_NUMBER(UAPI_IOMMU_GET_HW_INFO, IOMMU_GET_HW_INFO);
SAME_NUMBER(UAPI_IOMMU_HWPT_SET_DIRTY, IOMMU_HWPT_SET_DIRTY_TRACKING);
SAME_NUMBER(UAPI_IOMMU_HWPT_GET_DIRTY, IOMMU_HWPT_GET_DIRTY_BITMAP);
SAME_NUMBER(UAPI_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
SAME_NUMBER(UAPI_HW_CAP_DIRTY_TRACKING, IOMMU_HW_CAP_DIRTY_TRACKING);
SAME_NUMBER(UAPI_HWPT_DIRTY_ENABLE, IOMMU_HWPT_DIRTY_TRACKING_ENABLE);
SAME_NUMBER(UAPI_HWPT_GET_DIRTY_NO_CLEAR, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR);
SAME_NUMBER(UAPI_IOMMU_IOAS_MAP_FILE, IOMMU_IOAS_MAP_FILE);
SAME_NUMBER(UAPI_VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_BIND_IOMMUFD);
SAME_NUMBER(UAPI_VFIO_BIND_TOKEN, VFIO_DEVICE_BIND_FLAG_TOKEN);
SAME_NUMBER(UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_ATTACH_IOMMUFD_PT);
SAME_NUMBER(UAPI_VFIO_HOT_RESET_DEV_ID, VFIO_PCI_HOT_RESET_FLAG_DEV_ID);
SAME_NUMBER(UAPI_VFIO_HOT_RESET_DEV_ID_OWNED, VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);
SAME_NUMBER(UAPI_VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_DMA_BUF);
SAME_NUMBER(UAPI_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_FIXED_IOVA);
SAME_NUMBER(UAPI_IOAS_MAP_WRITEABLE, IOMMU_IOAS_MAP_WRITEABLE);
SAME_NUMBER(UAPI_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_READABLE);

SAME_NUMBER(UAPI_VFIO_FEATURE_PRECOPY_INFO_V2, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2);
SAME_NUMBER(UAPI_VFIO_PRECOPY_INFO_REINIT, VFIO_PRECOPY_INFO_REINIT);
SAME_NUMBER(UAPI_VFIO_CAP_PCI_ATOMIC_COMP, VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP);
SAME_NUMBER(UAPI_VFIO_ATOMIC_COMP32, VFIO_PCI_ATOMIC_COMP32);
SAME_NUMBER(UAPI_VFIO_ATOMIC_COMP64, VFIO_PCI_ATOMIC_COMP64);
SAME_SIZE(uapi_vfio_cap_pci_atomic_comp, vfio_device_info_cap_pci_atomic_comp);
SAME_FIELD(uapi_vfio_cap_pci_atomic_comp, vfio_device_info_cap_pci_atomic_comp, flags);

SAME_SIZE(uapi_iommu_destroy, iommu_destroy);
SAME_FIELD(uapi_iommu_destroy, iommu_destroy, size);
SAME_FIELD(uapi_iommu_destroy, iommu_destroy, id);

SAME_SIZE(uapi_ioas_alloc, iommu_ioas_alloc);
SAME_FIELD(uapi_ioas_alloc, iommu_ioas_alloc, size);
SAME_FIELD(uapi_ioas_alloc, iommu_ioas_alloc, flags);
SAME_FIELD(uapi_ioas_alloc, iommu_ioas_alloc, out_ioas_id);

SAME_SIZE(uapi_ioas_copy, iommu_ioas_copy);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, size);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, flags);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, dst_ioas_id);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, src_ioas_id);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, length);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, dst_iova);
SAME_FIELD(uapi_ioas_copy, iommu_ioas_copy, src_iova);

SAME_SIZE(uapi_iova_range, iommu_iova_range);
SAME_FIELD(uapi_iova_range, iommu_iova_range, start);
SAME_FIELD(uapi_iova_range, iommu_iova_range, last);

SAME_SIZE(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges);
SAME_FIELD(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges, size);
SAME_FIELD(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges, ioas_id);
SAME_FIELD(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges, num_iovas);
SAME_FIELD(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges, allowed_iovas);
SAME_FIELD(uapi_ioas_iova_ranges, iommu_ioas_iova_ranges, out_iova_alignment);

SAME_SIZE(uapi_ioas_map, iommu_ioas_map);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, size);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, flags);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, ioas_id);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, user_va);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, length);
SAME_FIELD(uapi_ioas_map, iommu_ioas_map, iova);

SAME_SIZE(uapi_ioas_map_file, iommu_ioas_map_file);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, size);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, flags);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, ioas_id);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, fd);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, start);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, length);
SAME_FIELD(uapi_ioas_map_file, iommu_ioas_map_file, iova);

SAME_SIZE(uapi_ioas_unmap, iommu_ioas_unmap);
SAME_FIELD(uapi_ioas_unmap, iommu_ioas_unmap, size);
SAME_FIELD(uapi_ioas_unmap, iommu_ioas_unmap, ioas_id);
SAME_FIELD(uapi_ioas_unmap, iommu_ioas_unmap, iova);
SAME_FIELD(uapi_ioas_unmap, iommu_ioas_unmap, length);

SAME_SIZE(uapi_hwpt_alloc, iommu_hwpt_alloc);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, size);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, flags);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, dev_id);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, pt_id);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, out_hwpt_id);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, data_type);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, data_len);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, data_uptr);
SAME_FIELD(uapi_hwpt_alloc, iommu_hwpt_alloc, fault_id);

SAME_SIZE(uapi_hw_info, iommu_hw_info);
SAME_FIELD(uapi_hw_info, iommu_hw_info, size);
SAME_FIELD(uapi_hw_info, iommu_hw_info, flags);
SAME_FIELD(uapi_hw_info, iommu_hw_info, dev_id);
SAME_FIELD(uapi_hw_info, iommu_hw_info, data_len);
SAME_FIELD(uapi_hw_info, iommu_hw_info, data_uptr);
SAME_FIELD(uapi_hw_info, iommu_hw_info, out_data_type);
SAME_FIELD(uapi_hw_info, iommu_hw_info, out_capabilities);

SAME_SIZE(uapi_hwpt_set_dirty, iommu_hwpt_set_dirty_tracking);
SAME_FIELD(uapi_hwpt_set_dirty, iommu_hwpt_set_dirty_tracking, size);
SAME_FIELD(uapi_hwpt_set_dirty, iommu_hwpt_set_dirty_tracking, flags);
SAME_FIELD(uapi_hwpt_set_dirty, iommu_hwpt_set_dirty_tracking, hwpt_id);

SAME_SIZE(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, size);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, hwpt_id);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, flags);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, iova);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, length);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, page_size);
SAME_FIELD(uapi_hwpt_get_dirty, iommu_hwpt_get_dirty_bitmap, data);

SAME_FIELD(uapi_vfio_bind_iommufd, vfio_device_bind_iommufd, argsz);
SAME_FIELD(uapi_vfio_bind_iommufd, vfio_device_bind_iommufd, flags);
SAME_FIELD(uapi_vfio_bind_iommufd, vfio_device_bind_iommufd, iommufd);
SAME_FIELD(uapi_vfio_bind_iommufd, vfio_device_bind_iommufd, out_devid);
SAME_FIELD(uapi_vfio_bind_iommufd, vfio_device_bind_iommufd, token_uuid_ptr);
SAME_FIELD(uapi_vfio_attach_pt, vfio_device_attach_iommufd_pt, argsz);
SAME_FIELD(uapi_vfio_attach_pt, vfio_device_attach_iommufd_pt, flags);
SAME_FIELD(uapi_vfio_attach_pt, vfio_device_attach_iommufd_pt, pt_id);

SAME_SIZE(uapi_dma_range, vfio_region_dma_range);
SAME_FIELD(uapi_dma_range, vfio_region_dma_range, offset);
SAME_FIELD(uapi_dma_range, vfio_region_dma_range, length);

SAME_SIZE(uapi_feature_dma_buf, vfio_device_feature_dma_buf);
SAME_FIELD(uapi_feature_dma_buf, vfio_device_feature_dma_buf, region_index);
SAME_FIELD(uapi_feature_dma_buf, vfio_device_feature_dma_buf, open_flags);
SAME_FIELD(uapi_feature_dma_buf, vfio_device_feature_dma_buf, flags);
SAME_FIELD(uapi_feature_dma_buf, vfio_device_feature_dma_buf, nr_ranges);
static_assert(offsetof(struct uapi_feature_dma_buf, dma_ranges) ==
                  offsetof(struct vfio_device_feature_dma_buf, dma_ranges),
              "vfio_device_feature_dma_buf.dma_ranges");
SAME_NUMBER(UAPI_VFIO_MIGRATION_PRE_COPY, VFIO_MIGRATION_PRE_COPY);
SAME_NUMBER(UAPI_VFIO_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY);
SAME_NUMBER(UAPI_VFIO_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_PRE_COPY_P2P);
SAME_NUMBER(UAPI_VFIO_STATES, VFIO_DEVICE_STATE_NR);
SAME_NUMBER(UAPI_VFIO_FEATURE_MIG_DATA_SIZE, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE);
SAME_SIZE(uapi_vfio_mig_data_size, vfio_device_feature_mig_data_size);
SAME_NUMBER(UAPI_VFIO_DEVICE_FLAGS_CDX, VFIO_DEVICE_FLAGS_CDX);
SAME_NUMBER(UAPI_VFIO_MIG_GET_PRECOPY_INFO, VFIO_MIG_GET_PRECOPY_INFO);
SAME_FIELD(uapi_vfio_precopy_info, vfio_precopy_info, argsz);
SAME_FIELD(uapi_vfio_precopy_info, vfio_precopy_info, flags);
SAME_FIELD(uapi_vfio_precopy_info, vfio_precopy_info, initial_bytes);
SAME_FIELD(uapi_vfio_precopy_info, vfio_precopy_info, dirty_bytes);
