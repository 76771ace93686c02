/*
 * From a message to its handler and back: the command table's checks, one call, one reply. Replies
 * are built here alone.
 *
 * Functions run in the export's worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "server/connection.h"
#include "server/session.h"

/* A request on its way through a handler, and the reply that it makes. */
struct request {
    const uint8_t *payload; /* unaligned; of the size that the command's row allows */
    size_t len;
    struct fdset *fds; /* what is not taken is closed afterwards */
    bool no_reply;     /* none is sent: what would be lost with it is not to be put there */

    struct connection *connection; /* for the reply's buffer alone */
    size_t reply_len;
    int reply_fds[LIMIT_MSG_FDS]; /* sent with the reply and closed afterwards */
    unsigned reply_nfds;
};

/*
 * A handler returns 0 (the reply is what it left in the request), or -errno for an error reply.
 * A reply that is made in vain does no harm.
 */
typedef int (*handler)(struct session *s, struct request *req);

/* The buffer for a reply's payload of len bytes, which becomes the reply's length. NULL: no memory.
 */
void *request_reply(struct request *req, size_t len);

/*
 * The reply of a question about something: fixed, whose first field is its argsz, which this sets;
 * and rest, rest_len bytes, if both fit into room, what the client takes. 0 or -ENOMEM.
 */
int request_reply_info(struct request *req, uint32_t room, void *fixed, size_t fixed_len,
                       const void *rest, size_t rest_len);

/* A request of a session: checked, carried out, answered. */
void dispatch_message(struct session *s, struct connection *c, const struct message *msg);

/*
 * A request of a client whose device was taken away after its session had begun: ENODEV, but what
 * a bus and an IOMMU answer without the device too. Reads are all ones and writes are dropped, and
 * memory can be unmapped (it is not mapped any more). extensions: what its session had agreed on.
 */
void dispatch_without_device(struct connection *c, bool extensions, const struct message *msg);

/* An error reply to any message that may get one: a request, unless it has NO_REPLY. */
void dispatch_error(struct connection *c, const struct vfio_user_header *hdr, int err);
