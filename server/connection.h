/*
 * A connection: bytes and descriptors of one socket, cut into messages on the way in, sent whole
 * on the way out. It knows headers and sizes, and no command.
 *
 * Reading. A stream read never returns data beyond the piece that carried descriptors, but may
 * return descriptor-less pieces in front of it. So a read that begins at a message's start may
 * take more than one message, and its descriptors belong to the last message that starts in it; a
 * read that continues a message asks for no byte more than that message lacks, and its descriptors
 * belong to that message. This holds for every client that sends a message and its descriptors by
 * one sendmsg, as the protocol's clients do.
 *
 * Writing. A reply goes out by one sendmsg. What the socket does not take is kept, and nothing
 * more is read from this client until it is gone: a client that does not read its replies holds
 * one reply of memory, and waits for itself.
 *
 * All functions: the worker that owns the event base.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/fdset.h"
#include "proto/wire.h"

struct connection;
struct event_base;

/* One message. Valid until the callback returns; descriptors not taken are closed then. */
struct message {
    struct vfio_user_header hdr;
    const uint8_t *payload; /* unaligned */
    size_t len;
    struct fdset *fds;
};

struct connection_callbacks {
    /* A whole message. Neither this nor broken may call connection_free. */
    void (*message)(void *arg, const struct message *msg);
    /*
     * The stream can't be understood any more: hdr is the header that no message can have, err
     * what validate_header said of it. A reply may be sent; the connection is drained afterwards.
     */
    void (*broken)(void *arg, const struct vfio_user_header *hdr, int err);
    /* The peer has gone, or the draining is over. It may call connection_free. */
    void (*closed)(void *arg);
};

/*
 * Takes a connected stream socket, which it owns from then on (also on an error). 0 or -errno.
 */
int connection_create(struct connection **out, struct event_base *base, int sock,
                      const struct connection_callbacks *callbacks, void *arg);

/* Closes the socket and all descriptors not taken. NULL is allowed. */
void connection_free(struct connection *c);

int connection_socket(const struct connection *c);

/*
 * How long a turn of the loop may look for further messages before it goes to sleep; at first 0.
 * The loop's other events wait as long.
 */
void connection_set_busy_poll(struct connection *c, unsigned microseconds);

/* The largest message accepted from now on, in bytes; at first what a VERSION may need. */
void connection_set_max_message(struct connection *c, uint32_t bytes);

/*
 * Room for a reply's payload of len bytes, at most LIMIT_REPLY_SIZE less the header; NULL without
 * memory. Valid until connection_reply. There is one such room: each call gives the same.
 */
void *connection_reply_buffer(struct connection *c, size_t len);

/*
 * Sends a reply: the header and len bytes of the reply buffer, with nfds descriptors (which stay
 * the caller's). Nothing is returned: a socket that fails is closed, and the closed callback
 * comes.
 */
void connection_reply(struct connection *c, const struct vfio_user_header *hdr, size_t len,
                      const int *fds, unsigned nfds);

/*
 * Ends the connection so that the peer can still read what was sent: everything it sends is
 * discarded until it closes, or for a few seconds. A close with its data unread would discard our
 * replies too, and makes QEMU abort.
 */
void connection_drain(struct connection *c);
