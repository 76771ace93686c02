/*
 * Three devices of one client over a kernel that fails: two in one IOMMU group, one in another.
 * They are held, which moves them into one iommufd; the same memory is mapped for each, unmapped,
 * kept, mapped again; the sessions end. What fails is an error for the client or makes its device
 * broken, and no more: the next client holds all of them, and finds nothing of the first one's.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "bridge/reset.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "server/group.h"
#include "server/session.h"
#include "tests/fault/fault.h"

enum {
    PAGE = 4096,
    IOVA = 0x100000,
    SIZE = 4 * PAGE,
    KEEP = 16 * PAGE,
    DEVICES = 3,
    STABLE = IOMMU_READ | IOMMU_WRITE | IOMMU_STABLE,
};

static const struct peer alice = {.pid = 1, .uid = 1000, .gid = 1000};
static const struct peer bob = {.pid = 2, .uid = 1001, .gid = 1001};

static enum iommu_kind kind = IOMMU_TYPE1;

struct use {
    struct fault_machine *m;
    char bdfs[DEVICES][13];
    struct groups *groups;
    struct group_device devices[DEVICES];
    bool mapped[DEVICES];
};

/* The retries of a reset. */
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)wanted;
    (void)left;
    return 0;
}

static bool succeeded(const struct use *u, const char *what, int ret)
{
    if (ret && !fault_happened(u->m))
        fail_msg("%s fails by itself: %s", what, strerror(-ret));
    return !ret;
}

static int enter(struct use *u, unsigned i)
{
    struct sysfs_device where;
    int ret = sysfs_find_device(u->m->host, u->bdfs[i], &where);

    u->devices[i].err_event = u->devices[i].req_event = -1;
    return ret ? ret : group_enter(&u->devices[i], u->groups, u->m->host, &where, kind);
}

/* As when the daemon starts: all or nothing. */
static int enter_all(struct use *u)
{
    int ret = 0;

    for (unsigned i = 0; i < DEVICES && !ret; i++)
        ret = enter(u, i);
    for (unsigned i = 0; i < DEVICES && ret; i++)
        group_leave(&u->devices[i]);
    return ret;
}

static bool reaches(const struct use *u, unsigned i)
{
    uint32_t word;

    return !sim_device_dma(u->m->sim, u->bdfs[i], IOVA, &word, sizeof(word), false);
}

static void map(struct use *u, unsigned i, int memory)
{
    int ret = address_space_map(u->devices[i].as, IOVA, SIZE, STABLE, memory, 0);

    u->mapped[i] = succeeded(u, "map", ret);
    if (u->mapped[i])
        assert_true(reaches(u, i));
}

static void unmap(struct use *u, unsigned i)
{
    int ret = u->mapped[i] ? address_space_unmap(u->devices[i].as, IOVA, SIZE) : 0;

    u->mapped[i] = u->mapped[i] && !succeeded(u, "unmap", ret);
}

static void use_devices(struct use *u, int memory)
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < DEVICES; i++) {
            if (u->devices[i].held && !u->mapped[i])
                map(u, i, memory);
        }
        for (unsigned i = round; i < DEVICES; i++) /* the last round leaves one to the end */
            unmap(u, i);
    }
}

/* Of a device that is held; its worker's part. */
static void end_session(struct use *u, unsigned i)
{
    struct group_device *gd = &u->devices[i];
    struct session session = {.device = gd->device, .as = gd->as};
    enum session_end end = session_teardown(&session);

    if (end != SESSION_END_CLEAN)
        assert_true(fault_happened(u->m));
    if (end == SESSION_END_BROKEN)
        group_rebuild(gd);
    group_forget(gd);
    u->mapped[i] = false;
}

static void assert_nothing_is_reached(const struct use *u)
{
    struct sim_stats stats;

    sim_get_stats(u->m->sim, &stats);
    assert_int_equal(stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_false(reaches(u, i));
}

/* A client that has all devices, or those that could be opened. */
static void client(struct use *u, const struct peer *who)
{
    cleanup_close_ int memory = fault_client_memory(SIZE);

    for (unsigned i = 0; i < DEVICES; i++) {
        int ret = group_hold(&u->devices[i], who, KEEP);

        if (!succeeded(u, "hold", ret))
            assert_int_equal(ret, -ENODEV);
    }
    use_devices(u, memory);
    for (unsigned i = 0; i < DEVICES; i++) {
        if (!u->devices[i].held)
            continue;
        end_session(u, i);
        group_release(&u->devices[i]);
    }
}

static void siblings(struct fault_machine *m)
{
    struct use u = {.m = m};

    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(sim_add_device(m->sim, "edu", u.bdfs[i], sizeof(u.bdfs[i])), 0);
    assert_int_equal(sim_join_group(m->sim, u.bdfs[1], u.bdfs[0]), 0);
    assert_int_equal(groups_create(&u.groups), 0);
    if (!succeeded(&u, "entering", enter_all(&u))) {
        fault_heal(m);
        assert_int_equal(enter_all(&u), 0);
    }
    client(&u, &alice);
    fault_heal(m);
    client(&u, &alice);
    assert_nothing_is_reached(&u);
    client(&u, &bob);
    assert_nothing_is_reached(&u);
    for (unsigned i = 0; i < DEVICES; i++)
        group_leave(&u.devices[i]);
    groups_destroy(u.groups);
}

static void run_errnos(unsigned (*each)(fault_scenario scenario, int err))
{
    static const int errnos[] = FAULT_ERRNOS;

    for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
        unsigned calls = each(siblings, errnos[i]);

        print_message("%s: %u calls\n", strerror(errnos[i]), calls);
        assert_true(calls > 100);
    }
}

static void test_each_call(void **state)
{
    (void)state;
    run_errnos(fault_each_call);
}

static void test_each_end(void **state)
{
    (void)state;
    run_errnos(fault_each_end);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        fault_test(test_each_call),
        fault_test(test_each_end),
    };

    log_set_level(LOG_ERROR);
    if (argc > 1 && !strcmp(argv[1], "iommufd"))
        kind = IOMMU_IOMMUFD;
    if (argc > 1 && fault_select_machine(argv[1]))
        kind = IOMMU_SPAPR;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
