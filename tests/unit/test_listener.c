#include "server/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "tests/unit/fd_leak.h"

enum {
    MAX_CLIENTS = 8,
};

static char directory[] = "/tmp/listener-XXXXXX";
static char path[64];

static struct event_base *base;
static int accepted[MAX_CLIENTS];
static unsigned n_accepted;

/* In the place of libc's: counts, and fails with the errno that a test has set. */
static struct {
    unsigned calls;
    unsigned failures; /* as many come first */
    int err;
} accepts;

int __real_accept4(int sock, struct sockaddr *addr, socklen_t *len, int flags);
int __wrap_accept4(int sock, struct sockaddr *addr, socklen_t *len, int flags);

int __wrap_accept4(int sock, struct sockaddr *addr, socklen_t *len, int flags)
{
    accepts.calls++;
    if (accepts.failures) {
        accepts.failures--;
        errno = accepts.err;
        return -1;
    }
    return __real_accept4(sock, addr, len, flags);
}

/* In the place of libevent's: what waits for a time is put off until the test lets it pass. */
static struct event *waiting;

int __real_event_add(struct event *ev, const struct timeval *timeout);
int __wrap_event_add(struct event *ev, const struct timeval *timeout);

int __wrap_event_add(struct event *ev, const struct timeval *timeout)
{
    const struct timeval never = {.tv_sec = 1000000};

    if (timeout)
        waiting = ev;
    return __real_event_add(ev, timeout ? &never : NULL);
}

static void let_time_pass(void)
{
    assert_non_null(waiting);
    event_active(waiting, EV_TIMEOUT, 1);
    waiting = NULL;
}

/* In the place of libc's: tells, when a file is to be removed. */
static void (*removing)(const char *name);

int __real_unlink(const char *name);
int __wrap_unlink(const char *name);

int __wrap_unlink(const char *name)
{
    if (removing)
        removing(name);
    return __real_unlink(name);
}

/* In the place of libc's: the file is removed by who held it, between its opening and this. */
static bool lock_is_gone;

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);

int __wrap_flock(int fd, int operation)
{
    char lock[80];

    snprintf(lock, sizeof(lock), "%s.lock", path);
    if (lock_is_gone)
        __real_unlink(lock);
    return __real_flock(fd, operation);
}

static int group_setup(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/sock", directory);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(directory);
}

static int setup(void **state)
{
    fd_leak_setup(state);
    memset(&accepts, 0, sizeof(accepts));
    n_accepted = 0;
    base = event_base_new();
    return !base;
}

/* Nothing is left, not even the socket's file. */
static int teardown(void **state)
{
    event_base_free(base);
    while (n_accepted)
        fd_close(&accepted[--n_accepted]);
    assert_int_equal(access(path, F_OK), -1);
    return fd_leak_teardown(state);
}

static struct sockaddr_un address(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    strcpy(addr.sun_path, path);
    return addr;
}

static int try_connect(void)
{
    const struct sockaddr_un addr = address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0) {
        fd_close(&fd);
        return -errno;
    }
    return fd;
}

static int new_client(void)
{
    int fd = try_connect();

    assert_true(fd >= 0);
    return fd;
}

/* A bound socket that listens to nobody yet, as one whose process has died leaves a file. */
static int new_bound(void)
{
    const struct sockaddr_un addr = address();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static struct listener *new_listener(void)
{
    struct listener *l;

    assert_int_equal(listener_bind(&l, path, 0600), 0);
    return l;
}

static void assert_refused(const char *where, int err)
{
    struct listener *none = (struct listener *)&accepts;

    assert_int_equal(listener_bind(&none, where, 0600), err);
    assert_ptr_equal(none, &accepts);
}

static void test_modes(void **state)
{
    static const mode_t modes[] = {0, 0600, 0660, 0666, 0777};
    static const mode_t masks[] = {0, 022, 0777};
    mode_t before = umask(0);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(masks); k++) {
            struct listener *l;
            struct stat st;

            umask(masks[k]);
            assert_int_equal(listener_bind(&l, path, modes[i]), 0);
            assert_int_equal(umask(before), masks[k]);
            assert_int_equal(stat(path, &st), 0);
            assert_int_equal(st.st_mode & 07777, modes[i]);
            listener_free(l);
        }
    }
    umask(before);
}

static void test_in_use(void **state)
{
    struct listener *l = new_listener();
    int client;

    (void)state;
    assert_refused(path, -EADDRINUSE);
    client = new_client(); /* the first one still listens */
    fd_close(&client);
    listener_free(l);
}

static void test_stale(void **state)
{
    int dead = new_bound(), client;
    struct listener *l;

    (void)state;
    fd_close(&dead);
    assert_int_equal(try_connect(), -ECONNREFUSED);
    l = new_listener();
    client = new_client();
    fd_close(&client);
    listener_free(l);
}

