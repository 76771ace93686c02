/*
 * What all exports share of the machine: its kernels (the one below this process, and the
 * simulated one, which is built when the first sim: device is asked for), and the account of who
 * holds how much of its memory.
 *
 * Control thread; hosts and the quota may then be used by any.
 */
#pragma once

#include <stddef.h>

#include "bridge/host.h"
#include "server/quota.h"

struct sim;

struct machine {
    struct sim *sim;     /* NULL: none so far */
    struct quota *quota; /* likewise */
};

/*
 * Finds the host of a configured device ("0000:01:00.0", "sim:edu") and its address there. bdf:
 * at least 13 bytes. 0, -ENOENT for a model that does not exist, -ENOMEM; logged.
 */
int machine_find(struct machine *machine, const char *device, struct host **host, char *bdf,
                 size_t size);

/*
 * The quota of all exports, made at the first call. A limit of 0 is none. NULL without memory.
 */
struct quota *machine_quota(struct machine *machine, struct quota_amount limit);

/* After everything that uses a host of it has gone. */
void machine_destroy(struct machine *machine);
