/*
 * Scope-bound cleanup: what a scope owns is released on every way out of it.
 *
 * A variable so marked is always initialized. Ownership leaves the scope visibly: by
 * steal_fd() or steal_ptr(), or by an assignment of -1 or NULL beside the call that took it.
 */
#pragma once

#include <stdlib.h>

#include "proto/base/fd.h"

static inline void cleanup_freep(void *p)
{
    free(*(void **)p);
}

#define cleanup_(func) __attribute__((cleanup(func)))
#define cleanup_close_ cleanup_(fd_close)
#define cleanup_free_  cleanup_(cleanup_freep)

/* Gives the pointer's value to the caller and leaves NULL behind. */
#define steal_ptr(p)                                                                               \
    ({                                                                                             \
        __typeof__(p) stolen_ = (p);                                                               \
        (p) = NULL;                                                                                \
        stolen_;                                                                                   \
    })

/* Gives the descriptor to the caller and leaves -1 behind. */
static inline int steal_fd(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}
