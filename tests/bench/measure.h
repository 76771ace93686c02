/*
 * Runs a workload against the server and against its floor, by turns, a batch each, so that what
 * else happens on the machine happens to both. The first batch of a turn wakes the other end up
 * and is not measured.
 */
#pragma once

#include "tests/bench/workload.h"

struct measure_mode {
    const char *name;
    /* How long each end looks for a message before it sleeps; 0: not at all. */
    unsigned server_busy_poll_us, floor_spins, client_spins;
    bool apart; /* client and what answers it have a processor each; else they share one */
};

/* Medians; of a workload's sample. */
struct measure_result {
    double floor_us, served_us;
};

/* 0 or -errno; said on stderr. */
int measure(const struct workload *w, const struct measure_mode *mode, double seconds,
            struct measure_result *result);
