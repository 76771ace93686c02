/*
 * The descriptors that came with one message. The set owns them: a handler takes the ones it
 * wants, the rest are closed with the message, on every path.
 *
 * Not thread-safe; a set belongs to one connection.
 */
#pragma once

#include <stdbool.h>

#include "proto/limits.h"

struct fdset {
    int fd[LIMIT_RECV_FDS]; /* -1: taken */
    unsigned count;         /* as received, the taken ones included */
    bool truncated; /* some did not arrive: over the limit, or none were free in this process */
};

static inline void fdset_init(struct fdset *set)
{
    set->count = 0;
    set->truncated = false;
}

/*
 * Adds a descriptor, which the set owns from then on. If the set is full the descriptor is closed
 * and the set marked truncated.
 */
void fdset_add(struct fdset *set, int fd);

/* Gives descriptor i to the caller, -1 if there is none or it was taken before. */
int fdset_take(struct fdset *set, unsigned i);

/* Closes what was not taken and empties the set. */
void fdset_close(struct fdset *set);
