#include "tests/protocol/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/fd.h"

#include "tests/protocol/harness.h"

void child_ready(int ready)
{
    if (write(ready, "", 1) != 1)
        _exit(1);
}

pid_t child_start(void (*run)(void *arg, int ready), void *arg)
{
    char byte;
    int ends[2];
    pid_t pid;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(arg, ends[1]);
        for (;;)
            pause();
    }
    close(ends[1]);
    if (read(ends[0], &byte, 1) != 1)
        fail_msg("the child has ended");
    close(ends[0]);
    return pid;
}

/* Sends its result, and the socket if there is one. */
static void pass(int to, int result, int sock)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = &result, .iov_len = sizeof(result)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (!result) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        *CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &sock, sizeof(sock));
    }
    _exit(sendmsg(to, &msg, 0) < 0);
}

static void connect_as(const char *path, uid_t uid, int to)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
    /* The system call: the library's function is for all threads, and waits for them. */
    if (sock < 0 || syscall(SYS_setresuid, uid, uid, uid) ||
        connect(sock, (const struct sockaddr *)&addr, sizeof(addr)))
        pass(to, -errno, -1);
    pass(to, 0, sock);
}

static int receive(int from)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    int result, sock;
    struct iovec iov = {.iov_base = &result, .iov_len = sizeof(result)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};

    assert_int_equal(recvmsg(from, &msg, MSG_CMSG_CLOEXEC), sizeof(result));
    if (result)
        return result;
    assert_non_null(CMSG_FIRSTHDR(&msg));
    memcpy(&sock, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(sock));
    return sock;
}

int child_connect(const char *path, uid_t uid)
{
    int ends[2], status, sock;
    pid_t pid;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (!pid)
        connect_as(path, uid, ends[1]);
    fd_close(&ends[1]);
    sock = receive(ends[0]);
    fd_close(&ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    return sock;
}

void child_kill(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}