static void test_what_is_no_socket(void **state)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    char other[80];
    struct stat st;

    (void)state;
    assert_refused(path, -EADDRINUSE);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode)); /* not ours to remove */
    fd_close(&fd);
    unlink(path);

    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(path, -EADDRINUSE);
    assert_int_equal(rmdir(path), 0);

    /* A link is not followed, even to a socket that nobody listens on. */
    snprintf(other, sizeof(other), "%s.other", path);
    fd = new_bound();
    fd_close(&fd);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_refused(path, -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(other), 0);
}

static void test_bad_paths(void **state)
{
    char bad[256];

    (void)state;
    snprintf(bad, sizeof(bad), "%s/absent/sock", directory);
    assert_refused(bad, -ENOENT);
    memset(bad, 'a', sizeof(bad));
    bad[108] = '\0';
    assert_refused(bad, -ENAMETOOLONG);
}

static void test_no_descriptor_free(void **state)
{
    struct rlimit before, low;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_refused(path, -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_file_is_removed(void **state)
{
    struct listener *l = new_listener();

    (void)state;
    listener_free(l);
    assert_int_equal(access(path, F_OK), -1);
    listener_free(NULL);
}

static unsigned removed_alive;

static void count_if_alive(const char *name)
{
    int client = try_connect();

    removed_alive += !strcmp(name, path) && client >= 0;
    if (client >= 0)
        fd_close(&client);
}

/* While the file is there somebody listens: what is dead another server may replace at any time. */
static void test_removed_before_the_end(void **state)
{
    struct listener *l = new_listener();

    (void)state;
    removed_alive = 0;
    removing = count_if_alive;
    listener_free(l);
    removing = NULL;
    assert_int_equal(removed_alive, 1);
}

static void test_another_start(void **state)
{
    char lock[80];
    int fd;

    (void)state;
    snprintf(lock, sizeof(lock), "%s.lock", path);
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_refused(path, -EADDRINUSE);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(lock, F_OK), 0);

    lock_is_gone = true;
    fd_close(&fd);
    assert_refused(path, -EADDRINUSE);
    lock_is_gone = false;

    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fd_close(&fd); /* as a server that died in its start leaves it */
    listener_free(new_listener());
    assert_int_equal(access(lock, F_OK), -1);
}

/* A server's process: tries when the gate ends, tells by a byte, and listens until it is killed. */
static pid_t start_server(const int *gate, int results)
{
    struct listener *l;
    char told = '-';
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    close(gate[1]);
    while (read(gate[0], &told, 1) > 0) {
    }
    switch (listener_bind(&l, path, 0600)) {
    case 0:
        told = 'l';
        break;
    case -EADDRINUSE:
        told = 'u';
        break;
    }
    if (write(results, &told, 1) == 1)
        pause();
    _exit(1);
}

/* Returns how many listen; each of the others has found the path in use. */
static unsigned start_servers_at_once(pid_t *pids, unsigned n)
{
    int gate[2], results[2];
    unsigned listening = 0;

    assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
    assert_int_equal(pipe2(results, O_CLOEXEC), 0);
    for (unsigned i = 0; i < n; i++)
        pids[i] = start_server(gate, results[1]);
    fd_close(&gate[1]);
    fd_close(&results[1]);
    for (unsigned i = 0; i < n; i++) {
        char told;

        assert_int_equal(read(results[0], &told, 1), 1);
        assert_true(told == 'l' || told == 'u');
        listening += told == 'l';
    }
    fd_close(&gate[0]);
    fd_close(&results[0]);
    return listening;
}

/* Of servers that start at once where a dead one has left its file, one listens, on that path. */
static void test_starts_at_once(void **state)
{
    enum {
        SERVERS = 4,
        ROUNDS = 100,
    };

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        int dead = new_bound(), client;
        pid_t pids[SERVERS];

        fd_close(&dead);
        assert_int_equal(start_servers_at_once(pids, SERVERS), 1);
        client = new_client();
        fd_close(&client);
        for (unsigned i = 0; i < SERVERS; i++) {
            kill(pids[i], SIGKILL);
            assert_int_equal(waitpid(pids[i], NULL, 0), pids[i]);
        }
        assert_int_equal(unlink(path), 0);
    }
}

static void on_accepted(int sock, void *arg)
{
    assert_ptr_equal(arg, &accepted);
    assert_true(n_accepted < MAX_CLIENTS);
    accepted[n_accepted++] = sock;
}

static void start(struct listener *l)
{
    assert_int_equal(listener_start(l, base, on_accepted, &accepted), 0);
}

static void finish(struct listener *l)
{
    listener_stop(l);
    listener_free(l);
}

