/* More than one client, and clients that are no good neighbours. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/child.h"
#include "tests/protocol/raw.h"

static const uint8_t zeros[4096];

/* Whoever comes while the device is in use has that said, and the connection ended after it. */
static void assert_busy(const struct harness *h)
{
    const struct raw_message version = {.command = VFIO_USER_VERSION};
    cleanup_close_ int sock = raw_connect(h);

    raw_send_version(sock, 0, 1, "{}");
    raw_expect_error(sock, &version, EBUSY);
    raw_expect_end(sock);
}

static void second_client(void **state)
{
    struct harness *h = *state;
    struct vfuc *first = harness_client(h);
    uint16_t vendor;

    for (int i = 0; i < 3; i++)
        assert_busy(h);
    assert_int_equal(vfuc_region_read(first, 7, 0, &vendor, sizeof(vendor)), 0);
    vfuc_close(first);
    harness_assert_serves(h);
}

/*
 * QEMU aborts when its data is unread at a close: what it sends behind its VERSION, mappings with
 * descriptors, is taken and thrown away, and the stream ends without an error of the socket.
 */
static void second_client_in_a_hurry(void **state)
{
    struct harness *h = *state;
    struct vfuc *first = harness_client(h);
    cleanup_close_ int fd = raw_memfd(PAGE);
    int open_before = fd_count_open();

    for (int i = 0; i < 20; i++) {
        cleanup_close_ int sock = raw_connect(h);

        raw_send_version(sock, 0, 0, "{}");
        for (uint64_t n = 0; n < 50; n++)
            raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = n * PAGE, .size = PAGE)),
                     &fd, 1);
        raw_expect_error(sock, MSG(.command = VFIO_USER_VERSION), EBUSY);
        raw_expect_end(sock);
        /* Also what comes later. */
        raw_send(sock, MSG(MSG_RESET()), &fd, 1);
        raw_send(sock, MSG(MSG_RESET()), &fd, 1);
    }
    assert_int_equal(harness_stats(h).mappings, 0);
    harness_await_fds(open_before);
    vfuc_close(first);
    harness_assert_serves(h);
}

/* Connected and silent, or silent inside VERSION. */
static void silent_clients(void **state)
{
    enum { N = 20 };
    struct harness *h = *state;
    uint8_t bytes[64];
    size_t len = raw_encode(
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .data = "{}", .data_len = 3), bytes,
        sizeof(bytes));
    int socks[N];

    for (size_t i = 0; i < N; i++) {
        socks[i] = raw_connect(h);
        if (i)
            raw_send_bytes(socks[i], bytes, MIN(i, len - 1), NULL, 0);
    }
    harness_assert_serves(h);

    /* One of them finds its voice. */
    raw_send_bytes(socks[5], bytes + 5, len - 5, NULL, 0);
    raw_expect_reply(socks[5], MSG(.command = VFIO_USER_VERSION), &(struct reply){0});
    raw_assert_in_step(socks[5]);
    for (size_t i = 0; i < N; i++)
        fd_close(&socks[i]);
    harness_assert_serves(h);
}

/* In the end they are put out. */
static void silence_has_a_limit(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int silent = raw_connect(h);
    cleanup_close_ int stuck = raw_connect(h);

    raw_send_bytes(stuck, zeros, 7, NULL, 0);
    raw_expect_end(silent);
    raw_expect_end(stuck);
    harness_assert_serves(h);
}

/* More of them than the server keeps: it lets old ones go, and the next one is served. */
static void a_crowd(void **state)
{
    enum { N = 300, KEPT = 100 };
    struct harness *h = *state;
    int open_before = fd_count_open();
    struct vfuc *c;
    int socks[N];

    for (size_t i = 0; i < N; i++)
        socks[i] = raw_connect(h);
    c = harness_client(h); /* whoever came before it has been accepted by now */
    assert_true(fd_count_open() < open_before + N + KEPT);
    for (size_t i = 0; i < N; i++)
        fd_close(&socks[i]);

    /* The same with the session taken: it stays, and the others have their answer. */
    for (size_t i = 0; i < N; i++)
        socks[i] = raw_connect(h);
    assert_busy(h);
    assert_true(fd_count_open() < open_before + N + KEPT);
    raw_assert_in_step(vfuc_socket(c));
    for (size_t i = 0; i < N; i++)
        fd_close(&socks[i]);
    vfuc_close(c);
    harness_assert_serves(h);
}

static void connect_and_go(void **state)
{
    for (int i = 0; i < 10000; i++) {
        int sock = raw_connect(*state);

        fd_close(&sock);
    }
    harness_assert_serves(*state);
}

