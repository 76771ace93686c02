/*
 * The daemon itself, as its operator meets it: what it says, how it ends, which descriptors it
 * serves. The first argument is its binary.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <regex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/harness.h"

enum {
    MAX_ARGS = 16,
    MAX_OUTPUT = 16384,
};

static const char *binary;

/* A run of the daemon, in a directory that is the test's own and its working directory. */
struct run {
    pid_t pid;
    int out, err; /* what it has written to them */
    char text[MAX_OUTPUT];
};

static char directory[] = "/tmp/vfio-userd-cli-XXXXXX";

static int enter_directory(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(directory));
    return chdir(directory);
}

static int leave_directory(void **state)
{
    (void)state;
    assert_int_equal(chdir("/"), 0);
    return rmdir(directory); /* every test has cleaned up, and so has the daemon */
}

/* Lines that threads write at once: a memfd keeps them all only at its end. */
static int open_output(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    return fd;
}

static void begin(struct run *r, const char *const *args)
{
    const char *argv[MAX_ARGS + 2] = {binary};

    for (size_t i = 0; args[i]; i++) {
        assert_true(i < MAX_ARGS);
        argv[i + 1] = args[i];
    }
    r->out = open_output("stdout");
    r->err = open_output("stderr");
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(r->out, STDOUT_FILENO);
    dup2(r->err, STDERR_FILENO);
    execv(binary, (char *const *)(uintptr_t)argv);
    _exit(127);
}

#define BEGIN(r, ...) begin(r, (const char *const[]){__VA_ARGS__, NULL})

static const char *output(struct run *r, int fd)
{
    ssize_t n = pread(fd, r->text, sizeof(r->text) - 1, 0);

    assert_true(n >= 0);
    r->text[n] = '\0';
    return r->text;
}

/* Its exit status. The outputs stay until finish. */
static int await_end(struct run *r)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    int status;
    pid_t pid;

    while (!(pid = waitpid(r->pid, &status, WNOHANG)) && harness_now_ms() < deadline)
        harness_pause();
    if (!pid)
        fail_msg("does not end: %s", output(r, r->err));
    assert_int_equal(pid, r->pid);
    if (!WIFEXITED(status))
        fail_msg("ended by signal %d: %s", WTERMSIG(status), output(r, r->err));
    return WEXITSTATUS(status);
}

static void finish(struct run *r)
{
    fd_close(&r->out);
    fd_close(&r->err);
}

/* Ends it by the signal: status 0. */
static void terminate(struct run *r, int signal)
{
    assert_int_equal(kill(r->pid, signal), 0);
    assert_int_equal(await_end(r), 0);
}

static unsigned count_lines(const char *text)
{
    unsigned n = 0;

    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    bool found;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    found = !regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    return found;
}

/* A session with the daemon, which may still be on its way to listen. */
static struct vfuc *connect_to(const char *path)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    while ((ret = vfuc_open(&c, path, NULL)) && harness_now_ms() < deadline)
        harness_pause();
    if (ret)
        fail_msg("%s: %s", path, strerror(-ret));
    return c;
}

static void assert_is_edu(struct vfuc *c)
{
    uint32_t id;

    assert_int_equal(vfuc_region_read(c, 7, 0, &id, sizeof(id)), 0);
    assert_int_equal(id, EDU_DEVICE_ID << 16 | EDU_VENDOR_ID);
}