/* Runs the loop until that many clients have been accepted. */
static void accept_clients(unsigned n)
{
    while (n_accepted < n)
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void test_accept(void **state)
{
    struct listener *l = new_listener();
    int clients[3];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = new_client();
    start(l);
    accept_clients(ARRAY_SIZE(clients));
    for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
        char byte;

        assert_int_equal(fcntl(accepted[i], F_GETFD), FD_CLOEXEC);
        assert_int_equal(write(clients[i], "x", 1), 1);
        assert_int_equal(read(accepted[i], &byte, 1), 1); /* in the order of their coming */
        fd_close(&clients[i]);
    }
    finish(l);
}

/* Not inherited by a program that this process might start. */
static void test_close_on_exec(void **state)
{
    int before = fd_count_open(), listening = -1;
    struct listener *l = new_listener();

    (void)state;
    assert_int_equal(fd_count_open(), before + 1);
    for (int fd = 3; fd < 256; fd++) {
        int value = 0;
        socklen_t len = sizeof(value);

        if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) && value)
            listening = fd;
    }
    assert_true(listening >= 0);
    assert_true(fcntl(listening, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(listening, F_GETFL) & O_NONBLOCK);
    listener_free(l);
}

static void test_client_has_gone(void **state)
{
    struct listener *l = new_listener();
    int client = new_client();

    (void)state;
    fd_close(&client);
    client = new_client();
    start(l);
    accept_clients(2);
    fd_close(&client);
    finish(l);
}

/* Errors that tell of one client alone: the next is taken at once. */
static void test_client_lost(void **state)
{
    static const int errors[] = {ECONNABORTED, EINTR, EAGAIN, EPERM};
    struct listener *l = new_listener();

    (void)state;
    start(l);
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        int client = new_client();

        accepts.calls = 0;
        accepts.failures = 1;
        accepts.err = errors[i];
        accept_clients(i + 1);
        assert_int_equal(accepts.calls, 2);
        fd_close(&client);
    }
    finish(l);
}

/* Runs the loop until the next accept, which fails. */
static void fail_to_accept(int err)
{
    accepts.calls = 0;
    accepts.failures = 1;
    accepts.err = err;
    while (!accepts.calls)
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
}

/*
 * Without a descriptor free the client stays in the backlog, and so the socket stays readable: the
 * listener must not spin on it. It looks again after its pause.
 */
static void test_pause(void **state)
{
    static const int errors[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    struct listener *l = new_listener();

    (void)state;
    start(l);
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        int client = new_client();

        fail_to_accept(errors[i]);
        for (unsigned turn = 0; turn < 20; turn++)
            event_base_loop(base, EVLOOP_NONBLOCK);
        assert_int_equal(accepts.calls, 1);
        let_time_pass();
        accept_clients(i + 1);
        assert_int_equal(accepts.calls, 2);
        fd_close(&client);
    }
    finish(l);
}

/* The timer of the pause goes with it. */
static void test_stop_in_a_pause(void **state)
{
    struct listener *l = new_listener();
    int client = new_client();

    (void)state;
    start(l);
    fail_to_accept(EMFILE);
    fd_close(&client);
    finish(l);
    assert_int_equal(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 0);
}

/* Who comes meanwhile waits in the backlog. */
static void test_stop(void **state)
{
    struct listener *l = new_listener();
    int client;

    (void)state;
    listener_stop(l); /* of what was not started */
    start(l);
    listener_stop(l);
    assert_int_equal(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 0);
    client = new_client();
    assert_int_equal(event_base_loop(base, EVLOOP_NONBLOCK), 1); /* nothing is waited for */
    assert_int_equal(n_accepted, 0);
    start(l);
    accept_clients(1);
    fd_close(&client);
    finish(l);
}

static void test_adopt(void **state)
{
    int fd = new_bound(), client;
    struct listener *l;

    (void)state;
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(listener_adopt(&l, fd), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    client = new_client();
    start(l);
    accept_clients(1);
    finish(l);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(access(path, F_OK), 0); /* who has bound it removes it */
    fd_close(&client);
    unlink(path);
}

static void test_adopt_nothing(void **state)
{
    struct listener *none;

    (void)state;
    assert_int_equal(listener_adopt(&none, 12345), -EBADF);
}

#define listener_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        listener_test(test_modes),
        listener_test(test_in_use),
        listener_test(test_stale),
        listener_test(test_what_is_no_socket),
        listener_test(test_bad_paths),
        listener_test(test_no_descriptor_free),
        listener_test(test_file_is_removed),
        listener_test(test_accept),
        listener_test(test_close_on_exec),
        listener_test(test_client_has_gone),
        listener_test(test_client_lost),
        listener_test(test_pause),
        listener_test(test_stop_in_a_pause),
        listener_test(test_stop),
        listener_test(test_adopt),
        listener_test(test_adopt_nothing),
        listener_test(test_removed_before_the_end),
        listener_test(test_another_start),
        listener_test(test_starts_at_once),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
