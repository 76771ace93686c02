#include "tests/bench/growth.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/bench/peer.h"
#include "tests/bench/samples.h"
#include "tests/bench/served.h"

enum {
    FIRST_IOVA = 0x100000,
    /* Of all rounds, so that there are enough samples of few mappings too. */
    LEAST_MESSAGES = 4096,
    WARM_UP_ROUNDS = 200, /* of one mapping */
    /*
     * A process has some 65,000 mappings. The server needs one for each entry, so it must be
     * possible to merge them: their addresses descend, and so do the offsets, within this file.
     */
    FILE_PAGES = 1024,
};

static const unsigned entries[GROWTHS] = {1, 64, 4096, 65535};

struct series {
    struct samples all, first, last;
};

unsigned growth_entries(unsigned i)
{
    return entries[i];
}

static bool series_init(struct series *s)
{
    *s = (struct series){0};
    return samples_init(&s->all) && samples_init(&s->first) && samples_init(&s->last);
}

static void series_free(struct series *s)
{
    samples_free(&s->all);
    samples_free(&s->first);
    samples_free(&s->last);
}

/* i: how many of the n came before it. */
static void series_add(struct series *s, unsigned i, unsigned n, uint64_t ns)
{
    unsigned tenth = n < 10 ? 1 : n / 10;

    samples_add(&s->all, ns);
    if (i < tenth)
        samples_add(&s->first, ns);
    if (i >= n - tenth)
        samples_add(&s->last, ns);
}

static struct growth_times series_medians(struct series *s)
{
    return (struct growth_times){
        .all_us = samples_median_us(&s->all),
        .first_us = samples_median_us(&s->first),
        .last_us = samples_median_us(&s->last),
    };
}

/* Maps n pages of the file, or unmaps them (fd: -1). series: NULL for none. */
static int run_messages(int sock, int fd, unsigned n, unsigned spins, struct series *series)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t iova = FIRST_IOVA + (uint64_t)i * WORKLOAD_PAGE;
        uint64_t page = FILE_PAGES - 1 - i % FILE_PAGES;
        struct exchange x = fd >= 0 ? workload_map(iova, WORKLOAD_PAGE, fd, page * WORKLOAD_PAGE)
                                    : workload_unmap(iova, WORKLOAD_PAGE);
        uint64_t start = samples_now();
        int ret = exchange_send(sock, &x);

        if (!ret)
            ret = exchange_receive_reply(sock, &x, spins);
        if (ret)
            return ret;
        if (series)
            series_add(series, i, n, samples_now() - start);
    }
    return 0;
}

static int run_rounds(int sock, int fd, unsigned n, unsigned spins, struct series *map,
                      struct series *unmap)
{
    unsigned rounds = n < LEAST_MESSAGES ? LEAST_MESSAGES / n : 1;
    int ret = served_begin_session(sock);

    for (unsigned i = 0; i < WARM_UP_ROUNDS && !ret; i++) {
        ret = run_messages(sock, fd, 1, spins, NULL);
        if (!ret)
            ret = run_messages(sock, -1, 1, spins, NULL);
    }
    for (unsigned i = 0; i < rounds && !ret; i++) {
        ret = run_messages(sock, fd, n, spins, map);
        if (!ret)
            ret = run_messages(sock, -1, n, spins, unmap);
    }
    return ret;
}

/* type1: the simulated iommufd opens the file for each entry, and such mappings don't merge. */
static int run_served(int fd, unsigned n, const struct measure_mode *mode, struct series *map,
                      struct series *unmap)
{
    const struct served real = {.busy_poll_us = mode->server_busy_poll_us, .type1 = true};
    struct peer peer = PEER_NONE;
    int ret = peer_start(&peer, mode->apart, served_run, &real);
    int ended;

    if (!ret)
        ret = run_rounds(peer.sock, fd, n, mode->client_spins, map, unmap);
    ended = peer_stop(&peer);
    return ret ? ret : ended;
}

int growth_measure(unsigned i, const struct measure_mode *mode, struct growth_result *result)
{
    cleanup_close_ int fd = memfd_create("bench", MFD_CLOEXEC);
    struct series map = {0}, unmap = {0};
    int ret = -ENOMEM;

    if (fd < 0 || ftruncate(fd, (off_t)FILE_PAGES * WORKLOAD_PAGE) < 0)
        ret = -errno;
    else if (series_init(&map) && series_init(&unmap))
        ret = run_served(fd, entries[i], mode, &map, &unmap);
    if (ret)
        fprintf(stderr, "bench: %u mappings, %s: %s\n", entries[i], mode->name, strerror(-ret));
    *result = (struct growth_result){series_medians(&map), series_medians(&unmap)};
    series_free(&map);
    series_free(&unmap);
    return ret;
}