static int bind_socket(const char *path, bool listening)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM, 0); /* inherited by the daemon */

    strcpy(addr.sun_path, path);
    assert_int_equal(bind(sock, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    if (listening)
        assert_int_equal(listen(sock, 8), 0);
    return sock;
}

#define TEN     "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

/* Each ends at once with status 1 and one line, which holds the cause, and the remedy if any. */
#define MISTAKE(pattern, ...)                                                                      \
    {                                                                                              \
        pattern,                                                                                   \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct mistake {
    const char *pattern;
    const char *args[MAX_ARGS];
} mistakes[] = {
    MISTAKE("modprobe vfio-pci|no PCI device 0000:ff:1f.7.*lspci -D", "--device", "0000:ff:1f.7",
            "--socket-path", "./x.sock"),
    MISTAKE("--device HOST --socket-path PATH", NULL),
    MISTAKE("sim:edu has no --socket-path or --fd", "--device", "sim:edu"),
    MISTAKE("no --device", "--socket-path", "x.sock"),
    MISTAKE("no --device", "--device", "sim:edu", "--socket-path", "x.sock", "--socket-path",
            "y.sock"),
    MISTAKE("no --socket-path or --fd", "--device", "sim:edu", "--socket-path", "x.sock",
            "--device", "sim:edu"),
    MISTAKE("--device.*value is missing", "--device"),
    MISTAKE("--nonsense.*no such option", "--nonsense"),
    MISTAKE("-d.*no such option", "-d", "sim:edu"),
    MISTAKE("more: not an option", "--device", "sim:edu", "--socket-path", "x.sock", "more"),
    MISTAKE("sim:nothing.*sim:edu", "--device", "sim:nothing", "--socket-path", "x.sock"),
    MISTAKE("no IOMMU .*all of the host.s memory.*--allow-unsafe-noiommu", "--device",
            "sim:edu-noiommu", "--socket-path", "x.sock"),
    MISTAKE("groups alone.*--iommu iommufd", "--device", "sim:edu-noiommu", "--socket-path",
            "x.sock", "--allow-unsafe-noiommu", "--iommu", "iommufd"),
    MISTAKE("01:00.0.*0000:01:00.0", "--device", "01:00.0", "--socket-path", "x.sock"),
    MISTAKE("neither a PCI address", "--device", "", "--socket-path", "x.sock"),
    MISTAKE("neither a PCI address", "--device", "../../etc/passwd", "--socket-path", "x.sock"),
    MISTAKE("1 to 107", "--device", "sim:edu", "--socket-path", ""),
    MISTAKE("1 to 107", "--device", "sim:edu", "--socket-path", "./" HUNDRED "123456"),
    MISTAKE("no/such/directory/x.sock.*No such file or directory", "--device", "sim:edu",
            "--socket-path", "no/such/directory/x.sock"),
    MISTAKE("in use", "--device", "sim:edu", "--socket-path", "."),
    MISTAKE("999.*Bad file descriptor", "--device", "sim:edu", "--fd", "999"),
    MISTAKE("--fd 1", "--device", "sim:edu", "--fd", "1"),
    MISTAKE("--fd -1: not a number", "--device", "sim:edu", "--fd", "-1"),
    MISTAKE("--fd three: not a number", "--device", "sim:edu", "--fd", "three"),
    MISTAKE("--fd .*not a number", "--device", "sim:edu", "--fd", ""),
    MISTAKE("not a number", "--device", "sim:edu", "--fd", "99999999999999999999"),
    MISTAKE("--socket-mode 888: not an octal", "--socket-mode", "888"),
    MISTAKE("--socket-mode 1777: not an octal", "--socket-mode", "1777"),
    MISTAKE("--busy-poll 1000001: not a number", "--busy-poll", "1000001"),
    MISTAKE("--allow-low-power: it comes after the --device", "--allow-low-power", "--device",
            "sim:edu"),
    MISTAKE("--allow-region vga: it comes after the --device", "--allow-region", "vga"),
    MISTAKE("--allow-region igd: not one of", "--device", "sim:edu", "--allow-region", "igd"),
    MISTAKE("neither a PCI address", "--device", "/dev/vfio/7", "--socket-path", "x.sock"),
    MISTAKE("no mediated device", "--device", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
            "--socket-path", "x.sock"),
    MISTAKE("--vf-token 1-2: not a UUID", "--device", "sim:edu", "--vf-token", "1-2"),
    MISTAKE("--vf-token: it comes after the --device", "--vf-token",
            "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", "--device", "sim:edu"),
    MISTAKE("it takes no VF token", "--device", "sim:edu", "--vf-token",
            "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", "--socket-path", "x.sock"),
    MISTAKE("--doorbell 0:1:4:1: not REGION:OFFSET:WIDTH:DATA", "--device", "sim:testdev",
            "--doorbell", "0:1:4:1", "--socket-path", "x.sock"),
    MISTAKE("doorbell 2:0x3f8:4:0x1 of 0000:00:01.0: .*MSI-X table", "--device", "sim:testdev",
            "--doorbell", "2:0x3f8:4:1", "--socket-path", "x.sock"),
    MISTAKE("doorbell 0:0x1000:4:0x1 of 0000:00:01.0: outside of the device's BARs", "--device",
            "sim:testdev", "--doorbell", "0:0x1000:4:1", "--socket-path", "x.sock"),
    MISTAKE("doorbell 0:0x8:8:0x1 of 0000:00:01.0: .*nor have 8 bytes", "--device", "sim:testdev",
            "--doorbell", "0:8:8:1", "--socket-path", "x.sock"),
    MISTAKE("--log-level loud.*error, warning, info, debug", "--log-level", "loud"),
};

static void operators_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
        const struct mistake *m = &mistakes[i];
        const char *text;
        struct run r;
        int status;

        begin(&r, m->args);
        status = await_end(&r);
        text = output(&r, r.err);
        if (status != 1 || count_lines(text) != 1 || !matches(text, m->pattern))
            fail_msg("mistake %zu: status %d, and instead of \"%s\": %s", i, status, m->pattern,
                     text);
        assert_int_equal(strncmp(text, "vfio-userd: error: ", 19), 0);
        assert_string_equal(output(&r, r.out), "");
        finish(&r);
        assert_int_equal(access("x.sock", F_OK), -1);
    }
}

