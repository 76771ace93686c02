#include "bridge/sim/sim_container.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>

#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_iommu.h"
#include "bridge/sim/sim_spapr.h"

static void put(struct sim_container *container)
{
    if (--container->refs == 0)
        free(container);
}

static void attach_devices(struct sim_group *group, struct sim_driver *iommu)
{
    sim_group_set_domain(group, iommu ? &iommu->domain : NULL);
}

bool sim_container_has_model(const struct sim_container *container)
{
    return container->iommu || container->noiommu_set;
}

int sim_container_attach(struct sim_container *container, struct sim_group *group)
{
    struct sim_driver *iommu = container->iommu;
    int ret;

    if (group->noiommu && !group->sim->rawio)
        return -EPERM;
    if (container->groups && container->noiommu != group->noiommu)
        return -EPERM;
    ret = iommu ? iommu->ops->attach(iommu, group) : 0;
    if (ret)
        return ret;
    container->noiommu = group->noiommu;
    container->refs++;
    container->groups++;
    group->container = container;
    group->users = 1;
    attach_devices(group, iommu);
    return 0;
}

struct sim_driver *sim_container_detach(struct sim_group *group)
{
    struct sim_container *container = group->container;
    struct sim_driver *left = NULL;

    attach_devices(group, NULL);
    if (container->iommu)
        container->iommu->ops->detach(container->iommu, group);
    group->container = NULL;
    group->users = 0;
    if (--container->groups == 0) {
        left = container->iommu;
        container->iommu = NULL;
        container->noiommu_set = false;
    }
    put(container);
    return left;
}

/* The kernel asks the models that the container's groups may have, each whether it is meant. */
static int set_noiommu(struct sim *sim, struct sim_container *container, uintptr_t model)
{
    if (model != VFIO_NOIOMMU_IOMMU || !sim->noiommu_mode)
        return -ENODEV;
    if (!sim->rawio)
        return -EPERM;
    container->noiommu_set = true;
    return 0;
}

/* All groups, or none. */
static int attach_groups(struct sim_container *container, struct sim_group *groups,
                         struct sim_driver *iommu)
{
    int ret = 0;

    for (struct sim_group *group = groups; group; group = group->next) {
        if (group->container != container)
            continue;
        ret = iommu->ops->attach(iommu, group);
        if (!ret)
            continue;
        for (struct sim_group *done = groups; done != group; done = done->next) {
            if (done->container == container)
                iommu->ops->detach(iommu, done);
        }
        break;
    }
    return ret;
}

static int has_extension(const struct sim *sim, bool in_use, uintptr_t extension)
{
    return sim->iommu == SIM_IOMMU_TYPE1 ? sim_type1_check_extension(sim, in_use, extension)
                                         : sim_spapr_check_extension(sim, extension);
}

/* -ENODEV: the machine's driver does not say that it has it; -EINVAL: it is no model. */
static int create_iommu(struct sim *sim, uintptr_t model, struct sim_driver **out)
{
    if (has_extension(sim, false, model) <= 0)
        return -ENODEV;
    switch (model) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
    case VFIO_TYPE1_NESTING_IOMMU:
        *out = sim_iommu_create(sim, model != VFIO_TYPE1_IOMMU);
        break;
    case VFIO_SPAPR_TCE_IOMMU:
    case VFIO_SPAPR_TCE_v2_IOMMU:
        *out = sim_spapr_create(sim, model == VFIO_SPAPR_TCE_v2_IOMMU);
        break;
    default:
        return -EINVAL;
    }
    return *out ? 0 : -ENOMEM;
}

static int set_iommu(struct sim *sim, struct sim_container *container, uintptr_t model)
{
    struct sim_driver *iommu;
    int ret;

    if (!container->groups || sim_container_has_model(container))
        return -EINVAL;
    if (container->noiommu)
        return set_noiommu(sim, container, model);
    ret = create_iommu(sim, model, &iommu);
    if (ret)
        return ret;
    ret = attach_groups(container, sim->groups, iommu);
    if (ret) {
        sim_driver_put(iommu);
        return ret;
    }
    container->iommu = iommu;
    for (struct sim_group *group = sim->groups; group; group = group->next) {
        if (group->container == container)
            attach_devices(group, iommu);
    }
    return 0;
}

/* What the container does not know goes to its IOMMU's driver, without the machine's lock. */
static int iommu_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    struct sim_container *container = file->object;
    struct sim_driver *iommu = NULL;
    bool noiommu;
    int ret;

    pthread_mutex_lock(&file->sim->lock);
    noiommu = container->noiommu_set;
    if (container->iommu)
        iommu = sim_driver_get(container->iommu);
    pthread_mutex_unlock(&file->sim->lock);
    if (!iommu)
        return noiommu ? -ENOTTY : -EINVAL;
    ret = iommu->ops->ioctl(iommu, request, arg);
    sim_driver_put(iommu);
    return ret;
}

/* Before there is a model each that the groups may have is asked, then that one alone. */
static int check_extension(const struct sim *sim, const struct sim_container *container,
                           uintptr_t extension)
{
    bool noiommu_alone = container->groups && container->noiommu;

    if (extension == VFIO_NOIOMMU_IOMMU)
        return sim->noiommu_mode && (noiommu_alone || !container->groups);
    return noiommu_alone ? 0 : has_extension(sim, container->iommu, extension);
}

static int container_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    struct sim *sim = file->sim;
    struct sim_container *container = file->object;
    int ret;

    switch (request) {
    case VFIO_GET_API_VERSION:
        return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
        pthread_mutex_lock(&sim->lock);
        ret = check_extension(sim, container, (uintptr_t)arg);
        pthread_mutex_unlock(&sim->lock);
        return ret;
    case VFIO_SET_IOMMU:
        pthread_mutex_lock(&sim->lock);
        ret = set_iommu(sim, container, (uintptr_t)arg);
        pthread_mutex_unlock(&sim->lock);
        return ret;
    default:
        return iommu_ioctl(file, request, arg);
    }
}

static void container_release(struct sim_file *file)
{
    pthread_mutex_lock(&file->sim->lock);
    put(file->object);
    pthread_mutex_unlock(&file->sim->lock);
}

static const struct sim_file_ops container_ops = {
    .name = "sim-container",
    .kind = SIM_FILE_CONTAINER,
    .ioctl = container_ioctl,
    .release = container_release,
};

struct sim_container *sim_container_of_file(const struct sim_file *file)
{
    return file->ops == &container_ops ? file->object : NULL;
}

int sim_container_open(struct sim *sim)
{
    struct sim_container *container = calloc(1, sizeof(*container));
    struct sim_file *file;
    int ret;

    if (!container)
        return -ENOMEM;
    container->refs = 1;
    file = sim_file_create(sim, &container_ops, container);
    if (!file) {
        free(container);
        return -ENOMEM;
    }
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}
