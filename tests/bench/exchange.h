/*
 * A message and its reply by plain system calls: what both ends of the floor do, and the client's
 * end of a served device.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange {
    uint8_t request[64]; /* header and payload */
    size_t request_len;
    int fd;           /* sent along; -1: none */
    size_t reply_len; /* 0: the message gets no reply */
};

enum {
    EXCHANGE_MAX_REPLY = 8192,
};

/* Sends the request. 0 or -errno. */
int exchange_send(int sock, const struct exchange *x);

/*
 * Receives exactly len bytes. First it looks for them up to spins times, then it sleeps. 0, -EPIPE
 * at the stream's end, or -errno.
 */
int exchange_receive(int sock, void *buf, size_t len, unsigned spins);

/* The same for a request that brings a descriptor, which is closed. */
int exchange_receive_fd(int sock, void *buf, size_t len, unsigned spins);

/* Receives the reply of the size that is expected, if there is one. Its error as -errno. */
int exchange_receive_reply(int sock, const struct exchange *x, unsigned spins);

/* One exchange with a server. Its error as -errno, -EPROTO for a reply of another size. */
int exchange_ask(int sock, const struct exchange *x);
