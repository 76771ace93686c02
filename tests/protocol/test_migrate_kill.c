/*
 * A migration between two daemons by vfuc, in three processes, of which one is killed at each step:
 * the others are sane. vfuc waits after each of its steps until the test says that it may go on.
 *
 * The arguments are the daemon's and vfuc's binaries.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/harness.h"

enum {
    MAX_OUTPUT = 8192,
};

/* What vfuc says at each step, from the beginning of the line on. */
static const char *const steps[] = {
    "the source logs",
    "the source is in PRE_COPY",
    "the destination is in RESUMING",
    "round 1:",
    "round 2:",
    "the source is in STOP_COPY",
    "the rest:",
    "the destination is in STOP",
    "the destination is in RUNNING",
};

enum {
    STEP_COPIED = 6,
    STEP_RUNNING = 8,
};

static const char *daemon_binary, *vfuc_binary;
static char directory[] = "/tmp/vfio-userd-kill-XXXXXX";

struct daemon {
    const char *path;
    pid_t pid; /* 0: does not run */
};

struct room {
    struct daemon source, destination;
    char paths[2][64];
};

/* A run of vfuc. */
struct client {
    pid_t pid;
    int in;
    FILE *out;
    char said[MAX_OUTPUT];
};

static pid_t run(const char *const *argv, const int *in, const int *out)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (in)
        dup2(*in, STDIN_FILENO);
    if (out) {
        dup2(*out, STDOUT_FILENO);
        dup2(*out, STDERR_FILENO);
    }
    execv(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* A session with the daemon, which may be on its way to listen, or to end another session. */
static struct vfuc *connect_to(const struct daemon *d)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    while ((ret = vfuc_open(&c, d->path, NULL)) && harness_now_ms() < deadline)
        harness_pause();
    if (ret)
        fail_msg("%s: %s", d->path, strerror(-ret));
    return c;
}

static void start(struct daemon *d)
{
    const char *const argv[] = {daemon_binary, "--device",    "sim:edu", "--socket-path",
                                d->path,       "--log-level", "error",   NULL};

    if (d->pid)
        return;
    d->pid = run(argv, NULL, NULL);
    vfuc_close(connect_to(d));
}

static void kill_process(pid_t *pid)
{
    int status;

    assert_int_equal(kill(*pid, SIGKILL), 0);
    assert_int_equal(waitpid(*pid, &status, 0), *pid);
    assert_true(WIFSIGNALED(status));
    *pid = 0;
}

static void terminate(struct daemon *d)
{
    int status;

    assert_int_equal(kill(d->pid, SIGTERM), 0);
    assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
    assert_int_equal(status, 0);
    assert_int_equal(access(d->path, F_OK), -1);
}

/* The next client finds a device that runs, and has nothing of the one before. */
static void assert_serves(const struct daemon *d)
{
    const uint16_t memory_on = 2;
    struct vfuc *c = connect_to(d);
    uint32_t value;

    assert_int_equal(vfuc_migration_state(c, &value), 0);
    assert_int_equal(value, 2);
    assert_int_equal(vfuc_region_write(c, 7, 4, &memory_on, sizeof(memory_on)), 0);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, 0);
    vfuc_close(c);
}

