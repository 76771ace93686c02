#include "bridge/host.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/fd_leak.h"

enum {
    PAGE = 4096,
};

static struct host *host;
static char directory[] = "/tmp/host-linux-XXXXXX";

/*
 * In the place of libc's, for the calls that no signal can be made to interrupt at a known moment:
 * as many calls as this says fail with EINTR first.
 */
static unsigned interruptions;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
ssize_t __real_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset);
ssize_t __real_read(int fd, void *buf, size_t len);
ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __real_write(int fd, const void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms);

static bool is_interrupted(void)
{
    if (!interruptions)
        return false;
    interruptions--;
    errno = EINTR;
    return true;
}

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    return is_interrupted() ? -1 : __real_ioctl(fd, request, arg);
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t offset)
{
    return is_interrupted() ? -1 : __real_pread(fd, buf, len, offset);
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t offset)
{
    return is_interrupted() ? -1 : __real_pwrite(fd, buf, len, offset);
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
    return is_interrupted() ? -1 : __real_read(fd, buf, len);
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
    return is_interrupted() ? -1 : __real_write(fd, buf, len);
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    return is_interrupted() ? -1 : __real_poll(fds, n, timeout_ms);
}

static const char *path_of(const char *name)
{
    static char path[64];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static void create(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "we");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int group_setup(void **state)
{
    (void)state;
    host = host_linux();
    if (!mkdtemp(directory))
        return -1;
    create("file", "0123456789");
    return symlink("0123456789", path_of("link")) || mkfifo(path_of("fifo"), 0600);
}

static int group_teardown(void **state)
{
    (void)state;
    unlink(path_of("file"));
    unlink(path_of("link"));
    unlink(path_of("fifo"));
    return rmdir(directory);
}

static void test_open(void **state)
{
    int fd = host_open(host, path_of("file"), O_RDONLY);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    host_close(host, &fd);
    assert_int_equal(fd, -1);
    host_close(host, &fd); /* of nothing: nothing */
    assert_int_equal(host_open(host, path_of("absent"), O_RDONLY), -ENOENT);
    assert_int_equal(host_open(host, directory, O_RDWR), -EISDIR);
    assert_int_equal(host->ops->close(host, -1), -EBADF);
}

static atomic_uint signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

struct opener {
    pthread_t thread;
    char path[64];
};

/* Interrupts the other thread's open of a FIFO, and then lets it succeed. */
static void *interrupt(void *arg)
{
    const struct opener *opener = arg;
    const struct timespec moment = {.tv_nsec = 1000000};

    for (int i = 0; i < 20; i++) {
        pthread_kill(opener->thread, SIGUSR1);
        nanosleep(&moment, NULL);
    }
    return (void *)(intptr_t)open(opener->path, O_WRONLY | O_CLOEXEC);
}

static void test_open_interrupted(void **state)
{
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART */
    struct opener opener = {.thread = pthread_self()};
    struct sigaction before;
    pthread_t thread;
    void *writer;
    int fd;

    (void)state;
    strcpy(opener.path, path_of("fifo"));
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(pthread_create(&thread, NULL, interrupt, &opener), 0);
    fd = host_open(host, opener.path, O_RDONLY);
    assert_int_equal(pthread_join(thread, &writer), 0);
    assert_true(fd >= 0);
    assert_true(signals > 0);
    close((int)(intptr_t)writer);
    host_close(host, &fd);
    sigaction(SIGUSR1, &before, NULL);
}

static void test_ioctl(void **state)
{
    int fd = host_open(host, path_of("fifo"), O_RDWR);
    int pending = -1;

    (void)state;
    assert_int_equal(host_ioctl(host, fd, FIONREAD, &pending), 0);
    assert_int_equal(pending, 0);
    assert_int_equal(host_ioctl(host, fd, 0xffffffff, NULL), -ENOTTY);
    assert_int_equal(host_ioctl(host, -1, FIONREAD, &pending), -EBADF);
    interruptions = 3;
    assert_int_equal(host_ioctl(host, fd, FIONREAD, &pending), 0);
    assert_int_equal(interruptions, 0);
    host_close(host, &fd);
}

static void test_read_and_write(void **state)
{
    int fd = host_open(host, path_of("file"), O_RDWR);
    char buf[16] = "";

    (void)state;
    assert_int_equal(host_pread(host, fd, buf, 4, 3), 4);
    assert_memory_equal(buf, "3456", 4);
    assert_int_equal(host_pread(host, fd, buf, sizeof(buf), 8), 2);
    assert_int_equal(host_pread(host, fd, buf, sizeof(buf), 100), 0);
    assert_int_equal(host_pwrite(host, fd, "xy", 2, 0), 2);
    interruptions = 2;
    assert_int_equal(host_pread(host, fd, buf, 3, 0), 3);
    assert_memory_equal(buf, "xy2", 3);
    interruptions = 2;
    assert_int_equal(host_pwrite(host, fd, "01", 2, 0), 2);
    assert_int_equal(interruptions, 0);
    host_close(host, &fd);
}

static void test_read_and_write_errors(void **state)
{
    int fd = host_open(host, path_of("file"), O_RDONLY);
    char byte = 0;

    (void)state;
    assert_int_equal(host_pwrite(host, fd, &byte, 1, 0), -EBADF);
    assert_int_equal(host_pread(host, -1, &byte, 1, 0), -EBADF);
    assert_int_equal(host_pread(host, fd, &byte, 1, -1), -EINVAL);
    host_close(host, &fd);
}

static void test_mmap(void **state)
{
    int fd = memfd_create("memory", MFD_CLOEXEC);
    void *addr = NULL;
    char byte;

    (void)state;
    assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
    assert_int_equal(host_mmap(host, &addr, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE), 0);
    *(char *)addr = 'x';
    assert_int_equal(pread(fd, &byte, 1, PAGE), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(host_munmap(host, (char *)addr + 1, PAGE), -EINVAL);
    assert_int_equal(host_munmap(host, addr, PAGE), 0);

    assert_int_equal(host_mmap(host, &addr, 0, PROT_READ, MAP_SHARED, fd, 0), -EINVAL);
    assert_int_equal(host_mmap(host, &addr, PAGE, PROT_READ, MAP_SHARED, fd, 1), -EINVAL);
    assert_int_equal(host_mmap(host, &addr, PAGE, PROT_READ, MAP_SHARED, -1, 0), -EBADF);
    fd_close(&fd);
}

static void test_readlink(void **state)
{
    char buf[64];

    (void)state;
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(host_readlink(host, path_of("link"), buf, sizeof(buf)), 10);
    assert_string_equal(buf, "0123456789");
    assert_int_equal(host_readlink(host, path_of("link"), buf, 11), 10);
    assert_int_equal(host_readlink(host, path_of("link"), buf, 10), -ENAMETOOLONG);
    assert_int_equal(host_readlink(host, path_of("link"), buf, 1), -ENAMETOOLONG);
    assert_int_equal(host_readlink(host, path_of("file"), buf, sizeof(buf)), -EINVAL);
    assert_int_equal(host_readlink(host, path_of("absent"), buf, sizeof(buf)), -ENOENT);
}

struct names {
    unsigned seen, file, link, fifo;
    int answer;
};

static int count_name(const char *name, void *arg)
{
    struct names *names = arg;

    names->seen++;
    names->file += !strcmp(name, "file");
    names->link += !strcmp(name, "link");
    names->fifo += !strcmp(name, "fifo");
    return names->answer;
}

static void test_list(void **state)
{
    struct names names = {0};

    (void)state;
    assert_int_equal(host_list(host, directory, count_name, &names), 0);
    assert_int_equal(names.seen, 3); /* neither . nor .. */
    assert_int_equal(names.file, 1);
    assert_int_equal(names.link, 1);
    assert_int_equal(names.fifo, 1);

    names = (struct names){.answer = 7};
    assert_int_equal(host_list(host, directory, count_name, &names), 7);
    assert_int_equal(names.seen, 1);
    names = (struct names){.answer = -EIO};
    assert_int_equal(host_list(host, directory, count_name, &names), -EIO);
    assert_int_equal(names.seen, 1);

    assert_int_equal(host_list(host, path_of("absent"), count_name, &names), -ENOENT);
    assert_int_equal(host_list(host, path_of("file"), count_name, &names), -ENOTDIR);
    assert_int_equal(names.seen, 1);
}

static void test_streams(void **state)
{
    int fds[2];
    struct pollfd poller;
    char buf[8] = "";

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    poller = (struct pollfd){.fd = fds[0], .events = POLLIN};
    assert_int_equal(host_set_nonblock(host, fds[0]), 0);
    assert_int_equal(host_read(host, fds[0], buf, sizeof(buf)), -EAGAIN);
    interruptions = 1;
    assert_int_equal(host_poll(host, &poller, 1, 0), 0);
    interruptions = 1;
    assert_int_equal(host_write(host, fds[1], "abc", 3), 3);
    assert_int_equal(host_poll(host, &poller, 1, -1), 1);
    assert_int_equal(poller.revents, POLLIN);
    interruptions = 1;
    assert_int_equal(host_read(host, fds[0], buf, sizeof(buf)), 3);
    assert_string_equal(buf, "abc");
    assert_int_equal(interruptions, 0);
    close(fds[1]);
    assert_int_equal(host_read(host, fds[0], buf, sizeof(buf)), 0);
    assert_int_equal(host_write(host, fds[0], "x", 1), -EBADF);
    close(fds[0]);
    assert_int_equal(host_read(host, fds[0], buf, 1), -EBADF);
    assert_int_equal(host_set_nonblock(host, fds[0]), -EBADF);
    assert_int_equal(host_poll(host, NULL, 1, 0), -EFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_open),     fd_leak_test(test_open_interrupted),
        fd_leak_test(test_ioctl),    fd_leak_test(test_read_and_write),
        fd_leak_test(test_mmap),     fd_leak_test(test_read_and_write_errors),
        fd_leak_test(test_readlink), fd_leak_test(test_list),
        fd_leak_test(test_streams),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
