/*
 * DEVICE_RESET of a device that can't be reset on its own, by its bus; and of two such devices on
 * one bus, of one group or of two, each with its own socket and worker. Of two others one can.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/child.h"
#include "tests/protocol/raw.h"

enum {
    BUS = 1,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    IOVA = 0x100000,
    NOBODY = 65534,
    ROUNDS = 50,
    REG_SCRATCH = 0x0c, /* of sim:testdev */
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf) &&
           (!h->n_more || sim_removal_is_done(h->machine.sim, h->more[0].bdf));
}

/* Returns when the server has ended the session: only then it closes its side. */
static void leave(struct vfuc *c)
{
    shutdown(vfuc_socket(c), SHUT_WR);
    raw_expect_end(vfuc_socket(c));
    vfuc_close(c);
}

/*
 * Whether a device can be reset is found out when it is opened: so they are opened again, which is
 * when somebody comes.
 */
static void put_on_bus(struct harness *h, bool one_group, bool first_resets)
{
    const char *const bdfs[] = {h->bdf, h->more[0].bdf};
    struct sim *sim = h->machine.sim;
    unsigned n = h->n_more ? 2 : 1;

    for (unsigned i = 0; i < n; i++) {
        if (i || !first_resets)
            assert_int_equal(sim_set_no_reset(sim, bdfs[i]), 0);
        assert_int_equal(sim_set_bus(sim, bdfs[i], BUS), 0);
        assert_int_equal(sim_request_removal(sim, bdfs[i]), 0);
    }
    harness_await(h, is_removed, "the devices are closed");
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(sim_bring_back(sim, bdfs[i]), 0);
    if (one_group)
        assert_int_equal(sim_join_group(sim, bdfs[1], bdfs[0]), 0);
    for (unsigned i = 0; i < n; i++)
        leave(harness_client_at(i ? h->more[0].path : h->path));
}

static int setup_one(void **state)
{
    struct harness *h = harness_new();

    harness_start(h);
    put_on_bus(h, false, false);
    *state = h;
    return 0;
}

static void start_two(void **state, const char *device, bool one_group, bool first_resets)
{
    struct harness *h = harness_new();

    h->settings.socket_mode = 0666;
    assert_int_equal(chmod(h->directory, 0755), 0);
    h->export_config.device = device;
    harness_add_export(h, device);
    harness_start(h);
    put_on_bus(h, one_group, first_resets);
    *state = h;
}

static int setup_group(void **state)
{
    start_two(state, "sim:edu", true, false);
    return 0;
}

static int setup_groups(void **state)
{
    start_two(state, "sim:edu", false, false);
    return 0;
}

static int setup_siblings(void **state)
{
    start_two(state, "sim:testdev", false, true);
    return 0;
}

static void enable(struct vfuc *c)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
}

static struct vfuc *client(const char *path)
{
    struct vfuc *c = harness_client_at(path);

    enable(c);
    return c;
}

static uint32_t liveness(struct vfuc *c)
{
    uint32_t value;

    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    return value;
}

static void reset_by_bus(void **state)
{
    struct harness *h = *state;
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct vfuc *c = client(h->path);
    cleanup_close_ int event = event_create();
    struct vfio_user_device_info info;
    unsigned resets;

    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_true(info.flags & VFIO_USER_DEVICE_FLAGS_RESET);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0xff00ff00), 0);
    assert_int_equal(vfuc_set_irqs(c, MSI, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    assert_int_equal(liveness(c), 0x00ff00ff);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(liveness(c), 0);
    assert_false(harness_device(h).bus_master);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(edu_write(c, EDU_REG_IRQ_RAISE, 1), 0);
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);

    /* The end of a session does so too. */
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0xff00ff00), 0);
    resets = harness_stats(h).resets;
    vfuc_close(c);
    harness_await_idle(h);
    c = client(h->path);
    assert_int_equal(liveness(c), 0);
    assert_int_equal(harness_stats(h).resets, resets + 1);
    vfuc_close(c);
}

/* What a driver in a guest does. */
static void drive(struct vfuc *c, int event, int memory)
{
    assert_int_equal(vfuc_set_irqs(c, MSI, EVENTFD_TRIGGER, 0, 1, &event, NULL), 0);
    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, DMA_RW, memory, 0), 0);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 1), 0);
}

