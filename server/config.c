#include "server/config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "bridge/config_policy.h"
#include "bridge/region_type.h"
#include "bridge/sysfs.h"
#include "bridge/vf_token.h"
#include "proto/base/arith.h"

struct option_row {
    const char *name;
    const char *value; /* what it stands for in the help; NULL: the option has none */
    int (*set)(struct config *config, const char *value);
    const char *help;
};

/*
 * --device and --socket-path (or --fd) come in pairs, in either order: each fills the first
 * export that still lacks it.
 */
static struct export_config *export_lacking(struct config *config, bool device)
{
    for (size_t i = 0; i < config->n_exports; i++) {
        struct export_config *e = &config->exports[i];

        if (device ? !e->device : !e->socket_path && e->fd < 0)
            return e;
    }
    if (config->n_exports == CONFIG_MAX_EXPORTS) {
        log_error("more than %d exports", CONFIG_MAX_EXPORTS);
        return NULL;
    }
    config->exports[config->n_exports] = (struct export_config){
        .fd = -1,
        .config_denied = CONFIG_DENIED_BY_DEFAULT,
    };
    return &config->exports[config->n_exports++];
}

static int set_device(struct config *config, const char *value)
{
    struct export_config *e;

    if (!sysfs_is_device(value) && strncmp(value, "sim:", 4)) {
        log_error("--device %s: neither a PCI address in full (0000:01:00.0), nor a mediated "
                  "device's UUID, nor a device's directory below /sys, nor a simulated device "
                  "(sim:edu)",
                  value);
        return -EINVAL;
    }
    e = export_lacking(config, true);
    if (!e)
        return -EINVAL;
    e->device = value;
    return 0;
}

static int set_socket_path(struct config *config, const char *value)
{
    struct sockaddr_un addr;
    struct export_config *e;

    if (!*value || strlen(value) >= sizeof(addr.sun_path)) {
        log_error("--socket-path: %zu bytes; a UNIX socket's path has 1 to %zu: '%s'",
                  strlen(value), sizeof(addr.sun_path) - 1, value);
        return -EINVAL;
    }
    e = export_lacking(config, false);
    if (!e)
        return -EINVAL;
    e->socket_path = value;
    return 0;
}

static int parse_number(const char *option, const char *value, int base, unsigned long max,
                        unsigned long *out)
{
    char *end;

    errno = 0;
    *out = strtoul(value, &end, base);
    /* A digit first: strtoul also takes blanks and a sign, and wraps what is negative. */
    if (errno || !isdigit((unsigned char)*value) || end == value || *end || *out > max) {
        if (base == 8)
            log_error("%s %s: not an octal number up to %lo", option, value, max);
        else
            log_error("%s %s: not a number from 0 to %lu", option, value, max);
        return -EINVAL;
    }
    return 0;
}

static int set_fd(struct config *config, const char *value)
{
    struct export_config *e;
    unsigned long fd;

    if (parse_number("--fd", value, 10, 1 << 20, &fd))
        return -EINVAL;
    e = export_lacking(config, false);
    if (!e)
        return -EINVAL;
    e->fd = (int)fd;
    return 0;
}

static int set_socket_mode(struct config *config, const char *value)
{
    unsigned long mode;

    if (parse_number("--socket-mode", value, 8, 0777, &mode))
        return -EINVAL;
    config->socket_mode = (mode_t)mode;
    return 0;
}

static int set_busy_poll(struct config *config, const char *value)
{
    unsigned long us;

    if (parse_number("--busy-poll", value, 10, 1000000, &us))
        return -EINVAL;
    config->busy_poll_us = (unsigned)us;
    return 0;
}

static int set_removal_grace(struct config *config, const char *value)
{
    unsigned long seconds;

    if (parse_number("--removal-grace", value, 10, 3600, &seconds))
        return -EINVAL;
    config->removal_grace = (unsigned)seconds;
    return 0;
}

/* The index of a value among the names, or -1. */
static int find_name(const char *const *names, size_t n, const char *value)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(value, names[i]))
            return (int)i;
    }
    return -1;
}

