#include "auth/peer.h"

#include <errno.h>
#include <sys/socket.h>

int peer_read(int sock, struct peer *out)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return -errno;
    *out = (struct peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
    return 0;
}

bool peer_same_identity(const struct peer *a, const struct peer *b)
{
    return a->uid == b->uid;
}
