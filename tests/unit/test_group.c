/* Groups and the tenants that hold them, over the simulated kernel. */
#include "server/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/sim/sim.h"
#include "bridge/uapi_compat.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "server/tenant.h"
#include "tests/unit/log_capture.h"

enum {
    PAGE = 4096,
    IOVA = 0x100000,
    RW = IOMMU_READ | IOMMU_WRITE,
    KEEP = 16 * PAGE,
    DEVICES = 4,
    GROUPS = 2,
};

static const struct peer alice = {.pid = 1, .uid = 1000, .gid = 1000};
static const struct peer alice_again = {.pid = 2, .uid = 1000, .gid = 1000};
static const struct peer bob = {.pid = 3, .uid = 1001, .gid = 1001};

/* Two groups with two devices each: a and b, c and d. */
struct machine {
    struct sim *sim;
    enum iommu_kind kind;
    struct groups *groups;
    struct group_device devices[DEVICES];
    struct group_device *a, *b, *c, *d;
    int memory;
    int fds;
};

static struct log_capture capture;

static void add_devices(struct machine *m)
{
    struct sysfs_device where;
    char bdf[DEVICES][16];

    for (unsigned i = 0; i < DEVICES; i++) {
        assert_int_equal(sim_add_device(m->sim, "edu", bdf[i], sizeof(bdf[i])), 0);
        if (i % 2)
            assert_int_equal(sim_join_group(m->sim, bdf[i], bdf[i - 1]), 0);
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        assert_int_equal(sysfs_find_device(sim_host(m->sim), bdf[i], &where), 0);
        m->devices[i].err_event = m->devices[i].req_event = -1;
        assert_int_equal(group_enter(&m->devices[i], m->groups, sim_host(m->sim), &where, m->kind),
                         0);
    }
}

