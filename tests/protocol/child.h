/*
 * A client in a process of its own, to be killed. What it runs makes system calls and nothing
 * else, as it is forked from a process with threads; it shares the test's descriptors until it is
 * gone, so whoever waits for a stream's end ends the child first. It does not outlive the test.
 */
#pragma once

#include <sys/types.h>

/*
 * Runs the function in a child until it is killed. A socket of the child's own is not needed: it
 * may use the parent's. Returns when the child has called child_ready, or fails the test.
 */
pid_t child_start(void (*run)(void *arg, int ready), void *arg);

/* To be called in the child. */
void child_ready(int ready);

/*
 * A socket that a child has connected as another user, the caller's: the user is the peer that the
 * server sees, whoever has the socket later. -errno of the connection. Only root can do that.
 */
int child_connect(const char *path, uid_t uid);

/* SIGKILL, and waits for its end. */
void child_kill(pid_t pid);
