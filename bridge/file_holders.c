#include "bridge/file_holders.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

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

bool file_holders_seen(const struct file_identity *file)
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
