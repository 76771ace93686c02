#include "proto/fdset.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/fd_leak.h"

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void fill(struct fdset *set, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int fd = dup(STDERR_FILENO);

        assert_true(fd >= 0);
        fdset_add(set, fd);
    }
}

static void test_empty(void **state)
{
    struct fdset set;

    (void)state;
    fdset_init(&set);
    assert_int_equal(set.count, 0);
    assert_false(set.truncated);
    assert_int_equal(fdset_take(&set, 0), -1);
    fdset_close(&set);
    assert_int_equal(set.count, 0);
}

static void test_take_gives_ownership(void **state)
{
    struct fdset set;
    int first, taken;

    (void)state;
    fdset_init(&set);
    fill(&set, 3);
    first = set.fd[0];
    taken = fdset_take(&set, 1);
    assert_true(is_open(taken));
    assert_int_equal(set.count, 3); /* the others keep their place */
    assert_int_equal(fdset_take(&set, 1), -1);
    assert_int_equal(fdset_take(&set, 3), -1);
    assert_int_equal(fdset_take(&set, ~0u), -1);
    fdset_close(&set);
    assert_false(is_open(first));
    assert_true(is_open(taken));
    fd_close(&taken);
}

/* Who takes it may close it without a thought of what its owner has set. */
static void test_take_ends_linger(void **state)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 1000};
    socklen_t len = sizeof(linger);
    struct fdset set;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, len), 0);
    fdset_init(&set);
    fdset_add(&set, fd);
    assert_int_equal(fdset_take(&set, 0), fd);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len), 0);
    assert_int_equal(linger.l_onoff, 0);
    fd_close(&fd);
}

static void test_close_empties(void **state)
{
    struct fdset set;
    int before = fd_count_open();

    (void)state;
    fdset_init(&set);
    fill(&set, 5);
    set.truncated = true;
    fdset_close(&set);
    assert_int_equal(set.count, 0);
    assert_false(set.truncated);
    assert_int_equal(fd_count_open(), before);
    fdset_close(&set); /* twice is once */
    fill(&set, 1);     /* and it can be used again */
    assert_int_equal(set.count, 1);
    fdset_close(&set);
}

static void test_full_set_closes_what_is_over(void **state)
{
    struct fdset set;
    int before = fd_count_open();

    (void)state;
    fdset_init(&set);
    fill(&set, LIMIT_RECV_FDS);
    assert_int_equal(set.count, LIMIT_RECV_FDS);
    assert_false(set.truncated);
    fill(&set, 2);
    assert_int_equal(set.count, LIMIT_RECV_FDS);
    assert_true(set.truncated);
    assert_int_equal(fd_count_open(), before + LIMIT_RECV_FDS);
    fdset_close(&set);
}

/* A taken place stays taken: the count is that of the message. */
static void test_taken_place_is_not_reused(void **state)
{
    struct fdset set;
    int taken;

    (void)state;
    fdset_init(&set);
    fill(&set, LIMIT_RECV_FDS);
    taken = fdset_take(&set, 0);
    fill(&set, 1);
    assert_true(set.truncated);
    assert_int_equal(fdset_take(&set, 0), -1);
    fd_close(&taken);
    fdset_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_empty),
        fd_leak_test(test_take_gives_ownership),
        fd_leak_test(test_take_ends_linger),
        fd_leak_test(test_close_empties),
        fd_leak_test(test_full_set_closes_what_is_over),
        fd_leak_test(test_taken_place_is_not_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
