/*
 * The client's side of the stream.
 *
 * A request leaves in one sendmsg() wherever the socket takes it whole. A reply is taken as it
 * comes, in any fragments: first the header, then the payload that the header tells, never a byte
 * beyond. Descriptors of the reply arrive with its first byte; what of them nobody asked for is
 * closed. One deadline bounds it all, so that a server that dribbles is no better than a silent
 * one.
 */
#include "client-example/vfuc_exchange.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "proto/base/arith.h"
#include "proto/codec.h"

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0 if the socket is ready or has something to tell by an error. */
static int wait_ready(int sock, short events, int64_t deadline)
{
    struct pollfd pfd = {.fd = sock, .events = events};

    for (;;) {
        int64_t left = deadline - now_ms();
        int n = poll(&pfd, 1, left < 0 ? 0 : (int)MIN(left, INT_MAX));

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0 && left <= 0)
            return -ETIMEDOUT;
    }
}

/* Takes n bytes off the front of the vector; returns the number of whole pieces that are gone. */
static unsigned advance(struct iovec *iov, unsigned cnt, size_t n)
{
    unsigned i = 0;

    while (i < cnt && n >= iov[i].iov_len)
        n -= iov[i++].iov_len;
    if (i < cnt) {
        iov[i].iov_base = (uint8_t *)iov[i].iov_base + n;
        iov[i].iov_len -= n;
    }
    return i;
}

static int send_all(struct vfuc_exchange *x, int sock, struct iovec *iov, unsigned cnt,
                    int64_t deadline)
{
    while (cnt) {
        /* The descriptors go with the first byte. */
        ssize_t n = codec_send(sock, iov, cnt, x->fds, x->begun ? 0 : x->nfds, 0);
        unsigned gone;
        int ret;

        if (n == -EAGAIN) {
            ret = wait_ready(sock, POLLOUT, deadline);
            if (ret)
                return ret;
            continue;
        }
        if (n < 0)
            return n == -EPIPE ? -ECONNRESET : (int)n;
        gone = advance(iov, cnt, (size_t)n);
        iov += gone;
        cnt -= gone;
        x->begun = true;
    }
    return 0;
}

static int receive_all(int sock, void *buf, size_t len, struct fdset *fds, int64_t deadline)
{
    uint8_t *at = buf;

    while (len) {
        ssize_t n = codec_recv(sock, at, len, fds, MSG_DONTWAIT);

        if (n == -EAGAIN) {
            int ret = wait_ready(sock, POLLIN, deadline);

            if (ret)
                return ret;
            continue;
        }
        if (n <= 0)
            return n ? (int)n : -ECONNRESET;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int drop(int sock, size_t len, struct fdset *fds, int64_t deadline)
{
    uint8_t waste[4096];
    int ret = 0;

    while (len && !ret) {
        size_t n = MIN(len, sizeof(waste));

        ret = receive_all(sock, waste, n, fds, deadline);
        len -= n;
    }
    return ret;
}

static int send_request(struct vfuc_exchange *x, int sock, int64_t deadline)
{
    struct iovec iov[1 + VFUC_EXCHANGE_MAX_IOV];
    struct vfio_user_header hdr;
    size_t len = 0;

    if (x->request_cnt > VFUC_EXCHANGE_MAX_IOV || x->nfds > LIMIT_RECV_FDS)
        return -EINVAL;
    for (unsigned i = 0; i < x->request_cnt; i++) {
        iov[1 + i] = x->request[i];
        if (x->request[i].iov_len > UINT32_MAX - sizeof(hdr) - len)
            return -EINVAL;
        len += x->request[i].iov_len;
    }
    hdr = codec_request_header(x->msg_id, x->command, (uint32_t)len,
                               x->posted ? VFIO_USER_FLAG_NO_REPLY : 0);
    iov[0] = (struct iovec){.iov_base = &hdr, .iov_len = sizeof(hdr)};
    return send_all(x, sock, iov, 1 + x->request_cnt, deadline);
}

static bool is_reply_to(const struct vfio_user_header *hdr, const struct vfuc_exchange *x)
{
    return (hdr->flags & VFIO_USER_FLAG_TYPE_MASK) == VFIO_USER_FLAG_TYPE_REPLY &&
           hdr->msg_id == x->msg_id && hdr->command == x->command &&
           hdr->msg_size >= sizeof(*hdr) && hdr->msg_size <= LIMIT_REPLY_SIZE;
}

/* An error reply may leave the errno out; what is no errno at all is not passed on as one. */
static int error_of(const struct vfio_user_header *hdr)
{
    const uint32_t max_errno = 4095;

    if (!(hdr->flags & VFIO_USER_FLAG_ERROR))
        return 0;
    return hdr->error && hdr->error <= max_errno ? (int)hdr->error : EIO;
}

static int receive_reply(struct vfuc_exchange *x, int sock, struct fdset *fds, int64_t deadline)
{
    struct vfio_user_header hdr;
    size_t left;
    int ret;

    ret = receive_all(sock, &hdr, sizeof(hdr), fds, deadline);
    if (ret)
        return ret;
    if (!is_reply_to(&hdr, x))
        return -EPROTO;
    x->error = error_of(&hdr);
    x->reply_len = left = hdr.msg_size - sizeof(hdr);
    for (unsigned i = 0; i < x->reply_cnt && !x->error; i++) {
        size_t n = MIN(left, x->reply[i].iov_len);

        ret = receive_all(sock, x->reply[i].iov_base, n, fds, deadline);
        if (ret)
            return ret;
        left -= n;
    }
    return drop(sock, left, fds, deadline);
}

int vfuc_exchange_run(struct vfuc_exchange *x, int sock, int timeout_ms)
{
    int64_t deadline = now_ms() + timeout_ms;
    struct fdset own, *fds = x->received ? x->received : &own;
    int ret;

    x->begun = false;
    x->reply_len = 0;
    x->error = 0;
    fdset_init(fds);
    ret = send_request(x, sock, deadline);
    if (!ret && !x->posted)
        ret = receive_reply(x, sock, fds, deadline);
    if (ret || fds == &own)
        fdset_close(fds);
    return ret;
}
