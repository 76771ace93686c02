#include "server/export.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "auth/peer.h"
#include "bridge/config_policy.h"
#include "bridge/ioeventfd.h"
#include "bridge/irq_relay.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/codec.h"
#include "proto/commands.h"
#include "proto/validate.h"
#include "proto/version.h"
#include "server/connection.h"
#include "server/dispatch.h"
#include "server/group.h"
#include "server/group_reset.h"
#include "server/listener.h"
#include "server/removal.h"
#include "server/retry.h"
#include "server/session.h"

enum {
    /* From connecting to a whole VERSION. */
    HANDSHAKE_SECONDS = 10,
    /* Connected clients; the oldest one without a session makes room for the next. */
    MAX_CLIENTS = 64,
};

/* Somebody who has connected. */
struct client {
    TAILQ_ENTRY(client) link;
    struct export *export;
    struct connection *connection;
    struct event *handshake; /* its time limit */
    bool extensions;         /* its session has, or had, our own messages */
    bool lost_device;        /* it had a session, whose device was taken away */
    struct peer peer;
};

struct export
{
    const struct export_config *config;
    const struct config *settings;
    struct host *host;
    char device[SYSFS_PATH_SIZE]; /* as sysfs_find_device takes it */
    struct quota *quota;
    struct groups *groups;
    struct group_device gd; /* without a group: the device was taken away */
    struct removal *removal;

    struct listener *listener; /* NULL: one connected client, then no more */
    int connected;             /* that client's socket until it is served */
    struct event_base *base;
    void (*finished)(void *arg);
    void *finished_arg;
    int stop; /* of export_start */

    TAILQ_HEAD(, client) clients;
    unsigned n_clients;
    struct client *holder; /* the one with the session; NULL: none */
    struct session session;
    enum region_map_by map_by;

    /* The device still holds state of this identity's last session and is given to no other. */
    bool quarantined;
    struct peer quarantined_for;
    struct retry retry; /* of a reset or an opening that failed */
};

/* The newest kernels have such devices in iommufd too, with an IOAS that translates for nobody. */
static int check_noiommu(const struct export *e, const struct sysfs_device *where)
{
    if (!where->noiommu)
        return 0;
    if (!e->settings->allow_unsafe_noiommu) {
        log_error("%s is refused: no IOMMU is in front of it (its group is noiommu-%d), so it "
                  "could read and write all of the host's memory; --allow-unsafe-noiommu serves "
                  "it all the same",
                  where->name, where->group);
        return -EPERM;
    }
    if (e->settings->iommu == CONFIG_IOMMU_IOMMUFD) {
        log_error("%s: no-IOMMU mode is served through VFIO's groups alone, not by --iommu iommufd",
                  where->name);
        return -EINVAL;
    }
    return 0;
}

static enum iommu_kind choose_iommu(const struct export *e, const struct sysfs_device *where)
{
    if (where->noiommu)
        return IOMMU_NOIOMMU;
    switch (e->settings->iommu) {
    case CONFIG_IOMMU_IOMMUFD:
        return IOMMU_IOMMUFD;
    case CONFIG_IOMMU_TYPE1:
        return IOMMU_TYPE1;
    case CONFIG_IOMMU_SPAPR:
        return IOMMU_SPAPR;
    case CONFIG_IOMMU_AUTO:
        break;
    }
    return iommu_best_kind(e->host, where);
}

static int check_spapr(const struct sysfs_device *where, enum iommu_kind kind)
{
    if (!where->mediated || kind != IOMMU_SPAPR)
        return 0;
    log_error("%s can't be served by SPAPR TCE, which has no mediated devices", where->name);
    return -ENOTSUP;
}

/* By default as much as can be given without the device itself. */
static void choose_mapping(struct export *e)
{
    enum config_mmap wish = e->config->mmap;

    e->map_by = REGION_MAP_NONE;
    if (wish == CONFIG_MMAP_DEVFD)
        e->map_by = REGION_MAP_DEVFD;
    else if (wish != CONFIG_MMAP_NONE && e->gd.maps_dmabuf)
        e->map_by = REGION_MAP_DMABUF;
    else if (wish == CONFIG_MMAP_DMABUF)
        log_warning("--mmap dmabuf: the kernel maps no dma-buf of this device; each access will be "
                    "a message");
}

