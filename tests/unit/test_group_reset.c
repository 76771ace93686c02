/* Resets of buses whose devices are several workers', over the simulated kernel. */
#include "server/group_reset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bridge/irq.h"
#include "bridge/region.h"
#include "bridge/sim/sim.h"
#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "server/group.h"
#include "tests/unit/log_capture.h"

enum {
    DEVICES = 4,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    IRQ_RAISE = 0x60, /* registers of edu */
    LIVENESS = 0x04,
    BUS = 1,
};

static const struct peer alice = {.pid = 1, .uid = 1000, .gid = 1000};
static const struct peer bob = {.pid = 3, .uid = 1001, .gid = 1001};

/* Two groups with two devices each, a and b, c and d; a root bus has all of them at first. */
struct machine {
    struct sim *sim;
    enum iommu_kind kind;
    struct groups *groups;
    struct group_device devices[DEVICES];
    struct group_device *a, *b, *c, *d;
    int fds;
};

static struct log_capture capture;

static int enter(struct machine *m, struct group_device *gd, const char *bdf)
{
    struct sysfs_device where;

    assert_int_equal(sysfs_find_device(sim_host(m->sim), bdf, &where), 0);
    return group_enter(gd, m->groups, sim_host(m->sim), &where, m->kind);
}

static int boot(void **state, enum iommu_kind kind)
{
    static struct machine m;
    char bdf[DEVICES][16];

    m = (struct machine){.sim = sim_create(), .kind = kind, .fds = fd_count_open()};
    assert_non_null(m.sim);
    assert_int_equal(groups_create(&m.groups), 0);
    for (unsigned i = 0; i < DEVICES; i++) {
        assert_int_equal(sim_add_device(m.sim, "edu", bdf[i], sizeof(bdf[i])), 0);
        assert_int_equal(sim_set_no_reset(m.sim, bdf[i]), 0);
        if (i % 2)
            assert_int_equal(sim_join_group(m.sim, bdf[i], bdf[i - 1]), 0);
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        m.devices[i].err_event = m.devices[i].req_event = -1;
        turn_init(&m.devices[i].turn);
        assert_int_equal(enter(&m, &m.devices[i], bdf[i]), 0);
    }
    m.a = &m.devices[0];
    m.b = &m.devices[1];
    m.c = &m.devices[2];
    m.d = &m.devices[3];
    *state = &m;
    return 0;
}

static int boot_type1(void **state)
{
    return boot(state, IOMMU_TYPE1);
}

static int boot_iommufd(void **state)
{
    return boot(state, IOMMU_IOMMUFD);
}

static int halt(void **state)
{
    struct machine *m = *state;
    struct sim_stats stats;

    log_capture_drop(&capture);
    log_set_level(LOG_INFO);
    for (unsigned i = 0; i < DEVICES; i++) {
        group_leave(&m->devices[i]);
        turn_destroy(&m->devices[i].turn);
    }
    groups_destroy(m->groups);
    sim_get_stats(m->sim, &stats);
    assert_int_equal(stats.containers + stats.groups + stats.devices + stats.contexts, 0);
    assert_int_equal(fd_count_open(), m->fds);
    sim_destroy(m->sim);
    return 0;
}

static void put_on_bus(const struct machine *m, const struct group_device *gd)
{
    assert_int_equal(sim_set_bus(m->sim, gd->where.name, BUS), 0);
}

static void assert_held(struct group_device *gd, const struct peer *who)
{
    assert_int_equal(group_hold(gd, who, 0), 0);
}

/* A worker's part: returns how many devices were reset. */
static unsigned reset(const struct machine *m, struct group_device *gd,
                      enum group_reset_others others, int result)
{
    struct sim_stats before, after;

    sim_get_stats(m->sim, &before);
    turn_take(&gd->turn);
    assert_int_equal(group_reset_device(gd, others), result);
    turn_give_back(&gd->turn);
    sim_get_stats(m->sim, &after);
    return after.resets - before.resets;
}

