#include "proto/base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "tests/unit/fd_leak.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_close_sets_minus_one(void **state)
{
    int fd = dup(STDERR_FILENO);
    int was = fd;

    (void)state;
    assert_true(is_open(was));
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_false(is_open(was));
    fd_close(&fd); /* nothing to close */
    assert_int_equal(fd, -1);
}

static void test_close_keeps_errno(void **state)
{
    int fd = 1 << 20; /* not open: close() fails and would set errno */

    (void)state;
    errno = ENODEV;
    fd_close(&fd);
    assert_int_equal(errno, ENODEV);
}

static void test_nonblock(void **state)
{
    int p[2];

    (void)state;
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fd_set_nonblock(p[0]), 0);
    assert_int_equal(fcntl(p[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(p[1], F_GETFL) & O_NONBLOCK, 0);
    fd_close(&p[0]);
    fd_close(&p[1]);
    assert_int_equal(fd_set_nonblock(-1), -EBADF);
}

static void test_count_open(void **state)
{
    int before = fd_count_open();
    int open_below_1024 = 0;
    int p[2];

    (void)state;
    for (int fd = 0; fd < 1024; fd++)
        open_below_1024 += is_open(fd);
    assert_int_equal(before, open_below_1024);
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(fd_count_open(), before + 2);
    fd_close(&p[0]);
    fd_close(&p[1]);
    assert_int_equal(fd_count_open(), before);
}

static int open_and_fail(int *was)
{
    cleanup_close_ int fd = dup(STDERR_FILENO);

    *was = fd;
    return -EIO;
}

static int open_and_give(void)
{
    cleanup_close_ int fd = dup(STDERR_FILENO);

    return steal_fd(&fd);
}

static void test_scope_closes(void **state)
{
    int was;

    (void)state;
    assert_int_equal(open_and_fail(&was), -EIO);
    assert_false(is_open(was));
}

static void test_scope_gives_away(void **state)
{
    int fd = open_and_give();

    (void)state;
    assert_true(is_open(fd));
    fd_close(&fd);
}

static void test_scope_frees(void **state)
{
    char *kept = NULL;

    (void)state;
    {
        cleanup_free_ char *freed = malloc(16); /* LeakSanitizer tells if it is not */
        cleanup_free_ char *stolen = malloc(16);
        cleanup_free_ char *none = NULL;

        assert_non_null(freed);
        assert_null(none);
        kept = steal_ptr(stolen);
        assert_null(stolen);
    }
    assert_non_null(kept);
    kept[15] = 'x';
    free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_close_sets_minus_one),
        fd_leak_test(test_close_keeps_errno),
        fd_leak_test(test_nonblock),
        fd_leak_test(test_count_open),
        fd_leak_test(test_scope_closes),
        fd_leak_test(test_scope_gives_away),
        fd_leak_test(test_scope_frees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
