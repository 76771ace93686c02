/*
 * vfuc map: a region that is mapped by the server's descriptor. It is the one that messages reach
 * if what the one writes the other reads. After the session it must be out of reach, for whoever
 * keeps it too.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    MOST_WRITES = 16,
    COMPARED = 64, /* bytes: further registers may change by being read */
    LOOKS = 1200,  /* at a mapping that is about to go, ten a second: a reset may take a minute */
};

struct map_write {
    uint64_t offset;
    uint32_t value;
};

struct options {
    uint32_t region;
    struct map_write writes[MOST_WRITES];
    unsigned n_writes;
    bool keep;
};

static volatile uint32_t *register_at(const struct vfuc_mapping *m, uint64_t offset)
{
    return (volatile uint32_t *)((volatile char *)m->at + (offset - m->offset));
}

static int compare(struct vfuc *c, const struct options *o, const struct vfuc_mapping *m)
{
    uint64_t end = m->offset + MIN(m->size, (uint64_t)COMPARED);

    for (uint64_t at = m->offset; at + 4 <= end; at += 4) {
        uint32_t there = *register_at(m, at), told = 0;
        int ret = vfuc_region_read(c, o->region, at, &told, sizeof(told));

        if (ret)
            return cmd_fail(ret, "map: reading 0x%" PRIx64 " by a message", at);
        if (there != told)
            return cmd_fail(0, "map: 0x%" PRIx64 " reads 0x%08x where it is mapped, but 0x%08x", at,
                            le32toh(there), le32toh(told));
    }
    return cmd_ok("map: 0x%" PRIx64 " to 0x%" PRIx64 " read the same, mapped and by messages",
                  m->offset, end);
}

static int write_one(struct vfuc *c, const struct options *o, const struct vfuc_mapping *m,
                     const struct map_write *w)
{
    uint32_t told = 0;
    int ret;

    if (w->offset % 4 || w->offset < m->offset || !range_within(w->offset - m->offset, 4, m->size))
        return cmd_fail(0, "map: 0x%" PRIx64 " is not mapped", w->offset);
    *register_at(m, w->offset) = htole32(w->value);
    ret = vfuc_region_read(c, o->region, w->offset, &told, sizeof(told));
    if (ret)
        return cmd_fail(ret, "map: reading 0x%" PRIx64 " by a message", w->offset);
    if (le32toh(told) != w->value)
        return cmd_fail(0, "map: wrote 0x%08x where 0x%" PRIx64 " is mapped, but it reads 0x%08x",
                        w->value, w->offset, le32toh(told));
    return cmd_ok("map: a message reads 0x%08x at 0x%" PRIx64 ", as was written there", w->value,
                  w->offset);
}

/* False: a touch would be a SIGBUS, which the kernel finds out in our place. */
static bool is_reachable(const struct vfuc_mapping *m, int pipe_end)
{
    return write(pipe_end, (const void *)(uintptr_t)m->at, 1) == 1 || errno != EFAULT;
}

static int await_revocation(const struct vfuc_mapping *m)
{
    int ends[2], looks = 0;

    if (pipe(ends) < 0)
        return cmd_error(-errno, "a pipe");
    while (looks < LOOKS && is_reachable(m, ends[1])) {
        usleep(100000);
        looks++;
    }
    close(ends[0]);
    close(ends[1]);
    if (looks == LOOKS)
        return cmd_fail(0, "map: the device is still there, and the session over");
    return cmd_ok("map: kept after the session, where nothing is to be read any more");
}

static int parse_write(const char *text, struct options *o)
{
    struct map_write *w = &o->writes[o->n_writes];
    char copy[64], *colon;
    uint64_t value;

    snprintf(copy, sizeof(copy), "%s", text);
    colon = strchr(copy, ':');
    if (!colon || o->n_writes == MOST_WRITES)
        return -EINVAL;
    *colon = '\0';
    if (cmd_parse_number(copy, &w->offset) || cmd_parse_number(colon + 1, &value) ||
        value > UINT32_MAX)
        return -EINVAL;
    w->value = (uint32_t)value;
    o->n_writes++;
    return 0;
}

static int parse(int argc, char **argv, struct options *o)
{
    if (argc < 1 || cmd_parse_region(argv[0], &o->region))
        return -EINVAL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--keep"))
            o->keep = true;
        else if (strcmp(argv[i], "--write") || ++i == argc || parse_write(argv[i], o))
            return -EINVAL;
    }
    return 0;
}

static int use(struct vfuc *c, const struct options *o, const struct vfuc_mapping *m)
{
    int ret = compare(c, o, m);

    for (unsigned i = 0; !ret && i < o->n_writes; i++)
        ret = write_one(c, o, m, &o->writes[i]);
    return ret;
}

static int map_and_use(struct vfuc *c, const struct options *o, struct vfuc_mapping *m)
{
    int ret = cmd_update_command(c, PCI_COMMAND_MEMORY, 0);

    if (ret)
        return cmd_error(ret, "switching the device's memory on");
    ret = vfuc_region_map(c, o->region, m);
    if (ret)
        return cmd_fail(ret, "map: region %u", o->region);
    cmd_ok("map: 0x%" PRIx64 " bytes of region %u from 0x%" PRIx64 " on", m->size, o->region,
           m->offset);
    return use(c, o, m);
}

int cmd_map(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(vfuc_region_unmap) struct vfuc_mapping mapping = {0};
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    struct options o = {0};
    int ret;

    if (parse(argc, argv, &o))
        return cmd_usage("map: REGION [--write OFFSET:VALUE]... [--keep]");
    ret = cmd_connect(target, &c);
    if (!ret)
        ret = map_and_use(c, &o, &mapping);
    if (ret || !o.keep)
        return ret;
    vfuc_close(steal_ptr(c));
    ret = await_revocation(&mapping);
    if (!ret)
        pause();
    return ret;
}
