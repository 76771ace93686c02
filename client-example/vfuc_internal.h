/* What the library's files share: from a session to one exchange on its socket. */
#pragma once

#include "client-example/vfuc.h"
#include "client-example/vfuc_exchange.h"

/* Runs an exchange in the session: its message id, its timeout. 0 or -errno, the server's too. */
int vfuc_run(struct vfuc *c, struct vfuc_exchange *x);

/* A command that gives its argument back, filled in. */
int vfuc_query(struct vfuc *c, uint16_t command, void *arg, size_t len);

/* Walks a capability chain as vfuc_region_cap_next(), of an info of argsz bytes, fixed of which are
 * not the chain's. first: the offset of its first capability; 0: there is none. */
int vfuc_cap_next(const void *info, uint32_t argsz, size_t fixed, uint32_t first, uint32_t *offset,
                  struct vfio_user_cap_header *cap);

static inline struct iovec vfuc_piece(const void *buf, size_t len)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
}