static int set_iommu(struct config *config, const char *value)
{
    static const char *const names[] = {
        [CONFIG_IOMMU_AUTO] = "auto",
        [CONFIG_IOMMU_IOMMUFD] = "iommufd",
        [CONFIG_IOMMU_TYPE1] = "type1",
        [CONFIG_IOMMU_SPAPR] = "spapr",
    };

    int choice = find_name(names, ARRAY_SIZE(names), value);

    if (choice < 0) {
        log_error("--iommu %s: not one of auto, iommufd, type1, spapr", value);
        return -EINVAL;
    }
    config->iommu = (enum config_iommu)choice;
    return 0;
}

static int set_dirty_source(struct config *config, const char *value)
{
    static const char *const names[] = {
        [CONFIG_DIRTY_AUTO] = "auto",
        [CONFIG_DIRTY_DEVICE] = "device",
        [CONFIG_DIRTY_IOMMU] = "iommu",
        [CONFIG_DIRTY_NONE] = "none",
    };
    int choice = find_name(names, ARRAY_SIZE(names), value);

    if (choice < 0) {
        log_error("--dirty-source %s: not one of auto, device, iommu, none", value);
        return -EINVAL;
    }
    config->dirty_source = (enum config_dirty_source)choice;
    return 0;
}

static int set_dirty_policy(struct config *config, const char *value)
{
    if (strcmp(value, "exact") && strcmp(value, "all-writable")) {
        log_error("--dirty-policy %s: not one of exact, all-writable", value);
        return -EINVAL;
    }
    config->guess_dirty = !strcmp(value, "all-writable");
    return 0;
}

static int set_strict_dma(struct config *config, const char *value)
{
    (void)value;
    config->strict_dma = true;
    return 0;
}

static int set_stable_memory(struct config *config, const char *value)
{
    if (!config->n_exports) {
        log_error("--stable-memory %s: it comes after the --device that it is for", value);
        return -EINVAL;
    }
    return parse_number("--stable-memory", value, 10, ULONG_MAX,
                        &config->exports[config->n_exports - 1].stable_memory);
}

static int set_vf_token(struct config *config, const char *value)
{
    if (!config->n_exports) {
        log_error("--vf-token: it comes after the --device that it is for");
        return -EINVAL;
    }
    if (!vf_token_is_valid(value)) {
        log_error("--vf-token %s: not a UUID (bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3)", value);
        return -EINVAL;
    }
    config->exports[config->n_exports - 1].vf_token = value;
    return 0;
}

static int set_allow_low_power(struct config *config, const char *value)
{
    (void)value;
    if (!config->n_exports) {
        log_error("--allow-low-power: it comes after the --device that it is for");
        return -EINVAL;
    }
    config->exports[config->n_exports - 1].low_power = true;
    return 0;
}

/* The next number of "A:B:C", whose end is moved on behind it and its colon. */
static bool next_number(const char **at, bool last, uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    errno = 0;
    *value = strtoull(*at, &end, 0);
    *at = end + !last;
    return !errno && *end == (last ? '\0' : ':');
}

static bool parse_doorbell(const char *value, struct doorbell *bell)
{
    uint64_t region, width;

    if (!next_number(&value, false, &region) || !next_number(&value, false, &bell->offset) ||
        !next_number(&value, false, &width) || !next_number(&value, true, &bell->data))
        return false;
    if (region > 5 || !is_pow2(width) || width > 8 || bell->offset % width ||
        (width < 8 && bell->data >> (8 * width)))
        return false;
    bell->region = (uint32_t)region;
    bell->width = (uint32_t)width;
    return true;
}

static int set_doorbell(struct config *config, const char *value)
{
    struct export_config *e;
    struct doorbell bell;

    if (!config->n_exports) {
        log_error("--doorbell %s: it comes after the --device that it is for", value);
        return -EINVAL;
    }
    e = &config->exports[config->n_exports - 1];
    if (!parse_doorbell(value, &bell)) {
        log_error("--doorbell %s: not REGION:OFFSET:WIDTH:DATA: a BAR from 0 to 5, an offset that "
                  "is a multiple of the width of 1, 2, 4 or 8 bytes, and what fits in that",
                  value);
        return -EINVAL;
    }
    for (unsigned i = 0; i < e->n_doorbells; i++) {
        if (e->doorbells[i].region == bell.region && e->doorbells[i].offset == bell.offset &&
            e->doorbells[i].width == bell.width && e->doorbells[i].data == bell.data) {
            log_error("--doorbell %s is given twice for one device", value);
            return -EINVAL;
        }
    }
    if (e->n_doorbells == CONFIG_MAX_DOORBELLS) {
        log_error("--doorbell %s: more than %d of one device", value, CONFIG_MAX_DOORBELLS);
        return -EINVAL;
    }
    e->doorbells[e->n_doorbells++] = bell;
    return 0;
}