static int enter_group(struct export *e)
{
    struct sysfs_device where;
    enum iommu_kind kind;
    int ret = sysfs_find_device(e->host, e->device, &where);

    if (!ret)
        ret = check_noiommu(e, &where);
    if (ret)
        return ret;
    if (e->config->vf_token)
        snprintf(where.vf_token, sizeof(where.vf_token), "%s", e->config->vf_token);
    where.regions = e->config->regions;
    kind = choose_iommu(e, &where);
    ret = check_spapr(&where, kind);
    if (!ret)
        ret = group_enter(&e->gd, e->groups, e->host, &where, kind);
    if (!ret)
        choose_mapping(e);
    return ret;
}

static int adopt_fd(struct export *e, int fd)
{
    int listening = 0, type = 0, domain = 0;
    socklen_t len = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM) {
        log_error("--fd %d: %s", fd, type ? "not a stream socket" : strerror(errno));
        return -EINVAL;
    }
    len = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX) {
        log_error("--fd %d: not a UNIX socket: only those tell who a client is", fd);
        return -EINVAL;
    }
    len = sizeof(listening);
    if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) && listening)
        return listener_adopt(&e->listener, fd);
    e->connected = fd;
    return 0;
}

int export_create(struct export **out, const struct export_config *config,
                  const struct config *settings, struct machine *machine)
{
    struct export *e = calloc(1, sizeof(*e));
    int ret;

    if (!e)
        return -ENOMEM;
    e->config = config;
    e->settings = settings;
    e->connected = -1;
    TAILQ_INIT(&e->clients);
    turn_init(&e->gd.turn);
    e->quota = machine_quota(machine, settings->quota);
    e->groups = machine_groups(machine);
    ret = e->quota && e->groups ? removal_create(&e->removal) : -ENOMEM;
    if (!ret) {
        e->gd.err_event = removal_err_event(e->removal);
        e->gd.req_event = removal_req_event(e->removal);
    }
    if (!ret)
        ret = machine_find(machine, config->device, &e->host, e->device, sizeof(e->device));
    if (!ret) {
        turn_take(&e->gd.turn);
        ret = enter_group(e);
        if (!ret)
            ret = ioeventfd_check(e->gd.device, config->doorbells, config->n_doorbells);
        turn_give_back(&e->gd.turn);
    }
    if (ret) {
        export_destroy(e);
        return ret;
    }
    *out = e;
    return 0;
}

int export_listen(struct export *e)
{
    const struct export_config *config = e->config;

    if (!config->socket_path)
        return adopt_fd(e, config->fd);
    return listener_bind(&e->listener, config->socket_path, e->settings->socket_mode);
}

void export_destroy(struct export *e)
{
    if (!e)
        return;
    turn_take(&e->gd.turn);
    group_leave(&e->gd);
    turn_give_back(&e->gd.turn);
    turn_destroy(&e->gd.turn);
    removal_free(e->removal);
    listener_free(e->listener);
    fd_close(&e->connected);
    free(e);
}

const char *export_name(const struct export *e)
{
    return e->config->device;
}

/* Tries to end the quarantine. */
static bool still_quarantined(struct export *e)
{
    if (!e->gd.device)
        group_rebuild(&e->gd);
    if (!e->gd.device)
        group_leave(&e->gd); /* it may be gone, or be elsewhere by now */
    else if (group_reset_is_possible(&e->gd))
        e->quarantined = group_reset_device(&e->gd, GROUP_RESET_IDLE);
    if (e->quarantined)
        retry_failed(&e->retry);
    return e->quarantined;
}

/*
 * Whoever wants the device waits until it is closed. When a client comes it is looked for again,
 * as its group and its file may be others by then.
 */
static void close_for_removal(struct export *e)
{
    if (group_device_is_lent(&e->gd))
        log_warning("the host waits until no process has the device's file or a mapping of it any "
                    "more, which clients were given by --mmap devfd");
    group_leave(&e->gd);
    removal_forget(e->removal);
    log_warning("the device is given back; clients are refused (ENODEV) until it can be opened "
                "again");
}

