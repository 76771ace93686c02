/*
 * Sizes: a request has its fixed part at least. What may follow is bounded by the command's own
 * limit; where the specification lets nothing follow but clients send their whole reply buffer
 * (the info requests), as long as a reply can be.
 *
 * Descriptors where none belong are refused, as a client that sends them means something that we
 * don't do. DMA_UNMAP alone ignores them: SPDK repeats there the one of DMA_MAP.
 */
#include "proto/commands.h"

#include "proto/base/arith.h"
#include "proto/limits.h"
#include "proto/wire.h"
#include "proto/wire_extension.h"

/* clang-format off */
#define FIRST             COMMAND_TO_SERVER, COMMAND_BEFORE_VERSION
#define REQUEST           COMMAND_TO_SERVER, COMMAND_IN_SESSION
#define BACKWARD          COMMAND_TO_CLIENT, COMMAND_IN_SESSION

#define EMPTY             0, 0
#define FIXED(type)       sizeof(struct type), sizeof(struct type)
#define UP_TO(type, data) sizeof(struct type), sizeof(struct type) + (data)
#define INFO(type)        sizeof(struct type), LIMIT_INFO_REPLY

#define FDS(max)          .max_fds = (max)
#define SPARE_FDS         .spare_fds_ok = true
#define POSTED            .no_reply_ok = true
#define EXTENSION         .extension = true

static const struct command commands[] = {
    {"VERSION", VFIO_USER_VERSION, FIRST,
     UP_TO(vfio_user_version, LIMIT_VERSION_DATA)},
    {"DMA_MAP", VFIO_USER_DMA_MAP, REQUEST,
     FIXED(vfio_user_dma_map), FDS(1), POSTED},
    {"DMA_UNMAP", VFIO_USER_DMA_UNMAP, REQUEST,
     UP_TO(vfio_user_dma_unmap, LIMIT_UNMAP_BITMAP), SPARE_FDS, POSTED},
    {"DEVICE_GET_INFO", VFIO_USER_DEVICE_GET_INFO, REQUEST,
     INFO(vfio_user_device_info)},
    {"DEVICE_GET_REGION_INFO", VFIO_USER_DEVICE_GET_REGION_INFO, REQUEST,
     INFO(vfio_user_region_info)},
    {"DEVICE_GET_REGION_IO_FDS", VFIO_USER_DEVICE_GET_REGION_IO_FDS, REQUEST,
     INFO(vfio_user_region_io_fds)},
    {"DEVICE_GET_IRQ_INFO", VFIO_USER_DEVICE_GET_IRQ_INFO, REQUEST,
     INFO(vfio_user_irq_info)},
    {"DEVICE_SET_IRQS", VFIO_USER_DEVICE_SET_IRQS, REQUEST,
     UP_TO(vfio_user_irq_set, LIMIT_IRQ_DATA), FDS(LIMIT_RECV_FDS), POSTED},
    {"REGION_READ", VFIO_USER_REGION_READ, REQUEST,
     FIXED(vfio_user_region_access)},
    {"REGION_WRITE", VFIO_USER_REGION_WRITE, REQUEST,
     UP_TO(vfio_user_region_access, LIMIT_DATA_XFER), POSTED},
    {"DMA_READ", VFIO_USER_DMA_READ, BACKWARD,
     FIXED(vfio_user_dma_access)},
    {"DMA_WRITE", VFIO_USER_DMA_WRITE, BACKWARD,
     UP_TO(vfio_user_dma_access, LIMIT_DATA_XFER), POSTED},
    {"DEVICE_RESET", VFIO_USER_DEVICE_RESET, REQUEST,
     EMPTY, POSTED},
    {"REGION_WRITE_MULTI", VFIO_USER_REGION_WRITE_MULTI, REQUEST,
     UP_TO(vfio_user_region_write_multi, LIMIT_WRITE_MULTI_DATA), POSTED},
    {"DEVICE_FEATURE", VFIO_USER_DEVICE_FEATURE, REQUEST,
     UP_TO(vfio_user_device_feature, LIMIT_FEATURE_DATA), FDS(1)},
    {"MIG_DATA_READ", VFIO_USER_MIG_DATA_READ, REQUEST,
     FIXED(vfio_user_mig_data)},
    {"MIG_DATA_WRITE", VFIO_USER_MIG_DATA_WRITE, REQUEST,
     UP_TO(vfio_user_mig_data, LIMIT_DATA_XFER), POSTED},
    {"DEVICE_INFO", VFIO_USERD_DEVICE_INFO, REQUEST,
     FIXED(vfio_userd_device_info), EXTENSION},
    {"IOMMU_INFO", VFIO_USERD_IOMMU_INFO, REQUEST,
     FIXED(vfio_userd_iommu_info), EXTENSION},
    {"PRECOPY_INFO", VFIO_USERD_PRECOPY_INFO, REQUEST,
     FIXED(vfio_userd_precopy_info), EXTENSION},
    {"QUERY_GFX_PLANE", VFIO_USERD_QUERY_GFX_PLANE, REQUEST,
     FIXED(vfio_userd_gfx_plane), EXTENSION},
    {"GET_GFX_DMABUF", VFIO_USERD_GET_GFX_DMABUF, REQUEST,
     FIXED(vfio_userd_gfx_dmabuf), EXTENSION},
    {"EEH_OP", VFIO_USERD_EEH_OP, REQUEST,
     FIXED(vfio_userd_eeh_op), EXTENSION},
    {"HOT_RESET_INFO", VFIO_USERD_HOT_RESET_INFO, REQUEST,
     FIXED(vfio_userd_hot_reset_info), EXTENSION},
    {"HOT_RESET", VFIO_USERD_HOT_RESET, REQUEST,
     FIXED(vfio_userd_hot_reset), POSTED, EXTENSION},
};
/* clang-format on */

const struct command *command_find(uint16_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].id == id)
            return &commands[i];
    }
    return NULL;
}

const char *command_name(uint16_t id)
{
    const struct command *cmd = command_find(id);

    return cmd ? cmd->name : "unknown command";
}

const struct command *command_table(size_t *n)
{
    *n = ARRAY_SIZE(commands);
    return commands;
}
