#include "auth/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/fd_leak.h"

static void test_socketpair(void **state)
{
    struct peer peer = {0};
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(peer_read(pair[0], &peer), 0);
    assert_int_equal(peer.pid, getpid());
    assert_int_equal(peer.uid, geteuid());
    assert_int_equal(peer.gid, getegid());
    fd_close(&pair[0]);
    fd_close(&pair[1]);
}

/* An abstract address: no file is left. */
static int new_listener(struct sockaddr_un *addr, socklen_t *len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    *len = sizeof(sa_family_t);
    assert_int_equal(bind(fd, (struct sockaddr *)addr, *len), 0);
    *len = sizeof(*addr);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* In the child: connects, and waits until the other end closes. */
static void connect_and_wait(const struct sockaddr_un *addr, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char byte;

    if (connect(fd, (const struct sockaddr *)addr, len) < 0)
        _exit(1);
    _exit(read(fd, &byte, 1) != 0);
}

/* Who has connected, not who listens. */
static void test_other_process(void **state)
{
    struct sockaddr_un addr;
    socklen_t len;
    int listener = new_listener(&addr, &len), sock, status;
    struct peer peer;
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (!child)
        connect_and_wait(&addr, len);
    sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(sock >= 0);
    assert_int_equal(peer_read(sock, &peer), 0);
    assert_int_equal(peer.pid, child);
    assert_int_equal(peer.uid, geteuid());
    fd_close(&sock);
    fd_close(&listener);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_errors(void **state)
{
    struct peer peer = {.pid = 1234, .uid = 5678}, before = peer;
    int pipes[2];

    (void)state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(peer_read(pipes[0], &peer), -ENOTSOCK);
    assert_int_equal(peer_read(-1, &peer), -EBADF);
    assert_memory_equal(&peer, &before, sizeof(peer));
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
}

/* The user counts: not the process, which a client may have many of, nor its groups. */
static void test_same_identity(void **state)
{
    const struct peer a = {.pid = 1, .uid = 1000, .gid = 1};
    const struct peer same = {.pid = 2, .uid = 1000, .gid = 2};
    const struct peer other = {.pid = 1, .uid = 1001, .gid = 1};

    (void)state;
    assert_true(peer_same_identity(&a, &a));
    assert_true(peer_same_identity(&a, &same));
    assert_false(peer_same_identity(&a, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_socketpair),
        fd_leak_test(test_other_process),
        fd_leak_test(test_errors),
        fd_leak_test(test_same_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
