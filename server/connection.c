#include "server/connection.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/validate.h"

enum {
    HEADER = sizeof(struct vfio_user_header),
    /* A read-ahead: a burst of small messages comes in by one system call. */
    READ_AHEAD = 16384,
    /* Reads after which the loop gets its turn, so that a flood does not starve the rest. */
    READS_PER_TURN = 64,
    DRAIN_SECONDS = 5,
};

enum connection_state {
    OPEN,
    DRAINING, /* input is discarded */
    CLOSED,   /* the closed callback is due */
};

struct connection {
    const struct connection_callbacks *callbacks;
    void *arg;
    int sock;
    struct event *readable, *writable, *drained;
    enum connection_state state;
    unsigned busy_poll_us;
    uint32_t max_message;

    /* Received and not yet given out: begins with a message's start. */
    uint8_t *in;
    size_t in_size, in_len;
    /* Descriptors, and the offset in the buffer of the message that they came with. */
    struct fdset fds;
    size_t fds_at;

    /* The reply; out_len > out_sent: the socket has not taken all of it. */
    uint8_t *out;
    size_t out_size, out_len, out_sent;
    /* Its descriptors, which go with its first byte, if the socket has not taken that yet. */
    int out_fds[LIMIT_MSG_FDS];
    unsigned n_out_fds;
};

static void drop_out_fds(struct connection *c)
{
    while (c->n_out_fds)
        fd_close(&c->out_fds[--c->n_out_fds]);
}

/* Nothing of a reply that can't be sent is left when the callback ends the session. */
static void mark_closed(struct connection *c)
{
    c->state = CLOSED;
    drop_out_fds(c);
    event_del(c->readable);
    event_del(c->writable);
}

/* The last statement of every event's function: the callback may free the connection. */
static void tell_if_closed(struct connection *c)
{
    if (c->state == CLOSED)
        c->callbacks->closed(c->arg);
}

static bool grow(uint8_t **buf, size_t *size, size_t needed)
{
    uint8_t *grown;

    if (needed <= *size)
        return true;
    grown = realloc(*buf, needed);
    if (!grown)
        return false;
    *buf = grown;
    *size = needed;
    return true;
}

static struct vfio_user_header header_at(const struct connection *c, size_t offset)
{
    struct vfio_user_header hdr;

    memcpy(&hdr, c->in + offset, sizeof(hdr));
    return hdr;
}

/*
 * The start of the last message that begins in the buffer, for the descriptors that came with the
 * read which ended it. A header that no message can have ends the walk: nothing after it counts.
 */
static size_t last_message_start(const struct connection *c)
{
    size_t at = 0;

    while (c->in_len - at >= HEADER) {
        size_t size = header_at(c, at).msg_size;

        if (size < HEADER || size >= c->in_len - at)
            break;
        at += size;
    }
    return at;
}

/* How many bytes the next read may take; 0: the message in the buffer is whole, or broken. */
static size_t bytes_wanted(const struct connection *c)
{
    size_t size;

    if (!c->in_len)
        return READ_AHEAD;
    if (c->in_len < HEADER)
        return HEADER - c->in_len;
    size = header_at(c, 0).msg_size;
    return size > c->in_len ? size - c->in_len : 0;
}

