/* Who is at the other end of a socket, as the kernel tells it. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct peer {
    pid_t pid; /* 0: unknown, for instance in another pid namespace */
    uid_t uid;
    gid_t gid;
};

/*
 * Reads the credentials of a connected UNIX socket (SO_PEERCRED: those at the time of connect, or
 * of the socketpair call). 0 or -errno. Any thread.
 */
int peer_read(int sock, struct peer *out);

/* True if both are the same client identity: the same user. */
bool peer_same_identity(const struct peer *a, const struct peer *b);