static uint32_t read_liveness(const struct group_device *gd)
{
    uint32_t value = 0;

    assert_int_equal(region_read(gd->device, 0, LIVENESS, &value, sizeof(value)), 0);
    return value;
}

static void write_register(const struct group_device *gd, uint64_t offset, uint32_t value)
{
    assert_int_equal(region_write(gd->device, 0, offset, &value, sizeof(value)), 0);
}

static bool bus_master(const struct machine *m, const struct group_device *gd)
{
    struct sim_device_state state;

    assert_int_equal(sim_get_device_state(m->sim, gd->where.name, &state), 0);
    return state.bus_master;
}

static void enable(const struct group_device *gd)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(region_write(gd->device, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
}

/* What a driver in a guest does. event: of its MSI, which stays the caller's. */
static void drive(const struct group_device *gd, int event)
{
    cleanup_close_ int given = fcntl(event, F_DUPFD_CLOEXEC, 0);
    struct irq_request irq = {
        .index = MSI,
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        .count = 1,
        .eventfds = &given,
    };

    enable(gd);
    assert_int_equal(irq_set(gd->device, &irq), 0);
    write_register(gd, LIVENESS, 1);
}

static void assert_interrupts(const struct group_device *gd, int event)
{
    enable(gd);
    assert_int_equal(event_wait(event, 0), 0);
    write_register(gd, IRQ_RAISE, 1);
    assert_int_equal(event_wait(event, 0), 1);
}

static void alone(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_false(group_reset_is_possible(m->a));
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, -ENOTTY), 0); /* a root bus */
    assert_int_equal(group_reset_bus(m->a, GROUP_RESET_IDLE), -ENOTTY);
    put_on_bus(m, m->a);
    assert_held(m->b, &alice); /* elsewhere */
    assert_true(group_reset_is_possible(m->a));
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 1);
    group_release(m->a);
    group_release(m->b);
}

static void with_an_idle_sibling(void **state)
{
    struct machine *m = *state;

    put_on_bus(m, m->a);
    put_on_bus(m, m->b);
    assert_held(m->a, &alice);
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
    assert_held(m->b, &alice);
    log_capture_start(&capture);
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, -EPERM), 0);
    assert_non_null(strstr(log_capture_end(&capture), "it is in use"));
    group_keep(m->b, false); /* not clean */
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
    group_release(m->b);
    group_release(m->a);
}

/* A device that waits for nothing else is free when another one's reset has reset it. */
static void cleans_the_sibling(void **state)
{
    struct machine *m = *state;

    put_on_bus(m, m->a);
    put_on_bus(m, m->c);
    assert_held(m->a, &alice);
    assert_held(m->c, &alice);
    group_keep(m->c, true);
    assert_int_equal(group_hold(m->d, &bob, 0), -EACCES);
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
    assert_false(m->c->held);
    assert_held(m->d, &bob);
    assert_held(m->c, &bob);
    group_release(m->c);
    group_release(m->d);
    group_release(m->a);
}

/* The other one is as it was, but for what a reset does; and nothing that lies elsewhere is. */
static void with_the_clients_own(void **state)
{
    struct machine *m = *state;
    struct group_device *const bus[] = {m->a, m->b, m->c};
    cleanup_close_ int event = event_create();

    for (unsigned i = 0; i < 3; i++) {
        put_on_bus(m, bus[i]);
        assert_held(bus[i], &alice);
    }
    assert_held(m->d, &alice);
    drive(m->d, event);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < 3; j++)
            drive(bus[j], event);
        assert_int_equal(reset(m, bus[i], GROUP_RESET_SAME_IDENTITY, 0), 3);
        for (unsigned j = 0; j < 3; j++) {
            assert_false(bus_master(m, bus[j]));
            assert_int_equal(read_liveness(bus[j]), 0);
            if (i == j)
                assert_int_equal(irq_rearm(bus[j]->device), 0);
            assert_interrupts(bus[j], event);
        }
        assert_true(bus_master(m, m->d));
        assert_int_equal(read_liveness(m->d), ~1u);
    }
    for (unsigned i = 0; i < DEVICES; i++)
        group_release(&m->devices[i]);
}

