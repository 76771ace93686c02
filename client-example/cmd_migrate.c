/*
 * vfuc migrate: what a VMM does that moves to another host, with both sides in one process. Each
 * side has memory of its own, and the destination's has nothing but what was copied; they are
 * compared when nothing runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/edu_bench.h"
#include "client-example/edu_load.h"
#include "client-example/vfuc_migrate.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    IOVA = 0x100000,
    MIB = 1 << 20,
    DEFAULT_MIB = 16,
    MAX_MIB = 128, /* where edu reaches it */
    DEFAULT_ROUNDS = 8,
    MAX_ROUNDS = 1000,
    PAGE = 4096,
};

/* --write or --expect. */
struct access {
    bool write;
    const char *text;
    uint32_t region;
    uint64_t offset;
    uint8_t bytes[8];
    size_t len;
};

struct plan {
    struct access *accesses;
    unsigned n_accesses;
    size_t size;
    unsigned rounds;
    bool edu, stepwise;
};

/* Of the header; none of it is in the device's own data. COMMAND last, when the BARs are there. */
static const struct {
    uint64_t offset;
    uint32_t width;
} registers[] = {
    {PCI_CACHE_LINE_SIZE, 1},
    {PCI_BASE_ADDRESS_0,  4},
    {PCI_BASE_ADDRESS_1,  4},
    {PCI_BASE_ADDRESS_2,  4},
    {PCI_BASE_ADDRESS_3,  4},
    {PCI_BASE_ADDRESS_4,  4},
    {PCI_BASE_ADDRESS_5,  4},
    {PCI_ROM_ADDRESS,     4},
    {PCI_INTERRUPT_LINE,  1},
    {PCI_COMMAND,         2},
};

struct side {
    struct vfuc *c;
    struct guest_memory *memory;
};

struct move {
    const struct plan *plan;
    struct side source, destination;
    struct edu_load load;
    uint32_t config[ARRAY_SIZE(registers)]; /* of the source when it has stopped */
};

static void print_step(enum vfuc_migrate_step step, const struct vfuc_migrate_stats *s)
{
    switch (step) {
    case VFUC_MIGRATE_LOGGING:
        printf("the source logs what it writes, in pages of %" PRIu64 " bytes\n", s->page_size);
        break;
    case VFUC_MIGRATE_PRE_COPY:
        printf("the source is in PRE_COPY\n");
        break;
    case VFUC_MIGRATE_RESUMING:
        printf("the destination is in RESUMING\n");
        break;
    case VFUC_MIGRATE_ROUND:
        printf("round %u: %" PRIu64 " bytes of memory, %" PRIu64 " of the device's state\n",
               s->rounds, s->round_memory, s->round_state);
        break;
    case VFUC_MIGRATE_STOPPED:
        printf("the source is in STOP_COPY\n");
        break;
    case VFUC_MIGRATE_COPIED:
        printf("the rest: %" PRIu64 " bytes of memory, %" PRIu64 " of the device's state\n",
               s->round_memory, s->round_state);
        break;
    case VFUC_MIGRATE_LOADED:
        printf("the destination is in STOP\n");
        break;
    case VFUC_MIGRATE_RUNNING:
        printf("the destination is in RUNNING\n");
        break;
    }
}

static int save_config(struct move *m)
{
    for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
        int ret = vfuc_region_read(m->source.c, VFIO_PCI_CONFIG_REGION_INDEX, registers[i].offset,
                                   &m->config[i], registers[i].width);

        if (ret)
            return ret;
    }
    return 0;
}

static int restore_register(struct vfuc *c, uint64_t offset, uint32_t width, uint32_t value)
{
    const uint32_t config = VFIO_PCI_CONFIG_REGION_INDEX;
    uint32_t now = 0;
    int ret = vfuc_region_read(c, config, offset, &now, width);

    if (ret || now == value)
        return ret;
    ret = vfuc_region_write(c, config, offset, &value, width);
    if (!ret)
        ret = vfuc_region_read(c, config, offset, &now, width);
    return !ret && now != value ? -EIO : ret;
}

static int restore_config(const struct move *m)
{
    for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
        int ret = restore_register(m->destination.c, registers[i].offset, registers[i].width,
                                   m->config[i]);

        if (ret) {
            cmd_fail(ret, "the destination's config space at 0x%" PRIx64, registers[i].offset);
            return ret;
        }
    }
    return 0;
}

