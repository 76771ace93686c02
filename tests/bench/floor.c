#include "tests/bench/floor.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "proto/base/fd.h"

struct loop {
    const struct floor *floor;
    int sock;
    int ret;
};

static void *run(void *arg)
{
    static const uint8_t reply[EXCHANGE_MAX_REPLY];
    struct loop *loop = arg;
    const struct floor *f = loop->floor;
    uint8_t request[sizeof(f->workload->first.request)];
    int ret = 0;

    for (unsigned i = 0; !ret; i = (i + 1) % WORKLOAD_BATCH) {
        const struct exchange *x = workload_message(f->workload, i);

        ret = x->fd >= 0 ? exchange_receive_fd(loop->sock, request, x->request_len, f->spins)
                         : exchange_receive(loop->sock, request, x->request_len, f->spins);
        if (!ret && x->reply_len && send(loop->sock, reply, x->reply_len, MSG_NOSIGNAL) < 0)
            ret = -errno;
    }
    loop->ret = ret;
    return NULL;
}

int floor_run(int sock, const void *arg)
{
    struct loop loop = {.floor = arg, .sock = sock};
    pthread_t thread;

    if (pthread_create(&thread, NULL, run, &loop))
        return EXIT_FAILURE;
    pthread_join(thread, NULL);
    fd_close(&loop.sock);
    return loop.ret == -EPIPE ? EXIT_SUCCESS : EXIT_FAILURE;
}
