#include "server/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim.h"
#include "bridge/sysfs.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "server/group.h"

static const char sim_prefix[] = "sim:";

/* A label and the first device that came with it. */
struct sim_label {
    struct sim_label *next;
    char device[SYSFS_NAME_SIZE];
    char name[];
};

static int enter_label(struct machine *machine, const char *name, const char *device)
{
    size_t size = strlen(name) + 1;
    struct sim_label *label = machine->labels;

    while (label && strcmp(label->name, name))
        label = label->next;
    if (label)
        return sim_join_group(machine->sim, device, label->device);
    label = malloc(sizeof(*label) + size);
    if (!label)
        return -ENOMEM;
    memcpy(label->name, name, size);
    snprintf(label->device, sizeof(label->device), "%s", device);
    label->next = machine->labels;
    machine->labels = label;
    return 0;
}

static int add_sim_device(struct machine *machine, const char *device, char *name, size_t size)
{
    cleanup_free_ char *model = strdup(device + sizeof(sim_prefix) - 1);
    char *label = model ? strchr(model, '@') : NULL;
    int ret;

    if (!machine->sim)
        machine->sim = sim_create();
    if (!machine->sim || !model)
        return -ENOMEM;
    if (label)
        *label++ = '\0';
    ret = sim_add_device(machine->sim, model, name, size);
    return ret || !label ? ret : enter_label(machine, label, name);
}

static void explain_unknown_model(const char *device)
{
    char names[128] = "";
    size_t len = 0;

    for (size_t i = 0; sim_model_name(i) && len < sizeof(names); i++)
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s%s", i ? ", " : "",
                                sim_prefix, sim_model_name(i));
    log_error("%s: the simulated kernel has no such device; it has %s, and those of PCI as "
              "MODEL-noiommu",
              device, names);
}

int machine_find(struct machine *machine, const char *device, struct host **host, char *where,
                 size_t size)
{
    char name[SYSFS_NAME_SIZE];
    int ret;

    if (strncmp(device, sim_prefix, sizeof(sim_prefix) - 1)) {
        *host = host_linux();
        snprintf(where, size, "%s", device);
        return 0;
    }
    ret = add_sim_device(machine, device, name, sizeof(name));
    if (ret == -ENOENT)
        explain_unknown_model(device);
    else if (ret)
        log_error("%s: %s", device, strerror(-ret));
    if (ret)
        return ret;
    *host = sim_host(machine->sim);
    /* The names of other buses say nothing by themselves. */
    snprintf(where, size, "%s%s", sysfs_is_device(name) ? "" : "/sys/bus/platform/devices/", name);
    return 0;
}

struct groups *machine_groups(struct machine *machine)
{
    if (!machine->groups && groups_create(&machine->groups))
        return NULL;
    return machine->groups;
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
    groups_destroy(machine->groups);
    machine->groups = NULL;
    quota_destroy(machine->quota);
    machine->quota = NULL;
    while (machine->labels) {
        struct sim_label *label = machine->labels;

        machine->labels = label->next;
        free(label);
    }
    if (machine->sim)
        sim_destroy(machine->sim);
    machine->sim = NULL;
}