static void path_in_use(void **state)
{
    int other = bind_socket("x.sock", true);
    struct stat before, after;
    struct run r;

    (void)state;
    assert_int_equal(stat("x.sock", &before), 0);
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock");
    assert_int_equal(await_end(&r), 1);
    assert_true(matches(output(&r, r.err), "x.sock is in use"));
    assert_int_equal(count_lines(r.text), 1);
    finish(&r);
    /* It is still the other's. */
    assert_int_equal(stat("x.sock", &after), 0);
    assert_true(before.st_ino == after.st_ino);
    fd_close(&other);
    assert_int_equal(unlink("x.sock"), 0);
}

static void path_of_a_file(void **state)
{
    cleanup_close_ int file = open("x.sock", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    struct run r;

    (void)state;
    assert_int_equal(write(file, "precious", 8), 8);
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock");
    assert_int_equal(await_end(&r), 1);
    assert_true(matches(output(&r, r.err), "x.sock is in use"));
    finish(&r);
    assert_int_equal(lseek(file, 0, SEEK_END), 8);
    assert_int_equal(unlink("x.sock"), 0);
}

static void serves_and_ends(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
        struct vfuc *c;
        struct run r;

        BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock");
        c = connect_to("x.sock");
        assert_is_edu(c);
        terminate(&r, signals[i]); /* with a client attached */
        assert_int_equal(access("x.sock", F_OK), -1);
        assert_int_equal(vfuc_reset(c), -ECONNRESET);
        vfuc_close(c);
        assert_true(matches(output(&r, r.err), "listening on x.sock"));
        assert_false(matches(r.text, "error|warning"));
        assert_string_equal(output(&r, r.out), "");
        finish(&r);
    }
}

/* The operator is warned of that device, and of no other. */
static void device_without_iommu(void **state)
{
    struct vfuc *c;
    struct run r;

    (void)state;
    BEGIN(&r, "--device", "sim:edu-noiommu", "--socket-path", "x.sock", "--device", "sim:edu",
          "--socket-path", "y.sock", "--allow-unsafe-noiommu", "--log-level", "warning");
    c = connect_to("x.sock");
    assert_is_edu(c);
    vfuc_close(c);
    c = connect_to("y.sock");
    assert_is_edu(c);
    vfuc_close(c);
    terminate(&r, SIGTERM);
    assert_true(matches(output(&r, r.err), "warning: .*0000:00:01.0: its clients can read and "
                                           "write all of the host's memory"));
    assert_int_equal(count_lines(r.text), 1);
    finish(&r);
}

/* A signal that comes before the daemon can act on it: it is not lost, and no file stays behind. */
static void ends_during_the_start(void **state)
{
    sigset_t term, before;
    struct run r;

    (void)state;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &term, &before), 0); /* the daemon inherits it */
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock");
    terminate(&r, SIGTERM);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    finish(&r);
    assert_int_equal(access("x.sock", F_OK), -1);
}

