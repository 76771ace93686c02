/*
 * Anybody may open a device's file any number of times; the first that binds it has the device.
 * While one device of a group is bound so, the group's own file can't be opened, and the other way
 * round.
 */
#include "bridge/sim/sim_cdev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_hwpt.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_iommufd.h"
#include "bridge/sim/sim_uapi.h"

struct cdev {
    struct sim_device *dev;
    struct sim_object object;    /* the bound device, in the context */
    struct sim_file *iommufd;    /* of the context, which it keeps */
    struct sim_context *context; /* set before bound */
    _Atomic bool bound;          /* changed with sim->lock */
};

/* On success *iommufd is to be put. */
static int find_context(struct sim *sim, int fd, struct sim_file **iommufd,
                        struct sim_context **context)
{
    struct sim_file *file;

    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    file = sim_file_get(sim, fd);
    *context = file ? sim_iommufd_context(file) : NULL;
    if (*context) {
        *iommufd = file;
        return 0;
    }
    if (file)
        sim_file_put(file);
    return -EBADFD;
}

/* With sim->lock held, as the next one. */
static int check_free(const struct cdev *cdev)
{
    if (cdev->dev->group->opened)
        return -EBUSY;
    return cdev->bound ? -EINVAL : 0;
}

/* With the context's lock held too. */
static int claim(struct cdev *cdev, struct sim_file *iommufd, struct sim_context *context)
{
    struct sim_device *dev = cdev->dev;
    struct sim_group *group = dev->group;

    if (dev->opened || dev->bound)
        return -EINVAL;
    if ((group->owner && group->owner != context) || !sim_group_is_viable(group))
        return -EPERM;
    group->owner = context;
    group->bound++;
    dev->bound = true;
    cdev->object.users = 1; /* the file */
    sim_object_add(&context->objects, &cdev->object,
                   dev->model->mediated ? SIM_OBJECT_ACCESS : SIM_OBJECT_DEVICE);
    sim_device_get(dev);
    cdev->iommufd = iommufd;
    cdev->context = context;
    cdev->bound = true;
    return 0;
}

static int claim_locked(struct cdev *cdev, struct sim_file *iommufd, struct sim_context *context)
{
    int ret;

    pthread_mutex_lock(&context->lock);
    pthread_mutex_lock(&context->sim->lock);
    ret = check_free(cdev);
    if (!ret)
        ret = claim(cdev, iommufd, context);
    pthread_mutex_unlock(&context->sim->lock);
    pthread_mutex_unlock(&context->lock);
    return ret;
}

static int check_token(const struct cdev *cdev, const struct uapi_vfio_bind_iommufd *bind)
{
    uint8_t uuid[SIM_TOKEN_BYTES];
    int ret;

    if (!(bind->flags & UAPI_VFIO_BIND_TOKEN))
        return sim_token_match(cdev->dev, NULL);
    ret = sim_copy_in(uuid, (const void *)(uintptr_t)bind->token_uuid_ptr, sizeof(uuid));
    return ret ? ret : sim_token_match(cdev->dev, uuid);
}

/* What is wrong with the device is said before what is wrong with the context. */
static int check_free_first(struct sim *sim, const struct cdev *cdev,
                            const struct uapi_vfio_bind_iommufd *bind)
{
    int ret;

    pthread_mutex_lock(&sim->lock);
    ret = check_free(cdev);
    if (!ret)
        ret = check_token(cdev, bind);
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

/* The struct has grown: who passes the shorter one has passed zeros behind it. */
static int copy_bind(const struct sim *sim, struct uapi_vfio_bind_iommufd *bind, const void *arg)
{
    uint32_t known = sim->iommufd == SIM_IOMMUFD_MAP ? 0 : UAPI_VFIO_BIND_TOKEN;
    int ret = sim_copy_in(bind, arg, UAPI_VFIO_BIND_MIN_SIZE);

    if (ret)
        return ret;
    if (bind->argsz < UAPI_VFIO_BIND_MIN_SIZE || bind->flags & ~known || bind->iommufd < 0)
        return -EINVAL;
    bind->token_uuid_ptr = 0;
    return bind->argsz < sizeof(*bind) ? 0 : sim_copy_in(bind, arg, sizeof(*bind));
}

static int bind_iommufd(struct sim_file *file, void *arg)
{
    struct cdev *cdev = file->object;
    struct uapi_vfio_bind_iommufd bind;
    struct sim_context *context;
    struct sim_file *iommufd;
    int ret = copy_bind(file->sim, &bind, arg);

    if (ret)
        return ret;
    ret = check_free_first(file->sim, cdev, &bind);
    if (!ret)
        ret = find_context(file->sim, bind.iommufd, &iommufd, &context);
    if (ret)
        return ret;
    ret = claim_locked(cdev, iommufd, context);
    if (ret) {
        sim_file_put(iommufd);
        return ret;
    }
    bind.out_devid = cdev->object.id;
    return sim_copy_out(arg, &bind, UAPI_VFIO_BIND_MIN_SIZE);
}

/* Of the whole device: there are no PASIDs, which are all that the flags could ask for. */
static int attach(struct cdev *cdev, void *arg)
{
    struct uapi_vfio_attach_pt attach;
    int ret = sim_copy_in(&attach, arg, sizeof(attach));

    if (ret)
        return ret;
    if (attach.argsz < sizeof(attach) || attach.flags)
        return -EINVAL;
    pthread_mutex_lock(&cdev->context->lock);
    ret = sim_hwpt_attach(cdev->context, cdev->dev, &attach.pt_id);
    pthread_mutex_unlock(&cdev->context->lock);
    return ret ? ret : sim_copy_out(arg, &attach, sizeof(attach));
}

static int detach(struct cdev *cdev, void *arg)
{
    struct sim_uapi_detach_pt detach;
    int ret = sim_copy_in(&detach, arg, sizeof(detach));

    if (ret)
        return ret;
    if (detach.argsz < sizeof(detach) || detach.flags)
        return -EINVAL;
    pthread_mutex_lock(&cdev->context->lock);
    sim_hwpt_detach(cdev->context, cdev->dev);
    pthread_mutex_unlock(&cdev->context->lock);
    return 0;
}

static int cdev_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    struct cdev *cdev = file->object;

    if (request == UAPI_VFIO_DEVICE_BIND_IOMMUFD)
        return bind_iommufd(file, arg);
    if (!cdev->bound)
        return -EINVAL;
    switch (request) {
    case UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        return attach(cdev, arg);
    case SIM_UAPI_DETACH_IOMMUFD_PT:
        return detach(cdev, arg);
    default:
        return sim_device_ioctl(cdev->dev, request, arg);
    }
}

