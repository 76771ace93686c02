/*
 * Which kernel a device belongs to: the one below this process, or the simulated one, which is
 * built when the first sim: device is asked for.
 *
 * Control thread; hosts may then be used by any.
 */
#pragma once

#include <stddef.h>

#include "bridge/host.h"

struct sim;

struct machine {
    struct sim *sim; /* NULL: none so far */
};

/*
 * Finds the host of a configured device ("0000:01:00.0", "sim:edu") and its address there. bdf:
 * at least 13 bytes. 0, -ENOENT for a model that does not exist, -ENOMEM; logged.
 */
int machine_find(struct machine *machine, const char *device, struct host **host, char *bdf,
                 size_t size);

/* After everything that uses a host of it has gone. */
void machine_destroy(struct machine *machine);
