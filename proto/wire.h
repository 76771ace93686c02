/*
 * The vfio-user messages as they stand on the wire: layouts and numbers, no logic.
 *
 * Source: the vfio-user specification (docs/interop/vfio-user.rst of QEMU), section by section.
 * All data is in the byte order of the host. A payload follows the 16-byte header; the offsets
 * asserted below are relative to the payload's start, as in the specification.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* "Commands" */
enum vfio_user_command {
    VFIO_USER_VERSION = 1,
    VFIO_USER_DMA_MAP = 2,
    VFIO_USER_DMA_UNMAP = 3,
    VFIO_USER_DEVICE_GET_INFO = 4,
    VFIO_USER_DEVICE_GET_REGION_INFO = 5,
    VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6,
    VFIO_USER_DEVICE_GET_IRQ_INFO = 7,
    VFIO_USER_DEVICE_SET_IRQS = 8,
    VFIO_USER_REGION_READ = 9,
    VFIO_USER_REGION_WRITE = 10,
    VFIO_USER_DMA_READ = 11,
    VFIO_USER_DMA_WRITE = 12,
    VFIO_USER_DEVICE_RESET = 13,
    /* 14 was DIRTY_PAGES in an early revision and is not to be used. */
    VFIO_USER_REGION_WRITE_MULTI = 15,
    VFIO_USER_DEVICE_FEATURE = 16,
    VFIO_USER_MIG_DATA_READ = 17,
    VFIO_USER_MIG_DATA_WRITE = 18,
};

/* "Header" */
struct vfio_user_header {
    uint16_t msg_id;
    uint16_t command;
    uint32_t msg_size; /* of the whole message, this header included */
    uint32_t flags;
    uint32_t error; /* errno of an error reply */
};

enum {
    VFIO_USER_FLAG_TYPE_MASK = 0xf,
    VFIO_USER_FLAG_TYPE_COMMAND = 0x0,
    VFIO_USER_FLAG_TYPE_REPLY = 0x1,
    VFIO_USER_FLAG_NO_REPLY = 1 << 4,
    VFIO_USER_FLAG_ERROR = 1 << 5,
    VFIO_USER_FLAG_ALL = VFIO_USER_FLAG_TYPE_MASK | VFIO_USER_FLAG_NO_REPLY | VFIO_USER_FLAG_ERROR,
};

/* VFIO_USER_VERSION, request and reply; JSON with its NUL may follow. */
struct vfio_user_version {
    uint16_t major;
    uint16_t minor;
};

struct vfio_user_dma_map {
    uint32_t argsz;
    uint32_t flags;
    uint64_t offset; /* in the file of the descriptor sent along */
    uint64_t address;
    uint64_t size;
};

enum {
    VFIO_USER_DMA_MAP_READ = 1 << 0,
    VFIO_USER_DMA_MAP_WRITE = 1 << 1,
};

struct vfio_user_dma_unmap {
    uint32_t argsz;
    uint32_t flags;
    uint64_t address;
    uint64_t size;
};

/*
 * The specification leaves the unmap flags unused; clients send what VFIO_IOMMU_UNMAP_DMA has:
 * libvfio-user's for a dirty bitmap, QEMU's for "all".
 */
enum {
    VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP = 1 << 0,
    VFIO_USER_DMA_UNMAP_ALL = 1 << 1,
};

/* Behind an unmap with a dirty bitmap, as in <linux/vfio.h>; in a reply size bytes of it follow. */
struct vfio_user_bitmap {
    uint64_t pgsize;
    uint64_t size;
};

struct vfio_user_device_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t num_regions;
    uint32_t num_irqs;
};

enum {
    VFIO_USER_DEVICE_FLAGS_RESET = 1 << 0,
    VFIO_USER_DEVICE_FLAGS_PCI = 1 << 1,
};

struct vfio_user_region_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t cap_offset;
    uint64_t size;
    uint64_t offset;
};

enum {
    VFIO_USER_REGION_INFO_READ = 1 << 0,
    VFIO_USER_REGION_INFO_WRITE = 1 << 1,
    VFIO_USER_REGION_INFO_MMAP = 1 << 2,
    VFIO_USER_REGION_INFO_CAPS = 1 << 3,
};

