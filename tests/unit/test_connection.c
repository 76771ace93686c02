#include "server/connection.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/codec.h"
#include "tests/unit/fd_leak.h"

enum {
    HEADER = sizeof(struct vfio_user_header),
    FIRST_MAX = HEADER + sizeof(struct vfio_user_version) + LIMIT_VERSION_DATA,
    MAX_RECORDS = 512,
    MAX_FDS = 4, /* of a record */
    MANY_STEPS = 2000,
};

struct record {
    struct vfio_user_header hdr;
    size_t len;
    bool intact; /* the payload is what fill() makes of the id */
    unsigned nfds;
    bool truncated;
    ino_t inodes[MAX_FDS];
};

/* A connection, its peer, and what it has told. */
static struct {
    struct event_base *base;
    struct connection *connection;
    int peer;
    struct record records[MAX_RECORDS];
    unsigned n;
    unsigned broken, closed;
    struct vfio_user_header broken_hdr;
    int broken_err;

    /* What the callbacks do beside recording. */
    size_t reply_len; /* 0: no reply */
    int reply_fd;     /* goes with it */
    bool take_fds;
    bool drain;
    int taken[MAX_FDS];
    unsigned n_taken;
} t;

/* Makes seconds pass at once, when a test asks for it. In the place of libevent's. */
static bool hurry;

int __real_event_add(struct event *ev, const struct timeval *timeout);
int __wrap_event_add(struct event *ev, const struct timeval *timeout);

int __wrap_event_add(struct event *ev, const struct timeval *timeout)
{
    const struct timeval soon = {.tv_usec = 1000};

    return __real_event_add(ev, timeout && hurry ? &soon : timeout);
}

static void fill(uint8_t *payload, size_t len, uint16_t id)
{
    for (size_t i = 0; i < len; i++)
        payload[i] = (uint8_t)(id * 31 + i + (i >> 8));
}

static bool is_filled(const uint8_t *payload, size_t len, uint16_t id)
{
    cleanup_free_ uint8_t *expected = malloc(len + 1);

    assert_non_null(expected);
    fill(expected, len, id);
    return !memcmp(payload, expected, len);
}

static ino_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

static void send_reply(uint16_t id)
{
    const struct vfio_user_header hdr = {
        .msg_id = id, .msg_size = (uint32_t)(HEADER + t.reply_len), .flags = 1};
    uint8_t *payload = connection_reply_buffer(t.connection, t.reply_len);

    assert_non_null(payload);
    fill(payload, t.reply_len, id);
    connection_reply(t.connection, &hdr, t.reply_len, &t.reply_fd, t.reply_fd >= 0);
}

static void on_message(void *arg, const struct message *msg)
{
    struct record *r = &t.records[t.n++];

    assert_ptr_equal(arg, &t);
    assert_true(t.n <= MAX_RECORDS);
    *r = (struct record){
        .hdr = msg->hdr,
        .len = msg->len,
        .intact = is_filled(msg->payload, msg->len, msg->hdr.msg_id),
        .nfds = msg->fds->count,
        .truncated = msg->fds->truncated,
    };
    for (unsigned i = 0; i < msg->fds->count && i < MAX_FDS; i++) {
        assert_int_equal(fcntl(msg->fds->fd[i], F_GETFD), FD_CLOEXEC);
        r->inodes[i] = inode_of(msg->fds->fd[i]);
        if (t.take_fds)
            t.taken[t.n_taken++] = fdset_take(msg->fds, i);
    }
    if (t.reply_len)
        send_reply(msg->hdr.msg_id);
    if (t.drain)
        connection_drain(t.connection);
}

static void on_broken(void *arg, const struct vfio_user_header *hdr, int err)
{
    assert_ptr_equal(arg, &t);
    t.broken++;
    t.broken_hdr = *hdr;
    t.broken_err = err;
    if (t.reply_len)
        send_reply(hdr->msg_id);
}

static void on_closed(void *arg)
{
    assert_ptr_equal(arg, &t);
    t.closed++;
    connection_free(t.connection);
    t.connection = NULL;
}

