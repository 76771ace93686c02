#include "tests/bench/exchange.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/codec.h"
#include "proto/fdset.h"
#include "proto/wire.h"

int exchange_send(int sock, const struct exchange *x)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)x->request, .iov_len = x->request_len};
    ssize_t n;

    if (x->fd >= 0) {
        n = codec_send(sock, &iov, 1, &x->fd, 1, 0);
    } else {
        n = send(sock, x->request, x->request_len, MSG_NOSIGNAL);
        n = n < 0 ? -errno : n;
    }
    if (n < 0)
        return (int)n;
    return (size_t)n == x->request_len ? 0 : -EIO;
}

int exchange_receive(int sock, void *buf, size_t len, unsigned spins)
{
    size_t got = 0;

    while (got < len) {
        bool look = spins > 0;
        ssize_t n = recv(sock, (char *)buf + got, len - got, look ? MSG_DONTWAIT : MSG_WAITALL);

        if (n > 0)
            got += (size_t)n;
        else if (!n)
            return -EPIPE;
        else if (!look || errno != EAGAIN)
            return -errno;
        if (look)
            spins--;
    }
    return 0;
}

int exchange_receive_fd(int sock, void *buf, size_t len, unsigned spins)
{
    struct fdset fds;
    ssize_t n;

    fdset_init(&fds);
    do
        n = codec_recv(sock, buf, len, &fds, spins ? MSG_DONTWAIT : MSG_WAITALL);
    while (n == -EAGAIN && spins--);
    fdset_close(&fds);
    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -EPIPE;
}

int exchange_receive_reply(int sock, const struct exchange *x, unsigned spins)
{
    static uint8_t reply[EXCHANGE_MAX_REPLY];
    struct vfio_user_header hdr;
    int ret;

    if (!x->reply_len)
        return 0;
    ret = exchange_receive(sock, reply, x->reply_len, spins);
    memcpy(&hdr, reply, sizeof(hdr));
    if (!ret && hdr.flags & VFIO_USER_FLAG_ERROR)
        return -(int)hdr.error;
    return ret;
}

int exchange_ask(int sock, const struct exchange *x)
{
    uint8_t reply[EXCHANGE_MAX_REPLY];
    struct vfio_user_header hdr;
    int ret = exchange_send(sock, x);

    if (ret || !x->reply_len)
        return ret;
    ret = exchange_receive(sock, reply, sizeof(hdr), 0);
    if (ret)
        return ret;
    memcpy(&hdr, reply, sizeof(hdr));
    if (hdr.flags & VFIO_USER_FLAG_ERROR)
        return -(int)hdr.error;
    if (hdr.msg_size != x->reply_len)
        return -EPROTO;
    return exchange_receive(sock, reply, x->reply_len - sizeof(hdr), 0);
}