static void end_session(struct export *e)
{
    enum session_end end = session_teardown(&e->session);

    e->holder = NULL;
    e->quarantined = end != SESSION_END_CLEAN;
    e->quarantined_for = e->session.peer;
    if (end == SESSION_END_BROKEN) {
        group_rebuild(&e->gd);
        if (e->gd.device)
            still_quarantined(e);
    }
    group_forget(&e->gd);
    /* By now the kernel holds nothing for this client, whichever way it was undone. */
    quota_release(e->quota, &e->session.peer, e->session.charged);
    log_peer_info("session of pid %d, uid %u has ended", e->session.peer.pid, e->session.peer.uid);
    if (e->quarantined) {
        log_peer_warning(
            "the device was not reset after this session: it is kept from every client "
            "but those of uid %u",
            e->session.peer.uid);
        group_keep(&e->gd, true);
    } else if (!e->session.removed) {
        group_release(&e->gd);
    }
    removal_end_grace(e->removal);
    if (e->session.removed)
        close_for_removal(e);
}

/* The client stays, without a device, until it goes by itself. */
static void take_device_away(struct export *e)
{
    e->holder->lost_device = true;
    e->session.removed = true;
    end_session(e);
}

static void on_removal_due(void *arg)
{
    struct export *e = arg;

    turn_take(&e->gd.turn);
    log_warning("the client has not left its device in time");
    take_device_away(e);
    turn_give_back(&e->gd.turn);
}

static void begin_removal(struct export *e)
{
    unsigned seconds = e->settings->removal_grace;

    if (!e->gd.group)
        return;
    if (!e->holder) {
        log_warning("the host wants the device back");
        close_for_removal(e);
        return;
    }
    irq_relay_request(e->session.device);
    if (session_is_gone(&e->session))
        seconds = 0;
    if (!e->session.removed)
        log_warning("the host wants the device back: its client has %u seconds", seconds);
    e->session.removed = true;
    if (seconds)
        removal_begin_grace(e->removal, seconds);
    else
        take_device_away(e);
}

static void on_removal_requested(void *arg)
{
    struct export *e = arg;

    turn_take(&e->gd.turn);
    begin_removal(e);
    turn_give_back(&e->gd.turn);
}

static void on_device_error(void *arg)
{
    struct export *e = arg;

    turn_take(&e->gd.turn);
    log_warning("the device reports an error that it could not correct (AER)");
    if (e->holder)
        irq_relay_error(e->session.device);
    turn_give_back(&e->gd.turn);
}

static const struct removal_callbacks removal_callbacks = {
    .error = on_device_error,
    .requested = on_removal_requested,
    .due = on_removal_due,
};

static void remove_client(struct client *c)
{
    struct export *e = c->export;

    if (e->holder == c)
        end_session(e);
    TAILQ_REMOVE(&e->clients, c, link);
    e->n_clients--;
    if (c->handshake)
        event_free(c->handshake);
    connection_free(c->connection);
    free(c);
}

static void on_closed(void *arg)
{
    struct client *c = arg;
    struct export *e = c->export;

    turn_take(&e->gd.turn);
    remove_client(c);
    turn_give_back(&e->gd.turn);
    if (!e->listener && e->finished)
        e->finished(e->finished_arg);
}

static void on_broken(void *arg, const struct vfio_user_header *hdr, int err)
{
    struct client *c = arg;
    struct export *e = c->export;

    dispatch_error(c->connection, hdr, err);
    connection_drain(c->connection);
    event_del(c->handshake); /* the draining has its own limit */
    turn_take(&e->gd.turn);
    if (e->holder == c)
        end_session(e);
    turn_give_back(&e->gd.turn);
}

/* A device that was taken away. What its last client left in it is there still. */
static int find_again(struct export *e, const struct client *c)
{
    int ret = retry_may(&e->retry) ? enter_group(e) : -ENODEV;

    if (!ret && e->quarantined) {
        ret = group_hold(&e->gd, &e->quarantined_for, 0);
        if (!ret)
            group_keep(&e->gd, true);
    }
    if (!ret) {
        log_info("the device is back");
        return 0;
    }
    log_peer_warning("pid %d, uid %u is refused: the device was taken away", c->peer.pid,
                     c->peer.uid);
    group_leave(&e->gd);
    if (retry_may(&e->retry))
        retry_failed(&e->retry);
    return -ENODEV;
}