static const struct connection_callbacks callbacks = {
    .message = on_message,
    .broken = on_broken,
    .closed = on_closed,
};

static void open_connection(unsigned busy_poll_us)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    t.peer = pair[1];
    assert_int_equal(fcntl(t.peer, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(connection_create(&t.connection, t.base, pair[0], &callbacks, &t), 0);
    connection_set_busy_poll(t.connection, busy_poll_us);
    assert_int_equal(connection_socket(t.connection), pair[0]);
}

static int setup_base(void **state)
{
    fd_leak_setup(state);
    memset(&t, 0, sizeof(t));
    t.peer = t.reply_fd = -1;
    hurry = false;
    t.base = event_base_new();
    return !t.base;
}

static int setup(void **state)
{
    int ret = setup_base(state);

    if (!ret)
        open_connection(0);
    return ret;
}

static int teardown(void **state)
{
    connection_free(t.connection);
    event_base_free(t.base);
    fd_close(&t.peer);
    fd_close(&t.reply_fd);
    while (t.n_taken)
        fd_close(&t.taken[--t.n_taken]);
    return fd_leak_teardown(state);
}

/* All that the loop has to do now. What the peer has sent is there at once. */
static void pump(void)
{
    for (int i = 0; i < 20; i++)
        event_base_loop(t.base, EVLOOP_NONBLOCK);
}

static int new_file(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static ssize_t try_send(const void *bytes, size_t len, const int *fds, unsigned nfds)
{
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};

    return codec_send(t.peer, &iov, 1, fds, nfds, 0);
}

/* Sends bytes as they are. */
static void send_bytes(const void *bytes, size_t len, const int *fds, unsigned nfds)
{
    assert_int_equal(try_send(bytes, len, fds, nfds), len);
}

/* A message at buf; returns its size. */
static size_t encode(uint8_t *buf, uint16_t id, size_t len)
{
    const struct vfio_user_header hdr = {
        .msg_id = id, .command = 9, .msg_size = (uint32_t)(HEADER + len)};

    memcpy(buf, &hdr, HEADER);
    fill(buf + HEADER, len, id);
    return HEADER + len;
}

static void send_message(uint16_t id, size_t len, const int *fds, unsigned nfds)
{
    uint8_t buf[8192];

    send_bytes(buf, encode(buf, id, len), fds, nfds);
}

static void assert_record(unsigned i, uint16_t id, size_t len, unsigned nfds)
{
    const struct record *r = &t.records[i];

    assert_true(i < t.n);
    assert_int_equal(r->hdr.msg_id, id);
    assert_int_equal(r->hdr.command, 9);
    assert_int_equal(r->len, len);
    assert_true(r->intact);
    assert_int_equal(r->nfds, nfds);
    assert_false(r->truncated);
}

/* Receives what there is, at most len bytes. */
static size_t receive(void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = recv(t.peer, (char *)buf + done, len - done, 0);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static void assert_reply(uint16_t id, size_t len)
{
    cleanup_free_ uint8_t *buf = malloc(HEADER + len);
    struct vfio_user_header hdr;

    assert_non_null(buf);
    assert_int_equal(receive(buf, HEADER + len), HEADER + len);
    memcpy(&hdr, buf, HEADER);
    assert_int_equal(hdr.msg_id, id);
    assert_int_equal(hdr.msg_size, HEADER + len);
    assert_true(is_filled(buf + HEADER, len, id));
}

static void assert_peer_sees_end(void)
{
    char byte;

    assert_int_equal(recv(t.peer, &byte, 1, 0), 0);
}

static void assert_peer_sees_nothing(void)
{
    char byte;

    assert_int_equal(recv(t.peer, &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
}

static void test_messages(void **state)
{
    (void)state;
    pump();
    assert_int_equal(t.n, 0);
    send_message(1, 0, NULL, 0);
    pump();
    send_message(0xffff, 4000, NULL, 0);
    pump();
    assert_int_equal(t.n, 2);
    assert_record(0, 1, 0, 0);
    assert_record(1, 0xffff, 4000, 0);
}

static void test_glued(void **state)
{
    static const size_t lens[] = {0, 5, 100, 0, 0, 4000};
    uint8_t buf[8192];
    size_t len = 0;

    (void)state;
    for (uint16_t i = 0; i < ARRAY_SIZE(lens); i++)
        len += encode(buf + len, i, lens[i]);
    send_bytes(buf, len, NULL, 0);
    pump();
    assert_int_equal(t.n, ARRAY_SIZE(lens));
    for (uint16_t i = 0; i < ARRAY_SIZE(lens); i++)
        assert_record(i, i, lens[i], 0);
}

/* One message and a half: the half waits for the rest. */
static void test_glued_and_cut(void **state)
{
    for (size_t cut = 1; cut < HEADER + 20; cut++) {
        uint8_t buf[256];
        size_t first = encode(buf, 1, 30), both = first + encode(buf + first, 2, 20);

        (void)state;
        t.n = 0;
        send_bytes(buf, first + cut, NULL, 0);
        pump();
        assert_int_equal(t.n, 1);
        send_bytes(buf + first + cut, both - first - cut, NULL, 0);
        pump();
        assert_int_equal(t.n, 2);
        assert_record(0, 1, 30, 0);
        assert_record(1, 2, 20, 0);
    }
}

static void test_byte_by_byte(void **state)
{
    cleanup_close_ int file = new_file();
    uint8_t buf[256];
    size_t len = encode(buf, 7, 100);

    (void)state;
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(t.n, 0);
        send_bytes(buf + i, 1, &file, i == 0);
        pump();
    }
    assert_int_equal(t.n, 1);
    assert_record(0, 7, 100, 1);
    assert_int_equal(t.records[0].inodes[0], inode_of(file));
}

/* They belong to the message that they arrive in, not only with its first byte. */
static void test_fds_with_a_later_piece(void **state)
{
    cleanup_close_ int file = new_file();
    uint8_t buf[64];
    size_t len = encode(buf, 1, 30);

    (void)state;
    send_bytes(buf, HEADER, NULL, 0);
    pump();
    send_bytes(buf + HEADER, len - HEADER, &file, 1);
    send_message(2, 0, NULL, 0);
    pump();
    assert_record(0, 1, 30, 1);
    assert_int_equal(t.records[0].inodes[0], inode_of(file));
    assert_record(1, 2, 0, 0);
}

/* Larger than the read-ahead and than the socket's buffer. */
static void test_largest(void **state)
{
    cleanup_free_ uint8_t *buf = malloc(LIMIT_MSG_SIZE);
    size_t len = encode(buf, 3, LIMIT_MSG_SIZE - HEADER), sent = 0;
    cleanup_close_ int file = new_file();

    (void)state;
    connection_set_max_message(t.connection, LIMIT_MSG_SIZE);
    while (sent < len) {
        ssize_t n = try_send(buf + sent, len - sent, &file, !sent);

        if (n > 0)
            sent += (size_t)n;
        else
            assert_int_equal(n, -EAGAIN);
        pump();
    }
    assert_int_equal(t.n, 1);
    assert_record(0, 3, LIMIT_MSG_SIZE - HEADER, 1);
}

/* Every pattern of six pipelined messages with and without a descriptor. */
static void test_fds_of_pipelined_messages(void **state)
{
    (void)state;
    for (unsigned pattern = 0; pattern < 1 << 6; pattern++) {
        ino_t inodes[6] = {0};

        t.n = 0;
        for (uint16_t i = 0; i < 6; i++) {
            cleanup_close_ int file = new_file();

            inodes[i] = inode_of(file);
            send_message(i, i * 10u, &file, pattern >> i & 1);
        }
        pump();
        assert_int_equal(t.n, 6);
        for (uint16_t i = 0; i < 6; i++) {
            assert_record(i, i, i * 10u, pattern >> i & 1);
            if (pattern >> i & 1)
                assert_int_equal(t.records[i].inodes[0], inodes[i]);
        }
    }
}

/* What the model of a stream has sent and not yet seen arrive. */
struct sent {
    uint16_t id;
    size_t len;
    unsigned nfds;
    ino_t inodes[MAX_FDS];
};

static void assert_arrived(const struct sent *sent, unsigned n)
{
    assert_int_equal(t.n, n);
    for (unsigned i = 0; i < n; i++) {
        assert_record(i, sent[i].id, sent[i].len, sent[i].nfds);
        for (unsigned k = 0; k < sent[i].nfds; k++)
            assert_int_equal(t.records[i].inodes[k], sent[i].inodes[k]);
    }
}

/* Sends a message in pieces, the descriptors with the first; the loop runs now and then. */
static void send_in_pieces(const uint8_t *buf, size_t len, const int *fds, unsigned nfds,
                           unsigned *seed)
{
    size_t sent = 0;

    while (sent < len) {
        size_t piece = rand_r(seed) % 3 ? len - sent : 1 + (size_t)rand_r(seed) % (len - sent);
        ssize_t n = try_send(buf + sent, piece, fds, sent ? 0 : nfds);

        if (n > 0)
            sent += (size_t)n;
        else
            assert_int_equal(n, -EAGAIN);
        if (n < 0 || rand_r(seed) % 4 == 0)
            pump();
    }
}

static void send_random(struct sent *sent, uint16_t id, unsigned *seed)
{
    size_t limit = rand_r(seed) % 8 ? 64 : 40000;
    int fds[MAX_FDS];
    cleanup_free_ uint8_t *buf = NULL;

    *sent = (struct sent){.id = id, .len = (size_t)rand_r(seed) % limit};
    if (rand_r(seed) % 3 == 0)
        sent->nfds = 1 + (unsigned)rand_r(seed) % MAX_FDS;
    for (unsigned i = 0; i < sent->nfds; i++) {
        fds[i] = new_file();
        sent->inodes[i] = inode_of(fds[i]);
    }
    buf = malloc(HEADER + sent->len);
    assert_non_null(buf);
    send_in_pieces(buf, encode(buf, id, sent->len), fds, sent->nfds, seed);
    for (unsigned i = 0; i < sent->nfds; i++)
        fd_close(&fds[i]);
}

static unsigned new_seed(void)
{
    const char *given = getenv("TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);

    print_message("TEST_SEED=%u\n", seed);
    return seed;
}

/* Any stream of messages that clients can make of sendmsg calls arrives as it was sent. */
static void test_random_stream(void **state)
{
    static struct sent sent[MAX_RECORDS];
    unsigned seed = new_seed(), n = 0;

    (void)state;
    connection_set_max_message(t.connection, LIMIT_MSG_SIZE);
    for (unsigned i = 0; i < MANY_STEPS; i++) {
        send_random(&sent[n++], (uint16_t)i, &seed);
        if (rand_r(&seed) % 16 == 0 || n == MAX_RECORDS) {
            pump();
            assert_arrived(sent, n);
            n = t.n = 0;
        }
    }
}

static void test_fds_taken_and_left(void **state)
{
    int files[3] = {new_file(), new_file(), new_file()};
    int before = fd_count_open();

    (void)state;
    send_message(1, 0, files, 3);
    pump();
    assert_int_equal(t.records[0].nfds, 3);
    assert_int_equal(fd_count_open(), before); /* closed with the message */
    t.take_fds = true;
    send_message(2, 0, files, 3);
    pump();
    assert_int_equal(t.n_taken, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(inode_of(t.taken[i]), inode_of(files[i]));
        fd_close(&files[i]);
    }
}

static void test_most_fds(void **state)
{
    int files[LIMIT_RECV_FDS];

    (void)state;
    for (unsigned i = 0; i < LIMIT_RECV_FDS; i++)
        files[i] = t.peer;
    send_message(1, 0, files, LIMIT_RECV_FDS);
    pump();
    assert_record(0, 1, 0, LIMIT_RECV_FDS);
}

/* The process has no descriptor free: the message tells that some are missing. */
static void test_fds_truncated(void **state)
{
    int files[2] = {new_file(), new_file()}, last = files[1];
    struct rlimit before, low;

    (void)state;
    send_message(1, 0, files, 2);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    fd_close(&files[1]);
    low = (struct rlimit){(rlim_t)last + 1, before.rlim_max}; /* room for one */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    pump();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(t.n, 1);
    assert_true(t.records[0].truncated);
    assert_int_equal(t.records[0].nfds, 1);
    fd_close(&files[0]);
}

/* Half a message with descriptors, and then nothing more. */
static void test_fds_of_half_a_message(void **state)
{
    cleanup_close_ int file = new_file();
    uint8_t buf[64];

    (void)state;
    encode(buf, 1, 40);
    send_bytes(buf, 20, &file, 1);
    pump();
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.n, 0);
    assert_int_equal(t.closed, 1);
}

static void test_half_a_message_and_free(void **state)
{
    cleanup_close_ int file = new_file();
    uint8_t buf[64];

    (void)state;
    encode(buf, 1, 40);
    send_bytes(buf, 20, &file, 1);
    pump();
    connection_free(t.connection);
    t.connection = NULL;
    assert_int_equal(t.closed, 0); /* nobody is told of what he does himself */
}

static void send_header(uint32_t size, const int *fds, unsigned nfds)
{
    const struct vfio_user_header hdr = {.msg_id = 99, .command = 9, .msg_size = size};

    send_bytes(&hdr, sizeof(hdr), fds, nfds);
}

static void assert_broken(int err)
{
    assert_int_equal(t.broken, 1);
    assert_int_equal(t.broken_err, err);
    assert_int_equal(t.broken_hdr.msg_id, 99);
    assert_int_equal(t.closed, 0);
}

static void test_sizes_that_no_message_has(void **state)
{
    static const struct {
        uint32_t size;
        int err;
    } cases[] = {
        {0,             -EINVAL  },
        {1,             -EINVAL  },
        {HEADER - 1,    -EINVAL  },
        {FIRST_MAX + 1, -EMSGSIZE},
        {1 << 20,       -EMSGSIZE},
        {UINT32_MAX,    -EMSGSIZE},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        setup(state);
        t.reply_len = 10;
        send_message(1, 0, NULL, 0);
        send_header(cases[i].size, NULL, 0);
        pump();
        assert_int_equal(t.n, 1); /* the one before is served */
        assert_broken(cases[i].err);
        assert_reply(1, 10);
        assert_reply(99, 10);
        assert_peer_sees_end();
        teardown(state);
    }
}

static void test_largest_before_and_after_version(void **state)
{
    cleanup_free_ uint8_t *buf = malloc(FIRST_MAX + 1);

    (void)state;
    send_bytes(buf, encode(buf, 1, FIRST_MAX - HEADER), NULL, 0);
    pump();
    assert_record(0, 1, FIRST_MAX - HEADER, 0);
    connection_set_max_message(t.connection, FIRST_MAX + 1);
    send_bytes(buf, encode(buf, 2, FIRST_MAX + 1 - HEADER), NULL, 0);
    pump();
    assert_record(1, 2, FIRST_MAX + 1 - HEADER, 0);
    send_header(FIRST_MAX + 2, NULL, 0);
    pump();
    assert_broken(-EMSGSIZE);
}

/* The descriptors of a header that is none, and of what follows, are closed. */
static void test_broken_with_fds(void **state)
{
    cleanup_close_ int file = new_file();
    int before = fd_count_open();

    (void)state;
    send_message(1, 4, NULL, 0);
    send_header(3, &file, 1);
    send_message(2, 4, &file, 1);
    pump();
    send_message(3, 4, &file, 1);
    pump();
    assert_int_equal(t.n, 1);
    assert_int_equal(t.records[0].nfds, 0);
    assert_broken(-EINVAL);
    assert_int_equal(fd_count_open(), before);
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/* The peer's data is read to its end, so that it can read its replies. */
static void test_drain(void **state)
{
    (void)state;
    t.reply_len = 100;
    t.drain = true;
    send_message(1, 0, NULL, 0);
    send_message(2, 4000, NULL, 0);
    pump();
    assert_int_equal(t.n, 1);
    assert_int_equal(t.closed, 0);
    for (int i = 0; i < 50; i++) {
        send_message(3, 4000, NULL, 0);
        pump();
    }
    assert_int_equal(t.n, 1);
    assert_reply(1, 100);
    assert_peer_sees_end();
    assert_int_equal(t.closed, 0);
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

static void test_drain_without_end(void **state)
{
    (void)state;
    hurry = true;
    send_message(1, 0, NULL, 0);
    t.drain = true;
    while (!t.closed)
        assert_int_equal(event_base_loop(t.base, EVLOOP_ONCE), 0);
    assert_int_equal(t.closed, 1);
    assert_int_equal(t.n, 1);
    assert_peer_sees_end();
}

static void test_drain_twice(void **state)
{
    (void)state;
    connection_drain(t.connection);
    connection_drain(t.connection);
    pump();
    assert_peer_sees_end();
    t.reply_len = 10;
    send_reply(1); /* too late: nobody gets it */
    pump();
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/*
 * A peer that sends as fast as it is read must not keep the loop to itself, or the end of the
 * draining would never come.
 */
static void test_drain_of_a_flood(void **state)
{
    int pending = 0;

    (void)state;
    connection_drain(t.connection);
    for (unsigned i = 0; i < 200; i++)
        send_bytes("x", 1, &t.peer, 1); /* with a descriptor each is a read of its own */
    event_base_loop(t.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    assert_int_equal(ioctl(connection_socket(t.connection), FIONREAD, &pending), 0);
    assert_in_range(pending, 1, 199);
    pump();
    assert_int_equal(ioctl(connection_socket(t.connection), FIONREAD, &pending), 0);
    assert_int_equal(pending, 0);
}

static void test_replies(void **state)
{
    (void)state;
    t.reply_len = 1;
    send_message(1, 0, NULL, 0);
    pump();
    assert_reply(1, 1);
    t.reply_len = 100000;
    send_message(2, 0, NULL, 0);
    pump();
    assert_reply(2, 100000);
    t.reply_len = 0;
    send_message(3, 0, NULL, 0);
    pump();
    assert_peer_sees_nothing();
    connection_reply(t.connection, &(struct vfio_user_header){.msg_id = 4, .msg_size = HEADER}, 0,
                     NULL, 0);
    assert_reply(4, 0);
}

static void test_reply_with_fd(void **state)
{
    uint8_t buf[HEADER + 10];
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    t.reply_len = 10;
    t.reply_fd = new_file();
    send_message(1, 0, NULL, 0);
    pump();
    assert_int_equal(codec_recv(t.peer, buf, sizeof(buf), &fds, 0), sizeof(buf));
    assert_int_equal(fds.count, 1);
    assert_int_equal(inode_of(fds.fd[0]), inode_of(t.reply_fd));
    fdset_close(&fds);
}

/* A socket that takes little at a time: the smallest buffer that the kernel allows. */
static void choke(void)
{
    const int smallest = 1;

    assert_int_equal(setsockopt(connection_socket(t.connection), SOL_SOCKET, SO_SNDBUF, &smallest,
                                sizeof(smallest)),
                     0);
}

/* Reads a stuck reply, a little at a time. */
static void read_stuck_reply(uint16_t id, size_t len)
{
    cleanup_free_ uint8_t *buf = malloc(HEADER + len);
    struct vfio_user_header hdr;
    size_t done = 0;

    while (done < HEADER + len) {
        size_t n = receive(buf + done, MIN((size_t)700, HEADER + len - done));

        if (!n)
            pump();
        done += n;
        assert_non_null(t.connection);
    }
    memcpy(&hdr, buf, HEADER);
    assert_int_equal(hdr.msg_id, id);
    assert_int_equal(hdr.msg_size, HEADER + len);
    assert_true(is_filled(buf + HEADER, len, id));
}

static void test_stuck_reply(void **state)
{
    (void)state;
    choke();
    t.reply_len = 50000;
    t.reply_fd = new_file();
    send_message(1, 0, NULL, 0);
    pump();
    assert_int_equal(t.n, 1);
    /* Meanwhile nothing more is read from this peer. */
    send_message(2, 0, NULL, 0);
    pump();
    assert_int_equal(t.n, 1);
    read_stuck_reply(1, 50000);
    pump();
    assert_int_equal(t.n, 2);
    read_stuck_reply(2, 50000);
    /* And when all is gone, it goes on as before. */
    t.reply_len = 10;
    send_message(3, 0, NULL, 0);
    pump();
    assert_reply(3, 10);
    assert_peer_sees_nothing();
}

/* What was read together with the stuck one raises no event of its own. */
static void test_stuck_reply_with_glued_messages(void **state)
{
    uint8_t buf[8 * (HEADER + 100)];
    size_t len = 0;

    (void)state;
    choke();
    t.reply_len = 20000;
    for (uint16_t i = 0; i < 8; i++)
        len += encode(buf + len, i, 100);
    send_bytes(buf, len - 50, NULL, 0); /* the last one is cut */
    pump();
    assert_int_equal(t.n, 1);
    for (uint16_t i = 0; i < 7; i++) {
        assert_int_equal(t.n, i + 1u);
        read_stuck_reply(i, 20000);
        pump();
    }
    assert_int_equal(t.n, 7);
    send_bytes(buf + len - 50, 50, NULL, 0);
    pump();
    read_stuck_reply(7, 20000);
    for (uint16_t i = 0; i < 8; i++)
        assert_record(i, i, 100, 0);
}

/* Reads what there is of replies; returns its bytes. */
static size_t read_replies(void)
{
    static uint8_t buf[65536];
    size_t done = 0, n;

    while ((n = receive(buf, sizeof(buf))))
        done += n;
    return done;
}

/* A pipelining peer that reads its replies late: each message arrives once, with its own. */
static void test_random_stream_with_stuck_replies(void **state)
{
    enum { MESSAGES = 400, REPLY = 3000 };
    static struct sent sent[MESSAGES];
    unsigned seed = new_seed();
    size_t replies = 0;

    (void)state;
    choke();
    t.reply_len = REPLY;
    connection_set_max_message(t.connection, LIMIT_MSG_SIZE);
    for (unsigned i = 0; i < MESSAGES; i++) {
        cleanup_free_ uint8_t *buf = malloc(HEADER + 500);
        cleanup_close_ int file = new_file();
        size_t len;

        sent[i] = (struct sent){.id = (uint16_t)i,
                                .len = (size_t)rand_r(&seed) % 500,
                                .nfds = rand_r(&seed) % 3 == 0,
                                .inodes = {inode_of(file)}};
        len = encode(buf, sent[i].id, sent[i].len);
        while (try_send(buf, len, &file, sent[i].nfds) < 0) {
            pump();
            replies += read_replies();
        }
        if (rand_r(&seed) % 8 == 0)
            pump();
    }
    while (replies < MESSAGES * (HEADER + REPLY)) {
        pump();
        replies += read_replies();
    }
    assert_int_equal(replies, MESSAGES * (HEADER + REPLY));
    assert_arrived(sent, MESSAGES);
}

static void test_stuck_reply_and_broken(void **state)
{
    uint8_t buf[2 * HEADER];

    (void)state;
    choke();
    t.reply_len = 20000;
    encode(buf, 1, 0);
    memcpy(buf + HEADER, &(struct vfio_user_header){.msg_id = 99, .msg_size = 3}, HEADER);
    send_bytes(buf, sizeof(buf), NULL, 0);
    pump();
    assert_int_equal(t.broken, 0);
    t.reply_len = 0;
    read_stuck_reply(1, 20000);
    pump();
    assert_broken(-EINVAL);
    assert_peer_sees_end();
}

static void test_peer_leaves_a_stuck_reply(void **state)
{
    (void)state;
    choke();
    t.reply_len = 50000;
    send_message(1, 0, NULL, 0);
    pump();
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/* What is left of the reply is given up: its peer does not read. */
static void test_drain_of_a_stuck_reply(void **state)
{
    (void)state;
    choke();
    t.reply_len = 50000;
    t.drain = true;
    send_message(1, 0, NULL, 0);
    pump();
    assert_int_equal(t.closed, 0);
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/* Messages in front of the end are served first. */
static void test_peer_leaves(void **state)
{
    (void)state;
    send_message(1, 0, NULL, 0);
    send_message(2, 0, NULL, 0);
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.n, 2);
    assert_int_equal(t.closed, 1);
}

/* It leaves with our reply unread: the socket reports an error in the place of the end. */
static void test_peer_resets(void **state)
{
    (void)state;
    t.reply_len = 10;
    send_message(1, 0, NULL, 0);
    pump();
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/* The reply fails: the peer is told to have gone, once, when the message has been dealt with. */
static void test_peer_leaves_before_the_reply(void **state)
{
    (void)state;
    t.reply_len = 10;
    send_message(1, 0, NULL, 0);
    send_message(2, 0, NULL, 0);
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.n, 1);
    assert_int_equal(t.closed, 1);
}

/* Each loop's turn serves a limited number, though the socket is never empty. */
static void test_flood(void **state)
{
    enum { PER_TURN = 64, FLOOD = 150 };

    (void)state;
    open_connection(1);
    for (uint16_t i = 0; i < FLOOD; i++)
        send_message(i, 0, &t.peer, 1); /* with a descriptor each is a read of its own */
    event_base_loop(t.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    assert_int_equal(t.n, PER_TURN);
    event_base_loop(t.base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
    assert_int_equal(t.n, 2 * PER_TURN);
    pump();
    assert_int_equal(t.n, FLOOD);
}

static void test_busy_poll(void **state)
{
    (void)state;
    open_connection(100);
    t.reply_len = 10;
    for (uint16_t i = 0; i < 3; i++) {
        send_message(i, 100, NULL, 0);
        pump();
        assert_record(i, i, 100, 0);
        assert_reply(i, 10);
    }
    fd_close(&t.peer);
    pump();
    assert_int_equal(t.closed, 1);
}

/* The socket is the connection's also when there is none. */
static void test_create_errors(void **state)
{
    struct connection *none = (struct connection *)&t;
    int pipes[2], file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(connection_create(&none, t.base, 12345, &callbacks, &t), -EBADF);
    assert_int_equal(connection_create(&none, t.base, file, &callbacks, &t), -ENOMEM);
    assert_int_equal(fcntl(file, F_GETFD), -1);
    assert_ptr_equal(none, &t);
    /* What is no socket is seen when it is read. */
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(connection_create(&t.connection, t.base, pipes[0], &callbacks, &t), 0);
    assert_int_equal(write(pipes[1], "x", 1), 1);
    pump();
    assert_int_equal(t.closed, 1);
    fd_close(&pipes[1]);
    connection_free(NULL);
}

#define base_test(f)       cmocka_unit_test_setup_teardown(f, setup_base, teardown)
#define connection_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        connection_test(test_messages),
        connection_test(test_glued),
        connection_test(test_glued_and_cut),
        connection_test(test_byte_by_byte),
        connection_test(test_fds_with_a_later_piece),
        connection_test(test_largest),
        connection_test(test_fds_of_pipelined_messages),
        connection_test(test_random_stream),
        connection_test(test_fds_taken_and_left),
        connection_test(test_most_fds),
        connection_test(test_fds_truncated),
        connection_test(test_fds_of_half_a_message),
        connection_test(test_half_a_message_and_free),
        cmocka_unit_test(test_sizes_that_no_message_has),
        connection_test(test_largest_before_and_after_version),
        connection_test(test_broken_with_fds),
        connection_test(test_drain),
        connection_test(test_drain_without_end),
        connection_test(test_drain_twice),
        connection_test(test_drain_of_a_flood),
        connection_test(test_replies),
        connection_test(test_reply_with_fd),
        connection_test(test_stuck_reply),
        connection_test(test_stuck_reply_with_glued_messages),
        connection_test(test_random_stream_with_stuck_replies),
        connection_test(test_stuck_reply_and_broken),
        connection_test(test_peer_leaves_a_stuck_reply),
        connection_test(test_drain_of_a_stuck_reply),
        connection_test(test_peer_leaves),
        connection_test(test_peer_resets),
        connection_test(test_peer_leaves_before_the_reply),
        base_test(test_flood),
        base_test(test_busy_poll),
        base_test(test_create_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
