/*
 * vfuc states: every change of the migration state, from each state to each other. What the kernel
 * does not refuse leads there, whatever states are on the way; what it does leaves the device
 * alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

/* enum vfio_device_mig_state and VFIO_MIGRATION_*, of which older headers lack some. */
enum {
    ERROR,
    STOP,
    RUNNING,
    STOP_COPY,
    RESUMING,
    RUNNING_P2P,
    PRE_COPY,
    PRE_COPY_P2P,
    STATES,

    HAS_STOP_COPY = 1,
    HAS_P2P = 2,
    HAS_PRE_COPY = 4,

    MAX_IMAGE = 1 << 24,
};

static const struct {
    const char *name;
    uint64_t needs; /* of the flags */
} states[STATES] = {
    [STOP] = {"STOP",         HAS_STOP_COPY                         },
    [RUNNING] = {"RUNNING",      HAS_STOP_COPY                         },
    [STOP_COPY] = {"STOP_COPY",    HAS_STOP_COPY                         },
    [RESUMING] = {"RESUMING",     HAS_STOP_COPY                         },
    [RUNNING_P2P] = {"RUNNING_P2P",  HAS_STOP_COPY | HAS_P2P               },
    [PRE_COPY] = {"PRE_COPY",     HAS_STOP_COPY | HAS_PRE_COPY          },
    [PRE_COPY_P2P] = {"PRE_COPY_P2P", HAS_STOP_COPY | HAS_P2P | HAS_PRE_COPY},
};

struct device {
    struct vfuc *c;
    uint64_t flags;
    uint8_t *image; /* that it takes back in RESUMING */
    size_t len;
};

static bool has_state(const struct device *d, uint32_t state)
{
    return state != ERROR && state < STATES &&
           (d->flags & states[state].needs) == states[state].needs;
}

static bool may_follow(const struct device *d, uint32_t from, uint32_t to)
{
    return has_state(d, to) && !(from == STOP_COPY && (to == PRE_COPY || to == PRE_COPY_P2P));
}

static int take_image(struct device *d)
{
    const uint32_t most = vfuc_max_xfer(d->c);
    int ret = vfuc_set_migration_state(d->c, STOP_COPY);
    int64_t n = most;

    while (!ret && n == most) {
        n = d->len > MAX_IMAGE - most ? -EFBIG : vfuc_migration_read(d->c, d->image + d->len, most);
        if (n < 0)
            ret = (int)n;
        else
            d->len += (size_t)n;
    }
    if (ret)
        return cmd_fail(ret, "reading the device's state");
    return cmd_ok("%zu bytes of state in STOP_COPY", d->len);
}

static int write_image(const struct device *d)
{
    const uint32_t most = vfuc_max_xfer(d->c);
    int ret = 0;

    for (size_t done = 0; !ret && done < d->len; done += most)
        ret =
            vfuc_migration_write(d->c, d->image + done, (uint32_t)MIN(d->len - done, (size_t)most));
    return ret;
}

static int bring(const struct device *d, uint32_t state)
{
    int ret = vfuc_reset(d->c);

    if (!ret)
        ret = vfuc_set_migration_state(d->c, state);
    if (!ret && state == RESUMING)
        ret = write_image(d);
    return ret ? cmd_fail(ret, "bringing the device to %s", states[state].name) : CMD_OK;
}

static int check_change(const struct device *d, uint32_t from, uint32_t to)
{
    const bool possible = may_follow(d, from, to);
    uint32_t now = ERROR;
    int ret;

    if (bring(d, from))
        return CMD_FAILED;
    ret = vfuc_set_migration_state(d->c, to);
    if (ret != (possible ? 0 : -EINVAL))
        return cmd_fail(ret, "from %s to state %u", states[from].name, to);
    ret = vfuc_migration_state(d->c, &now);
    if (ret || now != (possible ? to : from))
        return cmd_fail(ret, "from %s to state %u: it is in %u", states[from].name, to, now);
    return CMD_OK;
}

static int check_all(struct device *d)
{
    if (take_image(d))
        return CMD_FAILED;
    for (uint32_t from = STOP; from < STATES; from++) {
        unsigned followed = 0;

        if (!has_state(d, from))
            continue;
        for (uint32_t to = ERROR; to <= STATES; to++) {
            if (check_change(d, from, to))
                return CMD_FAILED;
            followed += may_follow(d, from, to);
        }
        cmd_ok("from %s to %u states; %u others are refused", states[from].name, followed,
               STATES + 1 - followed);
    }
    return CMD_OK;
}

int cmd_states(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_free_ uint8_t *image = malloc(MAX_IMAGE);
    struct device d = {.image = image};
    int ret;

    (void)argv;
    if (argc)
        return cmd_usage("states takes no argument");
    if (!image)
        return cmd_error(-ENOMEM, "states");
    if (cmd_connect(target, &c))
        return CMD_FAILED;
    d.c = c;
    ret = vfuc_migration_flags(c, &d.flags);
    return ret ? cmd_error(ret, "migration") : check_all(&d);
}
