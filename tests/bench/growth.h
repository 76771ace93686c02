/*
 * How the time of DMA_MAP and DMA_UNMAP grows with the mappings that there are: a client maps a
 * number of single pages one after the other, then unmaps them in the same order.
 */
#pragma once

#include "tests/bench/measure.h"

enum {
    GROWTHS = 4,
};

/* How many pages number i of them maps. */
unsigned growth_entries(unsigned i);

/* Medians: of all messages, and of the tenth of the mappings (one at least) at either end. */
struct growth_times {
    double all_us, first_us, last_us;
};

struct growth_result {
    struct growth_times map, unmap;
};

/* 0 or -errno; said on stderr. */
int growth_measure(unsigned i, const struct measure_mode *mode, struct growth_result *result);