static int boot(void **state, enum iommu_kind kind)
{
    static struct machine m;

    m = (struct machine){.sim = sim_create(), .kind = kind};
    assert_non_null(m.sim);
    m.fds = fd_count_open();
    m.memory = memfd_create("client", MFD_CLOEXEC);
    assert_int_equal(ftruncate(m.memory, 16 * PAGE), 0);
    m.a = &m.devices[0];
    m.b = &m.devices[1];
    m.c = &m.devices[2];
    m.d = &m.devices[3];
    assert_int_equal(groups_create(&m.groups), 0);
    add_devices(&m);
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

static struct sim_stats stats_of(const struct machine *m)
{
    struct sim_stats stats;

    sim_get_stats(m->sim, &stats);
    return stats;
}

static int halt(void **state)
{
    struct machine *m = *state;
    struct sim_stats stats;

    log_capture_drop(&capture);
    for (unsigned i = 0; i < DEVICES; i++)
        group_leave(&m->devices[i]);
    groups_destroy(m->groups);
    stats = stats_of(m);
    assert_int_equal(
        stats.containers + stats.groups + stats.devices + stats.contexts + stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    fd_close(&m->memory);
    assert_int_equal(fd_count_open(), m->fds);
    sim_destroy(m->sim);
    return 0;
}

/* What separates clients in the kernel: iommufds, or containers. */
static unsigned contexts(const struct machine *m)
{
    return m->kind == IOMMU_IOMMUFD ? stats_of(m).contexts : stats_of(m).containers;
}

static int hold(struct group_device *gd, const struct peer *who)
{
    return group_hold(gd, who, KEEP);
}

static void assert_held(struct group_device *gd, const struct peer *who)
{
    assert_int_equal(hold(gd, who), 0);
    assert_true(group_device_is_open(gd));
}

static int map(const struct machine *m, struct group_device *gd, unsigned page)
{
    return address_space_map(gd->as, IOVA, 4 * PAGE, RW, m->memory, (uint64_t)page * PAGE);
}

static int unmap(struct group_device *gd)
{
    return address_space_unmap(gd->as, IOVA, 4 * PAGE);
}

static void assert_reaches(const struct machine *m, struct group_device *gd, unsigned page)
{
    static uint32_t n;
    uint32_t word = ++n, seen = 0;

    assert_int_equal(sim_device_dma(m->sim, gd->where.name, IOVA, &word, 4, true), 0);
    assert_int_equal(pread(m->memory, &seen, 4, (off_t)page * PAGE), 4);
    assert_int_equal(seen, word);
}

static void assert_reaches_not(const struct machine *m, struct group_device *gd)
{
    uint32_t word;

    assert_int_equal(sim_device_dma(m->sim, gd->where.name, IOVA, &word, 4, false), -EFAULT);
}

static void fail_unmap(const struct machine *m)
{
    sim_fail_nth(m->sim, SIM_CALL_IOCTL,
                 m->kind == IOMMU_TYPE1 ? VFIO_IOMMU_UNMAP_DMA : UAPI_IOMMU_IOAS_UNMAP, 1, EIO);
}

static void one_identity_at_a_time(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    log_capture_start(&capture);
    assert_int_equal(hold(m->b, &bob), -EACCES);
    assert_int_equal(hold(m->a, &bob), -EACCES);
    assert_non_null(strstr(log_capture_end(&capture), "belongs to uid 1000"));
    assert_held(m->b, &alice_again);
    assert_held(m->c, &bob); /* another group */

    group_release(m->a);
    assert_int_equal(hold(m->a, &bob), -EACCES);
    assert_int_equal(hold(m->b, &bob), -EACCES);
    group_release(m->b);
    assert_held(m->a, &bob);
    assert_int_equal(hold(m->b, &alice), -EACCES);
    assert_int_equal(hold(m->d, &alice), -EACCES);
    group_release(m->c);
    group_release(m->a);
    assert_held(m->d, &alice);
    group_release(m->d);
}

/* As for a device that could not be reset: its holder may come again, and counts once. */
static void held_twice(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_held(m->a, &alice_again);
    assert_int_equal(hold(m->b, &bob), -EACCES);
    group_release(m->a);
    assert_held(m->b, &bob);
    group_release(m->b);
}

/* A client's groups are in one iommufd for as long as it has them, and apart from all others'. */
static void contexts_of_a_client(void **state)
{
    struct machine *m = *state;
    const unsigned together = m->kind == IOMMU_IOMMUFD ? 1 : 2;

    assert_int_equal(contexts(m), 2);
    for (unsigned first = 0; first < 2; first++) {
        assert_held(m->a, &alice);
        assert_held(m->b, &alice);
        assert_int_equal(contexts(m), 2);
        assert_held(m->c, &alice);
        assert_int_equal(contexts(m), together);
        assert_held(m->d, &alice);
        assert_int_equal(contexts(m), together);

        group_release(first ? m->a : m->c);
        assert_int_equal(contexts(m), together);
        group_release(first ? m->b : m->d);
        assert_int_equal(contexts(m), 2);
        assert_held(first ? m->b : m->d, &bob);
        assert_int_equal(contexts(m), 2);
        group_release(first ? m->b : m->d);
        group_release(first ? m->c : m->a);
        group_release(first ? m->d : m->b);
        assert_int_equal(contexts(m), 2);
    }
    assert_int_equal(stats_of(m).mappings, 0);
}

/* The other device of a group that moves is closed, and open again when somebody wants it. */
static void moved_with_its_group(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_held(m->c, &alice);
    assert_int_equal(group_device_is_open(m->d), m->kind == IOMMU_TYPE1);
    assert_held(m->d, &alice);
    group_release(m->d);
    assert_true(group_device_is_open(m->d));
    group_release(m->c);
    assert_true(group_device_is_open(m->c));
    assert_held(m->d, &bob);
    group_release(m->d);
    group_release(m->a);
}

/* Pinned once in one group, or in one iommufd; by each container for itself. */
static void memory_of_a_client(void **state)
{
    struct machine *m = *state;
    const uint64_t once = 4 * PAGE, twice = m->kind == IOMMU_IOMMUFD ? once : 2 * once;

    assert_held(m->a, &alice);
    assert_held(m->b, &alice);
    assert_held(m->c, &alice);
    assert_int_equal(map(m, m->a, 0), 0);
    assert_int_equal(map(m, m->b, 4), -EEXIST);
    assert_int_equal(map(m, m->b, 0), 0);
    assert_int_equal(stats_of(m).pinned_bytes, once);
    assert_reaches(m, m->a, 0);
    assert_reaches(m, m->b, 0);
    assert_reaches_not(m, m->c);
    assert_int_equal(map(m, m->c, 0), 0);
    assert_int_equal(stats_of(m).pinned_bytes, twice);

    /* The first one leaves, with its group. */
    assert_int_equal(unmap(m->a), 0);
    group_release(m->a);
    assert_reaches(m, m->b, 0);
    assert_int_equal(unmap(m->b), 0);
    group_release(m->b);
    assert_reaches_not(m, m->a);
    assert_reaches(m, m->c, 0);
    assert_int_equal(stats_of(m).pinned_bytes, once);
    assert_int_equal(unmap(m->c), 0);
    group_release(m->c);
    assert_int_equal(stats_of(m).pinned_bytes, 0);
}

static void rebuilt_alone(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_int_equal(map(m, m->a, 0), 0);
    fail_unmap(m);
    group_rebuild(m->a);
    assert_true(sim_fault_spent(m->sim));
    assert_int_equal(stats_of(m).mappings, 0);
    assert_int_equal(stats_of(m).pinned_bytes, 0);
    assert_true(group_device_is_open(m->a));
    assert_int_equal(hold(m->b, &bob), -EACCES); /* it is still the holder's */
    assert_held(m->b, &alice);
    assert_held(m->c, &alice);
    assert_int_equal(map(m, m->b, 0), 0);
    assert_int_equal(map(m, m->a, 0), 0);
    assert_reaches(m, m->a, 0);
    assert_int_equal(unmap(m->b), 0);
    assert_int_equal(unmap(m->a), 0);
    group_release(m->a);
    group_release(m->b);
    group_release(m->c);
    assert_int_equal(contexts(m), 2);
    assert_held(m->a, &bob);
    group_release(m->a);
}

/* The other device goes on; what the kernel kept is gone with the last session. */
static void rebuilt_beside_a_session(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_held(m->b, &alice);
    assert_int_equal(map(m, m->a, 0), 0);
    assert_int_equal(address_space_map(m->b->as, 0, PAGE, RW, m->memory, 8 * PAGE), 0);
    fail_unmap(m);
    group_rebuild(m->a);
    assert_true(sim_fault_spent(m->sim));
    assert_int_equal(stats_of(m).pinned_bytes, 5 * PAGE);
    assert_int_equal(map(m, m->a, 0), -EEXIST);
    group_release(m->a);
    assert_int_equal(address_space_unmap(m->b->as, 0, PAGE), 0);
    assert_int_equal(stats_of(m).pinned_bytes, 4 * PAGE);
    assert_int_equal(hold(m->a, &bob), -EACCES);
    group_release(m->b);
    assert_int_equal(stats_of(m).pinned_bytes, 0);
    assert_held(m->a, &bob);
    assert_int_equal(map(m, m->a, 0), 0);
    assert_int_equal(unmap(m->a), 0);
    group_release(m->a);
}

/* The device can't be opened: it is nobody's, and who comes later has it. */
static void not_opened(void **state)
{
    struct machine *m = *state;
    const char *path = m->kind == IOMMU_IOMMUFD ? "/dev/iommu" : "/dev/vfio/vfio";

    assert_held(m->a, &alice);
    assert_int_equal(sim_set_open_error(m->sim, path, ENODEV), 0);
    group_rebuild(m->a);
    assert_false(group_device_is_open(m->a));
    assert_string_equal(group_backend(m->a), "no IOMMU");
    group_release(m->a);
    assert_int_equal(hold(m->a, &alice), -ENODEV);
    assert_int_equal(hold(m->b, &bob), -ENODEV);
    assert_int_equal(sim_set_open_error(m->sim, path, 0), 0);
    assert_held(m->b, &bob);
    assert_int_equal(hold(m->a, &alice), -EACCES);
    assert_held(m->a, &bob);
    group_release(m->a);
    group_release(m->b);
}

/* Any call of a client's move into its iommufd may fail; nobody is shut out by that. */
static void each_call_fails(void **state)
{
    struct machine *m = *state;
    bool failed = true;
    unsigned n;

    for (n = 1; failed; n++) {
        int ret;

        assert_held(m->a, &alice);
        sim_fail_nth(m->sim, SIM_CALL_ANY, 0, n, EIO);
        ret = hold(m->c, &alice);
        failed = sim_fault_spent(m->sim);
        sim_fail_nth(m->sim, SIM_CALL_ANY, 0, 0, 0);
        if (ret) {
            assert_int_equal(ret, -ENODEV);
            assert_true(failed);
        } else {
            assert_int_equal(map(m, m->c, 0), 0);
            assert_reaches(m, m->c, 0);
            assert_int_equal(unmap(m->c), 0);
            group_release(m->c);
        }
        group_release(m->a);
        assert_held(m->c, &bob);
        assert_held(m->d, &bob);
        group_release(m->c);
        group_release(m->d);
        assert_held(m->a, &bob);
        group_release(m->a);
        assert_int_equal(contexts(m), 2);
        assert_int_equal(stats_of(m).pinned_bytes, 0);
    }
    assert_true(n > (m->kind == IOMMU_IOMMUFD ? 10 : 1));
}

/* Also of a device that stays held, and after its group has left the client's iommufd. */
static void forgets(void **state)
{
    struct machine *m = *state;
    const uint64_t kept = m->kind == IOMMU_IOMMUFD ? 4 * PAGE : 0;

    for (unsigned rebuilt = 0; rebuilt < 2; rebuilt++) {
        assert_held(m->c, &alice);
        assert_held(m->a, &alice);
        assert_int_equal(
            address_space_map(m->a->as, IOVA, 4 * PAGE, RW | IOMMU_STABLE, m->memory, 0), 0);
        assert_int_equal(unmap(m->a), 0);
        assert_int_equal(stats_of(m).pinned_bytes, kept);
        if (rebuilt)
            group_rebuild(m->a);
        group_forget(m->a);
        assert_int_equal(stats_of(m).pinned_bytes, 0);
        assert_int_equal(hold(m->b, &bob), -EACCES);
        group_release(m->a);
        group_release(m->c);
    }
}

/* The daemon ends while a device is not clean. */
static void left_while_held(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_held(m->c, &alice);
    group_leave(m->a);
    group_leave(m->a); /* of a device that is not in it */
    assert_held(m->b, &bob);
    group_release(m->b);
    group_release(m->c);
}

static int enter(struct machine *m, struct group_device *gd)
{
    struct sysfs_device where = gd->where;

    return group_enter(gd, m->groups, sim_host(m->sim), &where, m->kind);
}

/* A device that is taken away does not disturb its sibling's session, nor does it when it is back.
 */
static void left_beside_a_session(void **state)
{
    struct machine *m = *state;

    assert_held(m->a, &alice);
    assert_held(m->b, &alice);
    assert_int_equal(map(m, m->a, 0), 0);
    assert_int_equal(map(m, m->b, 0), 0);
    assert_int_equal(hold(m->d, &bob), 0);
    group_leave(m->a);
    assert_int_equal(stats_of(m).devices, 3);
    assert_reaches(m, m->b, 0);
    assert_int_equal(enter(m, m->a), 0);
    assert_false(m->a->held);
    assert_reaches(m, m->b, 0);
    assert_int_equal(hold(m->a, &bob), -EACCES);
    assert_held(m->a, &alice);
    assert_int_equal(unmap(m->b), 0);
    group_release(m->a);
    group_release(m->b);
    group_release(m->d);
}

/* The kernel may wait for the group's file too, when its devices are gone. */
static void all_of_a_group_left(void **state)
{
    struct machine *m = *state;
    unsigned groups = stats_of(m).groups;

    assert_held(m->b, &alice);
    group_leave(m->a);
    assert_int_equal(stats_of(m).groups, groups);
    /* One that can't be opened has nothing of the group either. */
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_INFO, 1, EIO);
    assert_int_equal(enter(m, m->a), -EIO);
    group_leave(m->b);
    assert_int_equal(stats_of(m).groups, groups ? groups - 1 : 0);
    assert_int_equal(stats_of(m).devices, 2);
    assert_int_equal(enter(m, m->b), 0);
    assert_int_equal(enter(m, m->a), 0);
    assert_held(m->a, &bob);
    group_release(m->a);
}

/* A sibling that is entered but not open does not keep the group's file. */
static void last_open_one_left(void **state)
{
    struct machine *m = *state;
    unsigned groups = stats_of(m).groups;

    assert_held(m->a, &alice);
    assert_held(m->b, &alice);
    for (unsigned n = 1; n < 3; n++) {
        sim_fail_nth(m->sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_INFO, 1, EIO);
        group_rebuild(m->b);
        assert_false(group_device_is_open(m->b));
    }
    group_leave(m->a);
    assert_int_equal(stats_of(m).groups, groups ? groups - 1 : 0);
    group_rebuild(m->b);
    assert_true(group_device_is_open(m->b));
    group_release(m->b);
}

static void find_by_identity(void **state)
{
    struct machine *m = *state;
    struct iommu_context *contexts_made[3];
    struct tenant *first, *again, *other, *elsewhere;
    struct tenants *tenants;
    struct sim *sim = sim_create();

    assert_non_null(sim);
    assert_int_equal(tenants_create(&tenants), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(iommu_context_create(sim_host(m->sim), m->kind, &contexts_made[i]), 0);
    first = tenant_join(tenants, &alice, sim_host(m->sim), m->kind, contexts_made[0]);
    again = tenant_join(tenants, &alice_again, sim_host(m->sim), m->kind, contexts_made[1]);
    other = tenant_join(tenants, &bob, sim_host(m->sim), m->kind, contexts_made[1]);
    elsewhere = tenant_join(tenants, &alice, sim_host(sim), m->kind, contexts_made[2]);
    assert_ptr_equal(first, again);
    assert_ptr_equal(tenant_context(again), contexts_made[0]);
    assert_ptr_not_equal(other, first);
    assert_ptr_not_equal(elsewhere, first);
    tenant_leave(first);
    assert_true(iommu_context_is_shared(contexts_made[0]));
    tenant_leave(again);
    assert_false(iommu_context_is_shared(contexts_made[0]));
    tenant_leave(other);
    tenant_leave(elsewhere);
    for (unsigned i = 0; i < 3; i++)
        iommu_context_unref(contexts_made[i]);
    tenants_destroy(tenants);
    sim_destroy(sim);
}

/*
 * A worker for each device, whose clients come in turn. holders: how many of each identity have
 * the group, as the workers see it.
 */
enum {
    ROUNDS = 150,
};

static struct machine *shared;
static _Atomic unsigned holders[GROUPS][2];
static _Atomic unsigned failures, sessions;

static bool use_device(struct group_device *gd, unsigned group, unsigned identity)
{
    bool ok;

    holders[group][identity]++;
    ok = !holders[group][!identity] && !map(shared, gd, 0);
    ok = ok && !sim_device_dma(shared->sim, gd->where.name, IOVA, &(uint32_t){0}, 4, false);
    ok = ok && !unmap(gd);
    holders[group][identity]--;
    return ok;
}

static void *work(void *arg)
{
    unsigned i = *(const unsigned *)arg;
    struct group_device *gd = &shared->devices[i];

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned identity = (round / 4 + i) % 2;
        int ret = hold(gd, identity ? &alice : &bob);

        if (ret == -EACCES)
            continue;
        if (ret || !use_device(gd, i / 2, identity)) {
            failures++;
            continue;
        }
        if (round % 8 == 0)
            group_rebuild(gd);
        sessions++;
        group_forget(gd);
        group_release(gd);
        if (round % 16 == 5) {
            group_leave(gd);
            failures += enter(shared, gd) != 0;
        }
    }
    return NULL;
}

static void workers_at_once(void **state)
{
    static unsigned numbers[DEVICES] = {0, 1, 2, 3};
    pthread_t threads[DEVICES];

    shared = *state;
    failures = sessions = 0;
    log_set_level(LOG_ERROR);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &numbers[i]), 0);
    for (unsigned i = 0; i < DEVICES; i++)
        pthread_join(threads[i], NULL);
    log_set_level(LOG_INFO);
    assert_int_equal(failures, 0);
    assert_true(sessions > ROUNDS);
    assert_int_equal(stats_of(shared).pinned_bytes, 0);
}

#define on_both(t)                                                                                 \
    {#t " (type1)", t, boot_type1, halt, NULL},                                                    \
    {                                                                                              \
#t " (iommufd)", t, boot_iommufd, halt, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_both(one_identity_at_a_time),   on_both(held_twice),
        on_both(contexts_of_a_client),     on_both(moved_with_its_group),
        on_both(memory_of_a_client),       on_both(rebuilt_alone),
        on_both(rebuilt_beside_a_session), on_both(not_opened),
        on_both(each_call_fails),          on_both(forgets),
        on_both(left_while_held),          on_both(left_beside_a_session),
        on_both(all_of_a_group_left),      on_both(last_open_one_left),
        on_both(find_by_identity),         on_both(workers_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