/* Wherever it fails, all sessions go on; bus mastering may be off. */
static unsigned fail_each_call(const struct machine *m, int event, int err)
{
    bool failed = true;
    unsigned n;

    for (n = 1; failed; n++) {
        int ret;

        drive(m->a, event);
        drive(m->b, event);
        turn_take(&m->a->turn);
        sim_fail_nth(m->sim, SIM_CALL_ANY, 0, n, err);
        ret = group_reset_device(m->a, GROUP_RESET_SAME_IDENTITY);
        failed = sim_fault_spent(m->sim);
        sim_fail_nth(m->sim, SIM_CALL_ANY, 0, 0, 0);
        turn_give_back(&m->a->turn);
        assert_true(!ret || failed);
        assert_int_equal(read_liveness(m->a), read_liveness(m->b)); /* both or none */
        assert_held(m->c, &bob);
        group_release(m->c);
    }
    assert_int_equal(irq_rearm(m->a->device), 0);
    assert_int_equal(irq_rearm(m->b->device), 0);
    assert_interrupts(m->a, event);
    assert_interrupts(m->b, event);
    return n;
}

static void each_call_fails(void **state)
{
    static const int errnos[] = {EIO, EINVAL, ENOMEM, ENODEV};
    struct machine *m = *state;
    cleanup_close_ int event = event_create();

    put_on_bus(m, m->a);
    put_on_bus(m, m->b);
    put_on_bus(m, m->c);
    assert_held(m->a, &alice);
    assert_held(m->b, &alice);
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++)
        assert_true(fail_each_call(m, event, errnos[i]) > 5);
    group_release(m->a);
    group_release(m->b);
}

/* Other groups: another client's devices in sessions, or of its that are not clean, or nobody's. */
static void over_groups(void **state)
{
    struct machine *m = *state;

    put_on_bus(m, m->a);
    put_on_bus(m, m->c);
    assert_held(m->a, &alice);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
        assert_int_equal(reset(m, m->a, GROUP_RESET_SAME_IDENTITY, 0), 2);
    }
    assert_held(m->c, &bob);
    log_capture_start(&capture);
    assert_int_equal(reset(m, m->a, GROUP_RESET_SAME_IDENTITY, -EPERM), 0);
    assert_non_null(strstr(log_capture_end(&capture), "it is another client's"));
    assert_int_equal(reset(m, m->c, GROUP_RESET_SAME_IDENTITY, -EPERM), 0);
    group_keep(m->c, false);
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
    assert_int_equal(reset(m, m->c, GROUP_RESET_IDLE, -EPERM), 0);
    group_keep(m->a, false);
    assert_int_equal(reset(m, m->c, GROUP_RESET_IDLE, 0), 2);
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, 0), 2);
    assert_held(m->a, &alice);
    assert_held(m->c, &bob); /* it is his still */
    assert_int_equal(group_hold(m->d, &alice, 0), -EACCES);
    group_release(m->a);
    group_release(m->c);
    assert_held(m->c, &alice);
    group_release(m->c);
}

/* A device of the group that is on another bus has a session: it is not to be disturbed. */
static void beside_a_session(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int event = event_create();
    const bool possible = m->kind == IOMMU_TYPE1;

    put_on_bus(m, m->a);
    put_on_bus(m, m->c);
    assert_held(m->a, &alice);
    assert_held(m->d, &bob);
    drive(m->d, event);
    /* iommufd has c in bob's context, where d keeps it. */
    assert_int_equal(reset(m, m->a, GROUP_RESET_IDLE, possible ? 0 : -EPERM), possible ? 2 : 0);
    assert_true(bus_master(m, m->d));
    assert_int_equal(read_liveness(m->d), ~1u);
    assert_interrupts(m->d, event);
    group_release(m->a);
    group_release(m->d);
}