/* The socket file of a daemon that was killed. */
static void stale_socket(void **state)
{
    int dead = bind_socket("x.sock", true);
    struct vfuc *c;
    struct run r;

    (void)state;
    fd_close(&dead);
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock");
    c = connect_to("x.sock");
    assert_is_edu(c);
    vfuc_close(c);
    terminate(&r, SIGTERM);
    assert_true(matches(output(&r, r.err), "replacing x.sock"));
    finish(&r);
    assert_int_equal(access("x.sock", F_OK), -1);
}

static void socket_modes(void **state)
{
    static const struct {
        const char *option;
        mode_t mode;
    } modes[] = {
        {"600",  0600},
        {"0660", 0660},
        {"666",  0666},
        {"0",    0   }
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
        struct stat st = {0};
        struct run r;

        BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock", "--socket-mode",
              modes[i].option);
        while (!matches(output(&r, r.err), "listening") && harness_now_ms() < deadline)
            harness_pause();
        assert_int_equal(stat("x.sock", &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_int_equal(st.st_mode & 0777, modes[i].mode);
        terminate(&r, SIGTERM);
        finish(&r);
    }
}

static void listening_descriptor(void **state)
{
    int sock = bind_socket("x.sock", true);
    char number[16];
    struct run r;

    (void)state;
    snprintf(number, sizeof(number), "%d", sock);
    BEGIN(&r, "--device", "sim:edu", "--fd", number);
    fd_close(&sock);
    for (int i = 0; i < 3; i++) {
        struct vfuc *c = connect_to("x.sock");

        assert_is_edu(c);
        vfuc_close(c);
    }
    terminate(&r, SIGTERM);
    finish(&r);
    assert_int_equal(unlink("x.sock"), 0); /* whoever made it removes it */
}

/* The daemon serves its one client, and ends with it. */
static void connected_descriptor(void **state)
{
    char number[16];
    struct vfuc *c;
    struct run r;
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFD, FD_CLOEXEC), 0);
    snprintf(number, sizeof(number), "%d", ends[1]);
    BEGIN(&r, "--fd", number, "--device", "sim:edu");
    fd_close(&ends[1]);
    assert_int_equal(vfuc_open_fd(&c, ends[0], NULL), 0);
    assert_is_edu(c);
    vfuc_close(c);
    assert_int_equal(await_end(&r), 0);
    finish(&r);
}