static void begin_migration(struct client *v, const struct room *room)
{
    const char *const argv[] = {vfuc_binary, room->source.path,
                                "migrate",   room->destination.path,
                                "--edu",     "--step",
                                "--memory",  "1",
                                "--rounds",  "2",
                                "--write",   "bar0:4:7",
                                "--expect",  "bar0:4:0xfffffff8",
                                NULL};
    int in[2], out[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    v->pid = run(argv, &in[0], &out[1]);
    fd_close(&in[0]);
    fd_close(&out[1]);
    v->in = in[1];
    v->out = fdopen(out[0], "r");
    assert_non_null(v->out);
    v->said[0] = '\0';
}

/* Reads to the next line that begins so, or to the end of all. false: there is none. */
static bool read_to(struct client *v, const char *beginning)
{
    size_t len = strlen(v->said);

    while (fgets(v->said + len, (int)(MAX_OUTPUT - len), v->out)) {
        if (beginning && !strncmp(v->said + len, beginning, strlen(beginning)))
            return true;
        len = strlen(v->said);
    }
    return false;
}

static void go_on(struct client *v)
{
    /* It may have ended meanwhile. */
    if (v->in >= 0 && write(v->in, "\n", 1) < 0)
        assert_int_equal(errno, EPIPE);
}

static void await_step(struct client *v, size_t step)
{
    for (size_t i = 0; i <= step; i++) {
        if (i)
            go_on(v);
        if (!read_to(v, steps[i]))
            fail_msg("step %zu did not come: %s", i, v->said);
    }
}

/* Lets it end; its exit status. */
static int await_end(struct client *v)
{
    int status;

    for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
        go_on(v);
    read_to(v, NULL);
    assert_int_equal(waitpid(v->pid, &status, 0), v->pid);
    assert_true(WIFEXITED(status));
    v->pid = 0;
    return WEXITSTATUS(status);
}

static void close_client(struct client *v)
{
    fclose(v->out);
    fd_close(&v->in);
}

static void expect(const struct client *v, int status, int wanted, size_t step, const char *text)
{
    if (status != wanted || (text && !strstr(v->said, text)))
        fail_msg("killed at \"%s\": status %d, not %d with \"%s\": %s", steps[step], status, wanted,
                 text, v->said);
}

static void client_dies(struct room *room, struct client *v, size_t step)
{
    (void)step;
    (void)room;
    kill_process(&v->pid);
}

/* Before it had given all, the device is lost with it; from then on it is not needed. */
static void source_dies(struct room *room, struct client *v, size_t step)
{
    bool has_all = step >= STEP_COPIED;

    kill_process(&room->source.pid);
    expect(v, await_end(v), !has_all, step,
           has_all ? "\nok   moved" : "\nFAIL the source does not run on");
}

/* Until it runs, the source can; from then on the device is its own. */
static void destination_dies(struct room *room, struct client *v, size_t step)
{
    kill_process(&room->destination.pid);
    expect(v, await_end(v), 1, step,
           step == STEP_RUNNING ? "\nFAIL DMA of the destination" : "\nok   the source runs on");
}

static void start_both(struct room *room)
{
    snprintf(room->paths[0], sizeof(room->paths[0]), "%s/source", directory);
    snprintf(room->paths[1], sizeof(room->paths[1]), "%s/destination", directory);
    room->source.path = room->paths[0];
    room->destination.path = room->paths[1];
    start(&room->source);
    start(&room->destination);
}

static void terminate_both(struct room *room)
{
    terminate(&room->source);
    terminate(&room->destination);
}

static void run_victim(void (*dies)(struct room *room, struct client *v, size_t step))
{
    struct room room = {0};

    for (size_t step = 0; step < ARRAY_SIZE(steps); step++) {
        struct client v;

        start_both(&room);
        begin_migration(&v, &room);
        await_step(&v, step);
        dies(&room, &v, step);
        if (room.source.pid)
            assert_serves(&room.source);
        if (room.destination.pid)
            assert_serves(&room.destination);
        close_client(&v);
    }
    start_both(&room);
    terminate_both(&room);
}

static void client_is_killed(void **state)
{
    (void)state;
    run_victim(client_dies);
}

static void source_is_killed(void **state)
{
    (void)state;
    run_victim(source_dies);
}

static void destination_is_killed(void **state)
{
    (void)state;
    run_victim(destination_dies);
}

/* Nobody dies; or whoever sees to it gives up. */
static void nobody_is_killed(void **state)
{
    char from[64], to[64];
    struct room room = {
        {from, 0},
        {to,   0}
    };
    struct client v;

    (void)state;
    snprintf(from, sizeof(from), "%s/source", directory);
    snprintf(to, sizeof(to), "%s/destination", directory);
    start(&room.source);
    start(&room.destination);
    begin_migration(&v, &room);
    expect(&v, await_end(&v), 0, 0, "\nok   the destination has bar0:4:0xfffffff8");
    close_client(&v);
    assert_serves(&room.source);
    assert_serves(&room.destination);
    begin_migration(&v, &room);
    await_step(&v, STEP_COPIED);
    fd_close(&v.in);
    expect(&v, await_end(&v), 1, 0, "\nok   the source runs on");
    close_client(&v);
    terminate_both(&room);
}

static int enter(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(directory));
    return 0;
}

static int leave(void **state)
{
    (void)state;
    return rmdir(directory);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nobody_is_killed),
    cmocka_unit_test(client_is_killed),
    cmocka_unit_test(source_is_killed),
    cmocka_unit_test(destination_is_killed),
};

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    daemon_binary = argv[1];
    vfuc_binary = argv[2];
    return cmocka_run_group_tests(tests, enter, leave);
}
