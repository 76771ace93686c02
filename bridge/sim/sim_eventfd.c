#include "bridge/sim/sim_eventfd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bridge/sim/sim_internal.h"
#include "proto/base/fd.h"

int sim_eventfd_get(struct sim *sim, int fd)
{
    static const char kind[] = "anon_inode:[eventfd]";
    char number[16], target[sizeof(kind)];
    ssize_t n;
    int copy;

    snprintf(number, sizeof(number), "%d", fd);
    n = readlinkat(sim->proc_fds, number, target, sizeof(target));
    if (n < 0)
        return -EBADF;
    if (n != sizeof(kind) - 1 || memcmp(target, kind, sizeof(kind) - 1))
        return -EINVAL;
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

void sim_eventfd_put(int *fd)
{
    fd_close(fd);
}

/*
 * The kernel's own signal saturates the counter. A write() blocks when it is full, and to make
 * the descriptor non-blocking would make the client's so: therefore it is asked first. Only a
 * client that fills the counter in the moment between could still make this block.
 */
void sim_eventfd_signal(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLOUT};
    const uint64_t one = 1;

    if (fd < 0 || poll(&poller, 1, 0) != 1 || !(poller.revents & POLLOUT))
        return;
    /* Nothing is lost when it fails: a full counter says that there was an event. */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}

bool sim_eventfd_consume(int fd)
{
    uint64_t count;
    struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};

    return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) > 0; /* else somebody was faster */
}
