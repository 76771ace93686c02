/*
 * What the kernel headers of the build machine may lack: iommufd (<linux/iommufd.h>, since 6.2),
 * the character devices of VFIO (6.6), its migration's pre-copy (6.2) and its newer features.
 * Numbers and layouts alone, under names of our own, so that newer headers don't clash. Whether the
 * running kernel has them is found out at run time.
 */
#pragma once

#include <assert.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* <linux/iommufd.h>: every struct begins with its size; ids name the objects of one open file. */
#define UAPI_IOMMU_DESTROY          _IO(';', 0x80)
#define UAPI_IOMMU_IOAS_ALLOC       _IO(';', 0x81)
#define UAPI_IOMMU_IOAS_COPY        _IO(';', 0x83)
#define UAPI_IOMMU_IOAS_IOVA_RANGES _IO(';', 0x84)
#define UAPI_IOMMU_IOAS_MAP         _IO(';', 0x85)
#define UAPI_IOMMU_IOAS_UNMAP       _IO(';', 0x86)
#define UAPI_IOMMU_HWPT_ALLOC       _IO(';', 0x89)
#define UAPI_IOMMU_GET_HW_INFO      _IO(';', 0x8a)
#define UAPI_IOMMU_HWPT_SET_DIRTY   _IO(';', 0x8b)
#define UAPI_IOMMU_HWPT_GET_DIRTY   _IO(';', 0x8c)
#define UAPI_IOMMU_IOAS_MAP_FILE    _IO(';', 0x8f)

enum {
    UAPI_IOAS_MAP_FIXED_IOVA = 1 << 0,
    UAPI_IOAS_MAP_WRITEABLE = 1 << 1,
    UAPI_IOAS_MAP_READABLE = 1 << 2,
};

struct uapi_iommu_destroy {
    uint32_t size;
    uint32_t id;
};

struct uapi_ioas_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t out_ioas_id;
};

struct uapi_ioas_copy {
    uint32_t size;
    uint32_t flags;
    uint32_t dst_ioas_id;
    uint32_t src_ioas_id;
    uint64_t length;
    uint64_t dst_iova;
    uint64_t src_iova;
};

struct uapi_iova_range {
    uint64_t start;
    uint64_t last;
};

/* num_iovas: room in the array; set to what there is. -EMSGSIZE if that is more. */
struct uapi_ioas_iova_ranges {
    uint32_t size;
    uint32_t ioas_id;
    uint32_t num_iovas;
    uint32_t reserved;
    uint64_t allowed_iovas; /* address of the array */
    uint64_t out_iova_alignment;
};

struct uapi_ioas_map {
    uint32_t size;
    uint32_t flags;
    uint32_t ioas_id;
    uint32_t reserved;
    uint64_t user_va;
    uint64_t length;
    uint64_t iova;
};

struct uapi_ioas_map_file {
    uint32_t size;
    uint32_t flags;
    uint32_t ioas_id;
    int32_t fd;
    uint64_t start;
    uint64_t length;
    uint64_t iova;
};

/* length: set to the number of bytes unmapped. */
struct uapi_ioas_unmap {
    uint32_t size;
    uint32_t ioas_id;
    uint64_t iova;
    uint64_t length;
};

enum {
    UAPI_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1,
};

struct uapi_hwpt_alloc {
    uint32_t size;
    uint32_t flags;
    uint32_t dev_id;
    uint32_t pt_id; /* the IOAS's */
    uint32_t out_hwpt_id;
    uint32_t reserved;
    uint32_t data_type; /* 0: a plain page table */
    uint32_t data_len;
    uint64_t data_uptr;
    uint32_t fault_id;
    uint32_t reserved2;
};

/* What the IOMMU in front of a device can do; data_uptr: of its own registers, data_len bytes. */
struct uapi_hw_info {
    uint32_t size;
    uint32_t flags;
    uint32_t dev_id;
    uint32_t data_len;
    uint64_t data_uptr;
    uint32_t out_data_type;
    uint32_t reserved; /* later kernels tell of PASIDs here */
    uint64_t out_capabilities;
};

enum {
    UAPI_HW_CAP_DIRTY_TRACKING = 1 << 0,
};

struct uapi_hwpt_set_dirty {
    uint32_t size;
    uint32_t flags;
    uint32_t hwpt_id;
    uint32_t reserved;
};

enum {
    UAPI_HWPT_DIRTY_ENABLE = 1 << 0,
};

/* data: address of a bitmap, a bit for each page_size bytes from iova on. */
struct uapi_hwpt_get_dirty {
    uint32_t size;
    uint32_t hwpt_id;
    uint32_t flags;
    uint32_t reserved;
    uint64_t iova;
    uint64_t length;
    uint64_t page_size;
    uint64_t data;
};

enum {
    UAPI_HWPT_GET_DIRTY_NO_CLEAR = 1 << 0,
};

/* <linux/vfio.h>, the device files below /dev/vfio/devices */
#define UAPI_VFIO_DEVICE_BIND_IOMMUFD      _IO(VFIO_TYPE, VFIO_BASE + 18)
#define UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

#define UAPI_VFIO_BIND_TOKEN               (1u << 0)