/* "VFIO cap header format" */
struct vfio_user_cap_header {
    uint16_t id;
    uint16_t version;
    uint32_t next; /* from the start of the region info; 0: the last */
};

struct vfio_user_region_io_fds {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};

/* "Sub-Region IO FD info format" */
struct vfio_user_sub_region_io_fd {
    uint64_t offset;
    uint64_t size;
    uint32_t fd_index;
    uint32_t type;
    uint32_t flags;
    uint32_t padding;
    uint64_t datamatch; /* ioregionfd: user_data */
};

enum {
    VFIO_USER_IO_FD_TYPE_IOEVENTFD = 0,
    VFIO_USER_IO_FD_TYPE_IOREGIONFD = 1,
};

/* flags of an ioeventfd: KVM_IOEVENTFD_FLAG_* of <linux/kvm.h> */
#define VFIO_USER_IO_FD_DATAMATCH (1u << 0)
#define VFIO_USER_IO_FD_PIO       (1u << 1)

struct vfio_user_irq_info {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};

struct vfio_user_irq_set {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t start;
    uint32_t count;
    /* uint8_t bools[count] with DATA_BOOL */
};

enum {
    VFIO_USER_IRQ_SET_DATA_NONE = 1 << 0,
    VFIO_USER_IRQ_SET_DATA_BOOL = 1 << 1,
    VFIO_USER_IRQ_SET_DATA_EVENTFD = 1 << 2,
    VFIO_USER_IRQ_SET_ACTION_MASK = 1 << 3,
    VFIO_USER_IRQ_SET_ACTION_UNMASK = 1 << 4,
    VFIO_USER_IRQ_SET_ACTION_TRIGGER = 1 << 5,
    VFIO_USER_IRQ_SET_DATA_TYPES = 0x07,
    VFIO_USER_IRQ_SET_ACTIONS = 0x38,
};

/* VFIO_USER_REGION_READ, VFIO_USER_REGION_WRITE, requests and replies; data may follow. */
struct vfio_user_region_access {
    uint64_t offset;
    uint32_t region;
    uint32_t count;
};

/* VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE: requests that the server sends; data may follow. */
struct vfio_user_dma_access {
    uint64_t address;
    uint64_t count;
};

struct vfio_user_region_write_multi {
    uint64_t wr_cnt;
    /* struct vfio_user_write_multi_entry entries[wr_cnt] in a request */
};

/* "Single Device Write Format" */
struct vfio_user_write_multi_entry {
    uint64_t offset;
    uint32_t region;
    uint32_t count; /* 8 at most */
    uint8_t data[8];
};

struct vfio_user_device_feature {
    uint32_t argsz;
    uint32_t flags;
    /* data by feature */
};

enum {
    VFIO_USER_DEVICE_FEATURE_MASK = 0xffff,
    VFIO_USER_DEVICE_FEATURE_GET = 1 << 16,
    VFIO_USER_DEVICE_FEATURE_SET = 1 << 17,
    VFIO_USER_DEVICE_FEATURE_PROBE = 1 << 18,
};

/* "Device Features": their indexes and data */
enum {
    VFIO_USER_FEATURE_MIGRATION = 1,
    VFIO_USER_FEATURE_MIG_DEVICE_STATE = 2,
    /* The kernel's, of which the specification has nothing. */
    VFIO_USER_FEATURE_LOW_POWER_ENTRY = 3,
    VFIO_USER_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4,
    VFIO_USER_FEATURE_LOW_POWER_EXIT = 5,
    VFIO_USER_FEATURE_DMA_LOGGING_START = 6,
    VFIO_USER_FEATURE_DMA_LOGGING_STOP = 7,
    VFIO_USER_FEATURE_DMA_LOGGING_REPORT = 8,
    /* The kernel's, of which the specification has nothing. */
    VFIO_USER_FEATURE_MIG_DATA_SIZE = 9,
};

struct vfio_user_feature_migration {
    uint64_t flags;
};

struct vfio_user_feature_mig_state {
    uint32_t device_state;
    uint32_t data_fd; /* unused in vfio-user */
};

struct vfio_user_feature_low_power_wakeup {
    int32_t wakeup_eventfd; /* unused in vfio-user: it is the message's descriptor */
    uint32_t reserved;
};