/* *sorts: those that are named between commas. */
static int parse_sorts(const char *option, const char *value, unsigned *sorts)
{
    const char *name = value;

    *sorts = 0;
    for (;;) {
        size_t len = strcspn(name, ",");
        unsigned sort = config_sort_parse(name, len);

        if (!sort) {
            log_error("%s %s: not a list of vpd, vendor, unassigned, aer, bist", option, value);
            return -EINVAL;
        }
        *sorts |= sort;
        if (!name[len])
            return 0;
        name += len + 1;
    }
}

static int set_config_policy(struct config *config, const char *option, const char *value,
                             bool deny)
{
    struct export_config *e;
    unsigned sorts;
    int ret;

    if (!config->n_exports) {
        log_error("%s %s: it comes after the --device that it is for", option, value);
        return -EINVAL;
    }
    e = &config->exports[config->n_exports - 1];
    ret = parse_sorts(option, value, &sorts);
    if (!ret)
        e->config_denied = deny ? e->config_denied | sorts : e->config_denied & ~sorts;
    return ret;
}

static int set_config_deny(struct config *config, const char *value)
{
    return set_config_policy(config, "--config-deny", value, true);
}

static int set_config_allow(struct config *config, const char *value)
{
    return set_config_policy(config, "--config-allow", value, false);
}

static int set_allow_region(struct config *config, const char *value)
{
    unsigned allow = region_allow_parse(value, strlen(value));

    if (!config->n_exports) {
        log_error("--allow-region %s: it comes after the --device that it is for", value);
        return -EINVAL;
    }
    if (!allow) {
        log_error("--allow-region %s: not one of vga, igd-opregion, igd-bridges", value);
        return -EINVAL;
    }
    config->exports[config->n_exports - 1].regions |= allow;
    return 0;
}

static int set_mmap(struct config *config, const char *value)
{
    static const char *const names[] = {
        [CONFIG_MMAP_AUTO] = "auto",
        [CONFIG_MMAP_NONE] = "none",
        [CONFIG_MMAP_DMABUF] = "dmabuf",
        [CONFIG_MMAP_DEVFD] = "devfd",
    };

    if (!config->n_exports) {
        log_error("--mmap %s: it comes after the --device that it is for", value);
        return -EINVAL;
    }
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!strcmp(value, names[i])) {
            config->exports[config->n_exports - 1].mmap = (enum config_mmap)i;
            return 0;
        }
    }
    log_error("--mmap %s: not one of auto, none, dmabuf, devfd", value);
    return -EINVAL;
}

static int set_allow_unsafe_noiommu(struct config *config, const char *value)
{
    (void)value;
    config->allow_unsafe_noiommu = true;
    return 0;
}

static int set_max_maps(struct config *config, const char *value)
{
    return parse_number("--max-maps", value, 10, ULONG_MAX, &config->quota.maps);
}

static int set_max_pinned(struct config *config, const char *value)
{
    return parse_number("--max-pinned", value, 10, ULONG_MAX, &config->quota.bytes);
}

static int set_log_level(struct config *config, const char *value)
{
    if (log_level_parse(value, &config->log_level))
        return 0;
    log_error("--log-level %s: not one of error, warning, info, debug", value);
    return -EINVAL;
}

static int set_print_capabilities(struct config *config, const char *value)
{
    (void)value;
    config->action = CONFIG_PRINT_CAPABILITIES;
    return 0;
}

static int set_version(struct config *config, const char *value)
{
    (void)value;
    config->action = CONFIG_VERSION;
    return 0;
}

