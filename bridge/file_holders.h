/*
 * Who else has a file open, as far as /proc tells this process: of processes that it may not look
 * into, and of a descriptor that is on its way through a socket, it does not tell. So what is seen
 * is a fact, and what is not seen is none.
 *
 * A file is known by its inode, and is looked at only if its name is the same: a look at the files
 * of others could wait for whoever serves them. So could a look at a process's mappings, of which
 * it can have one that keeps all of them locked; a thread looks, and is waited for for a moment
 * only.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

struct file_identity {
    char name[PATH_MAX]; /* as in /proc/self/fd */
    struct stat st;
};

/* What is behind a descriptor. 0 or -errno. */
int file_holders_identify(int fd, struct file_identity *file);

/*
 * Whether another process has the file open or mapped, or nobody could say within two seconds. Any
 * thread.
 */
bool file_holders_seen(const struct file_identity *file);
