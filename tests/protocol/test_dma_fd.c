/* DMA_MAP: which descriptors can be memory of a device, and what becomes of them later. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    SIZE = 16 * PAGE,
    READ = VFIO_USER_DMA_MAP_READ,
    WRITE = VFIO_USER_DMA_MAP_WRITE,
};

#define MAP(s, f) MSG_DMA_MAP(.flags = (f), .size = (s))

static void assert_mappings(const struct harness *h, unsigned n)
{
    assert_int_equal(harness_stats(h).mappings, n);
}

/*
 * Each opens one, the caller's.
 */

static int open_pipe(void)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[1]);
    return ends[0];
}

static int open_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int open_eventfd(void)
{
    return eventfd(0, EFD_CLOEXEC);
}

static int open_directory(void)
{
    return open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_device_node(void)
{
    return open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static int open_proc(void)
{
    return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

static int open_disk_file(void)
{
    return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

static int open_memfd(void)
{
    return raw_memfd(SIZE);
}

static int open_memfd_as(int flags)
{
    cleanup_close_ int fd = raw_memfd(SIZE);
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

static int open_read_only(void)
{
    return open_memfd_as(O_RDONLY);
}

static int open_write_only(void)
{
    return open_memfd_as(O_WRONLY);
}

static int open_path_only(void)
{
    return open_memfd_as(O_PATH);
}

static int open_empty(void)
{
    return raw_memfd(0);
}

static int open_sealed(int seal)
{
    int fd = raw_memfd(SIZE);

    assert_int_equal(fcntl(fd, F_ADD_SEALS, seal), 0);
    return fd;
}

static int open_write_sealed(void)
{
    return open_sealed(F_SEAL_WRITE);
}

static int open_future_write_sealed(void)
{
    return open_sealed(F_SEAL_FUTURE_WRITE);
}

static int open_shrink_sealed(void)
{
    return open_sealed(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}

static const struct kind {
    const char *name;
    int (*open)(void);
    uint32_t flags;
    int err;
} kinds[] = {
    {"a memfd",                    open_memfd,               DMA_RW, 0     },
    {"sealed against shrinking",   open_shrink_sealed,       DMA_RW, 0     },
    {"read-only, to read",         open_read_only,           READ,   0     },
    {"read-only, to write",        open_read_only,           DMA_RW, EACCES},
    {"write-only",                 open_write_only,          WRITE,  EACCES},
    {"opened as a path",           open_path_only,           READ,   EACCES},
    {"sealed against writing",     open_write_sealed,        DMA_RW, EPERM },
    {"and against future writing", open_future_write_sealed, DMA_RW, EPERM },
    {"an empty memfd",             open_empty,               DMA_RW, EINVAL},
    {"a pipe",                     open_pipe,                READ,   EINVAL},
    {"a socket",                   open_socket,              DMA_RW, EINVAL},
    {"an eventfd",                 open_eventfd,             DMA_RW, EINVAL},
    {"a directory",                open_directory,           READ,   EINVAL},
    {"a device node",              open_device_node,         DMA_RW, EINVAL},
    {"a process's memory",         open_proc,                DMA_RW, EINVAL},
    {"a disk's file",              open_disk_file,           READ,   EINVAL},
};

static bool is_on_tmpfs(int fd)
{
    struct statfs fs;

    return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

/* SPAPR's v2 pins for writing whatever the device may do. */
static void kinds_of_descriptors(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    int open_before = fd_count_open();

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const struct kind *k = &kinds[i];
        cleanup_close_ int fd = k->open();
        int err = k->open == open_read_only && harness_is_spapr() ? EACCES : k->err;
        const struct request_case t = CASE(k->name, err, MAP(PAGE, k->flags));

        if (fd < 0)
            fail_msg("%s: %s", k->name, strerror(errno));
        if (k->open == open_disk_file && is_on_tmpfs(fd))
            continue; /* the build is in memory */
        raw_run_cases(sock, &t, 1, &fd, 1);
        assert_mappings(h, !err);
        if (!err)
            raw_call(sock, MSG(MSG_DMA_UNMAP(.address = 0, .size = PAGE)), NULL);
    }
    harness_await_fds(open_before);
}

static void more_than_one_descriptor(void **state)
{
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(*state);
    const struct request_case t = CASE("2 descriptors", EINVAL, MAP(PAGE, DMA_RW));
    const int two[] = {fd, fd};

    raw_run_cases(sock, &t, 1, two, 2);
    assert_mappings(*state, 0);
}

/* The device finds no memory where the file has been cut; it is the client's own loss. */
static void truncated_afterwards(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    const struct raw_message map = {MAP(SIZE, DMA_RW)};
    uint8_t bytes[64] = {0};

    raw_send(sock, &map, &fd, 1);
    raw_expect_reply(sock, &map, &(struct reply){0});
    assert_int_equal(ftruncate(fd, 0), 0);
    sim_device_dma(h->machine.sim, h->bdf, PAGE, bytes, sizeof(bytes), true);
    sim_device_dma(h->machine.sim, h->bdf, PAGE, bytes, sizeof(bytes), false);
    raw_assert_in_step(sock);
    raw_call(sock, MSG(MSG_DMA_UNMAP(.address = 0, .size = SIZE)), NULL);
    assert_mappings(h, 0);
}

static void hole_punched_afterwards(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    const struct raw_message map = {MAP(SIZE, DMA_RW)};
    uint8_t bytes[64] = {0};

    raw_send(sock, &map, &fd, 1);
    raw_expect_reply(sock, &map, &(struct reply){0});
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
    sim_device_dma(h->machine.sim, h->bdf, PAGE, bytes, sizeof(bytes), true);
    raw_call(sock, MSG(MSG_DMA_UNMAP(.address = 0, .size = SIZE)), NULL);
}

static const struct CMUnitTest tests[] = {
    harness_test(kinds_of_descriptors),
    harness_test(more_than_one_descriptor),
    harness_test(truncated_afterwards),
    harness_test(hole_punched_afterwards),
};

HARNESS_MAIN(tests)
