/*
 * The server that the client library's tests talk to: a thread at the other end of a socketpair,
 * which answers VERSION well and each later request by what the test tells it to.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client-example/vfuc.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/codec.h"
#include "tests/unit/fd_leak.h"

enum {
    MAX_REQUESTS = 64,
};

struct request {
    struct vfio_user_header hdr;
    struct fdset fds;
    size_t len;
    uint8_t payload[4096]; /* its beginning */
};

struct fake;

/* Answers one request. */
typedef void (*answer_fn)(struct fake *f, const struct request *req);

struct fake {
    int sock;
    answer_fn version, answer;
    const char *capabilities; /* of the answer to VERSION */
    pthread_t thread;

    /* What came after VERSION, under the lock. */
    pthread_mutex_t lock;
    unsigned count;
    struct request requests[MAX_REQUESTS]; /* the descriptors are closed */
};

/* --- The server --- */

static inline void send_bytes(struct fake *f, const void *bytes, size_t len, const int *fds,
                              unsigned nfds)
{
    while (len) {
        const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
        ssize_t n = codec_send(f->sock, &iov, 1, fds, nfds, 0);

        if (n <= 0)
            return; /* the client is gone: so be it */
        bytes = (const uint8_t *)bytes + n;
        len -= (size_t)n;
        nfds = 0;
    }
}

static inline void reply_with_fds(struct fake *f, const struct request *req, const void *payload,
                                  size_t len, const int *fds, unsigned nfds)
{
    cleanup_free_ uint8_t *message = malloc(sizeof(req->hdr) + len);
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, (uint32_t)len);

    if (!message)
        abort();
    memcpy(message, &hdr, sizeof(hdr));
    if (len)
        memcpy(message + sizeof(hdr), payload, len);
    send_bytes(f, message, sizeof(hdr) + len, fds, nfds);
}

static inline void reply(struct fake *f, const struct request *req, const void *payload, size_t len)
{
    reply_with_fds(f, req, payload, len, NULL, 0);
}

static inline void reply_header(struct fake *f, const struct vfio_user_header *hdr)
{
    send_bytes(f, hdr, sizeof(*hdr), NULL, 0);
}

static inline bool receive_bytes(struct fake *f, void *buf, size_t len, struct fdset *fds)
{
    for (uint8_t *at = buf; len;) {
        ssize_t n = codec_recv(f->sock, at, len, fds, 0);

        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static inline bool receive_request(struct fake *f, struct request *req)
{
    uint8_t waste[4096];
    size_t left;

    fdset_init(&req->fds);
    if (!receive_bytes(f, &req->hdr, sizeof(req->hdr), &req->fds))
        return false;
    req->len = left = req->hdr.msg_size - sizeof(req->hdr);
    if (!receive_bytes(f, req->payload, MIN(left, sizeof(req->payload)), &req->fds))
        return false;
    left -= MIN(left, sizeof(req->payload));
    while (left) {
        size_t n = MIN(left, sizeof(waste));

        if (!receive_bytes(f, waste, n, &req->fds))
            return false;
        left -= n;
    }
    return true;
}

static inline void keep(struct fake *f, const struct request *req)
{
    pthread_mutex_lock(&f->lock);
    if (f->count < MAX_REQUESTS)
        f->requests[f->count++] = *req;
    pthread_mutex_unlock(&f->lock);
}

static inline void *serve(void *arg)
{
    struct fake *f = arg;
    struct request req;
    bool negotiated = false;

    while (receive_request(f, &req)) {
        if (negotiated) {
            keep(f, &req);
            f->answer(f, &req);
        } else {
            f->version(f, &req);
        }
        negotiated = true;
        fdset_close(&req.fds);
    }
    fdset_close(&req.fds);
    shutdown(f->sock, SHUT_RDWR);
    return NULL;
}

static inline void answer_version_as(struct fake *f, const struct request *req, uint16_t major,
                                     uint16_t minor)
{
    const struct vfio_user_version version = {.major = major, .minor = minor};
    char payload[512];
    size_t len = sizeof(version);

    memcpy(payload, &version, sizeof(version));
    if (f->capabilities) {
        strcpy(payload + len, f->capabilities);
        len += strlen(f->capabilities) + 1;
    }
    reply(f, req, payload, len);
}

static inline void answer_version(struct fake *f, const struct request *req)
{
    answer_version_as(f, req, 0, 1);
}

/* --- The client's side --- */

/* Starts the server; returns the client's end of the socket. */
static inline int fake_start(struct fake *f)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->sock = pair[0];
    if (!f->version)
        f->version = answer_version;
    pthread_mutex_init(&f->lock, NULL);
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    return pair[1];
}

static inline struct vfuc *fake_open(struct fake *f, answer_fn answer)
{
    struct vfuc *c;

    f->answer = answer;
    assert_int_equal(vfuc_open_fd(&c, fake_start(f), NULL), 0);
    return c;
}

/* After the thread has been joined. */
static inline void fake_free(struct fake *f, struct vfuc *c)
{
    vfuc_close(c);
    fd_close(&f->sock);
    pthread_mutex_destroy(&f->lock);
}

static inline void fake_stop(struct fake *f, struct vfuc *c)
{
    vfuc_close(c);
    pthread_join(f->thread, NULL);
    fake_free(f, NULL);
}

static inline unsigned requests_seen(struct fake *f)
{
    unsigned n;

    pthread_mutex_lock(&f->lock);
    n = f->count;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static inline struct request request_seen(struct fake *f, unsigned i)
{
    struct request req;

    pthread_mutex_lock(&f->lock);
    assert_true(i < f->count);
    req = f->requests[i];
    pthread_mutex_unlock(&f->lock);
    return req;
}

/* 0: not an open descriptor. */
static inline ino_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* --- Answers --- */

static inline void echo(struct fake *f, const struct request *req)
{
    reply(f, req, req->payload, req->len);
}

static inline void done(struct fake *f, const struct request *req)
{
    reply(f, req, NULL, 0);
}

static inline void nothing(struct fake *f, const struct request *req)
{
    (void)f;
    (void)req;
}

static inline void leave(struct fake *f, const struct request *req)
{
    (void)req;
    shutdown(f->sock, SHUT_RDWR);
}

/* Region reads: bytes that tell their offset. Writes: the fixed part. */
static inline void serve_region(struct fake *f, const struct request *req)
{
    struct vfio_user_region_access access;
    cleanup_free_ uint8_t *payload = NULL;

    memcpy(&access, req->payload, sizeof(access));
    payload = malloc(sizeof(access) + access.count);
    if (!payload)
        abort();
    memcpy(payload, &access, sizeof(access));
    for (uint32_t i = 0; i < access.count; i++)
        payload[sizeof(access) + i] = (uint8_t)(access.offset + i);
    reply(f, req, payload,
          sizeof(access) + (req->hdr.command == VFIO_USER_REGION_READ ? access.count : 0));
}

static inline void assert_counts_up(const uint8_t *bytes, size_t n, uint8_t first)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(bytes[i], (uint8_t)(first + i));
}

static inline void refuse(struct fake *f, const struct request *req)
{
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, ENOSPC, 0);

    reply_header(f, &hdr);
}