/* Sends as long as the socket takes it. Returns the number of messages. */
static unsigned send_until_full(int sock, const struct raw_message *m)
{
    uint8_t bytes[64];
    size_t len = raw_encode(m, bytes, sizeof(bytes));
    unsigned sent = 0, tries = 0;

    /* The server may need a moment to read what it reads. */
    while (tries < 200) {
        ssize_t n = send(sock, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            tries++;
            harness_pause();
            continue;
        }
        assert_int_equal(n, len);
        tries = 0;
        sent++;
    }
    return sent;
}

/* It waits for itself: its requests are not read until it reads, and nobody else is held up. */
static void replies_are_not_read(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    unsigned sent = send_until_full(sock, MSG(MSG_REGION_READ(.region = 7, .count = 256)));

    assert_true(sent > 10);
    assert_busy(h);
    /* In the end they are all there, in order and whole. */
    for (unsigned i = 0; i < sent; i++) {
        uint8_t reply[32 + 256];

        assert_int_equal(recv(sock, reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
        assert_int_equal(reply[32], 0x34);
    }
    raw_assert_in_step(sock);
    fd_close(&sock);
    harness_assert_serves(h);
}

static void replies_are_not_read_at_all(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);

    for (int i = 0; i < 3; i++) {
        cleanup_close_ int sock = raw_session(h);
        const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)};

        raw_send(sock, &map, &fd, 1);
        send_until_full(sock, MSG(MSG_REGION_READ(.region = 0, .count = LIMIT_DATA_XFER)));
        assert_busy(h);
    }
    harness_assert_serves(h);
}

struct flood {
    int sock;
    uint8_t bytes[4096];
    size_t len;
};

static void run_flood(void *arg, int ready)
{
    struct flood *f = arg;

    for (unsigned i = 0;; i++) {
        if (send(f->sock, f->bytes, f->len, MSG_NOSIGNAL) < 0)
            break;
        if (i == 1000)
            child_ready(ready);
    }
}

static void fill_flood(struct flood *f, const struct raw_message *m)
{
    f->len = 0;
    while (f->len < sizeof(f->bytes) - 64)
        f->len += raw_encode(m, f->bytes + f->len, sizeof(f->bytes) - f->len);
}

/* A client that does not stop: the worker goes on to the others, and to the next one. */
static void flood_of_writes(void **state)
{
    static struct flood f;
    struct harness *h = *state;
    pid_t pid;

    f.sock = raw_session(h);
    fill_flood(&f, MSG(MSG_REGION_WRITE(0x3c, 7, 1), .data = "", .data_len = 1,
                       .flags = VFIO_USER_FLAG_NO_REPLY));
    pid = child_start(run_flood, &f);
    for (int i = 0; i < 10; i++)
        assert_busy(h);
    child_kill(pid);
    fd_close(&f.sock);
    harness_assert_serves(h);
}

/* The same by one whose session was refused, and one whose stream was broken. */
static void flood_after_a_refusal(void **state)
{
    static struct flood f;
    struct harness *h = *state;

    fill_flood(&f, MSG(MSG_GET_INFO(.argsz = 16)));
    for (int in_session = 0; in_session < 2; in_session++) {
        const struct vfio_user_header broken = {.msg_size = 1};
        struct vfuc *holder;
        pid_t pid;

        f.sock = in_session ? raw_session(h) : raw_connect(h);
        raw_send_bytes(f.sock, &broken, sizeof(broken), NULL, 0);
        pid = child_start(run_flood, &f);
        holder = harness_client(h);
        for (int i = 0; i < 10; i++)
            assert_busy(h);
        raw_assert_in_step(vfuc_socket(holder));
        vfuc_close(holder);
        child_kill(pid);
        fd_close(&f.sock);
        harness_assert_serves(h);
    }
}

/* The process has no descriptor for a new client: it comes in when there is one again. */
static void no_descriptor_left(void **state)
{
    struct harness *h = *state;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    cleanup_close_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct rlimit before, limit;
    int taken[256];
    unsigned n = 0;

    strcpy(addr.sun_path, h->path);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = ARRAY_SIZE(taken);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < ARRAY_SIZE(taken) && (taken[n] = dup(0)) >= 0)
        n++;
    assert_int_equal(connect(sock, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    raw_send_version(sock, 0, 1, "{}");
    for (int i = 0; i < 100; i++)
        harness_pause();
    while (n)
        fd_close(&taken[--n]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_VERSION), &(struct reply){0});
    raw_assert_in_step(sock);
}

static const struct CMUnitTest tests[] = {
    harness_test(second_client),
    harness_test(second_client_in_a_hurry),
    harness_test(silent_clients),
    harness_test(silence_has_a_limit),
    harness_test(a_crowd),
    harness_test(connect_and_go),
    harness_test(replies_are_not_read),
    harness_test(replies_are_not_read_at_all),
    harness_test(flood_of_writes),
    harness_test(flood_after_a_refusal),
    harness_test(no_descriptor_left),
};

HARNESS_MAIN(tests)
