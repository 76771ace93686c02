/*
 * The floor of a workload: a bare loop that receives messages of the very same sizes, with their
 * descriptors, and sends replies of the very same sizes. What a server takes longer than this is
 * its own. The loop has a thread of its own, as a worker has: with one thread alone system calls
 * are cheaper.
 */
#pragma once

#include "tests/bench/workload.h"

struct floor {
    const struct workload *workload;
    unsigned spins; /* how often it looks for a message before it sleeps */
};

/* For peer_start; arg: a struct floor. */
int floor_run(int sock, const void *arg);
