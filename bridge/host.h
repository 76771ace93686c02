/*
 * The seam to the host's kernel: every system call that the bridge makes on VFIO, the IOMMU or
 * sysfs goes through one of these. host_linux() is the kernel; bridge/sim is a simulated one.
 *
 * The functions have the meaning of the system calls whose names they bear, but return -errno
 * instead of -1. Descriptors are close-on-exec. EINTR is handled inside. Functions may be called
 * by any thread at once, as system calls may. The struct is not owned by its users and outlives
 * them.
 *
 * Descriptors that came from a client (memory, eventfds) are real in every host; those that a
 * host's open or ioctl made may be given to that host alone, and those that share made to a client
 * alone.
 */
#pragma once

#include <poll.h>
#include <stddef.h>
#include <sys/types.h>

struct host;

struct host_ops {
    const char *name;

    int (*open)(struct host *host, const char *path, int flags);
    int (*close)(struct host *host, int fd);
    int (*ioctl)(struct host *host, int fd, unsigned long request, void *arg);
    ssize_t (*pread)(struct host *host, int fd, void *buf, size_t len, off_t offset);
    ssize_t (*pwrite)(struct host *host, int fd, const void *buf, size_t len, off_t offset);

    /* Of a stream: a device's migration data. */
    ssize_t (*read)(struct host *host, int fd, void *buf, size_t len);
    ssize_t (*write)(struct host *host, int fd, const void *buf, size_t len);
    /* From now on a read or write of fd that would wait is -EAGAIN. */
    int (*set_nonblock)(struct host *host, int fd);
    /* fds may be of the host and of the process. A stream whose driver can't tell is ready. */
    int (*poll)(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms);

    /* *addr: the mapping, on a return of 0. */
    int (*mmap)(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                off_t offset);
    int (*munmap)(struct host *host, void *addr, size_t len);

    /*
     * A descriptor of the same open file for a client, that it can mmap: real in every host, to be
     * closed by close(2). It keeps the file open, and so does each mapping of it.
     */
    int (*share)(struct host *host, int fd);

    /* The link's target, NUL-terminated; -ENAMETOOLONG if it does not fit. Returns its length. */
    ssize_t (*readlink)(struct host *host, const char *path, char *buf, size_t size);
    /* Calls entry for each name in the directory but "." and ".."; stops at a return other than 0
     * and returns that. */
    int (*list)(struct host *host, const char *path, int (*entry)(const char *name, void *arg),
                void *arg);
};

struct host {
    const struct host_ops *ops;
};

/* The kernel under this process. Never freed. */
struct host *host_linux(void);

static inline int host_open(struct host *host, const char *path, int flags)
{
    return host->ops->open(host, path, flags);
}

/* Closes *fd if it is open and sets it to -1. */
static inline void host_close(struct host *host, int *fd)
{
    if (*fd >= 0)
        host->ops->close(host, *fd);
    *fd = -1;
}

static inline int host_ioctl(struct host *host, int fd, unsigned long request, void *arg)
{
    return host->ops->ioctl(host, fd, request, arg);
}

static inline ssize_t host_pread(struct host *host, int fd, void *buf, size_t len, off_t offset)
{
    return host->ops->pread(host, fd, buf, len, offset);
}

static inline ssize_t host_pwrite(struct host *host, int fd, const void *buf, size_t len,
                                  off_t offset)
{
    return host->ops->pwrite(host, fd, buf, len, offset);
}

static inline ssize_t host_read(struct host *host, int fd, void *buf, size_t len)
{
    return host->ops->read(host, fd, buf, len);
}

static inline ssize_t host_write(struct host *host, int fd, const void *buf, size_t len)
{
    return host->ops->write(host, fd, buf, len);
}

static inline int host_set_nonblock(struct host *host, int fd)
{
    return host->ops->set_nonblock(host, fd);
}

static inline int host_poll(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    return host->ops->poll(host, fds, n, timeout_ms);
}

static inline int host_mmap(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                            off_t offset)
{
    return host->ops->mmap(host, addr, len, prot, flags, fd, offset);
}

static inline int host_munmap(struct host *host, void *addr, size_t len)
{
    return host->ops->munmap(host, addr, len);
}

static inline int host_share(struct host *host, int fd)
{
    return host->ops->share(host, fd);
}

static inline ssize_t host_readlink(struct host *host, const char *path, char *buf, size_t size)
{
    return host->ops->readlink(host, path, buf, size);
}

static inline int host_list(struct host *host, const char *path,
                            int (*entry)(const char *name, void *arg), void *arg)
{
    return host->ops->list(host, path, entry, arg);
}
