/* Migration: states through DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/sim/sim_migration.h"
#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

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

    GET = VFIO_USER_DEVICE_FEATURE_GET,
    SET = VFIO_USER_DEVICE_FEATURE_SET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,

    IMAGE = 1 << 20, /* room for a small device's data */
};

#define FEATURE(a, f) MSG_FEATURE(.argsz = (a), .flags = (f))

static void set_up(const struct harness *h, const struct sim_migration_setup *setup)
{
    assert_int_equal(sim_set_migration(h->machine.sim, h->bdf, setup), 0);
}

static void go(struct vfuc *c, uint32_t state)
{
    uint32_t now;

    assert_int_equal(vfuc_set_migration_state(c, state), 0);
    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, state);
}

/* Reads in messages of that size until a short one. */
static size_t read_stream(struct vfuc *c, uint8_t *buf, size_t room, uint32_t size)
{
    size_t len = 0;

    for (;;) {
        int64_t n;

        assert_true(len + size <= room);
        n = vfuc_migration_read(c, buf + len, size);
        assert_true(n >= 0);
        len += (size_t)n;
        if (n < size)
            return len;
    }
}

static void write_stream(struct vfuc *c, const uint8_t *buf, size_t len, uint32_t size)
{
    for (size_t done = 0; done < len;) {
        uint32_t n = (uint32_t)MIN(len - done, (size_t)size);

        assert_int_equal(vfuc_migration_write(c, buf + done, n), 0);
        done += n;
    }
}

static void enable(struct vfuc *c)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
}

/* A session whose device has a register that a reset clears. */
static struct vfuc *marked_client(const struct harness *h, uint32_t mark)
{
    struct vfuc *c = harness_plain_client(h);

    enable(c);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, mark), 0);
    return c;
}

static void assert_marked(struct vfuc *c, uint32_t mark)
{
    uint32_t got;

    enable(c);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &got), 0);
    assert_int_equal(got, ~mark);
}

static void features(void **state)
{
    static const struct {
        const char *name;
        uint32_t argsz, flags;
        size_t data, reply; /* bytes beyond the header; err: of the answer */
        int err;
    } cases[] = {
        {"probe",                      8,  PROBE | 1,             0, 8,  0     },
        {"probe to get",               8,  PROBE | GET | 1,       0, 8,  0     },
        {"probe to set",               8,  PROBE | SET | 1,       0, 0,  EINVAL},
        {"probe both",                 8,  PROBE | GET | SET | 2, 0, 8,  0     },
        {"probe both of one",          8,  PROBE | GET | SET | 1, 0, 0,  EINVAL},
        {"probe with data",            16, PROBE | 2,             8, 16, 0     },
        {"probe the size",             8,  PROBE | GET | 9,       0, 8,  0     },
        {"get flags",                  16, GET | 1,               0, 16, 0     },
        {"get flags, much room",       99, GET | 1,               0, 16, 0     },
        {"get flags, no room",         15, GET | 1,               0, 0,  EINVAL},
        {"set flags",                  16, SET | 1,               8, 0,  EINVAL},
        {"get the state",              16, GET | 2,               0, 16, 0     },
        {"get the state, no room",     15, GET | 2,               0, 0,  EINVAL},
        {"set the state without data", 16, SET | 2,               0, 0,  EINVAL},
        {"set the state, half of it",  16, SET | 2,               4, 0,  EINVAL},
        {"set the state, no room",     15, SET | 2,               8, 0,  EINVAL},
        {"set ERROR",                  16, SET | 2,               8, 0,  EINVAL},
        {"get the size",               16, GET | 9,               0, 16, 0     },
        {"set the size",               16, SET | 9,               8, 0,  EINVAL},
    };
    static const uint8_t zeros[8];
    cleanup_close_ int sock = raw_session(*state);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct raw_message m = {FEATURE(cases[i].argsz, cases[i].flags), .data = zeros,
                                      .data_len = cases[i].data};
        struct reply r;

        raw_send(sock, &m, NULL, 0);
        raw_receive(sock, &r);
        if (r.hdr.error != (uint32_t)cases[i].err || r.len != cases[i].reply)
            fail_msg("%s: error %u, %zu bytes", cases[i].name, r.hdr.error, r.len);
        if (cases[i].err)
            continue;
        assert_int_equal(*(uint32_t *)(void *)r.payload, cases[i].reply);
        assert_int_equal(*(uint32_t *)(void *)(r.payload + 4), cases[i].flags);
    }
    raw_assert_in_step(sock);
}

