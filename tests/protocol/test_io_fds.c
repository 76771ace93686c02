/*
 * GET_REGION_IO_FDS: the operator's doorbells as eventfds. That a signal has no effect is seen by
 * one after it that has: the simulated kernel carries them out one after the other.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/codec.h"
#include "tests/protocol/raw.h"

enum {
    /* Of sim:testdev. */
    REG_RAISE = 0x04,
    REG_SCRATCH = 0x0c,
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,

    FIRST = 0x12345678,
    SECOND = 0x1abc,
    VECTOR = 3,
    BELLS = 3, /* of BAR 0 */
    ENTRY = sizeof(struct vfio_user_sub_region_io_fd),
    HEAD = sizeof(struct vfio_user_region_io_fds),
};

static const struct doorbell bells[] = {
    {.region = 0, .width = 4, .offset = REG_SCRATCH, .data = FIRST },
    {.region = 2, .width = 2, .offset = 0x900,       .data = 1     },
    {.region = 0, .width = 4, .offset = REG_SCRATCH, .data = SECOND},
    {.region = 0, .width = 4, .offset = REG_RAISE,   .data = VECTOR},
};

static struct harness *new_server(void)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    memcpy(h->export_config.doorbells, bells, sizeof(bells));
    h->export_config.n_doorbells = ARRAY_SIZE(bells);
    return h;
}

static int setup(void **state)
{
    struct harness *h = new_server();

    harness_start(h);
    *state = h;
    return 0;
}

static struct vfuc *begin(const struct harness *h)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct vfuc *c = harness_client(h);

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    return c;
}

/* Of BAR 0: the doorbells' eventfds, the caller's. */
static void get_bells(struct vfuc *c, int fds[BELLS])
{
    struct vfuc_io_fds io;

    assert_int_equal(vfuc_region_io_fds(c, 0, &io), 0);
    assert_int_equal(io.count, BELLS);
    for (unsigned i = 0; i < BELLS; i++)
        fds[i] = fdset_take(&io.fds, io.subs[i].fd_index);
    vfuc_io_fds_free(&io);
}

static void close_bells(int fds[BELLS])
{
    for (unsigned i = 0; i < BELLS; i++)
        fd_close(&fds[i]);
}

static void ring(int fd)
{
    assert_int_equal(eventfd_write(fd, 1), 0);
}

static uint32_t scratch(struct vfuc *c)
{
    uint32_t value;

    assert_int_equal(vfuc_region_read(c, 0, REG_SCRATCH, &value, sizeof(value)), 0);
    return value;
}

static void await_scratch(struct vfuc *c, uint32_t value)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;

    while (scratch(c) != value) {
        if (harness_now_ms() > deadline)
            fail_msg("the register is 0x%x, not 0x%x", scratch(c), value);
        harness_pause();
    }
}

/* Byte by byte what the specification says. */
static void layout(void **state)
{
    static const unsigned of_bar0[BELLS] = {0, 2, 3};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    struct vfio_user_sub_region_io_fd entry;
    struct vfio_user_region_io_fds head;
    struct reply r;

    raw_send(sock, MSG(MSG_IO_FDS(.argsz = 4064)), NULL, 0);
    raw_receive(sock, &r);
    assert_int_equal(r.hdr.flags, VFIO_USER_FLAG_TYPE_REPLY);
    assert_int_equal(r.len, HEAD + BELLS * ENTRY);
    assert_int_equal(r.nfds, BELLS);
    memcpy(&head, r.payload, sizeof(head));
    assert_int_equal(head.argsz, HEAD + BELLS * ENTRY);
    assert_int_equal(head.flags, 0);
    assert_int_equal(head.index, 0);
    assert_int_equal(head.count, BELLS);
    for (uint32_t i = 0; i < BELLS; i++) {
        const struct doorbell *bell = &bells[of_bar0[i]];

        memcpy(&entry, r.payload + HEAD + i * ENTRY, sizeof(entry));
        assert_int_equal(entry.offset, bell->offset);
        assert_int_equal(entry.size, bell->width);
        assert_int_equal(entry.fd_index, i);
        assert_int_equal(entry.type, VFIO_USER_IO_FD_TYPE_IOEVENTFD);
        assert_int_equal(entry.flags, VFIO_USER_IO_FD_DATAMATCH);
        assert_int_equal(entry.padding, 0);
        assert_int_equal(entry.datamatch, bell->data);
    }
    assert_int_equal(harness_device(h).doorbells, BELLS);
}

/* Without room for all there is the size to ask with, and nothing is registered. */
static void argsz_grows(void **state)
{
    static const uint32_t small[] = {HEAD, HEAD + ENTRY, HEAD + BELLS * ENTRY - 1};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    struct vfio_user_region_io_fds head;
    struct reply r;

    for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
        raw_call(sock, MSG(MSG_IO_FDS(.argsz = small[i])), &r);
        assert_int_equal(r.len, HEAD);
        memcpy(&head, r.payload, sizeof(head));
        assert_int_equal(head.argsz, HEAD + BELLS * ENTRY);
        assert_int_equal(head.count, BELLS);
    }
    assert_int_equal(harness_device(h).doorbells, 0);
    raw_send(sock, MSG(MSG_IO_FDS(.argsz = head.argsz)), NULL, 0);
    raw_receive(sock, &r);
    assert_int_equal(r.nfds, BELLS);
}

