#include "proto/fdset.h"

#include <sys/socket.h>

#include "proto/base/cleanup.h"

/*
 * The last close of a TCP socket waits for its data to be taken if its owner has asked for that
 * (SO_LINGER). A peer's socket must not make us wait, whoever of us closes it.
 */
static void end_linger(int fd)
{
    const struct linger off = {0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

static void close_peers(int *fd)
{
    end_linger(*fd);
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
    if (i >= set->count)
        return -1;
    end_linger(set->fd[i]);
    return steal_fd(&set->fd[i]);
}

void fdset_close(struct fdset *set)
{
    for (unsigned i = 0; i < set->count; i++)
        close_peers(&set->fd[i]);
    fdset_init(set);
}