/* The states of the protocol, the P2P ones not among them; and the answer to VERSION has the key.
 */
static void flags_are_masked(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_plain_client(h);
    uint64_t flags;

    assert_int_equal(vfuc_migration_flags(c, &flags), 0);
    assert_int_equal(flags, 5);
    assert_true(vfuc_caps(c)->has_migration);
    assert_int_equal(vfuc_set_migration_state(c, RUNNING_P2P), -EINVAL);
    assert_int_equal(vfuc_set_migration_state(c, PRE_COPY_P2P), -EINVAL);
    vfuc_close(c);

    set_up(h, &(struct sim_migration_setup){.flags = 1});
    c = harness_plain_client(h);
    assert_int_equal(vfuc_migration_flags(c, &flags), 0);
    assert_int_equal(flags, 1);
    assert_int_equal(vfuc_set_migration_state(c, PRE_COPY), -EINVAL);
    vfuc_close(c);

    set_up(h, &(struct sim_migration_setup){0});
    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, false, 0), 0);
    c = harness_plain_client(h);
    assert_false(vfuc_caps(c)->has_migration);
    assert_int_equal(vfuc_migration_flags(c, &flags), -ENOTTY);
    vfuc_close(c);
}

static bool may_follow(uint32_t from, uint32_t to)
{
    bool is_protocols = to != ERROR && to != RUNNING_P2P && to < PRE_COPY_P2P;

    return is_protocols && from != ERROR && !(from == STOP_COPY && to == PRE_COPY);
}

static bool has_data(uint32_t state)
{
    return state == STOP_COPY || state == RESUMING || state == PRE_COPY || state == PRE_COPY_P2P;
}

/* What the client is told, which is where the device stands; only a state that has data keeps a
 * descriptor of it. */
static void assert_stands(const struct harness *h, struct vfuc *c, uint32_t state)
{
    uint32_t now;

    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, state);
    assert_int_equal(harness_device(h).migration, state);
    assert_int_equal(harness_stats(h).streams, has_data(state));
}

/* A change that the driver does not bring to its end. */
static void get_stuck(const struct harness *h, struct vfuc *c, uint32_t to, uint32_t before)
{
    assert_int_equal(sim_fail_hop(h->machine.sim, h->bdf, before), 0);
    assert_int_equal(vfuc_set_migration_state(c, to), -EIO);
}

/* A device's data, which it takes back. */
struct image {
    uint8_t *bytes;
    size_t len;
};

static struct image take_image(struct vfuc *c)
{
    struct image image = {.bytes = malloc(IMAGE)};

    assert_non_null(image.bytes);
    go(c, STOP_COPY);
    image.len = read_stream(c, image.bytes, IMAGE, 4096);
    return image;
}

/* Also into states that no client can ask for. */
static void bring(const struct harness *h, struct vfuc *c, uint32_t state,
                  const struct image *image)
{
    assert_int_equal(vfuc_reset(c), 0);
    switch (state) {
    case ERROR:
        go(c, RESUMING);
        assert_int_equal(vfuc_set_migration_state(c, STOP), -EINVAL);
        break;
    case RUNNING_P2P:
        get_stuck(h, c, STOP, STOP);
        break;
    case PRE_COPY_P2P:
        go(c, PRE_COPY);
        get_stuck(h, c, STOP_COPY, STOP_COPY);
        break;
    default:
        go(c, state);
        if (state == RESUMING)
            write_stream(c, image->bytes, image->len, 4096);
    }
    assert_stands(h, c, state);
}

/* Every change from each of the kernel's states. */
static void changes(void **state)
{
    struct harness *h = *state;
    struct image image;
    struct vfuc *c;

    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .bad_data_is_error = true});
    c = harness_plain_client(h);
    image = take_image(c);
    for (uint32_t from = 0; from < STATES; from++) {
        for (uint32_t to = 0; to <= STATES; to++) {
            bool possible = may_follow(from, to);

            bring(h, c, from, &image);
            assert_int_equal(vfuc_set_migration_state(c, to), possible ? 0 : -EINVAL);
            assert_stands(h, c, possible ? to : from);
        }
    }
    vfuc_close(c);
    free(image.bytes);
    harness_await_idle(h);
}

