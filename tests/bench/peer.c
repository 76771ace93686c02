#include "tests/bench/peer.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"

enum {
    REPLY_TIMEOUT_S = 120, /* only a hang is as long, also on a loaded machine */
};

/* Pins this process to the nth of the processors that it was started on; to the last at most. */
static void pin_to_nth(int nth)
{
    static cpu_set_t allowed;
    static bool known;
    cpu_set_t one;

    if (!known)
        known = !sched_getaffinity(0, sizeof(allowed), &allowed);
    for (int cpu = 0; known && cpu < CPU_SETSIZE && nth >= 0; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        nth--;
    }
    if (known)
        sched_setaffinity(0, sizeof(one), &one);
}

int peer_start(struct peer *p, bool apart, int (*run)(int sock, const void *arg), const void *arg)
{
    const struct timeval limit = {.tv_sec = REPLY_TIMEOUT_S};
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    pin_to_nth(0);
    p->pid = fork();
    if (!p->pid) {
        fd_close(&pair[0]);
        if (apart)
            pin_to_nth(1);
        exit(run(pair[1], arg));
    }
    fd_close(&pair[1]);
    p->sock = pair[0];
    if (p->pid > 0)
        return 0;
    p->pid = 0;
    fd_close(&p->sock);
    return -EAGAIN;
}

int peer_stop(struct peer *p)
{
    int status = 0;

    fd_close(&p->sock);
    if (p->pid && waitpid(p->pid, &status, 0) < 0)
        return -errno;
    p->pid = 0;
    return status ? -EIO : 0;
}
