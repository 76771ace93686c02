/*
 * File descriptors. Functions return 0 or -errno unless they say otherwise; any thread.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* Closes *fd if it is open and sets it to -1. errno is kept. */
void fd_close(int *fd);

/* Sets O_NONBLOCK on the open file (not only on this descriptor: it is shared with every holder).
 */
int fd_set_nonblock(int fd);

/* Number of descriptors that the process has open, or -errno. Reads /proc/self/fd. */
int fd_count_open(void);
