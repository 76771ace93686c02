#include "proto/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/fd_leak.h"

/* The two ends; what one sends the other receives. */
static struct {
    int a;
    int b;
    int fds_before;
} sockets;

static int setup(void **state)
{
    int pair[2];

    (void)state;
    sockets.fds_before = fd_count_open();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    sockets.a = pair[0];
    sockets.b = pair[1];
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fd_close(&sockets.a);
    fd_close(&sockets.b);
    assert_int_equal(fd_count_open(), sockets.fds_before);
    return 0;
}

static ssize_t send_text(const char *text, const int *fds, unsigned nfds)
{
    char bytes[256];
    struct iovec iov = {.iov_base = bytes, .iov_len = strlen(text)};

    memcpy(bytes, text, iov.iov_len);
    return codec_send(sockets.a, &iov, 1, fds, nfds, 0);
}

/* Receives up to len bytes and holds them against text. */
static void expect_text(struct fdset *fds, size_t len, const char *text)
{
    char bytes[256];
    ssize_t n = codec_recv(sockets.b, bytes, len, fds, MSG_DONTWAIT);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(bytes, text, (size_t)n);
}

static int new_file(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void assert_same_file(int x, int y)
{
    struct stat sx, sy;

    assert_int_equal(fstat(x, &sx), 0);
    assert_int_equal(fstat(y, &sy), 0);
    assert_true(sx.st_dev == sy.st_dev && sx.st_ino == sy.st_ino);
}

static void test_bytes(void **state)
{
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(send_text("hello", NULL, 0), 5);
    expect_text(&fds, 3, "hel");
    expect_text(&fds, 200, "lo");
    assert_int_equal(fds.count, 0);
    assert_false(fds.truncated);
}

static void test_several_parts_are_one_message(void **state)
{
    char one[] = "head", two[] = "", three[] = "body";
    const struct iovec iov[] = {
        {one,   4},
        {two,   0},
        {three, 4}
    };
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(codec_send(sockets.a, iov, 3, NULL, 0, 0), 8);
    expect_text(&fds, 200, "headbody");
}

static void test_end_and_errors(void **state)
{
    struct fdset fds;
    char byte;
    int p[2];

    (void)state;
    fdset_init(&fds);
    assert_int_equal(codec_recv(sockets.b, &byte, 1, &fds, MSG_DONTWAIT), -EAGAIN);
    assert_int_equal(codec_recv(-1, &byte, 1, &fds, 0), -EBADF);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(codec_recv(p[0], &byte, 1, &fds, 0), -ENOTSOCK);
    fd_close(&p[0]);
    fd_close(&p[1]);
    fd_close(&sockets.a);
    assert_int_equal(codec_recv(sockets.b, &byte, 1, &fds, 0), 0);
    assert_int_equal(fds.count, 0);
    assert_false(fds.truncated);
}

static void test_send_to_closed_peer_raises_no_signal(void **state)
{
    (void)state;
    fd_close(&sockets.b);
    assert_int_equal(send_text("x", NULL, 0), -EPIPE);
}

static void test_reset_by_peer(void **state)
{
    struct fdset fds;
    char byte;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(send_text("unread", NULL, 0), 6);
    fd_close(&sockets.b);
    assert_int_equal(codec_recv(sockets.a, &byte, 1, &fds, 0), -ECONNRESET);
}

static void test_full_socket_takes_a_part(void **state)
{
    const size_t size = 8 << 20;
    cleanup_free_ char *bytes = calloc(1, size);
    const struct iovec iov = {bytes, size};
    ssize_t n;

    (void)state;
    assert_non_null(bytes);
    n = codec_send(sockets.a, &iov, 1, NULL, 0, MSG_DONTWAIT);
    assert_true(n > 0 && (size_t)n < size);
    assert_int_equal(codec_send(sockets.a, &iov, 1, NULL, 0, MSG_DONTWAIT), -EAGAIN);
}

static void test_one_fd(void **state)
{
    cleanup_close_ int file = new_file();
    cleanup_close_ int got = -1;
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(send_text("x", &file, 1), 1);
    assert_true(fcntl(file, F_GETFD) >= 0); /* still ours */
    expect_text(&fds, 1, "x");
    assert_int_equal(fds.count, 1);
    assert_false(fds.truncated);
    got = fdset_take(&fds, 0);
    assert_int_not_equal(got, file);
    assert_same_file(got, file);
    assert_int_equal(fcntl(got, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

static void test_most_fds_in_order(void **state)
{
    int files[LIMIT_RECV_FDS];
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        files[i] = new_file();
    assert_int_equal(send_text("x", files, LIMIT_RECV_FDS), 1);
    expect_text(&fds, 1, "x");
    assert_int_equal(fds.count, LIMIT_RECV_FDS);
    assert_false(fds.truncated);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        assert_same_file(fds.fd[i], files[i]);
    fdset_close(&fds);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        fd_close(&files[i]);
}

static void test_fds_travel_with_byte_0(void **state)
{
    cleanup_close_ int file = new_file();
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(send_text("message", &file, 1), 7);
    expect_text(&fds, 1, "m");
    assert_int_equal(fds.count, 1);
    expect_text(&fds, 200, "essage");
    assert_int_equal(fds.count, 1);
    fdset_close(&fds);
}

/* Reads of exact sizes keep the descriptors with their message. */
static void test_pipelined_messages_read_exactly(void **state)
{
    int files[2] = {new_file(), new_file()};
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    send_text("aaaa", NULL, 0);
    send_text("bbbb", &files[0], 1);
    send_text("cccc", NULL, 0);
    send_text("dddd", &files[1], 1);
    expect_text(&fds, 4, "aaaa");
    assert_int_equal(fds.count, 0);
    expect_text(&fds, 4, "bbbb");
    assert_int_equal(fds.count, 1);
    assert_same_file(fds.fd[0], files[0]);
    fdset_close(&fds);
    expect_text(&fds, 4, "cccc");
    assert_int_equal(fds.count, 0);
    expect_text(&fds, 4, "dddd");
    assert_int_equal(fds.count, 1);
    assert_same_file(fds.fd[0], files[1]);
    fdset_close(&fds);
    fd_close(&files[0]);
    fd_close(&files[1]);
}

/*
 * A longer read gets what lies in front of the descriptors together with the data that carried
 * them, and ends there: whoever reads ahead must know that they are the last message's.
 */
static void test_pipelined_messages_read_ahead(void **state)
{
    int files[2] = {new_file(), new_file()};
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    send_text("aaaa", NULL, 0);
    send_text("bbbb", &files[0], 1);
    send_text("cccc", NULL, 0);
    send_text("dddd", &files[1], 1);
    expect_text(&fds, 200, "aaaabbbb");
    assert_int_equal(fds.count, 1);
    assert_same_file(fds.fd[0], files[0]);
    expect_text(&fds, 200, "ccccdddd");
    assert_int_equal(fds.count, 2);
    assert_same_file(fds.fd[1], files[1]);
    fdset_close(&fds);
    fd_close(&files[0]);
    fd_close(&files[1]);
}

static void send_two_control_messages(int one, int two)
{
    union {
        struct cmsghdr align;
        char bytes[2 * CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    char byte = 'x';
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &one, sizeof(one));
    c = CMSG_NXTHDR(&msg, c);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &two, sizeof(two));
    assert_int_equal(sendmsg(sockets.a, &msg, 0), 1);
}

static void test_several_control_messages(void **state)
{
    int files[2] = {new_file(), new_file()};
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    send_two_control_messages(files[0], files[1]);
    expect_text(&fds, 1, "x");
    assert_int_equal(fds.count, 2);
    assert_same_file(fds.fd[0], files[0]);
    assert_same_file(fds.fd[1], files[1]);
    fdset_close(&fds);
    fd_close(&files[0]);
    fd_close(&files[1]);
}

/* Control data of another kind is not taken for descriptors. */
static void test_credentials_are_skipped(void **state)
{
    cleanup_close_ int file = new_file();
    const int on = 1;
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(setsockopt(sockets.b, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
    send_text("x", &file, 1);
    expect_text(&fds, 1, "x");
    assert_int_equal(fds.count, 1);
    assert_same_file(fds.fd[0], file);
    fdset_close(&fds);
}

static void test_over_the_set(void **state)
{
    int files[LIMIT_RECV_FDS];
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        files[i] = dup(sockets.a);
    send_text("x", files, LIMIT_RECV_FDS);
    send_text("y", files, 3);
    expect_text(&fds, 1, "x");
    assert_false(fds.truncated);
    expect_text(&fds, 1, "y");
    assert_int_equal(fds.count, LIMIT_RECV_FDS);
    assert_true(fds.truncated);
    fdset_close(&fds);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        fd_close(&files[i]);
}

/* Lowers the limit on open files so that n more can be opened. */
static struct rlimit leave_room_for(unsigned n)
{
    struct rlimit old, low;
    int fd = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (unsigned free_seen = 0;; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && free_seen++ == n)
            break;
    }
    low = (struct rlimit){.rlim_cur = (rlim_t)fd, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    return old;
}

static void receive_with_room_for(unsigned room, unsigned sent)
{
    int files[8];
    struct rlimit old;
    struct fdset fds;

    fdset_init(&fds);
    for (unsigned i = 0; i < sent; i++)
        files[i] = new_file();
    send_text("x", files, sent);
    old = leave_room_for(room);
    expect_text(&fds, 1, "x");
    setrlimit(RLIMIT_NOFILE, &old);
    assert_int_equal(fds.count, room < sent ? room : sent);
    assert_int_equal(fds.truncated, room < sent);
    for (unsigned i = 0; i < fds.count; i++)
        assert_same_file(fds.fd[i], files[i]);
    fdset_close(&fds);
    for (unsigned i = 0; i < sent; i++)
        fd_close(&files[i]);
}

static void test_no_room_for_descriptors(void **state)
{
    (void)state;
    receive_with_room_for(4, 4);
    receive_with_room_for(3, 4);
    receive_with_room_for(1, 4);
    receive_with_room_for(0, 4);
    receive_with_room_for(0, 1);
}

static volatile sig_atomic_t ticks;

/* The first ticks do nothing but interrupt; a later one lets the system call end. */
static void send_on_third_tick(int sig)
{
    int saved = errno;

    (void)sig;
    if (++ticks == 3 && write(sockets.a, "late", 4) < 0)
        abort();
    errno = saved;
}

static void drain_from_third_tick(int sig)
{
    static char sink[1 << 16];
    int saved = errno;

    (void)sig;
    if (++ticks >= 3) {
        while (recv(sockets.b, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
    }
    errno = saved;
}

static void tick(void (*handler)(int))
{
    const struct itimerval every = {
        .it_interval = {0, 5000},
          .it_value = {0, 5000}
    };
    const struct sigaction action = {.sa_handler = handler}; /* no SA_RESTART */

    ticks = 0;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
}

static void tick_end(void)
{
    const struct itimerval never = {
        .it_value = {0, 0}
    };

    setitimer(ITIMER_REAL, &never, NULL);
    signal(SIGALRM, SIG_IGN);
}

static void test_recv_goes_on_after_a_signal(void **state)
{
    struct fdset fds;
    char bytes[8];
    ssize_t n;

    (void)state;
    fdset_init(&fds);
    tick(send_on_third_tick);
    n = codec_recv(sockets.b, bytes, sizeof(bytes), &fds, 0);
    tick_end();
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "late", 4);
}

static void test_send_goes_on_after_a_signal(void **state)
{
    char bytes[4096] = {0};
    const struct iovec iov = {bytes, sizeof(bytes)};
    ssize_t n;

    (void)state;
    while (codec_send(sockets.a, &iov, 1, NULL, 0, MSG_DONTWAIT) > 0)
        ;
    tick(drain_from_third_tick);
    n = codec_send(sockets.a, &iov, 1, NULL, 0, 0);
    tick_end();
    assert_int_equal(n, sizeof(bytes));
    assert_true(ticks >= 3);
}

static void test_reply_header(void **state)
{
    const struct vfio_user_header request = {
        .msg_id = 0xabcd,
        .command = VFIO_USER_REGION_READ,
        .msg_size = 32,
        .flags = VFIO_USER_FLAG_NO_REPLY,
        .error = 99,
    };
    struct vfio_user_header reply = codec_reply_header(&request, 0, 24);

    (void)state;
    assert_int_equal(reply.msg_id, 0xabcd);
    assert_int_equal(reply.command, VFIO_USER_REGION_READ);
    assert_int_equal(reply.msg_size, 40);
    assert_int_equal(reply.flags, VFIO_USER_FLAG_TYPE_REPLY);
    assert_int_equal(reply.error, 0);

    reply = codec_reply_header(&request, EEXIST, 0);
    assert_int_equal(reply.msg_id, 0xabcd);
    assert_int_equal(reply.msg_size, 16);
    assert_int_equal(reply.flags, VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR);
    assert_int_equal(reply.error, EEXIST);
}

static void test_request_header(void **state)
{
    struct vfio_user_header hdr =
        codec_request_header(7, VFIO_USER_REGION_WRITE, 20, VFIO_USER_FLAG_NO_REPLY);

    (void)state;
    assert_int_equal(hdr.msg_id, 7);
    assert_int_equal(hdr.command, VFIO_USER_REGION_WRITE);
    assert_int_equal(hdr.msg_size, 36);
    assert_int_equal(hdr.flags, VFIO_USER_FLAG_NO_REPLY);
    assert_int_equal(hdr.error, 0);
    assert_int_equal(codec_request_header(0, VFIO_USER_DEVICE_RESET, 0, 0).flags, 0);
}

#define codec_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        codec_test(test_bytes),
        codec_test(test_several_parts_are_one_message),
        codec_test(test_end_and_errors),
        codec_test(test_send_to_closed_peer_raises_no_signal),
        codec_test(test_reset_by_peer),
        codec_test(test_full_socket_takes_a_part),
        codec_test(test_one_fd),
        codec_test(test_most_fds_in_order),
        codec_test(test_fds_travel_with_byte_0),
        codec_test(test_pipelined_messages_read_exactly),
        codec_test(test_pipelined_messages_read_ahead),
        codec_test(test_several_control_messages),
        codec_test(test_credentials_are_skipped),
        codec_test(test_over_the_set),
        codec_test(test_no_room_for_descriptors),
        codec_test(test_recv_goes_on_after_a_signal),
        codec_test(test_send_goes_on_after_a_signal),
        codec_test(test_reply_header),
        codec_test(test_request_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