static int compare_memory(const struct move *m)
{
    const size_t size = m->plan->size;

    if (memcmp(guest_memory_at(m->source.memory, 0, size),
               guest_memory_at(m->destination.memory, 0, size), size)) {
        cmd_fail(0, "the memories differ");
        return -EIO;
    }
    cmd_ok("all %zu bytes of memory are equal", size);
    return 0;
}

static int await_line(void)
{
    int c;

    fflush(stdout);
    while ((c = getchar()) != '\n') {
        if (c == EOF)
            return -ECANCELED;
    }
    return 0;
}

static int on_step(void *arg, enum vfuc_migrate_step step, const struct vfuc_migrate_stats *stats)
{
    struct move *m = arg;
    int ret = 0;

    print_step(step, stats);
    if (m->plan->edu && step < VFUC_MIGRATE_STOPPED)
        ret = edu_load_step(&m->load, m->source.c, m->source.memory);
    else if (step == VFUC_MIGRATE_COPIED)
        ret = compare_memory(m);
    else if (step == VFUC_MIGRATE_LOADED)
        ret = restore_config(m);
    else if (step == VFUC_MIGRATE_STOPPED)
        ret = save_config(m);
    return !ret && m->plan->stepwise ? await_line() : ret;
}

static int access_all(struct vfuc *c, const struct plan *plan, bool write)
{
    for (const struct access *a = plan->accesses; a < plan->accesses + plan->n_accesses; a++) {
        uint8_t got[sizeof(a->bytes)];
        int ret;

        if (a->write != write)
            continue;
        ret = write ? vfuc_region_write(c, a->region, a->offset, a->bytes, (uint32_t)a->len)
                    : vfuc_region_read(c, a->region, a->offset, got, (uint32_t)a->len);
        if (ret)
            return cmd_fail(ret, "%s %s", write ? "--write" : "--expect", a->text);
        if (!write && memcmp(got, a->bytes, a->len))
            return cmd_fail(0, "--expect %s: the destination has something else", a->text);
        if (!write)
            cmd_ok("the destination has %s", a->text);
    }
    return CMD_OK;
}

static int open_side(struct side *side, const struct cmd_target *target, size_t size)
{
    int ret = guest_memory_create(&side->memory, size);

    if (ret)
        return cmd_error(ret, "making %zu bytes of memory", size);
    if (cmd_connect(target, &side->c))
        return CMD_FAILED;
    ret = guest_memory_map(side->memory, side->c, IOVA, 0, size);
    return ret ? cmd_error(ret, "mapping %zu bytes of memory for DMA", size) : CMD_OK;
}

static void close_side(struct side *side)
{
    vfuc_close(side->c);
    guest_memory_free(side->memory);
}

static int begin(struct move *m)
{
    edu_bench_pattern(guest_memory_at(m->source.memory, 0, m->plan->size), m->plan->size, IOVA);
    if (m->plan->edu && edu_check_identity(m->source.c))
        return CMD_FAILED;
    return access_all(m->source.c, m->plan, true);
}

static int prove_source(struct move *m)
{
    int ret = m->plan->edu ? edu_load_prove(&m->load, m->source.c, m->source.memory) : 0;

    return ret ? cmd_fail(ret, "DMA of the source, which runs on") : cmd_ok("the source runs on");
}

static int prove_load(struct move *m)
{
    int ret = edu_load_prove(&m->load, m->destination.c, m->destination.memory);

    if (ret)
        return cmd_fail(ret, "DMA of the destination, which was under way at the stop");
    return cmd_ok("DMA that was under way at the stop has arrived, of the buffer that has moved");
}

static int prove_destination(struct move *m, const struct vfuc_migrate_stats *s)
{
    cmd_ok("moved in %.1f ms, of which the device stood still for %.1f ms: %" PRIu64
           " bytes of memory and %" PRIu64 " of the device's state, in %u rounds and the rest",
           (double)s->total_us / 1000, (double)s->stopped_us / 1000, s->memory, s->state,
           s->rounds);
    if (m->plan->edu && prove_load(m))
        return CMD_FAILED;
    return access_all(m->destination.c, m->plan, false);
}