struct uapi_vfio_bind_iommufd {
    uint32_t argsz;
    uint32_t flags;
    int32_t iommufd;
    uint32_t out_devid;
    uint64_t token_uuid_ptr; /* with BIND_TOKEN; kernels before 6.17 end above */
};

#define UAPI_VFIO_BIND_MIN_SIZE 16

struct uapi_vfio_attach_pt {
    uint32_t argsz;
    uint32_t flags;
    uint32_t pt_id;
};

/*
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO's answer for such a device: what would be a group is the id of
 * a device in the caller's iommufd; and all of them are bound to it.
 */
#define UAPI_VFIO_HOT_RESET_DEV_ID       (1u << 0)
#define UAPI_VFIO_HOT_RESET_DEV_ID_OWNED (1u << 1)

/* <linux/vfio.h>, VFIO_DEVICE_GET_INFO: which AtomicOps the root port completes */
#define UAPI_VFIO_CAP_PCI_ATOMIC_COMP 5

enum {
    UAPI_VFIO_ATOMIC_COMP32 = 1 << 0,
    UAPI_VFIO_ATOMIC_COMP64 = 1 << 1,
};

struct uapi_vfio_cap_pci_atomic_comp {
    struct vfio_info_cap_header header;
    uint32_t flags;
    uint32_t reserved;
};

/* <linux/vfio.h>, VFIO_DEVICE_FEATURE: GET answers a descriptor of ranges of a BAR. */
#define UAPI_VFIO_DEVICE_FEATURE_DMA_BUF 11

struct uapi_dma_range {
    uint64_t offset;
    uint64_t length;
};

struct uapi_feature_dma_buf {
    uint32_t region_index;
    uint32_t open_flags; /* O_* */
    uint32_t flags;
    uint32_t nr_ranges;
    struct uapi_dma_range dma_ranges[];
};

/* <linux/vfio.h>, migration: pre-copy, which goes on beside the states that 6.1 has */
#define UAPI_VFIO_MIGRATION_PRE_COPY (1 << 2)

enum {
    UAPI_VFIO_STATE_PRE_COPY = 6,
    UAPI_VFIO_STATE_PRE_COPY_P2P = 7,
    UAPI_VFIO_STATES = 8,
};

#define UAPI_VFIO_FEATURE_MIG_DATA_SIZE 9

struct uapi_vfio_mig_data_size {
    uint64_t stop_copy_length;
};

/* SET: the flags of GET_PRECOPY_INFO mean something. */
#define UAPI_VFIO_FEATURE_PRECOPY_INFO_V2 12
#define UAPI_VFIO_PRECOPY_INFO_REINIT     (1u << 0)

#define UAPI_VFIO_DEVICE_FLAGS_CDX        (1 << 8)

/* Of a migration data descriptor. */
#define UAPI_VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

struct uapi_vfio_precopy_info {
    uint32_t argsz;
    uint32_t flags;
    uint64_t initial_bytes;
    uint64_t dirty_bytes;
};

static_assert(sizeof(struct uapi_vfio_cap_pci_atomic_comp) == 16,
              "vfio_device_info_cap_pci_atomic_comp");
static_assert(sizeof(struct uapi_vfio_mig_data_size) == 8, "vfio_device_feature_mig_data_size");
static_assert(sizeof(struct uapi_vfio_precopy_info) == 24, "vfio_precopy_info");
static_assert(sizeof(struct uapi_iommu_destroy) == 8, "iommu_destroy");
static_assert(sizeof(struct uapi_ioas_alloc) == 12, "iommu_ioas_alloc");
static_assert(sizeof(struct uapi_ioas_copy) == 40, "iommu_ioas_copy");
static_assert(sizeof(struct uapi_iova_range) == 16, "iommu_iova_range");
static_assert(sizeof(struct uapi_ioas_iova_ranges) == 32, "iommu_ioas_iova_ranges");
static_assert(sizeof(struct uapi_ioas_map) == 40, "iommu_ioas_map");
static_assert(sizeof(struct uapi_ioas_map_file) == 40, "iommu_ioas_map_file");
static_assert(sizeof(struct uapi_ioas_unmap) == 24, "iommu_ioas_unmap");
static_assert(sizeof(struct uapi_hwpt_alloc) == 48, "iommu_hwpt_alloc");
static_assert(sizeof(struct uapi_hw_info) == 40, "iommu_hw_info");
static_assert(sizeof(struct uapi_hwpt_set_dirty) == 16, "iommu_hwpt_set_dirty_tracking");
static_assert(sizeof(struct uapi_hwpt_get_dirty) == 48, "iommu_hwpt_get_dirty_bitmap");
static_assert(sizeof(struct uapi_vfio_bind_iommufd) == 24, "vfio_device_bind_iommufd");
static_assert(sizeof(struct uapi_vfio_attach_pt) == 12, "vfio_device_attach_iommufd_pt");
static_assert(sizeof(struct uapi_dma_range) == 16, "vfio_region_dma_range");
static_assert(sizeof(struct uapi_feature_dma_buf) == 16, "vfio_device_feature_dma_buf");
