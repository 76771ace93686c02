/* What the subcommands of the CLI share. A subcommand returns the exit status of the program. */
#pragma once

#include <stdint.h>

#include "client-example/vfuc.h"

enum {
    CMD_OK = 0,
    CMD_FAILED = 1,
    CMD_USAGE = 2,
};

/* Where to connect to, from the command line. */
struct cmd_target {
    const char *socket;
    int timeout_ms;
};

/* The arguments after the subcommand's name. They are checked before anything is connected. */
int cmd_info(const struct cmd_target *target, int argc, char **argv);
int cmd_read(const struct cmd_target *target, int argc, char **argv);
int cmd_write(const struct cmd_target *target, int argc, char **argv);
int cmd_dirty(const struct cmd_target *target, int argc, char **argv);
int cmd_map(const struct cmd_target *target, int argc, char **argv);
int cmd_edu(const struct cmd_target *target, int argc, char **argv);
int cmd_pair(const struct cmd_target *target, int argc, char **argv);
int cmd_p2p(const struct cmd_target *target, int argc, char **argv);
int cmd_migrate(const struct cmd_target *target, int argc, char **argv);
int cmd_nvme(const struct cmd_target *target, int argc, char **argv);
int cmd_msix(const struct cmd_target *target, int argc, char **argv);
int cmd_mtty(const struct cmd_target *target, int argc, char **argv);
int cmd_hot_reset(const struct cmd_target *target, int argc, char **argv);
int cmd_iommu(const struct cmd_target *target, int argc, char **argv);
int cmd_ring(const struct cmd_target *target, int argc, char **argv);
int cmd_eeh(const struct cmd_target *target, int argc, char **argv);
int cmd_plane(const struct cmd_target *target, int argc, char **argv);
int cmd_sleep(const struct cmd_target *target, int argc, char **argv);
int cmd_states(const struct cmd_target *target, int argc, char **argv);
int cmd_watch(const struct cmd_target *target, int argc, char **argv);

/* Opens the session; CMD_OK, or CMD_FAILED with the line printed. *c: to be closed. */
int cmd_connect(const struct cmd_target *target, struct vfuc **c);

static inline void cmd_disconnectp(struct vfuc **c)
{
    vfuc_close(*c);
}

/*
 * One line on stderr: what was being done and, if err is not 0, the reason (-errno). cmd_error is
 * for what stops a subcommand, cmd_fail ("FAIL ") for a step that was to be proven. CMD_FAILED.
 */
int cmd_error(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int cmd_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for an argument that is wrong. CMD_USAGE. */
int cmd_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One line on stdout for a step that is proven ("ok ") or that does not apply ("skip "). CMD_OK. */
int cmd_ok(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int cmd_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A whole argument as a number, decimal or 0x… or 0…. 0 or -EINVAL. */
int cmd_parse_number(const char *text, uint64_t *value);

/* "VALUE[:WIDTH]" as little-endian bytes, 4 by default. CMD_OK, or as cmd_usage. */
int cmd_parse_value(const char *text, uint8_t bytes[8], size_t *n);

/* A region's index from its number or its name ("bar0", "config"). 0 or -EINVAL. */
int cmd_parse_region(const char *text, uint32_t *index);

/* The name of a PCI region's index, "device" for those that only the device knows. */
const char *cmd_region_name(uint32_t index);

/* Sets and clears bits of the PCI COMMAND register. 0 or -errno; -EIO if it does not keep them. */
int cmd_update_command(struct vfuc *c, uint16_t set, uint16_t clear);

/* Reads a 16-bit register of the config space. */
int cmd_read_config16(struct vfuc *c, uint64_t offset, uint16_t *value);