/* One read. Returns its bytes, 0 at the end or on an error of the socket, -EAGAIN. */
static ssize_t fill(struct connection *c)
{
    size_t wanted = bytes_wanted(c);
    bool fresh = !c->in_len;
    unsigned fds_before = c->fds.count;
    ssize_t n;

    assert(wanted);
    if (!grow(&c->in, &c->in_size, c->in_len + wanted)) {
        log_peer_warning("no memory for a message of the client");
        return 0;
    }
    n = codec_recv(c->sock, c->in + c->in_len, wanted, &c->fds, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return n;
    if (n <= 0) {
        if (n < 0 && n != -ECONNRESET)
            log_peer_warning("receive from the client: %s", strerror((int)-n));
        return 0;
    }
    c->in_len += (size_t)n;
    if (c->fds.count != fds_before || c->fds.truncated)
        c->fds_at = fresh ? last_message_start(c) : 0;
    return n;
}

static void give_message(struct connection *c, size_t at, const struct vfio_user_header *hdr)
{
    struct fdset none;
    bool with_fds = at == c->fds_at;
    struct message msg = {
        .hdr = *hdr,
        .payload = c->in + at + HEADER,
        .len = hdr->msg_size - HEADER,
        .fds = with_fds ? &c->fds : &none,
    };

    fdset_init(&none);
    c->callbacks->message(c->arg, &msg);
    if (with_fds)
        fdset_close(&c->fds);
}

/* Gives out every whole message in the buffer. */
static void give_messages(struct connection *c)
{
    size_t at = 0;

    while (c->state == OPEN && c->out_len == c->out_sent && c->in_len - at >= HEADER) {
        struct vfio_user_header hdr = header_at(c, at);
        int err = validate_header(&hdr, c->max_message);

        if (err) {
            c->callbacks->broken(c->arg, &hdr, err);
            connection_drain(c);
            break;
        }
        if (hdr.msg_size > c->in_len - at)
            break;
        give_message(c, at, &hdr);
        at += hdr.msg_size;
    }
    if (at) {
        c->in_len -= at;
        memmove(c->in, c->in + at, c->in_len);
        c->fds_at = c->fds_at > at ? c->fds_at - at : 0;
    }
}

/* Reads and throws away, descriptors too; as much as one turn allows. */
static void discard(struct connection *c)
{
    ssize_t n = 1;

    c->in_len = 0;
    for (unsigned reads = 0; n > 0 && reads < READS_PER_TURN; reads++) {
        n = grow(&c->in, &c->in_size, READ_AHEAD)
                ? codec_recv(c->sock, c->in, READ_AHEAD, &c->fds, MSG_DONTWAIT)
                : 0;
        fdset_close(&c->fds);
    }
    if (n <= 0 && n != -EAGAIN)
        mark_closed(c);
}

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/*
 * fill, but looking again until the deadline (0: once): the time to a sleep and back costs more
 * than a look. The loop does not watch the socket meanwhile, or the kernel would tell it of every
 * message.
 */
static ssize_t fill_until(struct connection *c, uint64_t deadline)
{
    ssize_t n = fill(c);

    if (n != -EAGAIN || !deadline)
        return n;
    event_del(c->readable);
    do
        n = fill(c);
    while (n == -EAGAIN && now_us() < deadline);
    return n;
}

static void on_readable(evutil_socket_t sock, short what, void *arg)
{
    struct connection *c = arg;
    uint64_t deadline = c->busy_poll_us ? now_us() + c->busy_poll_us : 0;

    (void)sock;
    (void)what;
    for (unsigned i = 0; i < READS_PER_TURN && c->state == OPEN && c->out_len == c->out_sent; i++) {
        ssize_t n = fill_until(c, deadline);

        if (n == -EAGAIN)
            break;
        if (!n) {
            mark_closed(c);
            break;
        }
        give_messages(c);
        /* A short read has emptied the socket; asking it again costs a call in each exchange. */
        if (!c->busy_poll_us && !c->in_len && n < READ_AHEAD)
            break;
    }
    /* Polling has ended the watch. */
    if (c->state == OPEN && c->out_len == c->out_sent)
        event_add(c->readable, NULL);
    if (c->state == DRAINING)
        discard(c);
    tell_if_closed(c);
}

static int keep_out_fds(struct connection *c, const int *fds, unsigned nfds)
{
    assert(nfds <= LIMIT_MSG_FDS);
    for (unsigned i = 0; i < nfds; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);

        if (copy < 0)
            return -errno;
        c->out_fds[c->n_out_fds++] = copy;
    }
    return 0;
}

/* Sends what is left of the reply. The socket's refusal ends the connection. */
static void flush(struct connection *c, const int *fds, unsigned nfds)
{
    struct iovec iov = {.iov_base = c->out + c->out_sent, .iov_len = c->out_len - c->out_sent};
    ssize_t n = codec_send(c->sock, &iov, 1, fds, nfds, MSG_DONTWAIT);

    if (n == -EAGAIN)
        n = 0;
    if (n < 0) {
        if (n != -EPIPE && n != -ECONNRESET)
            log_peer_warning("send to the client: %s", strerror((int)-n));
        mark_closed(c);
        return;
    }
    c->out_sent += (size_t)n;
    if (n)
        drop_out_fds(c);
}

