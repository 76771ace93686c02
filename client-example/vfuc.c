/* The session: negotiation, and one exchange after the other. */
#include "client-example/vfuc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client-example/vfuc_internal.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct vfuc {
    int sock;
    uint16_t next_id;
    int timeout_ms;
    int lost; /* -errno that made the stream unusable, or 0 */
    uint32_t own_max_xfer;
    struct version_caps caps;
};

int vfuc_run(struct vfuc *c, struct vfuc_exchange *x)
{
    int ret;

    if (c->lost)
        return c->lost;
    x->msg_id = c->next_id++;
    ret = vfuc_exchange_run(x, c->sock, c->timeout_ms);
    if (ret && x->begun)
        c->lost = ret;
    return ret ? ret : -x->error;
}

int vfuc_call(struct vfuc *c, uint16_t command, const void *payload, size_t len, const int *fds,
              unsigned nfds, void *reply, size_t *reply_len, int *reply_fd)
{
    struct iovec out = vfuc_piece(payload, len), in = vfuc_piece(reply, *reply_len);
    struct fdset received;
    struct vfuc_exchange x = {
        .command = command,
        .request = &out,
        .request_cnt = len ? 1 : 0,
        .fds = fds,
        .nfds = nfds,
        .reply = &in,
        .reply_cnt = *reply_len ? 1 : 0,
        .received = &received,
    };
    int ret;

    if (reply_fd)
        *reply_fd = -1;
    fdset_init(&received);
    ret = vfuc_run(c, &x);
    *reply_len = x.reply_len;
    if (!ret && reply_fd)
        *reply_fd = fdset_take(&received, 0);
    fdset_close(&received);
    return ret;
}

int vfuc_query(struct vfuc *c, uint16_t command, void *arg, size_t len)
{
    size_t reply_len = len;
    int ret = vfuc_call(c, command, arg, len, NULL, 0, arg, &reply_len, NULL);

    return !ret && reply_len < len ? -EPROTO : ret;
}

static struct version_caps every_capability(void)
{
    struct version_caps caps = version_defaults();

    caps.has_json = caps.has_capabilities = true;
    caps.has_max_msg_fds = caps.has_max_data_xfer_size = caps.has_max_dma_maps = true;
    caps.has_pgsizes = caps.has_migration = caps.has_write_multiple = true;
    caps.max_msg_fds = LIMIT_MSG_FDS;
    caps.max_data_xfer_size = LIMIT_DATA_XFER;
    caps.max_dma_maps = LIMIT_DMA_MAPS;
    caps.has_extensions = true;
    caps.extensions = LIMIT_EXTENSIONS;
    caps.pgsizes = caps.migration_pgsize = 4096;
    caps.write_multiple = true;
    return caps;
}

static int negotiate(struct vfuc *c, const struct version_caps *proposal)
{
    cleanup_free_ void *payload = NULL;
    char reply[sizeof(struct vfio_user_version) + LIMIT_VERSION_DATA];
    size_t len, reply_len = sizeof(reply);
    int ret;

    ret = version_propose(proposal, &payload, &len);
    if (ret)
        return ret;
    ret = vfuc_call(c, VFIO_USER_VERSION, payload, len, NULL, 0, reply, &reply_len, NULL);
    if (ret)
        return ret;
    if (reply_len > sizeof(reply))
        return -EPROTO;
    ret = version_parse(reply, reply_len, &c->caps);
    if (ret)
        return ret == -EPROTONOSUPPORT ? ret : -EPROTO;
    return c->caps.minor > proposal->minor ? -EPROTO : 0;
}

int vfuc_open_fd(struct vfuc **out, int sock, const struct version_caps *proposal)
{
    const struct version_caps all = every_capability();
    struct vfuc *c = calloc(1, sizeof(*c));
    int ret;

    *out = NULL;
    if (!c) {
        fd_close(&sock);
        return -ENOMEM;
    }
    if (!proposal)
        proposal = &all;
    c->sock = sock;
    c->own_max_xfer = (uint32_t)MIN(proposal->max_data_xfer_size, (uint64_t)LIMIT_DATA_XFER);
    vfuc_set_timeout(c, VFUC_DEFAULT_TIMEOUT_MS);
    ret = negotiate(c, proposal);
    if (ret) {
        vfuc_close(c);
        return ret;
    }
    *out = c;
    return 0;
}

int vfuc_open(struct vfuc **out, const char *path, const struct version_caps *proposal)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    cleanup_close_ int sock = -1;

    *out = NULL;
    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    return vfuc_open_fd(out, steal_fd(&sock), proposal);
}

void vfuc_close(struct vfuc *c)
{
    if (!c)
        return;
    fd_close(&c->sock);
    free(c);
}

void vfuc_set_timeout(struct vfuc *c, int timeout_ms)
{
    struct timeval tv = {.tv_sec = timeout_ms / 1000,
                         .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};

    c->timeout_ms = timeout_ms;
    /* Without it a send to a server that reads nothing would block for ever. A socket that does
     * not know the option is no reason to refuse it. */
    setsockopt(c->sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

const struct version_caps *vfuc_caps(const struct vfuc *c)
{
    return &c->caps;
}

uint32_t vfuc_max_xfer(const struct vfuc *c)
{
    return (uint32_t)MIN(c->caps.max_data_xfer_size, (uint64_t)c->own_max_xfer);
}

int vfuc_socket(const struct vfuc *c)
{
    return c->sock;
}
