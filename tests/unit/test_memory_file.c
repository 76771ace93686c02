#include "bridge/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/fd_leak.h"

static int check(int fd, uint64_t offset, uint64_t size, bool device_writes)
{
    struct memory_file file;
    int ret = memory_file_check(fd, offset, size, device_writes, &file);

    if (!ret) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        assert_true(file.fd == fd && file.offset == offset);
        assert_true(file.dev == st.st_dev && file.ino == st.st_ino);
    }
    return ret;
}

enum {
    PAGE = 4096,
    SIZE = 4 * PAGE,
};

static int new_memfd(unsigned flags)
{
    int fd = memfd_create("memory", MFD_CLOEXEC | flags);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    return fd;
}

/* The same file by a description of its own. */
static int reopen(int fd, int flags)
{
    char path[64];
    int again;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    again = open(path, flags | O_CLOEXEC);
    assert_true(again >= 0);
    return again;
}

static void test_ranges(void **state)
{
    static const struct {
        uint64_t offset, size;
        int result;
    } cases[] = {
        {0,                 SIZE,                  0      },
        {0,                 1,                     0      },
        {SIZE - 1,          1,                     0      },
        {PAGE,              SIZE - PAGE,           0      },
        {0,                 SIZE + 1,              -EINVAL},
        {PAGE,              SIZE,                  -EINVAL},
        {SIZE,              1,                     -EINVAL},
        {0,                 0,                     -EINVAL},
        {SIZE,              0,                     -EINVAL},
        {UINT64_MAX,        1,                     -EINVAL},
        {UINT64_MAX,        UINT64_MAX,            -EINVAL},
        {PAGE,              UINT64_MAX,            -EINVAL},
        {PAGE,              UINT64_MAX - PAGE + 1, -EINVAL},
        {1ull << 63,        1ull << 63,            -EINVAL},
        {UINT64_MAX - PAGE, PAGE,                  -EINVAL},
    };
    cleanup_close_ int fd = new_memfd(0);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        for (int writes = 0; writes < 2; writes++)
            assert_int_equal(check(fd, cases[i].offset, cases[i].size, writes), cases[i].result);
    }
}

static void test_empty_file(void **state)
{
    cleanup_close_ int fd = memfd_create("empty", MFD_CLOEXEC);

    (void)state;
    assert_int_equal(check(fd, 0, 1, false), -EINVAL);
    assert_int_equal(check(fd, 0, 0, false), -EINVAL);
}

static void test_modes(void **state)
{
    cleanup_close_ int fd = new_memfd(0);
    cleanup_close_ int reader = reopen(fd, O_RDONLY);
    cleanup_close_ int writer = reopen(fd, O_WRONLY);
    cleanup_close_ int path = reopen(fd, O_PATH);

    (void)state;
    assert_int_equal(check(reader, 0, SIZE, false), 0);
    assert_int_equal(check(reader, 0, SIZE, true), -EACCES);
    assert_int_equal(check(writer, 0, SIZE, false), -EACCES);
    assert_int_equal(check(writer, 0, SIZE, true), -EACCES);
    assert_int_equal(check(path, 0, SIZE, false), -EACCES);
    assert_int_equal(check(path, 0, SIZE, true), -EACCES);
}

static void test_seals(void **state)
{
    static const struct {
        int seals;
        int to_write;
    } cases[] = {
        {F_SEAL_WRITE,                               -EPERM},
        {F_SEAL_FUTURE_WRITE,                        -EPERM},
        {F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL, -EPERM},
        {F_SEAL_SHRINK,                              0     },
        {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,  0     },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_close_ int fd = new_memfd(MFD_ALLOW_SEALING);

        assert_int_equal(fcntl(fd, F_ADD_SEALS, cases[i].seals), 0);
        assert_int_equal(check(fd, 0, SIZE, true), cases[i].to_write);
        assert_int_equal(check(fd, 0, SIZE, false), 0);
    }
}

static void assert_wrong_kind(int fd)
{
    assert_true(fd >= 0);
    assert_int_equal(check(fd, 0, 1, false), -EINVAL);
    assert_int_equal(check(fd, 0, 1, true), -EINVAL);
    fd_close(&fd);
}

static void test_wrong_kinds(void **state)
{
    int pair[2];

    (void)state;
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    assert_wrong_kind(pair[0]);
    assert_wrong_kind(pair[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_wrong_kind(pair[0]);
    assert_wrong_kind(pair[1]);
    assert_wrong_kind(eventfd(0, EFD_CLOEXEC));
    assert_wrong_kind(open("/dev/null", O_RDWR | O_CLOEXEC));
    assert_wrong_kind(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    /* A regular file, of a file system whose pages no device may write. */
    assert_wrong_kind(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
}

static void test_no_descriptor(void **state)
{
    int closed = new_memfd(0), copy = closed;

    (void)state;
    fd_close(&closed);
    assert_int_equal(check(-1, 0, 1, false), -EBADF);
    assert_int_equal(check(copy, 0, 1, false), -EBADF);
}

/* skip() leaves the test without its cleanups. */
static void skip_without(int *fd)
{
    fd_close(fd);
    skip();
}

/* A file on a tmpfs that is mounted, not only a memfd. */
static void test_tmpfs(void **state)
{
    cleanup_close_ int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    struct statfs fs;

    (void)state;
    if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        skip_without(&fd);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    assert_int_equal(check(fd, 0, SIZE, true), 0);
}

/* The file's size counts, not the pages that the host has: none are needed. */
static void test_hugetlb(void **state)
{
    cleanup_close_ int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
    struct stat st;

    (void)state;
    if (fd < 0 || fstat(fd, &st) < 0 || ftruncate(fd, st.st_blksize) < 0)
        skip_without(&fd);
    assert_int_equal(check(fd, 0, (uint64_t)st.st_blksize, true), 0);
    assert_int_equal(check(fd, 0, (uint64_t)st.st_blksize + 1, true), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_ranges), fd_leak_test(test_empty_file),  fd_leak_test(test_modes),
        fd_leak_test(test_seals),  fd_leak_test(test_wrong_kinds), fd_leak_test(test_no_descriptor),
        fd_leak_test(test_tmpfs),  fd_leak_test(test_hugetlb),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
