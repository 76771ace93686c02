/*
 * Bytes and descriptors on a socket: the two system calls, and headers in and out of bytes.
 * Used by the server's connection and by the client library. Not thread-safe for one socket and
 * direction at a time; no state of its own.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "proto/fdset.h"
#include "proto/wire.h"

/*
 * One recvmsg: up to len bytes into buf; descriptors are added to fds (close-on-exec).
 * flags: MSG_DONTWAIT or 0. Returns the number of bytes, 0 at the end of the stream, -errno.
 * EINTR is retried.
 */
ssize_t codec_recv(int sock, void *buf, size_t len, struct fdset *fds, int flags);

/*
 * One sendmsg, of a message's first bytes: the descriptors travel with byte 0. nfds: at most
 * LIMIT_RECV_FDS. Returns the number of bytes taken by the socket, which may be fewer than given,
 * or -errno. No SIGPIPE. EINTR is retried. The descriptors stay the caller's.
 */
ssize_t codec_send(int sock, const struct iovec *iov, unsigned iovcnt, const int *fds,
                   unsigned nfds, int flags);

/*
 * The reply header for a request. error: 0 or a positive errno; payload: bytes that follow,
 * 0 if error (an error reply is a header alone: "Header").
 */
struct vfio_user_header codec_reply_header(const struct vfio_user_header *request, uint32_t error,
                                           uint32_t payload);

/* A request header. flags: VFIO_USER_FLAG_NO_REPLY or 0. */
struct vfio_user_header codec_request_header(uint16_t msg_id, uint16_t command, uint32_t payload,
                                             uint32_t flags);