static int set_help(struct config *config, const char *value)
{
    (void)value;
    config->action = CONFIG_HELP;
    return 0;
}

static const struct option_row options[] = {
    {"device",               "HOST",         set_device,
     "the device to export: a PCI address bound to vfio-pci (0000:01:00.0); the UUID of a mediated "
     "device; the directory in sysfs of either, or of a device of another bus (to clients that "
     "know the extension); or sim:edu, a device of the built-in simulated "
     "kernel (sim:edu-noiommu: without an IOMMU; "
     "sim:edu@LABEL: in one IOMMU group with the others of that label); repeat it, with "
     "--socket-path, for more exports"                                                                                     },
    {"socket-path",          "PATH",         set_socket_path,          "the UNIX socket to serve the device on"            },
    {"fd",                   "N",            set_fd,
     "instead of a path: an open descriptor, a listening UNIX socket or a connected one; with "
     "connected ones alone the daemon ends when their clients have gone"                                                   },
    {"socket-mode",          "OCTAL",        set_socket_mode,          "permissions of the sockets (default 0600)"         },
    {"busy-poll",            "MICROSECONDS", set_busy_poll,
     "how long a worker looks for the next message before it sleeps (default 0); costs processor "
     "time, saves the latency of waking up"                                                                                },
    {"iommu",                "BACKEND",      set_iommu,
     "the kernel interface for DMA: iommufd, type1 (VFIO containers and groups), spapr (the same "
     "on "
     "POWER machines), or auto (default): iommufd where the kernel has it and its files can be "
     "opened, else what the containers offer"                                                                              },
    {"max-maps",             "N",            set_max_maps,
     "DMA mappings that one user may have, over all exports (default 0: no limit)"                                         },
    {"max-pinned",           "BYTES",        set_max_pinned,
     "memory that one user may have pinned for DMA, over all exports (default 0: no limit)"                                },
    {"dirty-source",         "SOURCE",       set_dirty_source,
     "what logs the memory that a device writes: the device itself (device), its IOMMU (iommu), or "
     "auto (default): the first of them that can; none: neither"                                                           },
    {"dirty-policy",         "POLICY",       set_dirty_policy,
     "how a client learns what a device writes that nothing can log: exact (default): not at all, "
     "it "
     "is refused; all-writable: all memory that the device may write counts as written"                                    },
    {"strict-dma",           NULL,           set_strict_dma,
     "refuse DMA mappings of memory that is not shared by a descriptor; without it they succeed, "
     "and the device is stopped when it goes there"                                                                        },
    {"stable-memory",        "BYTES",        set_stable_memory,
     "for the export that was named last, with iommufd: up to that much of a client's memory stays "
     "pinned when it is unmapped, and is not pinned anew when it is mapped again. Not for clients "
     "that give pages back in between (ballooning, virtio-mem): their devices would go on with the "
     "old ones"                                                                                                            },
    {"allow-unsafe-noiommu", NULL,           set_allow_unsafe_noiommu,
     "serve devices that no IOMMU is in front of (VFIO's no-IOMMU mode): their clients can read "
     "and write all of the host's memory"                                                                                  },
    {"vf-token",             "UUID",         set_vf_token,
     "for the export that was named last, a function of an SR-IOV device: the token that the users "
     "of its physical function and of the virtual ones share"                                                              },
    {"allow-low-power",      NULL,           set_allow_low_power,
     "for the export that was named last: clients may let the device sleep while they do not use "
     "it; waking it takes its time, and so does whatever it shares power with"                                             },
    {"doorbell",             "DOORBELL",     set_doorbell,
     "REGION:OFFSET:WIDTH:DATA, for the export that was named last: writes of DATA, WIDTH bytes at "
     "OFFSET of BAR REGION, are offered to clients as an eventfd (GET_REGION_IO_FDS), by which KVM "
     "rings the device without a message; repeat it for more"                                                              },
    {"config-deny",          "LIST",         set_config_deny,
     "for the export that was named last: what writes to its config space may not change, of vpd "
     "(the device's persistent memory), vendor (capabilities of the vendor's own), unassigned "
     "(bytes that no capability describes), aer (which errors are reported, and how), bist (the "
     "self-test), between commas; such writes are dropped (default vpd,aer,bist)"                                          },
    {"config-allow",         "LIST",         set_config_allow,
     "the same, for what they may change (default vendor,unassigned)"                                                      },
    {"allow-region",         "REGION",       set_allow_region,
     "for the export that was named last: a region that clients don't get otherwise, as it shows "
     "or reaches what is the host's: vga, the legacy addresses of a graphics card; igd-opregion, "
     "what the firmware has left for Intel's integrated graphics; igd-bridges, registers of the "
     "host and LPC bridges that its drivers look at; repeat it for more"                                                   },
    {"mmap",                 "HOW",          set_mmap,
     "for the export that was named last: how clients may map the device's regions, so that an "
     "access is no message: none; dmabuf, by a descriptor that is good for nothing else; devfd, by "
     "the device's own file, with which a client can do all that the kernel lets its owner do; "
     "auto (default): dmabuf where the kernel maps those, else none"                                                       },
    {"removal-grace",        "SECONDS",      set_removal_grace,
     "how long a client may keep a device whose driver is being unbound or that is being unplugged "
     "(default 10); then its session ends, and the socket serves the device again when it is back"                         },
    {"log-level",            "LEVEL",        set_log_level,            "error, warning, info (default) or debug, to stderr"},
    {"print-capabilities",   NULL,           set_print_capabilities,   "print what this program can do, as JSON"           },
    {"version",              NULL,           set_version,              "print the version"                                 },
    {"help",                 NULL,           set_help,                 "print this text"                                   },
};

