#include "proto/fdset.h"

#include <sys/socket.h>

#include "proto/base/cleanup.h"

/*
 * The last close of a TCP socket waits for its data to be taken if its owner has asked for that
 * (SO_LINGER). A peer's socket must not make us wait.
 */
static void close_peers(int *fd)
{
    const struct linger off = {0};

    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
    fd_close(fd);
}

void fdset_add(struct fdset *set, int fd)
{
    if (set->count == LIMIT_RECV_FDS) {
        close_peers(&fd);
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
        close_peers(&set->fd[i]);
    fdset_init(set);
}