/* The hop before one state fails, of the way from another. Returns whether it is on that way. */
static bool fail_on_way(const struct harness *h, struct vfuc *c, uint32_t from, uint32_t to,
                        uint32_t before)
{
    uint32_t at = from, next;

    while (at != to) {
        assert_int_equal(sim_migration_next(SIM_MIGRATION_ALL, at, to, &next), 0);
        if (next == before) {
            get_stuck(h, c, to, before);
            assert_stands(h, c, at);
            return true;
        }
        at = next;
    }
    return false;
}

/* Every hop of every way fails: the client is told where that has left the device, and the device
 * goes on from there. */
static void changes_fail(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_plain_client(h);
    struct image image = take_image(c);
    unsigned failed = 0;

    for (uint32_t from = STOP; from < STATES; from++) {
        for (uint32_t to = STOP; to < PRE_COPY_P2P; to++) {
            for (uint32_t before = STOP; before < STATES && may_follow(from, to); before++) {
                bring(h, c, from, &image);
                if (!fail_on_way(h, c, from, to, before))
                    continue;
                failed++;
                go(c, RUNNING);
            }
        }
    }
    assert_true(failed > 30);
    vfuc_close(c);
    free(image.bytes);
    harness_await_idle(h);
}

/*
 * The data of one session in another, with pre-copy, in messages of different sizes, over a kernel
 * whose reads and writes are short.
 */
static void moves(const struct harness *h, const struct sim_migration_setup *setup, uint32_t out,
                  uint32_t in)
{
    const size_t room = IMAGE + setup->ballast * 4 + 3 * (size_t)out;
    cleanup_free_ uint8_t *image = malloc(room);
    struct vfuc *c;
    size_t len;

    set_up(h, setup);
    c = marked_client(h, 1);
    if (setup->flags & 4) {
        go(c, PRE_COPY);
        len = read_stream(c, image, room, out);
        assert_true(len > 0);
        /* Nothing has changed; then something has. */
        assert_int_equal(read_stream(c, image + len, room - len, out), 0);
        assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 2), 0);
        len += read_stream(c, image + len, room - len, out);
        assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 3), 0);
    } else {
        len = 0;
        assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 3), 0);
    }
    go(c, STOP_COPY);
    len += read_stream(c, image + len, room - len, out);
    assert_int_equal(read_stream(c, image + len, room - len, out), 0);
    vfuc_close(c);

    c = harness_plain_client(h);
    go(c, RESUMING);
    write_stream(c, image, len, in);
    go(c, RUNNING);
    assert_marked(c, 3);
    vfuc_close(c);
    harness_await_idle(h);
}

static void migrations(void **state)
{
    static const struct sim_migration_setup setups[] = {
        {.flags = SIM_MIGRATION_ALL},
        {.flags = SIM_MIGRATION_ALL, .max_transfer = 13},
        {.flags = SIM_MIGRATION_ALL,                          .dry_is_zero = true, .max_transfer = 1000},
        {.flags = SIM_MIGRATION_ALL,.delay_ms = 20},
        {.flags = SIM_MIGRATION_ALL,                          .ballast = 3 << 20, .max_transfer = 65537},
        {.flags = 1                              },
        {.flags = 3, .delay_ms = 10},
        {.flags = 5    },
    };

    for (size_t i = 0; i < ARRAY_SIZE(setups); i++) {
        moves(*state, &setups[i], LIMIT_DATA_XFER, LIMIT_DATA_XFER);
        moves(*state, &setups[i], 4999, 1777);
    }
}

/* A reply is short only at the end, and then the next one is empty. */
static void reply_sizes(void **state)
{
    struct harness *h = *state;
    cleanup_free_ uint8_t *image = malloc(IMAGE);
    uint64_t size;
    struct vfuc *c;

    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .max_transfer = 100});
    c = harness_plain_client(h);
    assert_int_equal(vfuc_feature(c, GET | 9, NULL, 0, &size, sizeof(size)), 0);
    go(c, STOP_COPY);
    assert_int_equal(vfuc_migration_read(c, image, 0), 0);
    assert_int_equal(vfuc_migration_read(c, image, 1), 1);
    assert_int_equal(vfuc_migration_read(c, image, (uint32_t)size - 1), size - 1);
    assert_int_equal(vfuc_migration_read(c, image, 1), 0);
    assert_int_equal(vfuc_migration_read(c, image, 0), 0);
    vfuc_close(c);
}

