#include "tests/bench/measure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/floor.h"
#include "tests/bench/peer.h"
#include "tests/bench/samples.h"
#include "tests/bench/served.h"

enum {
    WARM_UP_TURNS = 3,
};

/* What answers, and what was measured of it. */
struct side {
    struct peer peer;
    struct samples samples;
};

/* One message after the other, each with its round trip. samples: NULL for none. */
static int run_exchanges(const struct workload *w, int sock, unsigned spins,
                         struct samples *samples)
{
    const struct exchange *sampled = w->sample == WORKLOAD_TIME_FIRST ? &w->first : &w->other;

    for (unsigned i = 0; i < WORKLOAD_BATCH; i++) {
        const struct exchange *x = workload_message(w, i);
        uint64_t start = samples_now();
        int ret = exchange_send(sock, x);

        if (!ret)
            ret = exchange_receive_reply(sock, x, spins);
        if (ret)
            return ret;
        if (samples && x == sampled)
            samples_add(samples, samples_now() - start);
    }
    return 0;
}

/* As many messages as may be in flight; the sample is a message's share of the time of all. */
static int run_stream(const struct workload *w, int sock, unsigned spins, struct samples *samples)
{
    uint64_t start = samples_now();
    unsigned received = 0;

    for (unsigned sent = 0; received < WORKLOAD_BATCH;) {
        int ret;

        if (sent < WORKLOAD_BATCH && sent - received < w->in_flight)
            ret = exchange_send(sock, workload_message(w, sent++));
        else
            ret = exchange_receive_reply(sock, workload_message(w, received++), spins);
        if (ret)
            return ret;
    }
    if (samples)
        samples_add(samples, (samples_now() - start) / WORKLOAD_BATCH);
    return 0;
}

static int take_turn(const struct workload *w, const struct measure_mode *mode, struct side *side)
{
    int (*run)(const struct workload *, int, unsigned, struct samples *) =
        w->sample == WORKLOAD_TIME_BATCH ? run_stream : run_exchanges;
    int ret = run(w, side->peer.sock, mode->client_spins, NULL);

    return ret ? ret : run(w, side->peer.sock, mode->client_spins, &side->samples);
}

/* Before samples are taken: errors are told, caches warmed, and the governor has seen the load. */
static int warm_up(const struct workload *w, const struct measure_mode *mode, struct side *floor,
                   struct side *served)
{
    int ret = served_begin_session(served->peer.sock);

    if (!ret)
        ret = exchange_ask(served->peer.sock, &w->first);
    if (!ret && w->order == WORKLOAD_ALTERNATING)
        ret = exchange_ask(served->peer.sock, &w->other);
    for (unsigned i = 0; i < WARM_UP_TURNS && !ret; i++) {
        ret = take_turn(w, mode, floor);
        if (!ret)
            ret = take_turn(w, mode, served);
    }
    samples_clear(&floor->samples);
    samples_clear(&served->samples);
    return ret;
}

static int take_turns(const struct workload *w, const struct measure_mode *mode, double seconds,
                      struct side *floor, struct side *served)
{
    int ret = warm_up(w, mode, floor, served);
    uint64_t end = samples_now() + (uint64_t)(seconds * 1e9);

    while (!ret) {
        ret = take_turn(w, mode, floor);
        if (!ret)
            ret = take_turn(w, mode, served);
        if (samples_now() >= end || samples_full(&floor->samples) || samples_full(&served->samples))
            break;
    }
    return ret;
}

static int start_peers(const struct workload *w, const struct measure_mode *mode,
                       struct side *floor, struct side *served)
{
    const struct floor bare = {.workload = w, .spins = mode->floor_spins};
    const struct served real = {.busy_poll_us = mode->server_busy_poll_us};
    int ret = peer_start(&floor->peer, mode->apart, floor_run, &bare);

    return ret ? ret : peer_start(&served->peer, mode->apart, served_run, &real);
}

int measure(const struct workload *w, const struct measure_mode *mode, double seconds,
            struct measure_result *result)
{
    struct side floor = {.peer = PEER_NONE}, served = {.peer = PEER_NONE};
    int ret = -ENOMEM, ended;

    if (samples_init(&floor.samples) && samples_init(&served.samples))
        ret = start_peers(w, mode, &floor, &served);
    if (!ret)
        ret = take_turns(w, mode, seconds, &floor, &served);
    result->floor_us = samples_median_us(&floor.samples);
    result->served_us = samples_median_us(&served.samples);

    /* The later one has a copy of the first one's socket. */
    ended = peer_stop(&served.peer);
    ret = ret ? ret : ended;
    ended = peer_stop(&floor.peer);
    ret = ret ? ret : ended;
    if (ret)
        fprintf(stderr, "bench: %s, %s: %s\n", w->name, mode->name, strerror(-ret));
    samples_free(&floor.samples);
    samples_free(&served.samples);
    return ret;
}
