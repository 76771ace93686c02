#include "bridge/sim/sim_group.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_container.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_driver.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"

enum {
    MAX_NAME = 4096,
};

struct sim_group *sim_group_create(struct sim *sim, int number)
{
    struct sim_group *group = calloc(1, sizeof(*group));

    if (!group)
        return NULL;
    group->sim = sim;
    group->number = number;
    group->next = sim->groups;
    sim->groups = group;
    return group;
}

struct sim_device *sim_group_next_device(const struct sim_group *group, struct sim_device *dev)
{
    dev = dev ? dev->next : group->sim->devices;
    while (dev && dev->group != group)
        dev = dev->next;
    return dev;
}

void sim_group_drop_if_empty(struct sim_group *group)
{
    struct sim_group **link = &group->sim->groups;

    if (sim_group_next_device(group, NULL))
        return;
    while (*link != group)
        link = &(*link)->next;
    *link = group->next;
    free(group);
}

bool sim_group_has_file(const struct sim_group *group)
{
    for (struct sim_device *dev = NULL; (dev = sim_group_next_device(group, dev));) {
        if (sim_device_has_vfio(dev))
            return true;
    }
    return false;
}

bool sim_group_exists(const struct sim_group *group)
{
    return !group->noiommu || sim_group_has_file(group);
}

struct sim_group *sim_group_find(struct sim *sim, int number)
{
    struct sim_group *group = sim->groups;

    while (group && group->number != number)
        group = group->next;
    return group && sim_group_exists(group) ? group : NULL;
}

bool sim_group_is_emulated(const struct sim_group *group)
{
    const struct sim_device *dev = sim_group_next_device(group, NULL);

    return dev && dev->model->mediated;
}

bool sim_group_is_viable(const struct sim_group *group)
{
    static const char *const harmless[] = {"", "vfio-pci", "vfio-platform", "pci-stub", "pcieport"};

    for (struct sim_device *dev = NULL; (dev = sim_group_next_device(group, dev));) {
        bool ok = dev->model->mediated;

        for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
            ok |= sim_device_has_driver(dev, harmless[i]);
        if (!ok)
            return false;
    }
    return true;
}

void sim_group_set_domain(struct sim_group *group, struct sim_domain *domain)
{
    for (struct sim_device *dev = NULL; (dev = sim_group_next_device(group, dev));)
        sim_dma_attach(dev, domain);
}

int sim_group_add_user(struct sim_group *group)
{
    if (!group->container || !sim_container_has_model(group->container))
        return -EINVAL;
    group->users++;
    sim_file_ref(group->opened);
    return 0;
}

struct sim_file *sim_group_drop_user(struct sim_group *group)
{
    group->users--;
    return group->opened;
}

static int get_status(struct sim_file *file, void *arg)
{
    const struct sim_group *group = file->object;
    struct vfio_group_status status;
    int ret = sim_copy_in(&status, arg, sizeof(status));

    if (ret)
        return ret;
    if (status.argsz < sizeof(status))
        return -EINVAL;
    status.flags = 0;
    pthread_mutex_lock(&file->sim->lock);
    if (group->container)
        status.flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
    else if (sim_group_is_viable(group))
        status.flags = VFIO_GROUP_FLAGS_VIABLE;
    pthread_mutex_unlock(&file->sim->lock);
    return sim_copy_out(arg, &status, sizeof(status));
}

static int join_container(struct sim_group *group, struct sim_file *other)
{
    struct sim_container *container;
    int ret;

    pthread_mutex_lock(&group->sim->lock);
    container = other ? sim_container_of_file(other) : NULL;
    if (group->container || !container)
        ret = -EINVAL;
    else if (!sim_group_is_viable(group))
        ret = -EPERM; /* the devices' DMA has another owner */
    else
        ret = sim_container_attach(container, group);
    pthread_mutex_unlock(&group->sim->lock);
    return ret;
}

static int set_container(struct sim_file *file, void *arg)
{
    struct sim_file *other;
    int fd, ret = sim_copy_in(&fd, arg, sizeof(fd));

    if (ret)
        return ret;
    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    other = sim_file_get(file->sim, fd);
    ret = join_container(file->object, other);
    if (other)
        sim_file_put(other);
    return ret;
}

/* -EBUSY: a device is open. */
static int leave_container(struct sim_group *group)
{
    struct sim_driver *left = NULL;
    int ret = 0;

    pthread_mutex_lock(&group->sim->lock);
    if (!group->container)
        ret = -EINVAL;
    else if (group->users != 1)
        ret = -EBUSY;
    else
        left = sim_container_detach(group);
    pthread_mutex_unlock(&group->sim->lock);
    if (left) {
        left->ops->release(left);
        sim_driver_put(left);
    }
    return ret;
}

static int get_device_fd(struct sim_file *file, const char *name)
{
    if (!name)
        return -EFAULT;
    if (strnlen(name, MAX_NAME) == MAX_NAME)
        return -EINVAL;
    return sim_device_open(file, name);
}

static int group_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    switch (request) {
    case VFIO_GROUP_GET_STATUS:
        return get_status(file, arg);
    case VFIO_GROUP_SET_CONTAINER:
        return set_container(file, arg);
    case VFIO_GROUP_UNSET_CONTAINER:
        return leave_container(file->object);
    case VFIO_GROUP_GET_DEVICE_FD:
        return get_device_fd(file, arg);
    default:
        return -ENOTTY;
    }
}

static void group_release(struct sim_file *file)
{
    struct sim_group *group = file->object;

    leave_container(group);
    pthread_mutex_lock(&file->sim->lock);
    group->opened = NULL;
    pthread_mutex_unlock(&file->sim->lock);
}

static const struct sim_file_ops group_ops = {
    .name = "sim-group",
    .kind = SIM_FILE_GROUP,
    .ioctl = group_ioctl,
    .release = group_release,
};

/* With sim->lock held. */
static int claim(struct sim *sim, int number, bool noiommu, struct sim_file *file)
{
    struct sim_group *group = sim_group_find(sim, number);

    if (!group || !sim_group_has_file(group) || group->noiommu != noiommu)
        return -ENOENT;
    if (noiommu && !sim->rawio)
        return -EPERM;
    if (group->opened || group->bound)
        return -EBUSY;
    group->opened = file;
    file->object = group;
    return 0;
}

int sim_group_open(struct sim *sim, int number, bool noiommu)
{
    struct sim_file *file = sim_file_create(sim, &group_ops, NULL);
    int ret;

    if (!file)
        return -ENOMEM;
    pthread_mutex_lock(&sim->lock);
    ret = claim(sim, number, noiommu, file);
    pthread_mutex_unlock(&sim->lock);
    if (ret) {
        free(file); /* never was a group's */
        return ret;
    }
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}