static void refused_data(void **state)
{
    static const uint8_t bytes[16];
    static const uint32_t no_read[] = {STOP, RUNNING, RESUMING};
    static const uint32_t no_write[] = {STOP, RUNNING, STOP_COPY, PRE_COPY};
    struct harness *h = *state;
    struct vfuc *c = harness_plain_client(h);
    int sock = vfuc_socket(c);
    uint8_t byte;

    for (size_t i = 0; i < ARRAY_SIZE(no_read); i++) {
        go(c, no_read[i]);
        assert_int_equal(vfuc_migration_read(c, &byte, 1), -EINVAL);
        assert_int_equal(vfuc_reset(c), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(no_write); i++) {
        go(c, no_write[i]);
        assert_int_equal(vfuc_migration_write(c, bytes, 1), -EINVAL);
        assert_int_equal(vfuc_reset(c), 0);
    }
    go(c, STOP_COPY);
    raw_refused(sock, MSG(MSG_MIG_READ(.argsz = 15, .size = 8)), EINVAL);
    raw_refused(sock, MSG(MSG_MIG_READ(.argsz = UINT32_MAX, .size = LIMIT_DATA_XFER + 1)), EINVAL);
    raw_call(sock, MSG(MSG_MIG_READ(.argsz = 16, .size = 8)), NULL);
    vfuc_close(c);
}

/* Data that the device does not take: the error, where the device is, and the ways out. */
static void bad_data(void **state)
{
    struct harness *h = *state;
    cleanup_free_ uint8_t *image = malloc(IMAGE);
    struct vfuc *c = harness_plain_client(h);
    uint32_t now;
    size_t len;

    go(c, STOP_COPY);
    len = read_stream(c, image, IMAGE, 4096);
    go(c, RESUMING);
    assert_int_equal(vfuc_set_migration_state(c, RUNNING), -EINVAL);
    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, RESUMING);
    write_stream(c, image, len, 4096); /* the stream is still there */
    go(c, RUNNING);

    go(c, RESUMING);
    assert_int_equal(vfuc_migration_write(c, "\1\2\3\4\5\6\7\x7f", 8), -EINVAL);
    assert_int_equal(vfuc_reset(c), 0);
    go(c, RUNNING);
    vfuc_close(c);

    harness_await_idle(h);
    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .bad_data_is_error = true});
    c = harness_plain_client(h);
    go(c, RESUMING);
    assert_int_equal(vfuc_set_migration_state(c, STOP), -EINVAL);
    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, ERROR);
    assert_int_equal(harness_stats(h).streams, 0);
    for (uint32_t to = 0; to < STATES; to++)
        assert_int_equal(vfuc_set_migration_state(c, to), -EINVAL);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, RUNNING);
    vfuc_close(c);
}

/* In any state: the next client finds a device that runs and has no state of this one. */
static void client_leaves(void **state)
{
    static const uint32_t states[] = {STOP, STOP_COPY, RESUMING, PRE_COPY};
    struct harness *h = *state;

    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        struct vfuc *c = marked_client(h, 5);
        uint32_t got;

        go(c, states[i]);
        vfuc_close(c);
        c = harness_plain_client(h);
        assert_int_equal(vfuc_migration_state(c, &got), 0);
        assert_int_equal(got, RUNNING);
        assert_int_equal(harness_stats(h).streams, 0);
        enable(c);
        assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &got), 0);
        assert_int_equal(got, 0);
        vfuc_close(c);
        harness_await_idle(h);
    }
}

/* The driver has no data for as long as it likes: whoever waits for it may go. */
static void leaves_while_waiting(void **state)
{
    struct harness *h = *state;
    int sock;
    struct vfuc *c;

    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 1000000000});
    c = harness_plain_client(h);
    go(c, STOP_COPY);
    sock = vfuc_socket(c);
    raw_send(sock, MSG(MSG_MIG_READ(.argsz = 4104, .size = 4096)), NULL, 0);
    shutdown(sock, SHUT_RDWR);
    vfuc_close(c);
    harness_await_idle(h);
    assert_int_equal(harness_stats(h).streams, 0);
    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL});
    harness_assert_serves(h);
}

/* A server that is to end does not wait for a driver: what has been asked for is answered, and not
 * by ETIMEDOUT; if it came too late, the stream just ends. */
