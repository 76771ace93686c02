#include "bridge/file_holders.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/fd.h"

enum {
    MORE_THAN_AT_A_TIME = 8,
};

/* What each look waits for, while it is not -1: the end of this pipe. */
static _Atomic int wait_for = -1;

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);

DIR *__wrap_opendir(const char *path)
{
    char byte;

    if (wait_for >= 0 && read(wait_for, &byte, 1) < 0)
        return NULL;
    return __real_opendir(path);
}

static int create_file(struct file_identity *file)
{
    int fd = memfd_create("looked-for", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(file_holders_identify(fd, file), 0);
    return fd;
}

static void use_descriptor(int fd)
{
    (void)fd;
}

static void use_mapping(int fd)
{
    if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
        _exit(1);
    close(fd);
}

/* Has the file in its way, says so, and leaves when the pipe ends. */
static pid_t start_holder(void (*use)(int fd), int fd, const int *says, const int *ends)
{
    pid_t child = fork();
    char byte = 0;

    if (child)
        return child;
    close(ends[1]);
    use(fd);
    _exit(write(says[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 0);
}

static void check_seen(void (*use)(int fd))
{
    struct file_identity file;
    int fd = create_file(&file), says[2], ends[2], status;
    pid_t child;
    char byte;

    assert_false(file_holders_seen(&file)); /* but by this process */
    assert_int_equal(pipe(says), 0);
    assert_int_equal(pipe(ends), 0);
    child = start_holder(use, fd, says, ends);
    assert_int_equal(read(says[0], &byte, 1), 1);
    assert_true(file_holders_seen(&file));
    fd_close(&ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_false(file_holders_seen(&file));
    fd_close(&ends[0]);
    fd_close(&says[0]);
    fd_close(&says[1]);
    fd_close(&fd);
}

static void test_descriptor(void **state)
{
    (void)state;
    check_seen(use_descriptor);
}

static void test_mapping(void **state)
{
    (void)state;
    check_seen(use_mapping);
}

/* Nobody waits for long for a look that does not end, nor are there ever more of them. */
static void test_endless(void **state)
{
    struct file_identity file;
    int fd = create_file(&file), ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    wait_for = ends[0];
    for (int i = 0; i < MORE_THAN_AT_A_TIME; i++)
        assert_true(file_holders_seen(&file));
    fd_close(&ends[1]);
    while (file_holders_seen(&file)) /* until they have ended */
        usleep(1000);
    wait_for = -1; /* but the pipe's other end is for those that are under way */
    fd_close(&fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor),
        cmocka_unit_test(test_mapping),
        cmocka_unit_test(test_endless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