static int run(struct move *m)
{
    const size_t size = m->plan->size;
    const struct vfuc_migrate_memory memory = {
        .iova = IOVA,
        .size = size,
        .from = guest_memory_at(m->source.memory, 0, size),
        .to = guest_memory_at(m->destination.memory, 0, size),
    };
    const struct vfuc_migrate migrate = {
        .source = m->source.c,
        .destination = m->destination.c,
        .memory = &memory,
        .n_memory = 1,
        .max_rounds = m->plan->rounds,
        .small_enough = PAGE,
        .step = on_step,
        .arg = m,
    };
    struct vfuc_migrate_stats stats;
    int ret = vfuc_migrate(&migrate, &stats);

    if (!ret)
        return prove_destination(m, &stats);
    cmd_fail(ret, "%s", stats.failed);
    if (stats.source_runs)
        prove_source(m);
    else
        cmd_fail(0, "the source does not run on");
    return CMD_FAILED;
}

/* "REGION:OFFSET:VALUE[:WIDTH]" */
static int parse_access(const char *option, const char *text, struct access *a)
{
    cleanup_free_ char *copy = strdup(text);
    char *rest = copy, *region, *offset;

    if (!copy)
        return cmd_error(-ENOMEM, "migrate");
    region = strsep(&rest, ":");
    offset = rest ? strsep(&rest, ":") : NULL;
    *a = (struct access){.write = !strcmp(option, "--write"), .text = text};
    if (!rest || cmd_parse_region(region, &a->region) || cmd_parse_number(offset, &a->offset))
        return cmd_usage("migrate: %s takes REGION:OFFSET:VALUE[:WIDTH]", option);
    return cmd_parse_value(rest, a->bytes, &a->len);
}

static int parse_option(const char *option, const char *value, struct plan *plan)
{
    bool is_memory = !strcmp(option, "--memory");
    uint64_t n;

    if (!value)
        return cmd_usage("migrate: %s needs a value", option);
    if (!strcmp(option, "--write") || !strcmp(option, "--expect"))
        return parse_access(option, value, &plan->accesses[plan->n_accesses++]);
    if (!is_memory && strcmp(option, "--rounds"))
        return cmd_usage("migrate: \"%s\" is unknown", option);
    if (cmd_parse_number(value, &n) || !n || n > (is_memory ? MAX_MIB : MAX_ROUNDS))
        return cmd_usage("migrate: %s takes a number from 1 to %d", option,
                         is_memory ? MAX_MIB : MAX_ROUNDS);
    if (is_memory)
        plan->size = n * MIB;
    else
        plan->rounds = (unsigned)n;
    return CMD_OK;
}

static int parse_plan(int argc, char **argv, struct plan *plan)
{
    if (!argc || argv[0][0] == '-')
        return cmd_usage("migrate: DESTINATION [OPTION...]");
    for (int i = 1; i < argc; i++) {
        int ret = CMD_OK;

        if (!strcmp(argv[i], "--edu"))
            plan->edu = true;
        else if (!strcmp(argv[i], "--step"))
            plan->stepwise = true;
        else
            ret = parse_option(argv[i], argv[i + 1], plan), i++;
        if (ret)
            return ret;
    }
    return CMD_OK;
}

int cmd_migrate(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_free_ struct access *accesses = calloc((size_t)argc + 1, sizeof(*accesses));
    struct plan plan = {
        .accesses = accesses,
        .size = (size_t)DEFAULT_MIB * MIB,
        .rounds = DEFAULT_ROUNDS,
    };
    struct move m = {.plan = &plan};
    int ret;

    if (!accesses)
        return cmd_error(-ENOMEM, "migrate");
    ret = parse_plan(argc, argv, &plan);
    if (ret)
        return ret;
    m.load = (struct edu_load){.iova = IOVA, .size = plan.size, .seed = 1};
    ret = open_side(&m.source, target, plan.size);
    if (!ret)
        ret =
            open_side(&m.destination, &(struct cmd_target){argv[0], target->timeout_ms}, plan.size);
    if (!ret)
        ret = begin(&m);
    if (!ret)
        ret = run(&m);
    close_side(&m.destination);
    close_side(&m.source);
    return ret;
}
