/*
 * The command line. One table of options drives the parsing and --help.
 *
 * Control thread, at the start.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "bridge/doorbell.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "server/quota.h"

enum {
    /* Of one device: as many descriptors as a reply carries. */
    CONFIG_MAX_DOORBELLS = LIMIT_MSG_FDS,
};

/* One device and where it is served. */
enum config_mmap {
    CONFIG_MMAP_AUTO, /* dmabuf, where the kernel maps those */
    CONFIG_MMAP_NONE,
    CONFIG_MMAP_DMABUF,
    CONFIG_MMAP_DEVFD,
};

struct export_config {
    const char *device;          /* as sysfs_is_device, "sim:MODEL" or "sim:MODEL@LABEL" */
    const char *socket_path;     /* NULL with fd */
    int fd;                      /* -1 with a path */
    const char *vf_token;        /* a UUID to open the device with; NULL: none */
    bool low_power;              /* clients may let the device sleep */
    enum config_mmap mmap;       /* how they map its regions */
    unsigned long stable_memory; /* bytes that may stay pinned though unmapped; 0: none */
    unsigned config_denied;      /* enum config_sort of bridge/config_map.h */
    unsigned regions;            /* enum region_allow of bridge/region_type.h */
    struct doorbell doorbells[CONFIG_MAX_DOORBELLS];
    unsigned n_doorbells;
};

enum config_action {
    CONFIG_SERVE,
    CONFIG_HELP,
    CONFIG_VERSION,
    CONFIG_PRINT_CAPABILITIES,
};

enum config_iommu {
    CONFIG_IOMMU_AUTO,
    CONFIG_IOMMU_IOMMUFD,
    CONFIG_IOMMU_TYPE1,
    CONFIG_IOMMU_SPAPR,
};

enum config_dirty_source {
    CONFIG_DIRTY_AUTO,
    CONFIG_DIRTY_DEVICE,
    CONFIG_DIRTY_IOMMU,
    CONFIG_DIRTY_NONE,
};

enum {
    CONFIG_MAX_EXPORTS = 256,
};

struct config {
    enum config_action action;
    struct export_config exports[CONFIG_MAX_EXPORTS];
    size_t n_exports;
    enum log_level log_level;
    mode_t socket_mode;
    unsigned busy_poll_us;
    enum config_iommu iommu;
    bool strict_dma;
    enum config_dirty_source dirty_source;
    bool guess_dirty; /* --dirty-policy all-writable */
    bool allow_unsafe_noiommu;
    unsigned removal_grace;    /* seconds for a client whose device is asked back */
    struct quota_amount quota; /* of each client identity; 0: no limit */
};

/*
 * Parses the command line; strings are kept by reference. Returns 0, or -EINVAL with one line of
 * log that says what is wrong.
 */
int config_parse(struct config *config, int argc, char **argv);

/* Writes the usage and all options. */
void config_print_help(FILE *out);