void config_print_help(FILE *out)
{
    fputs("Usage: vfio-userd --device HOST --socket-path PATH [--device … --socket-path …] "
          "[OPTION…]\n\n"
          "Serves host VFIO devices over the vfio-user protocol, in the foreground. SIGTERM ends "
          "it.\n\n",
          out);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        fprintf(out, "  --%s%s%s\n        %s\n", options[i].name, options[i].value ? " " : "",
                options[i].value ? options[i].value : "", options[i].help);
}

static int check_exports(const struct config *config)
{
    if (config->action != CONFIG_SERVE)
        return 0;
    if (!config->n_exports) {
        log_error("nothing to export: --device HOST --socket-path PATH (see --help)");
        return -EINVAL;
    }
    for (size_t i = 0; i < config->n_exports; i++) {
        const struct export_config *e = &config->exports[i];

        if (!e->device) {
            log_error("--socket-path or --fd number %zu has no --device", i + 1);
            return -EINVAL;
        }
        if (!e->socket_path && e->fd < 0) {
            log_error("--device %s has no --socket-path or --fd", e->device);
            return -EINVAL;
        }
        for (size_t k = 0; k < i; k++) {
            if (e->fd >= 0 && config->exports[k].fd == e->fd) {
                log_error("--fd %d is given twice", e->fd);
                return -EINVAL;
            }
        }
    }
    return 0;
}

int config_parse(struct config *config, int argc, char **argv)
{
    struct option longopts[ARRAY_SIZE(options) + 1] = {0};
    int which = 0, ret;

    *config = (struct config){.log_level = LOG_INFO, .socket_mode = 0600, .removal_grace = 10};
    for (size_t k = 0; k < ARRAY_SIZE(options); k++) {
        longopts[k].name = options[k].name;
        longopts[k].has_arg = options[k].value ? required_argument : no_argument;
        /* Apart from each other, or getopt takes an ambiguous abbreviation for its first match. */
        longopts[k].flag = &which;
        longopts[k].val = (int)k;
    }
    opterr = 0;
    optind = 0; /* start over, also in a process that has parsed before */
    for (;;) {
        ret = getopt_long(argc, argv, ":", longopts, NULL);
        if (ret < 0)
            break;
        if (ret) {
            log_error("%s: %s (see --help)", argv[optind - 1],
                      ret == ':' ? "its value is missing" : "no such option");
            return -EINVAL;
        }
        ret = options[which].set(config, optarg);
        if (ret)
            return ret;
    }
    if (optind < argc) {
        log_error("%s: not an option (see --help)", argv[optind]);
        return -EINVAL;
    }
    return check_exports(config);
}
