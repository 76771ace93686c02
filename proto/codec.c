#include "proto/codec.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Room for one SCM_RIGHTS message, aligned as the kernel's header wants it. */
union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(LIMIT_RECV_FDS * sizeof(int))];
};

static void collect_fds(struct msghdr *msg, struct fdset *fds)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            fdset_add(fds, fd);
        }
    }
    /* What the kernel could still hand over stands in the control data all the same. */
    if (msg->msg_flags & MSG_CTRUNC)
        fds->truncated = true;
}

ssize_t codec_recv(int sock, void *buf, size_t len, struct fdset *fds, int flags)
{
    struct iovec iov = {.iov_base = buf, .iov_len = len};
    union control control;
    struct msghdr msg;
    ssize_t n;

    do {
        msg = (struct msghdr){
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    collect_fds(&msg, fds);
    return n;
}

static void attach_fds(struct msghdr *msg, union control *control, const int *fds, unsigned nfds)
{
    size_t size = nfds * sizeof(int);
    struct cmsghdr *c;

    memset(control, 0, CMSG_SPACE(size));
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(size);
    c = CMSG_FIRSTHDR(msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), fds, size);
}

ssize_t codec_send(int sock, const struct iovec *iov, unsigned iovcnt, const int *fds,
                   unsigned nfds, int flags)
{
    struct msghdr msg = {
        /* sendmsg() only reads it; the struct serves both directions and has no const. */
        .msg_iov = (struct iovec *)(uintptr_t)iov,
        .msg_iovlen = iovcnt,
    };
    union control control;
    ssize_t n;

    assert(nfds <= LIMIT_RECV_FDS);
    if (nfds)
        attach_fds(&msg, &control, fds, nfds);
    flags |= MSG_NOSIGNAL;
    do {
        /* Most replies: send() spares the kernel a msghdr to copy in. */
        n = nfds || iovcnt != 1 ? sendmsg(sock, &msg, flags)
                                : send(sock, iov->iov_base, iov->iov_len, flags);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

struct vfio_user_header codec_reply_header(const struct vfio_user_header *request, uint32_t error,
                                           uint32_t payload)
{
    assert(!error || !payload);
    return (struct vfio_user_header){
        .msg_id = request->msg_id,
        .command = request->command,
        .msg_size = (uint32_t)sizeof(struct vfio_user_header) + payload,
        .flags = VFIO_USER_FLAG_TYPE_REPLY | (error ? (uint32_t)VFIO_USER_FLAG_ERROR : 0),
        .error = error,
    };
}

struct vfio_user_header codec_request_header(uint16_t msg_id, uint16_t command, uint32_t payload,
                                             uint32_t flags)
{
    return (struct vfio_user_header){
        .msg_id = msg_id,
        .command = command,
        .msg_size = (uint32_t)sizeof(struct vfio_user_header) + payload,
        .flags = VFIO_USER_FLAG_TYPE_COMMAND | flags,
    };
}
