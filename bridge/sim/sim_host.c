/*
 * The calls of struct host: the fault plan, then the file behind the descriptor, or the kernel for
 * a descriptor that is none of the machine's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/sim/sim_cdev.h"
#include "bridge/sim/sim_container.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_iommufd.h"
#include "bridge/sim/sim_sysfs.h"
#include "bridge/sim/sim_vma.h"

/* The errno that the call shall fail with. request: of an ioctl. */
static int hit_fault(struct sim *sim, enum sim_call call, unsigned long request)
{
    struct sim_fault *fault = &sim->fault;
    int ret = 0;

    if (!fault->armed)
        return 0;
    pthread_mutex_lock(&fault->lock);
    if (fault->armed && (fault->call == SIM_CALL_ANY || fault->call == call) &&
        (!fault->request || (call == SIM_CALL_IOCTL && fault->request == request)) &&
        --fault->left == 0) {
        fault->armed = false;
        fault->spent = true;
        ret = fault->err;
    }
    pthread_mutex_unlock(&fault->lock);
    return ret;
}

static int open_path(struct sim *sim, const char *path, int flags)
{
    int number, end = 0;

    if (!strcmp(path, "/dev/vfio/vfio"))
        return sim_container_open(sim);
    if (sscanf(path, "/dev/vfio/%d%n", &number, &end) == 1 && !path[end])
        return sim_group_open(sim, number, false);
    if (sscanf(path, "/dev/vfio/noiommu-%d%n", &number, &end) == 1 && !path[end])
        return sim_group_open(sim, number, true);
    if (sim->iommufd != SIM_IOMMUFD_NONE && !strcmp(path, "/dev/iommu"))
        return sim_iommufd_open(sim);
    if (sim->iommufd != SIM_IOMMUFD_NONE &&
        sscanf(path, "/dev/vfio/devices/vfio%d%n", &number, &end) == 1 && !path[end])
        return sim_cdev_open(sim, number);
    return sim_sysfs_open(sim, path, flags);
}

static int sim_host_open(struct host *host, const char *path, int flags)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_OPEN, 0);

    sim_file_reap(sim, false);
    if (!err)
        err = sim_open_error(sim, path);
    return err ? -err : open_path(sim, path, flags);
}

static int sim_host_close(struct host *host, int fd)
{
    int ret = sim_file_close(sim_of_host(host), fd);

    return ret == -EBADF ? host_linux()->ops->close(host_linux(), fd) : ret;
}

static int sim_host_ioctl(struct host *host, int fd, unsigned long request, void *arg)
{
    struct sim *sim = sim_of_host(host);
    int ret, err = hit_fault(sim, SIM_CALL_IOCTL, request);
    struct sim_file *file;

    sim_file_reap(sim, false);
    sim->count.ioctls++;
    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_ioctl(host_linux(), fd, request, arg);
    ret = file->ops->ioctl ? file->ops->ioctl(file, request, arg) : -ENOTTY;
    sim_file_put(file);
    return ret;
}

static ssize_t sim_host_pread(struct host *host, int fd, void *buf, size_t len, off_t offset)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_PREAD, 0);
    struct sim_file *file;
    ssize_t ret = 0;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_pread(host_linux(), fd, buf, len, offset);
    if (offset < 0 || !file->ops->pread)
        ret = -EINVAL;
    else if (len)
        ret = file->ops->pread(file, buf, len, offset);
    sim_file_put(file);
    return ret;
}

static ssize_t sim_host_pwrite(struct host *host, int fd, const void *buf, size_t len, off_t offset)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_PWRITE, 0);
    struct sim_file *file;
    ssize_t ret = 0;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_pwrite(host_linux(), fd, buf, len, offset);
    if (offset < 0 || !file->ops->pwrite)
        ret = -EINVAL;
    else if (len)
        ret = file->ops->pwrite(file, buf, len, offset);
    sim_file_put(file);
    return ret;
}

/* The descriptor's file flags are those of the real one that it is. */
static bool is_nonblock(int fd)
{
    return fcntl(fd, F_GETFL) & O_NONBLOCK;
}

static ssize_t sim_host_read(struct host *host, int fd, void *buf, size_t len)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_READ, 0);
    struct sim_file *file;
    ssize_t ret;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_read(host_linux(), fd, buf, len);
    ret = file->ops->read ? file->ops->read(file, buf, len, is_nonblock(fd)) : -EINVAL;
    sim_file_put(file);
    return ret;
}

