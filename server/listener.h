/*
 * The socket that clients of one export connect to.
 *
 * Created by the control thread, so that a bad path is an error at the start; run by the
 * export's worker.
 */
#pragma once

#include <sys/types.h>

struct event_base;
struct listener;

/*
 * Binds and listens on path. A socket file that nobody listens on any more is replaced;
 * one in use, or that another server is about to use, is -EADDRINUSE. A file
 * PATH.lock is beside it during the call. 0 or -errno, logged.
 */
int listener_bind(struct listener **out, const char *path, mode_t mode);

/* The same for a listening socket from the outside; it owns fd from then on. */
int listener_adopt(struct listener **out, int fd);

/*
 * Accepts in the base's loop: accepted owns each socket (close-on-exec). While the process has
 * no descriptor free it pauses and tries again later.
 */
int listener_start(struct listener *l, struct event_base *base,
                   void (*accepted)(int sock, void *arg), void *arg);

/* Ends what listener_start began, while its base is there. Clients wait in the backlog again. */
void listener_stop(struct listener *l);

/* Closes it and removes its socket file. NULL is allowed. */
void listener_free(struct listener *l);