/* The other regions, those that are none, and what is no request. */
static void other_requests(void **state)
{
    const struct request_case cases[] = {
        CASE("a BAR without doorbells", 0, MSG_IO_FDS(.argsz = 4064, .index = 1)),
        CASE("config space", 0, MSG_IO_FDS(.argsz = 4064, .index = 7)),
        CASE("VGA", 0, MSG_IO_FDS(.argsz = 4064, .index = 8)),
        CASE("region 1000", EINVAL, MSG_IO_FDS(.argsz = 4064, .index = 1000)),
        CASE("region 2^32-1", EINVAL, MSG_IO_FDS(.argsz = 4064, .index = UINT32_MAX)),
        CASE("argsz 15", EINVAL, MSG_IO_FDS(.argsz = 15)),
        CASE("argsz 0", EINVAL, MSG_IO_FDS(.argsz = 0)),
        CASE("no reply", EINVAL, MSG_IO_FDS(.argsz = 4064), .flags = VFIO_USER_FLAG_NO_REPLY),
    };
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int event = event_create();
    struct vfio_user_region_io_fds head;
    struct reply r;

    raw_run_cases(sock, cases, ARRAY_SIZE(cases) - 1, NULL, 0);
    raw_send(sock, &cases[ARRAY_SIZE(cases) - 1].msg, NULL, 0);
    raw_assert_in_step(sock);
    raw_run_cases(sock,
                  &(const struct request_case)CASE("a descriptor", EINVAL, MSG_IO_FDS(.argsz = 16)),
                  1, &event, 1);
    raw_send(sock, MSG(MSG_IO_FDS(.argsz = UINT32_MAX, .index = 2)), NULL, 0);
    raw_receive(sock, &r);
    memcpy(&head, r.payload, sizeof(head));
    assert_int_equal(head.count, 1);
    assert_int_equal(r.nfds, 1);
    assert_int_equal(harness_device(*state).doorbells, 1);
}

static void rings(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    cleanup_close_ int event = event_create();
    int fds[BELLS], events[VECTOR + 1];

    get_bells(c, fds);
    ring(fds[0]);
    await_scratch(c, FIRST);
    ring(fds[1]);
    await_scratch(c, SECOND);
    for (unsigned i = 0; i <= VECTOR; i++)
        events[i] = event;
    assert_int_equal(vfuc_set_irqs(c, MSIX, EVENTFD_TRIGGER, 0, VECTOR + 1, events, NULL), 0);
    ring(fds[2]);
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);
    close_bells(fds);
    vfuc_close(c);
}

/* However often: they are the same, and nothing piles up. */
static void asked_again(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    int first[BELLS], more[BELLS], before = fd_count_open();

    get_bells(c, first);
    for (int i = 0; i < 100; i++) {
        get_bells(c, more);
        if (i < 99)
            close_bells(more);
    }
    assert_int_equal(harness_device(h).doorbells, BELLS);
    ring(more[0]);
    await_scratch(c, FIRST);
    close_bells(more);
    harness_await_fds(before + 3 * BELLS); /* ours, the server's, the kernel's */
    ring(first[1]);
    await_scratch(c, SECOND);
    close_bells(first);
    vfuc_close(c);
}

/* The last client's eventfds ring nobody's device any more; the next one gets its own. */
static void next_session(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    int old[BELLS], fds[BELLS];

    get_bells(c, old);
    ring(old[0]);
    await_scratch(c, FIRST);
    vfuc_close(c);
    harness_await_idle(h);
    ring(old[0]);
    c = begin(h);
    assert_int_equal(harness_device(h).doorbells, 0);
    ring(old[0]);
    get_bells(c, fds);
    ring(old[0]);
    ring(fds[1]);
    await_scratch(c, SECOND);
    ring(old[0]);
    assert_int_equal(vfuc_reset(c), 0);
    ring(fds[1]);
    await_scratch(c, SECOND);
    close_bells(old);
    close_bells(fds);
    vfuc_close(c);
}

static void reset_leaves_them(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    int fds[BELLS];

    get_bells(c, fds);
    ring(fds[0]);
    await_scratch(c, FIRST);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(scratch(c), 0);
    assert_int_equal(harness_device(h).doorbells, BELLS);
    ring(fds[0]);
    await_scratch(c, FIRST);
    close_bells(fds);
    vfuc_close(c);
}

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf);
}

/* The client keeps its copies of what has become nothing. */
static void device_taken_away(void **state)
{
    struct harness *h = new_server();
    struct vfuc *c;
    int old[BELLS], fds[BELLS];

    (void)state;
    harness_start(h);
    c = begin(h);
    get_bells(c, old);
    assert_int_equal(sim_request_removal(h->machine.sim, h->bdf), 0);
    harness_await(h, is_removed, "the device is given back");
    vfuc_close(c);
    assert_int_equal(sim_bring_back(h->machine.sim, h->bdf), 0);
    c = begin(h);
    get_bells(c, fds);
    ring(old[0]);
    ring(fds[1]);
    await_scratch(c, SECOND);
    close_bells(old);
    close_bells(fds);
    vfuc_close(c);
    harness_stop(h);
}