static void server_ends_while_waiting(void **state)
{
    struct harness *h = harness_new();
    struct pollfd reply = {.events = POLLIN};
    struct vfio_user_header hdr;
    struct vfuc *c;
    ssize_t n;

    (void)state;
    harness_start(h);
    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 1000000000});
    c = harness_client(h);
    go(c, STOP_COPY);
    reply.fd = vfuc_socket(c);
    raw_send(reply.fd, MSG(MSG_MIG_READ(.argsz = 4104, .size = 4096)), NULL, 0);
    assert_int_equal(poll(&reply, 1, 20), 0);
    h->fds_before++; /* this side of the connection */
    harness_stop(h);
    n = recv(reply.fd, &hdr, sizeof(hdr), MSG_WAITALL);
    if (n) {
        assert_int_equal(n, sizeof(hdr));
        assert_int_equal(hdr.error, ECANCELED);
    }
    vfuc_close(c);
}

/* Each call of the kernel's that migration makes fails once: the error is the client's, and its
 * session goes on. */
static void kernel_fails(void **state)
{
    static const struct {
        enum sim_call call;
        unsigned long request;
        unsigned nth;
        uint32_t to;
    } cases[] = {
        {SIM_CALL_IOCTL,        VFIO_DEVICE_FEATURE, 1, PRE_COPY},
        {SIM_CALL_IOCTL,        VFIO_DEVICE_FEATURE, 2, PRE_COPY},
        {SIM_CALL_SET_NONBLOCK, 0,                   1, PRE_COPY},
    };
    struct harness *h = *state;
    struct vfuc *c = harness_plain_client(h);
    uint8_t bytes[64];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint32_t now;

        sim_fail_nth(h->machine.sim, cases[i].call, cases[i].request, cases[i].nth, EIO);
        assert_int_equal(vfuc_set_migration_state(c, cases[i].to), -EIO);
        assert_true(sim_fault_spent(h->machine.sim));
        assert_int_equal(vfuc_migration_state(c, &now), 0);
        assert_int_equal(harness_device(h).migration, now);
        assert_int_equal(harness_stats(h).streams, 0);
        go(c, RUNNING);
    }
    go(c, PRE_COPY);
    sim_fail_nth(h->machine.sim, SIM_CALL_READ, 0, 1, EIO);
    assert_int_equal(vfuc_migration_read(c, bytes, sizeof(bytes)), -EIO);
    assert_int_equal(vfuc_migration_read(c, bytes, sizeof(bytes)), sizeof(bytes));
    go(c, RESUMING);
    sim_fail_nth(h->machine.sim, SIM_CALL_WRITE, 0, 1, EIO);
    assert_int_equal(vfuc_migration_write(c, bytes, sizeof(bytes)), -EIO);
    assert_int_equal(vfuc_migration_write(c, bytes, sizeof(bytes)), 0);
    vfuc_close(c);
    harness_await_idle(h);
}

/* A device that is waited for does not keep another export's clients waiting. */
static void others_are_served(void **state)
{
    struct harness *h = *state, *other = harness_new();
    int64_t begin;
    struct vfuc *c;

    sim_destroy(other->machine.sim);
    other->machine.sim = h->machine.sim;
    strcpy(other->bdf, "0000:00:02.0");
    harness_start(other);
    set_up(h, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 1000000000});
    c = harness_plain_client(h);
    go(c, STOP_COPY);
    raw_send(vfuc_socket(c), MSG(MSG_MIG_READ(.argsz = 4104, .size = 4096)), NULL, 0);
    begin = harness_now_ms();
    for (int i = 0; i < 10; i++) {
        struct vfuc *d = harness_plain_client(other);
        uint32_t now;

        assert_int_equal(vfuc_migration_state(d, &now), 0);
        vfuc_close(d);
    }
    assert_true(harness_now_ms() - begin < 30000); /* less than any wait has */
    vfuc_close(c);
    worker_stop(other->worker);
    export_destroy(other->export);
    other->machine.sim = NULL;
    machine_destroy(&other->machine);
    assert_int_equal(rmdir(other->directory), 0);
    free(other);
    harness_await_idle(h);
}

static const struct CMUnitTest tests[] = {
    harness_test(features),
    cmocka_unit_test_setup_teardown(flags_are_masked, harness_setup_device_log, harness_teardown),
    harness_test(changes),
    harness_test(changes_fail),
    harness_test(migrations),
    harness_test(reply_sizes),
    harness_test(refused_data),
    harness_test(bad_data),
    harness_test(client_leaves),
    cmocka_unit_test(server_ends_while_waiting),
    harness_test(kernel_fails),
    harness_test(leaves_while_waiting),
    harness_test(others_are_served),
};

HARNESS_MAIN(tests)