/* Whether this client may have the device now; 0 or what its VERSION is answered with. */
static int check_offer(struct export *e, const struct client *c)
{
    if (e->holder) {
        log_peer_info("pid %d, uid %u is refused: the device is in use", c->peer.pid, c->peer.uid);
        return -EBUSY;
    }
    if (!e->gd.group && find_again(e, c))
        return -ENODEV;
    if (!e->gd.held)
        e->quarantined = false; /* another device's reset has reset it too */
    if (e->quarantined && !peer_same_identity(&e->quarantined_for, &c->peer)) {
        if (!retry_may(&e->retry) || still_quarantined(e)) {
            log_peer_warning("pid %d, uid %u is refused: the device could not be reset after a "
                             "session of uid %u",
                             c->peer.pid, c->peer.uid, e->quarantined_for.uid);
            return -EACCES;
        }
        group_release(&e->gd);
    }
    if (!retry_may(&e->retry) && !group_device_is_open(&e->gd)) {
        log_peer_warning("pid %d, uid %u is refused: the device could not be opened a moment ago",
                         c->peer.pid, c->peer.uid);
        return -ENODEV;
    }
    return 0;
}

/* Makes the device this client's. */
static int take_device(struct export *e, const struct client *c)
{
    int ret = check_offer(e, c);

    if (!ret) {
        ret = group_hold(&e->gd, &c->peer, e->config->stable_memory);
        if (ret == -ENODEV) {
            retry_failed(&e->retry);
            group_leave(&e->gd); /* it may be gone, or be elsewhere by now */
        }
    }
    return ret;
}

/* It does not become this client's after all. */
static void give_back(struct export *e)
{
    if (e->quarantined)
        group_keep(&e->gd, true);
    else
        group_release(&e->gd);
}

/* Page sizes for VERSION: clients end the session over one below 4 KiB. */
static uint64_t offered_pgsizes(const struct iommu_info *info)
{
    return info->pgsizes & ~(uint64_t)4095;
}

static void begin_session(struct client *c, const struct version_caps *proposed,
                          const struct version_caps *agreed)
{
    struct export *e = c->export;

    e->holder = c;
    c->extensions = agreed->extensions;
    e->session = (struct session){
        .gd = &e->gd,
        .device = e->gd.device,
        .as = e->gd.as,
        .peer = c->peer,
        .agreed = *agreed,
        .strict_dma = e->settings->strict_dma,
        .low_power = e->config->low_power,
        .map_by = e->map_by,
        .dirty_sources = session_dirty_sources(e->settings),
        .stop = e->stop,
        .stable_memory = e->config->stable_memory,
        .max_fds = (uint32_t)MIN(proposed->max_msg_fds, (uint64_t)LIMIT_MSG_FDS),
        .doorbells = e->config->doorbells,
        .n_doorbells = e->config->n_doorbells,
        .quota = e->quota,
    };
    config_policy_deny(e->gd.device, e->config->config_denied);
    event_del(c->handshake);
    connection_set_max_message(c->connection, LIMIT_MSG_SIZE);
    connection_set_busy_poll(c->connection, e->settings->busy_poll_us);
    log_peer_info("session of pid %d, uid %u has begun (protocol %u.%u)", c->peer.pid, c->peer.uid,
                  agreed->major, agreed->minor);
}

static int negotiate(struct client *c, const struct message *msg)
{
    struct export *e = c->export;
    struct version_caps proposed, agreed;
    struct iommu_info iommu;
    struct version_offer offer = {.max_dma_maps = LIMIT_DMA_MAPS};
    struct vfio_user_header hdr;
    cleanup_free_ void *payload = NULL;
    void *reply;
    size_t len;
    int ret;

    if (msg->hdr.command != VFIO_USER_VERSION) {
        log_peer_warning("%s before VERSION", command_name(msg->hdr.command));
        return -EINVAL;
    }
    ret = validate_request(command_find(VFIO_USER_VERSION), &msg->hdr, msg->fds);
    if (!ret)
        ret = version_parse(msg->payload, msg->len, &proposed);
    if (!ret)
        ret = take_device(e, c);
    if (ret)
        return ret;
    if (!device_is_pci(e->gd.device) && !proposed.extensions) {
        log_peer_warning("pid %d, uid %u is refused: %s is no PCI device, and the client does not "
                         "know the extension that the others need",
                         c->peer.pid, c->peer.uid, e->gd.where.name);
        give_back(e);
        return -EOPNOTSUPP;
    }

    address_space_get_info(e->gd.as, &iommu);
    offer.pgsizes = offered_pgsizes(&iommu);
    offer.migration = session_can_migrate(e->gd.device, session_dirty_sources(e->settings));
    offer.max_dma_maps = MIN(offer.max_dma_maps, iommu.max_maps);
    ret = version_reply(&proposed, &offer, &payload, &len, &agreed);
    reply = ret ? NULL : connection_reply_buffer(c->connection, len);
    if (!reply) {
        give_back(e);
        return -ENOMEM;
    }
    memcpy(reply, payload, len);
    begin_session(c, &proposed, &agreed);
    hdr = codec_reply_header(&msg->hdr, 0, (uint32_t)len);
    connection_reply(c->connection, &hdr, len, NULL, 0);
    return 0;
}