static ssize_t sim_host_write(struct host *host, int fd, const void *buf, size_t len)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_WRITE, 0);
    struct sim_file *file;
    ssize_t ret;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_write(host_linux(), fd, buf, len);
    ret = file->ops->write ? file->ops->write(file, buf, len) : -EINVAL;
    sim_file_put(file);
    return ret;
}

static int sim_host_set_nonblock(struct host *host, int fd)
{
    int err = hit_fault(sim_of_host(host), SIM_CALL_SET_NONBLOCK, 0);

    return err ? -err : host_set_nonblock(host_linux(), fd);
}

/* Answers for those that are the machine's, and takes them out of the list. Returns how many are
 * ready. */
static int poll_files(struct sim *sim, struct pollfd *fds, nfds_t n, struct pollfd *others)
{
    int ready = 0;

    for (nfds_t i = 0; i < n; i++) {
        struct sim_file *file = sim_file_get(sim, fds[i].fd);

        others[i] = fds[i];
        if (!file)
            continue;
        others[i].fd = -1;
        fds[i].revents = 0;
        if (!file->ops->ready || file->ops->ready(file))
            fds[i].revents = fds[i].events;
        ready += fds[i].revents != 0;
        sim_file_put(file);
    }
    return ready;
}

/* The machine's files wake nobody: they are looked at from time to time. */
static int sim_host_poll(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct pollfd others[SIM_MAX_POLL];
    int ret;

    if (n > SIM_MAX_POLL)
        return -EINVAL;
    for (;;) {
        int ready = poll_files(sim_of_host(host), fds, n, others);

        ret = host_poll(host_linux(), others, n, ready || !timeout_ms ? 0 : 1);
        if (ret < 0)
            return ret;
        for (nfds_t i = 0; i < n; i++) {
            if (others[i].fd >= 0)
                fds[i].revents = others[i].revents;
        }
        if (ret + ready || !timeout_ms)
            return ret + ready;
        timeout_ms -= timeout_ms > 0;
    }
}

static int sim_host_mmap(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                         off_t offset)
{
    struct sim *sim = sim_of_host(host);
    int err = hit_fault(sim, SIM_CALL_MMAP, 0);
    struct sim_file *file;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_mmap(host_linux(), addr, len, prot, flags, fd, offset);
    err = file->ops->mmap ? file->ops->mmap(file, addr, len, prot, flags, offset) : -ENODEV;
    sim_file_put(file);
    return err;
}

static int sim_host_munmap(struct host *host, void *addr, size_t len)
{
    int ret = sim_vma_unmap(sim_of_host(host), addr, len);

    return ret == -ENOENT ? host_munmap(host_linux(), addr, len) : ret;
}

static int sim_host_share(struct host *host, int fd)
{
    struct sim *sim = sim_of_host(host);
    int ret, err = hit_fault(sim, SIM_CALL_SHARE, 0);
    struct sim_file *file;

    if (err)
        return -err;
    file = sim_file_get(sim, fd);
    if (!file)
        return host_share(host_linux(), fd);
    ret = file->ops->share ? file->ops->share(file) : -EOPNOTSUPP;
    sim_file_put(file);
    return ret;
}

static ssize_t sim_host_readlink(struct host *host, const char *path, char *buf, size_t size)
{
    int err = hit_fault(sim_of_host(host), SIM_CALL_READLINK, 0);

    return err ? -err : sim_sysfs_readlink(sim_of_host(host), path, buf, size);
}

static int sim_host_list(struct host *host, const char *path,
                         int (*entry)(const char *name, void *arg), void *arg)
{
    int err = hit_fault(sim_of_host(host), SIM_CALL_LIST, 0);

    return err ? -err : sim_sysfs_list(sim_of_host(host), path, entry, arg);
}

const struct host_ops sim_host_ops = {
    .name = "sim",
    .open = sim_host_open,
    .close = sim_host_close,
    .ioctl = sim_host_ioctl,
    .pread = sim_host_pread,
    .pwrite = sim_host_pwrite,
    .read = sim_host_read,
    .write = sim_host_write,
    .set_nonblock = sim_host_set_nonblock,
    .poll = sim_host_poll,
    .mmap = sim_host_mmap,
    .munmap = sim_host_munmap,
    .share = sim_host_share,
    .readlink = sim_host_readlink,
    .list = sim_host_list,
};
