#include "bridge/container.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/vf_token.h"
#include "proto/base/log.h"

struct container_group {
    struct container_group *next;
    int number;
    int fd;
};

static int open_file(struct container *c)
{
    int fd = host_open(c->host, "/dev/vfio/vfio", O_RDWR);

    switch (fd) {
    case -ENOENT:
    case -ENODEV:
        log_error("no VFIO on this machine (/dev/vfio/vfio is absent): load it by 'modprobe "
                  "vfio-pci' on a kernel that has it");
        break;
    case -EACCES:
    case -EPERM:
        log_error("no permission to open /dev/vfio/vfio: run vfio-userd as root, or give its user "
                  "read and write access to it and to the device's /dev/vfio/GROUP");
        break;
    default:
        if (fd < 0)
            log_error("can't open /dev/vfio/vfio: %s", strerror(-fd));
    }
    return fd;
}

int container_open(struct container *c, struct host *host, const struct container_model *model)
{
    int ret;

    *c = (struct container){.host = host, .model = model, .fd = -1};
    ret = open_file(c);
    if (ret < 0)
        return ret;
    c->fd = ret;

    ret = host_ioctl(host, c->fd, VFIO_GET_API_VERSION, NULL);
    if (ret != VFIO_API_VERSION) {
        log_error("the kernel's VFIO has API version %d, not %d", ret, VFIO_API_VERSION);
        return -EPROTO;
    }
    ret = host_ioctl(host, c->fd, VFIO_CHECK_EXTENSION, (void *)model->id);
    if (ret != 1) {
        log_error("%s", model->missing);
        return -ENODEV;
    }
    return 0;
}

static int open_group_file(struct host *host, const struct sysfs_device *dev)
{
    char path[32];
    int fd;

    snprintf(path, sizeof(path), "/dev/vfio/%s%d", dev->noiommu ? "noiommu-" : "", dev->group);
    fd = host_open(host, path, O_RDWR);
    /* Of the file's permissions it is EACCES. */
    if (fd == -EPERM && dev->noiommu) {
        log_error("the kernel opens %s for %s to nobody without CAP_SYS_RAWIO: run vfio-userd as "
                  "root, or give it that capability",
                  path, dev->name);
        return fd;
    }
    switch (fd) {
    case -EBUSY:
        log_error("the IOMMU group of %s is busy: another process has %s open", dev->name, path);
        break;
    case -EACCES:
    case -EPERM:
        log_error("no permission to open %s for %s: run vfio-userd as root, or make its user the "
                  "file's owner (chown USER %s)",
                  path, dev->name, path);
        break;
    case -ENOENT:
        log_error("there is no %s for %s: the kernel runs VFIO without groups, or /dev of this "
                  "process lacks it",
                  path, dev->name);
        break;
    default:
        if (fd < 0)
            log_error("can't open %s for %s: %s", path, dev->name, strerror(-fd));
    }
    return fd;
}

static int check_viable(struct host *host, int group, const struct sysfs_device *dev)
{
    struct vfio_group_status status = {.argsz = sizeof(status)};
    struct sysfs_device blocker;
    int ret = host_ioctl(host, group, VFIO_GROUP_GET_STATUS, &status);

    if (ret < 0) {
        log_error("GROUP_GET_STATUS of group %d: %s", dev->group, strerror(-ret));
        return ret;
    }
    if (status.flags & VFIO_GROUP_FLAGS_VIABLE)
        return 0;
    if (sysfs_find_blocker(host, dev->group, &blocker))
        log_error("IOMMU group %d of %s is not viable: a device in it is in use by a native driver",
                  dev->group, dev->name);
    else
        log_error("IOMMU group %d of %s is not viable: %s in it is bound to %s; bind that one to "
                  "vfio-pci too, or unbind it",
                  dev->group, dev->name, blocker.name, blocker.driver);
    return -EBUSY;
}

static int set_model(struct container *c, const struct sysfs_device *dev)
{
    int ret;

    if (c->model_set)
        return 0;
    ret = host_ioctl(c->host, c->fd, VFIO_SET_IOMMU, (void *)c->model->id);
    if (ret == -EPERM && c->model->instead) {
        c->model = c->model->instead;
        ret = host_ioctl(c->host, c->fd, VFIO_SET_IOMMU, (void *)c->model->id);
    }
    if (ret == -EPERM)
        log_error("the kernel refuses %s: %s", dev->name, c->model->refused);
    else if (ret < 0)
        log_error("SET_IOMMU for %s: %s", dev->name, strerror(-ret));
    c->model_set = ret >= 0;
    return ret < 0 ? ret : 0;
}

static struct container_group *find_group(const struct container *c, int number)
{
    struct container_group *g = c->groups;

    while (g && g->number != number)
        g = g->next;
    return g;
}

static void drop_group(struct container *c, struct container_group *g)
{
    struct container_group **link = &c->groups;

    while (*link != g)
        link = &(*link)->next;
    *link = g->next;
    host_close(c->host, &g->fd);
    free(g);
    /* An IOMMU model without any group is gone in the kernel. */
    c->model_set = c->model_set && c->groups;
}

void container_leave(struct container *c)
{
    struct container_group *g = c->groups;

    if (g->fd >= 0)
        host_ioctl(c->host, g->fd, VFIO_GROUP_UNSET_CONTAINER, NULL);
    drop_group(c, g);
}

int container_vacate(struct container *c, int number)
{
    struct container_group *g = find_group(c, number);
    int ret = g ? host_ioctl(c->host, g->fd, VFIO_GROUP_UNSET_CONTAINER, NULL) : 0;

    if (ret < 0)
        return ret;
    if (g)
        drop_group(c, g);
    return 0;
}

int container_join(struct container *c, const struct sysfs_device *dev, bool *joined)
{
    struct container_group *g;
    int ret;

    *joined = !find_group(c, dev->group);
    if (!*joined)
        return 0;
    g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    g->number = dev->group;
    g->next = c->groups;
    c->groups = g;

    g->fd = open_group_file(c->host, dev);
    ret = g->fd < 0 ? g->fd : check_viable(c->host, g->fd, dev);
    if (!ret) {
        ret = host_ioctl(c->host, g->fd, VFIO_GROUP_SET_CONTAINER, &c->fd);
        if (ret < 0)
            log_error("SET_CONTAINER of group %d: %s", dev->group, strerror(-ret));
    }
    if (ret >= 0)
        ret = set_model(c, dev);
    if (ret)
        container_leave(c);
    return ret;
}

int container_open_device(struct container *c, const struct sysfs_device *dev, int *fd)
{
    const struct container_group *g = find_group(c, dev->group);
    char name[sizeof(dev->name) + sizeof(" vf_token=") + sizeof(dev->vf_token)];
    int ret;

    snprintf(name, sizeof(name), "%s%s%s", dev->name, dev->vf_token[0] ? " vf_token=" : "",
             dev->vf_token);
    ret = host_ioctl(c->host, g->fd, VFIO_GROUP_GET_DEVICE_FD, name);
    if (ret < 0) {
        if (!vf_token_explain(dev, ret, "its group has no container"))
            log_error("can't open %s by its group %d: %s", dev->name, dev->group, strerror(-ret));
        return ret;
    }
    *fd = ret;
    return 0;
}

int container_group_file(const struct container *c, int number)
{
    const struct container_group *g = find_group(c, number);

    return g ? g->fd : -1;
}

void container_close(struct container *c)
{
    while (c->groups)
        container_leave(c);
    host_close(c->host, &c->fd);
}