static void datagram_descriptor(void **state)
{
    char number[16];
    struct run r;
    int ends[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    snprintf(number, sizeof(number), "%d", ends[1]);
    BEGIN(&r, "--fd", number, "--device", "sim:edu");
    assert_int_equal(await_end(&r), 1);
    assert_true(matches(output(&r, r.err), "not a stream socket"));
    assert_int_equal(count_lines(r.text), 1);
    finish(&r);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void version_and_help(void **state)
{
    static const char *const options[] = {"--device HOST",
                                          "--socket-path PATH",
                                          "--fd N",
                                          "--socket-mode OCTAL",
                                          "--busy-poll",
                                          "--log-level LEVEL",
                                          "--print-capabilities",
                                          "--version",
                                          "--help",
                                          "SIGTERM"};
    struct run r;

    (void)state;
    BEGIN(&r, "--version");
    assert_int_equal(await_end(&r), 0);
    assert_true(matches(output(&r, r.out), "^vfio-userd [0-9]+\\.[0-9]+\\.[0-9]+\n$"));
    assert_string_equal(output(&r, r.err), "");
    finish(&r);

    BEGIN(&r, "--help");
    assert_int_equal(await_end(&r), 0);
    output(&r, r.out);
    for (size_t i = 0; i < ARRAY_SIZE(options); i++)
        assert_non_null(strstr(r.text, options[i]));
    assert_string_equal(output(&r, r.err), "");
    finish(&r);
}

static void print_capabilities(void **state)
{
    struct json_object *root, *value, *caps;
    struct run r;

    (void)state;
    BEGIN(&r, "--print-capabilities");
    assert_int_equal(await_end(&r), 0);
    root = json_tokener_parse(output(&r, r.out));
    assert_non_null(root);
    assert_true(json_object_is_type(root, json_type_object));
    assert_true(json_object_object_get_ex(root, "type", &value));
    assert_string_equal(json_object_get_string(value), "vfio-user");
    assert_true(json_object_object_get_ex(root, "capabilities", &caps));
    assert_true(json_object_object_get_ex(caps, "max_msg_fds", &value));
    assert_int_equal(json_object_get_int(value), 16);
    json_object_put(root);
    assert_string_equal(output(&r, r.err), "");
    finish(&r);
}

/* What is told of a start, a session and its refused request at each level. */
static void log_levels(void **state)
{
    static const struct {
        const char *level;
        bool info, warning;
    } levels[] = {
        {"error",   false, false},
        {"warning", false, true },
        {"info",    true,  true },
        {"debug",   true,  true }
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        struct vfuc *c;
        struct run r;

        BEGIN(&r, "--log-level", levels[i].level, "--device", "sim:edu", "--socket-path", "x.sock");
        c = connect_to("x.sock");
        assert_int_equal(vfuc_dma_unmap(c, 0, 4096), -ENOENT);
        vfuc_close(c);
        terminate(&r, SIGTERM);
        output(&r, r.err);
        assert_int_equal(matches(r.text, "vfio-userd: info: .*listening on x.sock"),
                         levels[i].info);
        assert_int_equal(matches(r.text, "vfio-userd: warning: \\[sim:edu\\] DMA_UNMAP"),
                         levels[i].warning);
        finish(&r);
    }
}

/* One daemon, two devices, a client on each at the same time: neither sees the other's. */
static void two_exports(void **state)
{
    struct vfuc *a, *b;
    struct run r;
    uint32_t value;

    (void)state;
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "a.sock", "--socket-path", "b.sock",
          "--device", "sim:edu");
    a = connect_to("a.sock");
    b = connect_to("b.sock");
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(edu_write(a, EDU_REG_LIVENESS, i), 0);
        assert_int_equal(edu_write(b, EDU_REG_LIVENESS, ~i), 0);
        assert_int_equal(edu_read(a, EDU_REG_LIVENESS, &value), 0);
        assert_int_equal(value, ~i);
        assert_int_equal(edu_read(b, EDU_REG_LIVENESS, &value), 0);
        assert_int_equal(value, i);
    }
    assert_int_equal(vfuc_dma_map(a, 0, 4096, 3, -1, 0), 0);
    assert_int_equal(vfuc_dma_unmap(b, 0, 4096), -ENOENT);
    vfuc_close(a);
    assert_int_equal(edu_read(b, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, 99);
    a = connect_to("a.sock");
    assert_is_edu(a);
    vfuc_close(a);
    vfuc_close(b);
    terminate(&r, SIGTERM);
    finish(&r);
    assert_int_equal(access("a.sock", F_OK), -1);
    assert_int_equal(access("b.sock", F_OK), -1);
}

/* One export is wrong: nothing is served, and nothing left. */
static void second_export_is_wrong(void **state)
{
    struct run r;

    (void)state;
    BEGIN(&r, "--device", "sim:edu", "--socket-path", "x.sock", "--device", "sim:nothing",
          "--socket-path", "y.sock");
    assert_int_equal(await_end(&r), 1);
    assert_true(matches(output(&r, r.err), "sim:nothing"));
    assert_int_equal(count_lines(r.text), 1);
    finish(&r);
    assert_int_equal(access("x.sock", F_OK), -1);
    assert_int_equal(access("y.sock", F_OK), -1);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(operators_mistakes),   cmocka_unit_test(path_in_use),
    cmocka_unit_test(path_of_a_file),       cmocka_unit_test(serves_and_ends),
    cmocka_unit_test(device_without_iommu), cmocka_unit_test(ends_during_the_start),
    cmocka_unit_test(stale_socket),         cmocka_unit_test(socket_modes),
    cmocka_unit_test(listening_descriptor), cmocka_unit_test(connected_descriptor),
    cmocka_unit_test(datagram_descriptor),  cmocka_unit_test(version_and_help),
    cmocka_unit_test(print_capabilities),   cmocka_unit_test(log_levels),
    cmocka_unit_test(two_exports),          cmocka_unit_test(second_export_is_wrong),
};

int main(int argc, char **argv)
{
    binary = argc == 2 ? realpath(argv[1], NULL) : NULL;
    if (!binary)
        return 2;
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