/* A client is sent no more descriptors than it has said that it takes. */
static void few_descriptors(void **state)
{
    const struct harness *h = *state;

    for (uint64_t most = 1; most <= BELLS; most++) {
        struct version_caps caps = version_defaults();
        struct vfuc_io_fds io;
        struct vfuc *c;

        caps.has_json = caps.has_capabilities = caps.has_max_msg_fds = true;
        caps.max_msg_fds = most;
        harness_await_idle(h);
        assert_int_equal(vfuc_open(&c, h->path, &caps), 0);
        assert_int_equal(vfuc_region_io_fds(c, 0, &io), 0);
        assert_int_equal(io.count, most);
        assert_int_equal(io.fds.count, most);
        vfuc_io_fds_free(&io);
        vfuc_close(c);
    }
}

/* What the kernel refuses is the request's error; what came before it stays, for the next try. */
static void kernel_refuses(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    int before, fds[BELLS];
    struct vfuc_io_fds io;

    before = fd_count_open();
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_IOEVENTFD, 2, ENOSPC);
    assert_int_equal(vfuc_region_io_fds(c, 0, &io), -ENOSPC);
    assert_int_equal(io.fds.count, 0);
    vfuc_io_fds_free(&io);
    assert_true(sim_fault_spent(h->machine.sim));
    assert_int_equal(harness_device(h).doorbells, 1);
    harness_await_fds(before + 2); /* the first one's, and the kernel's */
    get_bells(c, fds);
    ring(fds[1]);
    await_scratch(c, SECOND);
    close_bells(fds);
    vfuc_close(c);
}

/* The doorbell stays in the kernel, until the device is opened anew. */
static void not_taken_away(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = begin(h);
    int old[BELLS], fds[BELLS];

    get_bells(c, old);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_IOEVENTFD, 1, EIO);
    vfuc_close(c);
    harness_await_idle(h);
    assert_true(sim_fault_spent(h->machine.sim));
    c = begin(h);
    get_bells(c, fds);
    ring(old[0]);
    ring(old[1]);
    ring(old[2]);
    ring(fds[1]);
    await_scratch(c, SECOND);
    close_bells(old);
    close_bells(fds);
    vfuc_close(c);
}

/* Bytes that have come and are not read; until there have come no more for a while. */
static void await_stuck(int sock)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    int last = -1, now = 0;

    for (int same = 0; same < 20 && harness_now_ms() < deadline; same++) {
        assert_int_equal(ioctl(sock, FIONREAD, &now), 0);
        if (now != last)
            same = 0;
        last = now;
        harness_pause();
    }
}

/* Each reply has its descriptors, also the one that the socket had no room for at first. */
static void replies_pile_up(void **state)
{
    enum {
        REQUESTS = 1000,
    };
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    const struct raw_message m = {MSG_IO_FDS(.argsz = 4064)};
    uint8_t bytes[64 * REQUESTS];
    size_t len = 0;
    struct reply r;

    for (int i = 0; i < REQUESTS; i++)
        len += raw_encode(&m, bytes + len, sizeof(bytes) - len);
    raw_send_bytes(sock, bytes, len, NULL, 0);
    await_stuck(sock);
    for (int i = 0; i < REQUESTS; i++) {
        raw_receive(sock, &r);
        assert_int_equal(r.len, HEAD + BELLS * ENTRY);
        assert_int_equal(r.nfds, BELLS);
    }
    assert_int_equal(harness_device(h).doorbells, BELLS);
}

/* With replies in its socket, and descriptors in them. */
static void client_gone(void **state)
{
    struct harness *h = *state;
    int fds, sock;

    harness_assert_serves(h); /* the device is as it will be after each session */
    sock = raw_session(h);    /* and that one is over when the next has begun */
    fds = fd_count_open() - 2;
    close(sock);
    for (int i = 0; i < 3; i++) {
        sock = raw_session(h);

        for (int k = 0; k < 50; k++)
            raw_send(sock, MSG(MSG_IO_FDS(.argsz = 4064)), NULL, 0);
        close(sock);
        harness_await_idle(h);
        harness_await_fds(fds);
    }
    harness_assert_serves(h);
}

#define bells_test(f) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)

static const struct CMUnitTest tests[] = {
    bells_test(layout),
    bells_test(argsz_grows),
    bells_test(other_requests),
    bells_test(rings),
    bells_test(asked_again),
    bells_test(next_session),
    bells_test(few_descriptors),
    bells_test(reset_leaves_them),
    bells_test(kernel_refuses),
    bells_test(not_taken_away),
    bells_test(replies_pile_up),
    bells_test(client_gone),
    cmocka_unit_test(device_taken_away),
};

HARNESS_MAIN(tests)