/* After a reset, which the driver may know nothing of. */
static void assert_works(struct vfuc *c, int event, int memory)
{
    const struct edu_transfer there = {.iova = IOVA, .len = 8};
    const struct edu_transfer back = {.iova = IOVA + 8, .len = 8, .to_ram = true};
    const uint64_t word = 0x0123456789abcdef;
    uint64_t seen[2] = {word};

    assert_int_equal(liveness(c), 0);
    assert_int_equal(event_wait(event, 0), 0);
    enable(c);
    assert_int_equal(edu_write(c, EDU_REG_IRQ_RAISE, 1), 0);
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);
    assert_int_equal(pwrite(memory, seen, sizeof(seen), 0), sizeof(seen));
    assert_int_equal(edu_dma(c, &there), 0);
    assert_int_equal(edu_dma(c, &back), 0);
    assert_int_equal(pread(memory, seen, sizeof(seen), 0), sizeof(seen));
    assert_true(seen[1] == word);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 1), 0);
}

static void of_one_client(void **state)
{
    struct harness *h = *state;
    struct vfuc *const clients[] = {client(h->path), client(h->more[0].path)};
    cleanup_close_ int memory = raw_memfd(PAGE);
    const int events[] = {event_create(), event_create()};

    for (unsigned i = 0; i < 2; i++)
        drive(clients[i], events[i], memory);
    for (unsigned round = 0; round < 4; round++) {
        assert_int_equal(
            round < 2 ? vfuc_reset(clients[round]) : vfuc_hot_reset(clients[round % 2]), 0);
        assert_false(harness_device(h).bus_master);
        for (unsigned i = 0; i < 2; i++)
            assert_works(clients[i], events[i], memory);
    }
    for (unsigned i = 0; i < 2; i++) {
        vfuc_close(clients[i]);
        close(events[i]);
    }
}

/* A session's end does not reset what the client still uses; the device waits for that. */
static void end_beside_another(void **state)
{
    struct harness *h = *state;
    struct vfuc *first = client(h->path), *second = client(h->more[0].path);

    assert_int_equal(edu_write(first, EDU_REG_LIVENESS, 1), 0);
    assert_int_equal(edu_write(second, EDU_REG_LIVENESS, 2), 0);
    vfuc_close(second);
    second = client(h->more[0].path);
    assert_int_equal(liveness(first), ~1u);
    assert_int_equal(liveness(second), ~2u);
    assert_int_equal(vfuc_reset(second), 0);
    assert_int_equal(liveness(first), 0);
    vfuc_close(first);
    vfuc_close(second);
}

/* A session of another user. */
static struct vfuc *stranger(const char *path)
{
    struct vfuc *c;
    int sock = child_connect(path, NOBODY);

    assert_true(sock >= 0);
    assert_int_equal(vfuc_open_fd(&c, sock, NULL), 0);
    enable(c);
    return c;
}

static void of_two_clients(void **state)
{
    struct harness *h = *state;
    struct vfuc *own, *other;

    if (geteuid())
        skip();
    own = client(h->path);
    other = stranger(h->more[0].path);
    assert_int_equal(edu_write(own, EDU_REG_LIVENESS, 1), 0);
    assert_int_equal(edu_write(other, EDU_REG_LIVENESS, 2), 0);
    assert_int_equal(vfuc_reset(own), -EPERM);
    assert_int_equal(vfuc_reset(other), -EPERM);
    assert_int_equal(liveness(own), ~1u);
    assert_int_equal(liveness(other), ~2u);
    assert_int_equal(vfuc_hot_reset(own), -EPERM);
    leave(other);
    assert_int_equal(vfuc_reset(own), 0);
    assert_int_equal(liveness(own), 0);
    vfuc_close(own);
}

static uint32_t scratch(struct vfuc *c)
{
    uint32_t value;

    assert_int_equal(vfuc_region_read(c, 0, REG_SCRATCH, &value, sizeof(value)), 0);
    return value;
}

static void set_scratch(struct vfuc *const clients[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t value = i + 1;

        enable(clients[i]);
        assert_int_equal(vfuc_region_write(clients[i], 0, REG_SCRATCH, &value, sizeof(value)), 0);
    }
}

