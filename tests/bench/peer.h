/*
 * What answers the client: a process of its own at the other end of a socket pair, as in real
 * life. (In one process each munmap of the server would interrupt the client's processor.)
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct peer {
    pid_t pid; /* 0: none */
    int sock;  /* the client's end, which gives up after some time; -1: none */
};

#define PEER_NONE ((struct peer){.sock = -1})

/*
 * Starts a process that runs the function, to whose status it exits; it ends when its socket, which
 * the function owns, does. Client and peer are pinned: to the same processor, or apart. Left to
 * the scheduler, they settle sometimes so and sometimes otherwise, and that would be what is
 * measured. 0 or -errno.
 */
int peer_start(struct peer *p, bool apart, int (*run)(int sock, const void *arg), const void *arg);

/* Ends it. 0, or -EIO if its status is not 0. */
int peer_stop(struct peer *p);