static ssize_t cdev_pread(struct sim_file *file, void *buf, size_t len, off_t offset)
{
    struct cdev *cdev = file->object;

    return cdev->bound ? sim_device_pread(cdev->dev, buf, len, offset) : -EINVAL;
}

static ssize_t cdev_pwrite(struct sim_file *file, const void *buf, size_t len, off_t offset)
{
    struct cdev *cdev = file->object;

    return cdev->bound ? sim_device_pwrite(cdev->dev, buf, len, offset) : -EINVAL;
}

static int cdev_mmap(struct sim_file *file, void **addr, size_t len, int prot, int flags,
                     off_t offset)
{
    struct cdev *cdev = file->object;

    return cdev->bound ? sim_vma_map(file, cdev->dev, addr, len, prot, flags, offset) : -EINVAL;
}

static int cdev_share(struct sim_file *file)
{
    struct cdev *cdev = file->object;

    return cdev->bound ? sim_device_share(cdev->dev, file) : -EOPNOTSUPP;
}

static bool cdev_is_held(struct sim_file *file)
{
    struct cdev *cdev = file->object;

    return sim_device_is_held(cdev->dev, file);
}

/* The device is quiet before its translations go. */
static void unbind(struct cdev *cdev)
{
    struct sim_context *context = cdev->context;
    struct sim_group *group = cdev->dev->group;

    pthread_mutex_lock(&context->lock);
    pthread_mutex_lock(&context->sim->lock);
    sim_device_put(cdev->dev);
    pthread_mutex_unlock(&context->sim->lock);

    sim_hwpt_detach(context, cdev->dev);
    cdev->object.users = 0;
    sim_object_remove(&context->objects, &cdev->object);

    pthread_mutex_lock(&context->sim->lock);
    if (--group->bound == 0)
        group->owner = NULL;
    cdev->dev->bound = false;
    pthread_mutex_unlock(&context->sim->lock);
    pthread_mutex_unlock(&context->lock);
}

static void cdev_release(struct sim_file *file)
{
    struct cdev *cdev = file->object;

    if (cdev->bound) {
        unbind(cdev);
        sim_file_put(cdev->iommufd);
    }
    free(cdev);
}

static const struct sim_file_ops cdev_ops = {
    .name = "sim-cdev",
    .kind = SIM_FILE_DEVICE,
    .ioctl = cdev_ioctl,
    .pread = cdev_pread,
    .pwrite = cdev_pwrite,
    .mmap = cdev_mmap,
    .share = cdev_share,
    .is_held = cdev_is_held,
    .release = cdev_release,
};

static struct sim_device *find_device(struct sim *sim, int number)
{
    struct sim_device *dev;

    pthread_mutex_lock(&sim->lock);
    for (dev = sim->devices; dev; dev = dev->next) {
        if (dev->cdev == number && sim_device_has_vfio(dev) && !dev->group->noiommu)
            break;
    }
    pthread_mutex_unlock(&sim->lock);
    return dev;
}

int sim_cdev_open(struct sim *sim, int number)
{
    struct sim_device *dev = find_device(sim, number);
    struct sim_file *file;
    struct cdev *cdev;
    int ret;

    if (!dev)
        return -ENOENT;
    cdev = calloc(1, sizeof(*cdev));
    if (!cdev)
        return -ENOMEM;
    cdev->dev = dev;
    file = sim_file_create(sim, &cdev_ops, cdev);
    if (!file) {
        free(cdev);
        return -ENOMEM;
    }
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}
