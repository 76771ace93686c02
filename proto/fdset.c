#include "proto/fdset.h"

#include "proto/base/cleanup.h"

void fdset_add(struct fdset *set, int fd)
{
    if (set->count == LIMIT_RECV_FDS) {
        fd_close(&fd);
        set->truncated = true;
        return;
    }
    set->fd[set->count++] = fd;
}

int fdset_take(struct fdset *set, unsigned i)
{
    return i < set->count ? steal_fd(&set->fd[i]) : -1;
}

void fdset_close(struct fdset *set)
{
    for (unsigned i = 0; i < set->count; i++)
        fd_close(&set->fd[i]);
    fdset_init(set);
}
