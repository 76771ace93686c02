/*
 * The cases: which messages a client sends, and what is measured of them.
 *
 * Messages go in batches of WORKLOAD_BATCH, which are all alike; between two batches nothing is in
 * flight.
 */
#pragma once

#include "tests/bench/exchange.h"

enum {
    WORKLOAD_BATCH = 200,
    WORKLOAD_PAGE = 4096,
};

struct workload {
    const char *name;
    enum {
        WORKLOAD_FIRST,       /* the first kind of message alone */
        WORKLOAD_ALTERNATING, /* the two kinds in turn */
        WORKLOAD_OTHER_LAST,  /* the other kind ends a batch */
    } order;
    enum {
        WORKLOAD_TIME_FIRST, /* a sample: the round trip of a message of the first kind */
        WORKLOAD_TIME_OTHER,
        WORKLOAD_TIME_BATCH, /* a sample: a batch's time by its number of messages */
    } sample;
    unsigned in_flight; /* messages whose replies may be outstanding when one more is sent */
    struct exchange first, other;
};

enum {
    WORKLOADS = 7,
};

/* Workload number i. false if its memory can't be had; said on stderr. */
bool workload_make(unsigned i, struct workload *w);

void workload_free(struct workload *w);

const char *workload_name(unsigned i);

/* Message number i of a batch. */
const struct exchange *workload_message(const struct workload *w, unsigned i);

/* Of a file, mapped for reads and writes, and the unmap of that. The descriptor is borrowed. */
struct exchange workload_map(uint64_t iova, uint64_t size, int fd, uint64_t offset);
struct exchange workload_unmap(uint64_t iova, uint64_t size);

/* A write of config space that switches the device's memory decode on. */
struct exchange workload_enable_memory(void);
