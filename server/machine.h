/*
 * What all exports share of the machine: its kernels (the one below this process, and the
 * simulated one, which is built when the first sim: device is asked for), the IOMMU groups that
 * their devices are in, and the account of who holds how much of its memory.
 *
 * Control thread; hosts and the quota may then be used by any.
 */
#pragma once

#include <stddef.h>

#include "bridge/host.h"
#include "server/quota.h"

struct groups;
struct sim;
struct sim_label;

struct machine {
    struct sim *sim; /* NULL: none so far */
    struct sim_label *labels;
    struct groups *groups; /* as sim */
    struct quota *quota;   /* likewise */
};

/*
 * Finds the host of a configured device ("0000:01:00.0", "sim:edu", "sim:edu@LABEL": in one IOMMU
 * group with the others of that label) and what sysfs_find_device finds it by there. where: of
 * SYSFS_PATH_SIZE. 0, -ENOENT for a model that does not exist, -ENOMEM; logged.
 */
int machine_find(struct machine *machine, const char *device, struct host **host, char *where,
                 size_t size);

/*
 * The quota of all exports, made at the first call. A limit of 0 is none. NULL without memory.
 */
struct quota *machine_quota(struct machine *machine, struct quota_amount limit);

/* All IOMMU groups, made at the first call. NULL without memory. */
struct groups *machine_groups(struct machine *machine);

/* After everything that uses a host of it has gone. */
void machine_destroy(struct machine *machine);
