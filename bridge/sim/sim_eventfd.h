/*
 * Eventfds of a client, as the kernel holds them: an eventfd_ctx is here a duplicate of the
 * descriptor (and counts as an open one of the process while it is registered).
 */
#pragma once

#include <stdbool.h>

struct sim;

/* A duplicate; -EBADF; -EINVAL: no eventfd. */
int sim_eventfd_get(struct sim *sim, int fd);

/* Closes *fd if it is open and sets it to -1. */
void sim_eventfd_put(int *fd);

/* Adds 1 to the counter. Does not block. fd: may be -1. */
void sim_eventfd_signal(int fd);

/* Sets the counter to 0. Does not block. Returns whether it was not 0 before. */
bool sim_eventfd_consume(int fd);