/* The one with a reset of its own takes that, the other one the bus. */
static void one_of_which_resets(void **state)
{
    struct harness *h = *state;
    struct vfuc *clients[] = {client(h->path), client(h->more[0].path)};

    set_scratch(clients);
    assert_int_equal(vfuc_reset(clients[0]), 0);
    assert_int_equal(scratch(clients[0]), 0);
    assert_int_equal(scratch(clients[1]), 2);
    set_scratch(clients);
    assert_int_equal(vfuc_reset(clients[1]), 0);
    for (unsigned i = 0; i < 2; i++) {
        enable(clients[i]);
        assert_int_equal(scratch(clients[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        vfuc_close(clients[i]);
}

/* So only the other one depends on who else is on the bus. */
static void one_of_which_resets_for_strangers(void **state)
{
    struct harness *h = *state;
    struct vfuc *clients[2];

    if (geteuid())
        skip();
    clients[0] = client(h->path);
    clients[1] = stranger(h->more[0].path);
    set_scratch(clients);
    assert_int_equal(vfuc_reset(clients[1]), -EPERM);
    assert_int_equal(scratch(clients[0]), 1);
    assert_int_equal(scratch(clients[1]), 2);
    assert_int_equal(vfuc_reset(clients[0]), 0);
    assert_int_equal(scratch(clients[0]), 0);
    assert_int_equal(scratch(clients[1]), 2);
    for (unsigned i = 0; i < 2; i++)
        vfuc_close(clients[i]);
}

/* As when the client's process ends. */
static void leave_both(struct vfuc *const clients[2])
{
    for (unsigned i = 0; i < 2; i++)
        shutdown(vfuc_socket(clients[i]), SHUT_WR);
    for (unsigned i = 0; i < 2; i++) {
        raw_expect_end(vfuc_socket(clients[i]));
        vfuc_close(clients[i]);
    }
}

/*
 * A client that leaves both devices leaves them to others, whichever it leaves first or both at
 * once, and whichever is asked for first.
 */
static void left_to_another(void **state)
{
    struct harness *h = *state;
    const char *const paths[] = {h->path, h->more[0].path};

    if (geteuid())
        skip();
    for (unsigned i = 0; i < 6; i++) {
        struct vfuc *clients[] = {client(paths[0]), client(paths[1])};
        const unsigned next = i < 4 ? i / 2 : i % 2;

        if (i < 4) {
            leave(clients[i % 2]);
            leave(clients[!(i % 2)]);
        } else {
            leave_both(clients);
        }
        clients[0] = stranger(paths[next]);
        clients[1] = stranger(paths[!next]);
        leave_both(clients);
    }
}

/*
 * What the other worker may be doing meanwhile: a client in a thread of its own, until it is told
 * to stop.
 */
struct other {
    const struct harness *h;
    struct vfuc *c;
    atomic_bool stop;
    _Atomic unsigned failures, rounds;
    pthread_t thread;
};

static void start_other(struct other *o, void *(*run)(void *arg))
{
    assert_int_equal(pthread_create(&o->thread, NULL, run, o), 0);
}

static void stop_other(struct other *o)
{
    o->stop = true;
    pthread_join(o->thread, NULL);
    assert_int_equal(o->failures, 0);
    assert_true(o->rounds > 0);
}

static void reset_often(struct vfuc *c, const struct other *o)
{
    for (unsigned i = 0; i < ROUNDS || !o->rounds; i++)
        assert_int_equal(vfuc_reset(c), 0);
}

static void *access_device(void *arg)
{
    struct other *o = arg;
    uint32_t value;

    while (!o->stop) {
        o->failures += edu_read(o->c, EDU_REG_ID, &value) || value != 0x010000ed;
        o->rounds++;
    }
    return NULL;
}

static void *reset_device(void *arg)
{
    struct other *o = arg;

    while (!o->stop) {
        o->failures += vfuc_reset(o->c) != 0;
        o->rounds++;
    }
    return NULL;
}

static void *come_and_go(void *arg)
{
    struct other *o = arg;

    while (!o->stop) {
        struct vfuc *c;
        int ret = vfuc_open(&c, o->h->more[0].path, NULL);

        if (!ret)
            vfuc_close(c);
        o->failures += ret && ret != -EBUSY; /* the last session's end */
        o->rounds++;
    }
    return NULL;
}

static void beside(const struct harness *h, void *(*run)(void *arg))
{
    struct vfuc *c = client(h->path);
    struct other o = {.h = h};

    if (run != come_and_go)
        o.c = client(h->more[0].path);
    start_other(&o, run);
    reset_often(c, &o);
    stop_other(&o);
    vfuc_close(c);
    if (o.c)
        vfuc_close(o.c);
}

static void beside_accesses(void **state)
{
    beside(*state, access_device);
}

static void beside_resets(void **state)
{
    beside(*state, reset_device);
}

static void beside_sessions(void **state)
{
    beside(*state, come_and_go);
}

/* The kernel asks again and again. */
static bool is_second_removed(const struct harness *h)
{
    if (sim_removal_is_done(h->machine.sim, h->more[0].bdf))
        return true;
    assert_int_equal(sim_request_removal(h->machine.sim, h->more[0].bdf), 0);
    return false;
}

/* What is not bound to VFIO any more is not to be reset; what is back is. */
static void beside_removals(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h->path), *second;
    struct other o = {.h = h, .c = c};

    for (unsigned i = 0; i < 4; i++) {
        second = client(h->more[0].path);
        o.stop = false;
        o.rounds = 0;
        start_other(&o, reset_device);
        while (!o.rounds)
            harness_pause();
        harness_await(h, is_second_removed, "the device is closed");
        o.stop = true;
        pthread_join(o.thread, NULL);
        assert_int_equal(vfuc_reset(c), -EPERM);
        assert_int_equal(sim_bring_back(h->machine.sim, h->more[0].bdf), 0);
        vfuc_close(second);
        second = client(h->more[0].path);
        assert_int_equal(vfuc_reset(c), 0);
        vfuc_close(second);
    }
    vfuc_close(c);
}

/* The worker is in a wait that does not end by itself soon: its client ends it, and its session. */
static void beside_a_long_call(void **state)
{
    const struct sim_migration_setup slow = {.flags = SIM_MIGRATION_ALL, .delay_ms = 3600 * 1000};
    const struct raw_message wait = {MSG_MIG_READ(.argsz = 16 + 64, .size = 64)};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    struct vfuc *second;
    struct reply r;

    assert_int_equal(sim_set_migration(h->machine.sim, h->more[0].bdf, &slow), 0);
    second = client(h->more[0].path);
    assert_int_equal(vfuc_set_migration_state(second, VFIO_DEVICE_STATE_STOP_COPY), 0);
    raw_send(vfuc_socket(second), &wait, NULL, 0);
    raw_send(sock, MSG(MSG_RESET()), NULL, 0);
    vfuc_close(second);
    raw_expect_reply(sock, MSG(MSG_RESET()), &r);
    raw_call(sock, MSG(MSG_RESET()), NULL);
}

static void *reset_until_the_end(void *arg)
{
    struct other *o = arg;

    while (!vfuc_reset(o->c))
        o->rounds++;
    return NULL;
}

/* The daemon ends while both workers reset. */
static void until_the_end(void **state)
{
    struct harness *h = *state;
    struct other others[] = {
        {.c = client(h->path)},
        {.c = client(h->more[0].path)},
    };

    for (unsigned i = 0; i < 2; i++)
        start_other(&others[i], reset_until_the_end);
    while (!others[0].rounds || !others[1].rounds)
        harness_pause();
    worker_ask_to_stop(h->more[0].worker);
    worker_ask_to_stop(h->worker);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(others[i].thread, NULL);
        vfuc_close(others[i].c);
    }
}

#define on_bus(t, setup) cmocka_unit_test_setup_teardown(t, setup, harness_teardown)
#define on_both(t)                                                                                 \
    {#t " (one group)", t, setup_group, harness_teardown, NULL},                                   \
    {                                                                                              \
#t " (two groups)", t, setup_groups, harness_teardown, NULL                                \
    }

static const struct CMUnitTest tests[] = {
    on_bus(reset_by_bus, setup_one),
    on_both(of_one_client),
    on_both(end_beside_another),
    on_bus(of_two_clients, setup_groups),
    on_both(left_to_another),
    on_both(beside_accesses),
    on_both(beside_resets),
    on_both(beside_sessions),
    on_both(beside_removals),
    on_both(beside_a_long_call),
    on_both(until_the_end),
    on_bus(one_of_which_resets, setup_siblings),
    on_bus(one_of_which_resets_for_strangers, setup_siblings),
};

HARNESS_MAIN(tests)