static void on_writable(evutil_socket_t sock, short what, void *arg)
{
    struct connection *c = arg;

    (void)sock;
    (void)what;
    flush(c, c->out_fds, c->n_out_fds);
    if (c->state == OPEN && c->out_len == c->out_sent) {
        event_del(c->writable);
        event_add(c->readable, NULL);
        /* Messages that were read before the reply got stuck raise no event. */
        give_messages(c);
    }
    tell_if_closed(c);
}

static void on_drained(evutil_socket_t sock, short what, void *arg)
{
    struct connection *c = arg;

    (void)sock;
    (void)what;
    mark_closed(c);
    tell_if_closed(c);
}

int connection_create(struct connection **out, struct event_base *base, int sock,
                      const struct connection_callbacks *callbacks, void *arg)
{
    struct connection *c = calloc(1, sizeof(*c));
    int ret;

    if (!c) {
        fd_close(&sock);
        return -ENOMEM;
    }
    c->callbacks = callbacks;
    c->arg = arg;
    c->sock = sock;
    c->max_message = HEADER + sizeof(struct vfio_user_version) + LIMIT_VERSION_DATA;
    fdset_init(&c->fds);
    c->readable = event_new(base, sock, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(base, sock, EV_WRITE | EV_PERSIST, on_writable, c);
    c->drained = evtimer_new(base, on_drained, c);
    ret = fd_set_nonblock(sock);
    if (!ret && (!c->readable || !c->writable || !c->drained || event_add(c->readable, NULL)))
        ret = -ENOMEM;
    if (ret) {
        connection_free(c);
        return ret;
    }
    *out = c;
    return 0;
}

void connection_free(struct connection *c)
{
    if (!c)
        return;
    if (c->readable)
        event_free(c->readable);
    if (c->writable)
        event_free(c->writable);
    if (c->drained)
        event_free(c->drained);
    fdset_close(&c->fds);
    drop_out_fds(c);
    fd_close(&c->sock);
    free(c->in);
    free(c->out);
    free(c);
}

int connection_socket(const struct connection *c)
{
    return c->sock;
}

void connection_set_busy_poll(struct connection *c, unsigned microseconds)
{
    c->busy_poll_us = microseconds;
}

void connection_set_max_message(struct connection *c, uint32_t bytes)
{
    c->max_message = bytes;
}

void *connection_reply_buffer(struct connection *c, size_t len)
{
    assert(len <= LIMIT_REPLY_SIZE - HEADER);
    assert(c->out_sent == c->out_len);
    return grow(&c->out, &c->out_size, HEADER + len) ? c->out + HEADER : NULL;
}

void connection_reply(struct connection *c, const struct vfio_user_header *hdr, size_t len,
                      const int *fds, unsigned nfds)
{
    if (c->state != OPEN)
        return;
    assert(c->out_sent == c->out_len);
    if (!grow(&c->out, &c->out_size, HEADER + len)) {
        log_peer_warning("no memory for a reply to the client");
        mark_closed(c);
        return;
    }
    memcpy(c->out, hdr, HEADER);
    c->out_len = HEADER + len;
    c->out_sent = 0;
    flush(c, fds, nfds);
    if (c->state == OPEN && !c->out_sent) {
        int ret = keep_out_fds(c, fds, nfds);

        if (ret) {
            log_peer_warning("no descriptors for a reply to the client: %s", strerror(-ret));
            mark_closed(c);
        }
    }
    if (c->state == OPEN && c->out_sent < c->out_len) {
        event_del(c->readable);
        event_add(c->writable, NULL);
    }
}

void connection_drain(struct connection *c)
{
    const struct timeval limit = {.tv_sec = DRAIN_SECONDS};

    if (c->state != OPEN)
        return;
    c->state = DRAINING;
    event_del(c->writable);
    event_add(c->readable, NULL);
    event_add(c->drained, &limit);
    shutdown(c->sock, SHUT_WR);
}
