#include "bridge/file_holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

enum {
    SEARCH_SECONDS = 2,
    MAX_SEARCHES = 2, /* under way, those included that nobody waits for any more */
};

/* Of a thread and of who waits for it, whichever is there longer. */
struct search {
    struct file_identity file;
    pthread_mutex_t lock; /* for all below */
    pthread_cond_t over;
    unsigned users;
    bool done, seen;
};

static _Atomic unsigned searches;

static void close_dirp(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static void close_filep(FILE **file)
{
    if (*file)
        fclose(*file);
}

static bool is_number(const char *name)
{
    return isdigit((unsigned char)*name);
}

/* dir: of descriptors. False: there is none, or no permission to look. */
static bool read_name(int dir, const char *fd, char name[PATH_MAX])
{
    ssize_t n = readlinkat(dir, fd, name, PATH_MAX - 1);

    if (n >= 0)
        name[n] = '\0';
    return n >= 0;
}

int file_holders_identify(int fd, struct file_identity *file)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return read_name(AT_FDCWD, path, file->name) && !fstat(fd, &file->st) ? 0 : -errno;
}

static bool is_same(const struct stat *a, dev_t dev, ino_t ino)
{
    return a->st_dev == dev && a->st_ino == ino;
}

static bool is_file(int dir, const char *fd, const struct file_identity *file)
{
    char name[PATH_MAX];
    struct stat st;

    return read_name(dir, fd, name) && !strcmp(name, file->name) && !fstatat(dir, fd, &st, 0) &&
           is_same(&file->st, st.st_dev, st.st_ino);
}

static bool has_open(const char *pid, const struct file_identity *file)
{
    cleanup_(close_dirp) DIR *dir = NULL;
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (is_number(e->d_name) && is_file(dirfd(dir), e->d_name, file))
            return true;
    }
    return false;
}

/* ADDRESSES PERMISSIONS OFFSET DEVICE INODE PATH */
static bool has_mapped(const char *pid, const struct file_identity *file)
{
    cleanup_(close_filep) FILE *maps = NULL;
    cleanup_free_ char *line = NULL;
    size_t size = 0;
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "/proc/%s/maps", pid);
    maps = fopen(path, "re");
    while (maps && getline(&line, &size, maps) > 0) {
        unsigned major_number, minor_number;
        uintmax_t inode;

        if (sscanf(line, "%*s %*s %*s %x:%x %ju", &major_number, &minor_number, &inode) == 3 &&
            is_same(&file->st, makedev(major_number, minor_number), inode))
            return true;
    }
    return false;
}

static bool look(const struct file_identity *file)
{
    cleanup_(close_dirp) DIR *dir = opendir("/proc");
    pid_t self = getpid();

    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (is_number(e->d_name) && atoi(e->d_name) != self &&
            (has_open(e->d_name, file) || has_mapped(e->d_name, file)))
            return true;
    }
    return false;
}

static struct search *create_search(const struct file_identity *file)
{
    struct search *s = calloc(1, sizeof(*s));
    pthread_condattr_t attr;

    if (!s)
        return NULL;
    s->file = *file;
    s->users = 2;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->over, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

/* With its lock, which is given back. */
static void leave_search(struct search *s)
{
    bool last = !--s->users;

    pthread_mutex_unlock(&s->lock);
    if (!last)
        return;
    pthread_cond_destroy(&s->over);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void *run_search(void *arg)
{
    struct search *s = arg;
    bool seen = look(&s->file);

    pthread_mutex_lock(&s->lock);
    s->seen = seen;
    s->done = true;
    pthread_cond_signal(&s->over);
    leave_search(s);
    searches--;
    return NULL;
}

static bool start_search(struct search *s)
{
    pthread_attr_t attr;
    pthread_t thread;
    int err;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    err = pthread_create(&thread, &attr, run_search, s);
    pthread_attr_destroy(&attr);
    return !err;
}

/* Without an answer in time somebody may have it. */
static bool await_search(struct search *s)
{
    struct timespec deadline;
    int err = 0;
    bool seen;

    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += SEARCH_SECONDS;
    pthread_mutex_lock(&s->lock);
    while (!s->done && !err)
        err = pthread_cond_timedwait(&s->over, &s->lock, &deadline);
    seen = !s->done || s->seen;
    leave_search(s);
    return seen;
}

bool file_holders_seen(const struct file_identity *file)
{
    struct search *s = ++searches <= MAX_SEARCHES ? create_search(file) : NULL;

    if (s && start_search(s))
        return await_search(s);
    if (s) {
        s->users = 1;
        pthread_mutex_lock(&s->lock);
        leave_search(s);
    }
    searches--;
    return true;
}
