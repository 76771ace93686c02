#include "tests/bench/remap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "tests/bench/peer.h"
#include "tests/bench/samples.h"
#include "tests/bench/served.h"

enum {
    IOVA = 0x40000000,
    SIZE = 1 << 30,
    ROUNDS = 5,
};

static const struct {
    const char *name;
    unsigned long stable_memory;
} cases[REMAPS] = {
    {"remap_1g",        0   },
    {"remap_1g_stable", SIZE},
};

const char *remap_name(unsigned i)
{
    return cases[i].name;
}

static int run_message(int sock, const struct exchange *x, unsigned spins, struct samples *samples)
{
    uint64_t start = samples_now();
    int ret = exchange_send(sock, x);

    if (!ret)
        ret = exchange_receive_reply(sock, x, spins);
    if (!ret && samples)
        samples_add(samples, samples_now() - start);
    return ret;
}

/* The first round allocates the memory; it is not measured. */
static int run_rounds(int sock, int fd, unsigned spins, struct samples *map, struct samples *unmap)
{
    const struct exchange mapping = workload_map(IOVA, SIZE, fd, 0);
    const struct exchange unmapping = workload_unmap(IOVA, SIZE);
    int ret = served_begin_session(sock);

    for (unsigned i = 0; i <= ROUNDS && !ret; i++) {
        ret = run_message(sock, &mapping, spins, i ? map : NULL);
        if (!ret)
            ret = run_message(sock, &unmapping, spins, i ? unmap : NULL);
    }
    return ret;
}

static int run_served(unsigned i, int fd, const struct measure_mode *mode, struct samples *map,
                      struct samples *unmap)
{
    const struct served served = {
        .busy_poll_us = mode->server_busy_poll_us,
        .stable_memory = cases[i].stable_memory,
    };
    struct peer peer = PEER_NONE;
    int ret = peer_start(&peer, mode->apart, served_run, &served);
    int ended;

    if (!ret)
        ret = run_rounds(peer.sock, fd, mode->client_spins, map, unmap);
    ended = peer_stop(&peer);
    return ret ? ret : ended;
}

int remap_measure(unsigned i, const struct measure_mode *mode, struct remap_result *result)
{
    cleanup_close_ int fd = memfd_create("bench", MFD_CLOEXEC);
    struct samples map = {0}, unmap = {0};
    int ret = -ENOMEM;

    if (fd < 0 || ftruncate(fd, SIZE) < 0)
        ret = -errno;
    else if (samples_init(&map) && samples_init(&unmap))
        ret = run_served(i, fd, mode, &map, &unmap);
    if (ret)
        fprintf(stderr, "bench: %s, %s: %s\n", cases[i].name, mode->name, strerror(-ret));
    *result = (struct remap_result){samples_median_us(&map), samples_median_us(&unmap)};
    samples_free(&map);
    samples_free(&unmap);
    return ret;
}
