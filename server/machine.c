#include "server/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bridge/sim/sim.h"
#include "proto/base/log.h"

static const char sim_prefix[] = "sim:";

int machine_find(struct machine *machine, const char *device, struct host **host, char *bdf,
                 size_t size)
{
    const char *model = device + sizeof(sim_prefix) - 1;
    int ret;

    if (strncmp(device, sim_prefix, sizeof(sim_prefix) - 1)) {
        *host = host_linux();
        snprintf(bdf, size, "%s", device);
        return 0;
    }
    if (!machine->sim)
        machine->sim = sim_create();
    if (!machine->sim)
        return -ENOMEM;
    *host = sim_host(machine->sim);
    ret = sim_add_device(machine->sim, model, bdf, size);
    if (ret == -ENOENT)
        log_error("%s: the simulated kernel has no such device; it has sim:edu", device);
    else if (ret)
        log_error("%s: %s", device, strerror(-ret));
    return ret;
}

struct quota *machine_quota(struct machine *machine, struct quota_amount limit)
{
    if (!limit.maps)
        limit.maps = UINT64_MAX;
    if (!limit.bytes)
        limit.bytes = UINT64_MAX;
    if (!machine->quota && quota_create(&machine->quota, limit))
        return NULL;
    return machine->quota;
}

void machine_destroy(struct machine *machine)
{
    quota_destroy(machine->quota);
    machine->quota = NULL;
    if (machine->sim)
        sim_destroy(machine->sim);
    machine->sim = NULL;
}
