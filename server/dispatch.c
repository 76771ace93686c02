#include "server/dispatch.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/codec.h"
#include "proto/commands.h"
#include "proto/validate.h"
#include "proto/wire_extension.h"
#include "server/handlers.h"

static const handler handlers[] = {
    [VFIO_USER_DMA_MAP] = handle_dma_map,
    [VFIO_USER_DMA_UNMAP] = handle_dma_unmap,
    [VFIO_USER_DEVICE_GET_INFO] = handle_device_get_info,
    [VFIO_USER_DEVICE_GET_REGION_INFO] = handle_region_info,
    [VFIO_USER_DEVICE_GET_REGION_IO_FDS] = handle_region_io_fds,
    [VFIO_USER_DEVICE_GET_IRQ_INFO] = handle_irq_info,
    [VFIO_USER_DEVICE_SET_IRQS] = handle_set_irqs,
    [VFIO_USER_REGION_READ] = handle_region_read,
    [VFIO_USER_REGION_WRITE] = handle_region_write,
    [VFIO_USER_DEVICE_RESET] = handle_device_reset,
    [VFIO_USER_REGION_WRITE_MULTI] = handle_region_write_multi,
    [VFIO_USER_DEVICE_FEATURE] = handle_device_feature,
    [VFIO_USER_MIG_DATA_READ] = handle_mig_data_read,
    [VFIO_USER_MIG_DATA_WRITE] = handle_mig_data_write,
};

static const handler extension_handlers[] = {
    [VFIO_USERD_DEVICE_INFO - VFIO_USERD_BASE] = handle_device_info,
    [VFIO_USERD_IOMMU_INFO - VFIO_USERD_BASE] = handle_iommu_info,
    [VFIO_USERD_PRECOPY_INFO - VFIO_USERD_BASE] = handle_precopy_info,
    [VFIO_USERD_QUERY_GFX_PLANE - VFIO_USERD_BASE] = handle_query_gfx_plane,
    [VFIO_USERD_GET_GFX_DMABUF - VFIO_USERD_BASE] = handle_get_gfx_dmabuf,
    [VFIO_USERD_EEH_OP - VFIO_USERD_BASE] = handle_eeh_op,
    [VFIO_USERD_HOT_RESET_INFO - VFIO_USERD_BASE] = handle_hot_reset_info,
    [VFIO_USERD_HOT_RESET - VFIO_USERD_BASE] = handle_hot_reset,
};

static handler find_handler(const struct command *cmd)
{
    const handler *table = cmd->extension ? extension_handlers : handlers;
    const size_t n = cmd->extension ? ARRAY_SIZE(extension_handlers) : ARRAY_SIZE(handlers);
    const unsigned i = cmd->extension ? cmd->id - (unsigned)VFIO_USERD_BASE : cmd->id;

    assert(i < n && table[i]);
    return table[i];
}

/* Without the extension a command of ours is as unknown as any. */
static const struct command *find_command(uint16_t id, bool extensions)
{
    const struct command *cmd = command_find(id);

    if (cmd && (extensions || !cmd->extension))
        return cmd;
    log_peer_warning("unknown command %u", id);
    return NULL;
}

void *request_reply(struct request *req, size_t len)
{
    req->reply_len = len;
    return connection_reply_buffer(req->connection, len);
}

int request_reply_info(struct request *req, uint32_t room, void *fixed, size_t fixed_len,
                       const void *rest, size_t rest_len)
{
    const uint32_t argsz = (uint32_t)(fixed_len + rest_len);
    const size_t len = argsz <= room ? argsz : fixed_len;
    uint8_t *reply = request_reply(req, len);

    if (!reply)
        return -ENOMEM;
    memcpy(fixed, &argsz, sizeof(argsz));
    memcpy(reply, fixed, fixed_len);
    if (len > fixed_len)
        memcpy(reply + fixed_len, rest, rest_len);
    return 0;
}

void dispatch_error(struct connection *c, const struct vfio_user_header *hdr, int err)
{
    struct vfio_user_header reply;

    if ((hdr->flags & VFIO_USER_FLAG_TYPE_MASK) != VFIO_USER_FLAG_TYPE_COMMAND ||
        hdr->flags & VFIO_USER_FLAG_NO_REPLY)
        return;
    reply = codec_reply_header(hdr, (uint32_t)-err, 0);
    connection_reply(c, &reply, 0, NULL, 0);
}

/* All that can be refused before a handler runs. cmd: NULL for an unknown one. */
static int check(const struct session *s, const struct command *cmd, const struct message *msg)
{
    int ret = cmd ? validate_request(cmd, &msg->hdr, msg->fds) : -ENOTTY;

    if (ret)
        return ret;
    if (cmd->state != COMMAND_IN_SESSION) {
        log_peer_warning("%s in a session that has its version", cmd->name);
        return -EINVAL;
    }
    if (cmd->id == VFIO_USER_REGION_WRITE_MULTI && !s->agreed.write_multiple) {
        log_peer_warning("%s was not negotiated", cmd->name);
        return -EINVAL;
    }
    return 0;
}

static void send_reply(struct connection *c, const struct vfio_user_header *hdr,
                       const struct request *req)
{
    struct vfio_user_header reply;

    if (hdr->flags & VFIO_USER_FLAG_NO_REPLY)
        return;
    reply = codec_reply_header(hdr, 0, (uint32_t)req->reply_len);
    connection_reply(c, &reply, req->reply_len, req->reply_fds, req->reply_nfds);
}

/* s: NULL for a handler that uses none. */
static int run(handler handle, struct session *s, struct connection *c, const struct message *msg)
{
    struct request req = {
        .payload = msg->payload,
        .len = msg->len,
        .fds = msg->fds,
        .no_reply = msg->hdr.flags & VFIO_USER_FLAG_NO_REPLY,
        .connection = c,
    };
    int ret = handle(s, &req);

    if (ret)
        dispatch_error(c, &msg->hdr, ret);
    else
        send_reply(c, &msg->hdr, &req);
    for (unsigned i = 0; i < req.reply_nfds; i++)
        fd_close(&req.reply_fds[i]);
    return ret;
}

void dispatch_message(struct session *s, struct connection *c, const struct message *msg)
{
    const struct command *cmd = find_command(msg->hdr.command, s->agreed.extensions);
    int ret = check(s, cmd, msg);

    if (ret) {
        dispatch_error(c, &msg->hdr, ret);
        return;
    }
    ret = run(find_handler(cmd), s, c, msg);
    session_note_error(s, ret);
}

void dispatch_without_device(struct connection *c, bool extensions, const struct message *msg)
{
    static const handler gone[] = {
        [VFIO_USER_DMA_UNMAP] = handle_dma_unmap_gone,
        [VFIO_USER_REGION_READ] = handle_region_read_gone,
        [VFIO_USER_REGION_WRITE] = handle_region_write_gone,
    };
    const struct command *cmd = find_command(msg->hdr.command, extensions);
    int ret = cmd ? validate_request(cmd, &msg->hdr, msg->fds) : -ENOTTY;

    if (!ret && (msg->hdr.command >= ARRAY_SIZE(gone) || !gone[msg->hdr.command]))
        ret = -ENODEV;
    if (ret)
        dispatch_error(c, &msg->hdr, ret);
    else
        run(gone[msg->hdr.command], NULL, c, msg);
}