/* What this daemon does not have the kernel does not let it reset. */
static void strangers(void **state)
{
    struct machine *m = *state;
    char bdf[16];

    assert_int_equal(sim_add_device(m->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sim_set_bus(m->sim, bdf, BUS), 0);
    put_on_bus(m, m->a);
    assert_held(m->a, &alice);
    assert_int_equal(reset(m, m->a, GROUP_RESET_SAME_IDENTITY, -EPERM), 0);
    assert_int_equal(sim_join_group(m->sim, bdf, m->a->where.name), 0);
    assert_int_equal(reset(m, m->a, GROUP_RESET_SAME_IDENTITY, 0), 2);
    group_release(m->a);
}

/*
 * A worker for each device, all on one bus: sessions of two clients come and go, devices leave and
 * come back, and everybody resets. None of a session's accesses runs into a reset of another one's.
 */
enum {
    ROUNDS = 200,
};

static struct machine *shared;
static _Atomic unsigned failures, resets, refusals;

static void count(int ret)
{
    if (!ret)
        resets++;
    else if (ret == -EPERM)
        refusals++;
    else
        failures++;
}

static void use(struct group_device *gd, unsigned round)
{
    const uint32_t value = 1;
    uint32_t seen = 0;
    bool ok = !region_write(gd->device, 0, LIVENESS, &value, sizeof(value)) &&
              !region_read(gd->device, 0, LIVENESS, &seen, sizeof(seen)) && seen == ~value;

    failures += !ok;
    count(group_reset_device(gd, round % 3 ? GROUP_RESET_SAME_IDENTITY : GROUP_RESET_IDLE));
    failures += gd->device == NULL;
}

static void session(struct group_device *gd, const struct peer *who, unsigned round)
{
    int ret = group_hold(gd, who, 0);

    if (ret == -EACCES)
        return;
    if (ret) {
        failures++;
        return;
    }
    use(gd, round);
    if (round % 4 == 1) {
        group_keep(gd, false);
        if (gd->device)
            count(group_reset_device(gd, GROUP_RESET_IDLE));
    }
    group_release(gd);
}

static void *work(void *arg)
{
    unsigned i = *(const unsigned *)arg;
    struct group_device *gd = &shared->devices[i];
    char bdf[SYSFS_NAME_SIZE];

    strcpy(bdf, gd->where.name);
    for (unsigned round = 0; round < ROUNDS; round++) {
        turn_take(&gd->turn);
        session(gd, (round / 4 + i) % 2 ? &alice : &bob, round);
        if (round % 16 == 5) {
            group_leave(gd);
            failures += enter(shared, gd, bdf) != 0;
        }
        turn_give_back(&gd->turn);
    }
    return NULL;
}

static void workers_at_once(void **state)
{
    static unsigned numbers[DEVICES] = {0, 1, 2, 3};
    pthread_t threads[DEVICES];

    shared = *state;
    failures = resets = refusals = 0;
    log_set_level(LOG_ERROR);
    for (unsigned i = 0; i < DEVICES; i++)
        put_on_bus(shared, &shared->devices[i]);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &numbers[i]), 0);
    for (unsigned i = 0; i < DEVICES; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(failures, 0);
    assert_true(resets > 0);
}

#define on_both(t)                                                                                 \
    {#t " (type1)", t, boot_type1, halt, NULL},                                                    \
    {                                                                                              \
#t " (iommufd)", t, boot_iommufd, halt, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_both(alone),
        on_both(with_an_idle_sibling),
        on_both(with_the_clients_own),
        on_both(cleans_the_sibling),
        on_both(over_groups),
        on_both(beside_a_session),
        on_both(each_call_fails),
        on_both(strangers),
        on_both(workers_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