struct vfio_user_feature_mig_data_size {
    uint64_t stop_copy_length;
};

struct vfio_user_feature_dma_logging_control {
    uint64_t page_size;
    uint32_t num_ranges;
    uint32_t reserved;
    /* struct vfio_user_feature_dma_logging_range ranges[num_ranges] */
};

struct vfio_user_feature_dma_logging_range {
    uint64_t iova;
    uint64_t length;
};

struct vfio_user_feature_dma_logging_report {
    uint64_t iova;
    uint64_t length;
    uint64_t page_size;
    /* uint64_t bitmap[] in a reply */
};

/* VFIO_USER_MIG_DATA_READ, VFIO_USER_MIG_DATA_WRITE, requests and replies; data may follow. */
struct vfio_user_mig_data {
    uint32_t argsz;
    uint32_t size;
};

#define WIRE_SIZE(type, size) static_assert(sizeof(struct type) == (size), #type)
#define WIRE_FIELD(type, field, offset)                                                            \
    static_assert(offsetof(struct type, field) == (offset), #type "." #field)

WIRE_SIZE(vfio_user_header, 16);
WIRE_FIELD(vfio_user_header, msg_id, 0);
WIRE_FIELD(vfio_user_header, command, 2);
WIRE_FIELD(vfio_user_header, msg_size, 4);
WIRE_FIELD(vfio_user_header, flags, 8);
WIRE_FIELD(vfio_user_header, error, 12);

WIRE_SIZE(vfio_user_version, 4);
WIRE_FIELD(vfio_user_version, major, 0);
WIRE_FIELD(vfio_user_version, minor, 2);

WIRE_SIZE(vfio_user_dma_map, 32);
WIRE_FIELD(vfio_user_dma_map, argsz, 0);
WIRE_FIELD(vfio_user_dma_map, flags, 4);
WIRE_FIELD(vfio_user_dma_map, offset, 8);
WIRE_FIELD(vfio_user_dma_map, address, 16);
WIRE_FIELD(vfio_user_dma_map, size, 24);

WIRE_SIZE(vfio_user_bitmap, 16);
WIRE_FIELD(vfio_user_bitmap, pgsize, 0);
WIRE_FIELD(vfio_user_bitmap, size, 8);
WIRE_SIZE(vfio_user_dma_unmap, 24);
WIRE_FIELD(vfio_user_dma_unmap, argsz, 0);
WIRE_FIELD(vfio_user_dma_unmap, flags, 4);
WIRE_FIELD(vfio_user_dma_unmap, address, 8);
WIRE_FIELD(vfio_user_dma_unmap, size, 16);

WIRE_SIZE(vfio_user_device_info, 16);
WIRE_FIELD(vfio_user_device_info, argsz, 0);
WIRE_FIELD(vfio_user_device_info, flags, 4);
WIRE_FIELD(vfio_user_device_info, num_regions, 8);
WIRE_FIELD(vfio_user_device_info, num_irqs, 12);

WIRE_SIZE(vfio_user_region_info, 32);
WIRE_FIELD(vfio_user_region_info, argsz, 0);
WIRE_FIELD(vfio_user_region_info, flags, 4);
WIRE_FIELD(vfio_user_region_info, index, 8);
WIRE_FIELD(vfio_user_region_info, cap_offset, 12);
WIRE_FIELD(vfio_user_region_info, size, 16);
WIRE_FIELD(vfio_user_region_info, offset, 24);

WIRE_SIZE(vfio_user_cap_header, 8);
WIRE_FIELD(vfio_user_cap_header, id, 0);
WIRE_FIELD(vfio_user_cap_header, version, 2);
WIRE_FIELD(vfio_user_cap_header, next, 4);

WIRE_SIZE(vfio_user_region_io_fds, 16);
WIRE_FIELD(vfio_user_region_io_fds, argsz, 0);
WIRE_FIELD(vfio_user_region_io_fds, flags, 4);
WIRE_FIELD(vfio_user_region_io_fds, index, 8);
WIRE_FIELD(vfio_user_region_io_fds, count, 12);

WIRE_SIZE(vfio_user_sub_region_io_fd, 40);
WIRE_FIELD(vfio_user_sub_region_io_fd, offset, 0);
WIRE_FIELD(vfio_user_sub_region_io_fd, size, 8);
WIRE_FIELD(vfio_user_sub_region_io_fd, fd_index, 16);
WIRE_FIELD(vfio_user_sub_region_io_fd, type, 20);
WIRE_FIELD(vfio_user_sub_region_io_fd, flags, 24);
WIRE_FIELD(vfio_user_sub_region_io_fd, padding, 28);
WIRE_FIELD(vfio_user_sub_region_io_fd, datamatch, 32);

WIRE_SIZE(vfio_user_irq_info, 16);
WIRE_FIELD(vfio_user_irq_info, argsz, 0);
WIRE_FIELD(vfio_user_irq_info, flags, 4);
WIRE_FIELD(vfio_user_irq_info, index, 8);
WIRE_FIELD(vfio_user_irq_info, count, 12);

WIRE_SIZE(vfio_user_irq_set, 20);
WIRE_FIELD(vfio_user_irq_set, argsz, 0);
WIRE_FIELD(vfio_user_irq_set, flags, 4);
WIRE_FIELD(vfio_user_irq_set, index, 8);
WIRE_FIELD(vfio_user_irq_set, start, 12);
WIRE_FIELD(vfio_user_irq_set, count, 16);

WIRE_SIZE(vfio_user_region_access, 16);
WIRE_FIELD(vfio_user_region_access, offset, 0);
WIRE_FIELD(vfio_user_region_access, region, 8);
WIRE_FIELD(vfio_user_region_access, count, 12);

WIRE_SIZE(vfio_user_dma_access, 16);
WIRE_FIELD(vfio_user_dma_access, address, 0);
WIRE_FIELD(vfio_user_dma_access, count, 8);

WIRE_SIZE(vfio_user_region_write_multi, 8);
WIRE_FIELD(vfio_user_region_write_multi, wr_cnt, 0);

WIRE_SIZE(vfio_user_write_multi_entry, 24);
WIRE_FIELD(vfio_user_write_multi_entry, offset, 0);
WIRE_FIELD(vfio_user_write_multi_entry, region, 8);
WIRE_FIELD(vfio_user_write_multi_entry, count, 12);
WIRE_FIELD(vfio_user_write_multi_entry, data, 16);

WIRE_SIZE(vfio_user_device_feature, 8);
WIRE_FIELD(vfio_user_device_feature, argsz, 0);
WIRE_FIELD(vfio_user_device_feature, flags, 4);

WIRE_SIZE(vfio_user_feature_migration, 8);
WIRE_SIZE(vfio_user_feature_mig_state, 8);
WIRE_FIELD(vfio_user_feature_mig_state, device_state, 0);
WIRE_FIELD(vfio_user_feature_mig_state, data_fd, 4);

WIRE_SIZE(vfio_user_feature_low_power_wakeup, 8);
WIRE_FIELD(vfio_user_feature_low_power_wakeup, wakeup_eventfd, 0);
WIRE_FIELD(vfio_user_feature_low_power_wakeup, reserved, 4);

WIRE_SIZE(vfio_user_feature_mig_data_size, 8);

WIRE_SIZE(vfio_user_feature_dma_logging_control, 16);
WIRE_FIELD(vfio_user_feature_dma_logging_control, page_size, 0);
WIRE_FIELD(vfio_user_feature_dma_logging_control, num_ranges, 8);
WIRE_FIELD(vfio_user_feature_dma_logging_control, reserved, 12);

WIRE_SIZE(vfio_user_feature_dma_logging_range, 16);
WIRE_FIELD(vfio_user_feature_dma_logging_range, iova, 0);
WIRE_FIELD(vfio_user_feature_dma_logging_range, length, 8);

WIRE_SIZE(vfio_user_feature_dma_logging_report, 24);
WIRE_FIELD(vfio_user_feature_dma_logging_report, iova, 0);
WIRE_FIELD(vfio_user_feature_dma_logging_report, length, 8);
WIRE_FIELD(vfio_user_feature_dma_logging_report, page_size, 16);

WIRE_SIZE(vfio_user_mig_data, 8);
WIRE_FIELD(vfio_user_mig_data, argsz, 0);
WIRE_FIELD(vfio_user_mig_data, size, 4);
