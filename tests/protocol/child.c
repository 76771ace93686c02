#include "tests/protocol/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

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

void child_kill(pid_t pid)
{
    int status;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}
