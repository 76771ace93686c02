#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/host.h"

static int linux_open(struct host *host, const char *path, int flags)
{
    int fd;

    (void)host;
    do
        fd = open(path, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int linux_close(struct host *host, int fd)
{
    (void)host;
    return close(fd) < 0 ? -errno : 0;
}

static int linux_ioctl(struct host *host, int fd, unsigned long request, void *arg)
{
    int ret;

    (void)host;
    do
        ret = ioctl(fd, request, arg);
    while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : ret;
}

static ssize_t linux_pread(struct host *host, int fd, void *buf, size_t len, off_t offset)
{
    ssize_t n;

    (void)host;
    do
        n = pread(fd, buf, len, offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t linux_pwrite(struct host *host, int fd, const void *buf, size_t len, off_t offset)
{
    ssize_t n;

    (void)host;
    do
        n = pwrite(fd, buf, len, offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t linux_read(struct host *host, int fd, void *buf, size_t len)
{
    ssize_t n;

    (void)host;
    do
        n = read(fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t linux_write(struct host *host, int fd, const void *buf, size_t len)
{
    ssize_t n;

    (void)host;
    do
        n = write(fd, buf, len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static int linux_set_nonblock(struct host *host, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    (void)host;
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static int linux_poll(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    int ready;

    (void)host;
    do
        ready = poll(fds, n, timeout_ms);
    while (ready < 0 && errno == EINTR);
    return ready < 0 ? -errno : ready;
}

static int linux_mmap(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                      off_t offset)
{
    void *p = mmap(NULL, len, prot, flags, fd, offset);

    (void)host;
    if (p == MAP_FAILED)
        return -errno;
    *addr = p;
    return 0;
}

static int linux_munmap(struct host *host, void *addr, size_t len)
{
    (void)host;
    return munmap(addr, len) < 0 ? -errno : 0;
}

static int linux_share(struct host *host, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    (void)host;
    return copy < 0 ? -errno : copy;
}

static ssize_t linux_readlink(struct host *host, const char *path, char *buf, size_t size)
{
    ssize_t n = readlink(path, buf, size);

    (void)host;
    if (n < 0)
        return -errno;
    if ((size_t)n == size)
        return -ENAMETOOLONG;
    buf[n] = '\0';
    return n;
}

static int linux_list(struct host *host, const char *path,
                      int (*entry)(const char *name, void *arg), void *arg)
{
    DIR *dir = opendir(path);
    int ret = 0;

    (void)host;
    if (!dir)
        return -errno;
    for (struct dirent *e; !ret && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            ret = entry(e->d_name, arg);
    }
    closedir(dir);
    return ret;
}

static const struct host_ops linux_ops = {
    .name = "linux",
    .open = linux_open,
    .close = linux_close,
    .ioctl = linux_ioctl,
    .pread = linux_pread,
    .pwrite = linux_pwrite,
    .read = linux_read,
    .write = linux_write,
    .set_nonblock = linux_set_nonblock,
    .poll = linux_poll,
    .mmap = linux_mmap,
    .munmap = linux_munmap,
    .share = linux_share,
    .readlink = linux_readlink,
    .list = linux_list,
};

struct host *host_linux(void)
{
    static struct host host = {.ops = &linux_ops};

    return &host;
}