static void on_gone(struct export *e)
{
    log_warning("the device does not answer any more");
    take_device_away(e);
}

static void handle_message(struct client *c, const struct message *msg)
{
    int ret;

    if (c->export->holder == c) {
        dispatch_message(&c->export->session, c->connection, msg);
        if (c->export->session.gone)
            on_gone(c->export);
        return;
    }
    if (c->lost_device) {
        dispatch_without_device(c->connection, c->extensions, msg);
        return;
    }
    ret = negotiate(c, msg);
    if (ret) {
        dispatch_error(c->connection, &msg->hdr, ret);
        event_del(c->handshake); /* the draining has its own limit */
        connection_drain(c->connection);
    }
}

static void on_message(void *arg, const struct message *msg)
{
    struct client *c = arg;
    struct turn *turn = &c->export->gd.turn;

    turn_take(turn);
    handle_message(c, msg);
    turn_give_back(turn);
}

static void on_handshake_timeout(evutil_socket_t fd, short what, void *arg)
{
    struct client *c = arg;

    (void)fd;
    (void)what;
    log_peer_warning("pid %d, uid %u has not sent its VERSION in %d seconds", c->peer.pid,
                     c->peer.uid, HANDSHAKE_SECONDS);
    connection_drain(c->connection);
}

static const struct connection_callbacks callbacks = {
    .message = on_message,
    .broken = on_broken,
    .closed = on_closed,
};

/*
 * A crowd that connects and says nothing keeps nobody out: a client that means to stay has sent
 * its VERSION before as many others have come.
 */
static void make_room(struct export *e)
{
    struct client *oldest = TAILQ_FIRST(&e->clients);

    if (e->n_clients < MAX_CLIENTS)
        return;
    if (oldest == e->holder)
        oldest = TAILQ_NEXT(oldest, link);
    log_peer_warning("pid %d, uid %u is put out: %u clients are connected", oldest->peer.pid,
                     oldest->peer.uid, e->n_clients);
    remove_client(oldest);
}

static int add_client(struct export *e, int sock)
{
    const struct timeval limit = {.tv_sec = HANDSHAKE_SECONDS};
    cleanup_close_ int owned = sock;
    struct client *c;
    int ret;

    make_room(e);
    c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->export = e;
    c->handshake = evtimer_new(e->base, on_handshake_timeout, c);
    ret = c->handshake ? peer_read(sock, &c->peer) : -ENOMEM;
    if (!ret)
        ret = connection_create(&c->connection, e->base, steal_fd(&owned), &callbacks, c);
    if (ret) {
        log_peer_warning("can't serve a client: %s", strerror(-ret));
        if (c->handshake)
            event_free(c->handshake);
        free(c);
        return ret;
    }
    event_add(c->handshake, &limit);
    TAILQ_INSERT_TAIL(&e->clients, c, link);
    e->n_clients++;
    return 0;
}

static void on_accepted(int sock, void *arg)
{
    struct export *e = arg;

    turn_take(&e->gd.turn);
    add_client(e, sock);
    turn_give_back(&e->gd.turn);
}

int export_start(struct export *e, struct event_base *base, int stop, void (*finished)(void *arg),
                 void *arg)
{
    int ret;

    e->base = base;
    e->stop = stop;
    e->finished = finished;
    e->finished_arg = arg;
    log_info("serving %s, DMA by %s", e->gd.where.name, group_backend(&e->gd));
    if (e->gd.where.noiommu)
        log_warning("no IOMMU is in front of %s: its clients can read and write all of the host's "
                    "memory (--allow-unsafe-noiommu)",
                    e->gd.where.name);
    ret = removal_start(e->removal, base, &removal_callbacks, e);
    if (ret)
        return ret;
    if (e->listener)
        return listener_start(e->listener, base, on_accepted, e);
    return add_client(e, steal_fd(&e->connected));
}

void export_stop(struct export *e)
{
    struct client *c;

    if (e->listener)
        listener_stop(e->listener);
    turn_take(&e->gd.turn);
    while ((c = TAILQ_FIRST(&e->clients)))
        remove_client(c);
    turn_give_back(&e->gd.turn);
    removal_stop(e->removal);
}
