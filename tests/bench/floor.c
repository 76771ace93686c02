#include "tests/bench/floor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proto/base/cleanup.h"

int floor_run(int sock, const void *arg)
{
    static const uint8_t reply[EXCHANGE_MAX_REPLY];
    const struct floor *f = arg;
    cleanup_close_ int owned = sock;
    uint8_t request[sizeof(f->workload->first.request)];
    int ret = 0;

    for (unsigned i = 0; !ret; i = (i + 1) % WORKLOAD_BATCH) {
        const struct exchange *x = workload_message(f->workload, i);

        ret = x->fd >= 0 ? exchange_receive_fd(sock, request, x->request_len, f->spins)
                         : exchange_receive(sock, request, x->request_len, f->spins);
        if (!ret && x->reply_len && send(sock, reply, x->reply_len, MSG_NOSIGNAL) < 0)
            ret = -errno;
    }
    return ret == -EPIPE ? EXIT_SUCCESS : EXIT_FAILURE;
}
