/*
 * One request on a socket and its reply. The client library's own, not for its users.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proto/fdset.h"

enum {
    VFUC_EXCHANGE_MAX_IOV = 3, /* pieces of a request's payload */
};

struct vfuc_exchange {
    uint16_t msg_id;
    uint16_t command;
    bool posted; /* NO_REPLY: done when sent */

    const struct iovec *request; /* the payload's pieces */
    unsigned request_cnt;
    const int *fds; /* stay the caller's */
    unsigned nfds;

    const struct iovec *reply; /* where its payload goes, in order; what is beyond is dropped */
    unsigned reply_cnt;

    /* Set by vfuc_exchange_run(). */
    bool begun;       /* bytes of the request were sent: an error leaves the stream unusable */
    size_t reply_len; /* the reply's payload, as sent by the server */
    int error;        /* 0, or the errno of an error reply */
    struct fdset *received; /* the caller's set, NULL: descriptors are closed */
};

/*
 * Sends the request and receives its reply. Returns 0 if a reply to it came, also one with an
 * error. -EINVAL: the request is too large; -ECONNRESET: the stream's end; -ETIMEDOUT; -EPROTO:
 * not a reply to this request, or larger than LIMIT_REPLY_SIZE; else the socket's.
 */
int vfuc_exchange_run(struct vfuc_exchange *x, int sock, int timeout_ms);
