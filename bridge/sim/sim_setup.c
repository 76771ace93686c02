/*
 * The machine as a test sets it up, and its fault plan.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_dma.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"

struct sim_open_error {
    struct sim_open_error *next;
    int err;
    char path[];
};

int sim_set_driver(struct sim *sim, const char *bdf, const char *driver)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    int ret = 0;

    if (!dev)
        return -ENODEV;
    if (dev->group->noiommu && !sim->noiommu_mode && !strcmp(driver, "vfio-pci"))
        ret = -EINVAL;
    else
        snprintf(dev->driver, sizeof(dev->driver), "%s", driver);
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

void sim_set_noiommu_mode(struct sim *sim, bool on)
{
    sim->noiommu_mode = on;
}

int sim_set_no_iommu(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    dev->group->noiommu = true;
    sim_dma_remove_iommu(dev);
    if (!sim->noiommu_mode && sim_device_has_driver(dev, "vfio-pci"))
        dev->driver[0] = '\0';
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

void sim_set_rawio(struct sim *sim, bool capable)
{
    sim->rawio = capable;
}

int sim_join_group(struct sim *sim, const char *bdf, const char *sibling_bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    struct sim_device *sibling = dev ? sim_find_device(sim, sibling_bdf) : NULL;

    if (!dev)
        return -ENODEV;
    if (sibling && (dev->model->mediated || sibling->model->mediated)) {
        pthread_mutex_unlock(&sim->lock);
        return -EINVAL;
    }
    if (sibling && sibling->group != dev->group) {
        struct sim_group *left = dev->group;

        dev->group = sibling->group;
        sim_dma_attach_to_sibling(dev, sibling); /* as one that is plugged in */
        sim_group_drop_if_empty(left);
    }
    pthread_mutex_unlock(&sim->lock);
    return sibling ? 0 : -ENODEV;
}

int sim_set_virtual_function(struct sim *sim, const char *bdf, const char *pf_bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    struct sim_device *pf = dev ? sim_find_device(sim, pf_bdf) : NULL;

    if (!dev)
        return -ENODEV;
    if (pf) {
        dev->token.pf = pf;
        pf->token.is_pf = true;
        memset(pf->token.uuid, 0xa5, sizeof(pf->token.uuid));
    }
    pthread_mutex_unlock(&sim->lock);
    return pf ? 0 : -ENODEV;
}

int sim_set_no_reset(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    dev->has_reset = false;
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

int sim_set_zpci(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    dev->zpci = true;
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

int sim_set_migration(struct sim *sim, const char *bdf, const struct sim_migration_setup *setup)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    int ret = 0;

    if (!dev)
        return -ENODEV;
    pthread_mutex_lock(&dev->lock);
    if (dev->migration.session || dev->migration.state != VFIO_DEVICE_STATE_RUNNING)
        ret = -EBUSY;
    else if (setup->flags && !dev->model->image_size)
        ret = -ENOTSUP;
    else
        dev->migration.setup = *setup;
    pthread_mutex_unlock(&dev->lock);
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

int sim_fail_hop(struct sim *sim, const char *bdf, uint32_t state)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    pthread_mutex_lock(&dev->lock);
    dev->migration.fails_to = state;
    pthread_mutex_unlock(&dev->lock);
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

int sim_set_dma_log(struct sim *sim, const char *bdf, bool on, uint64_t page_size)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);
    int ret = 0;

    if (!dev)
        return -ENODEV;
    pthread_mutex_lock(&dev->lock);
    pthread_mutex_lock(&dev->dma.lock);
    if (dev->dma.log.active) {
        ret = -EBUSY;
    } else {
        dev->dma.log.missing = !on;
        dev->dma.log.fixed_page = page_size;
    }
    pthread_mutex_unlock(&dev->dma.lock);
    pthread_mutex_unlock(&dev->lock);
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

int sim_set_bus(struct sim *sim, const char *bdf, unsigned bus)
{
    struct sim_device *dev = sim_lock_device(sim, bdf);

    if (!dev)
        return -ENODEV;
    dev->bus = bus;
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

int sim_set_open_error(struct sim *sim, const char *path, int err)
{
    struct sim_open_error *e = malloc(sizeof(*e) + strlen(path) + 1);

    if (!e)
        return -ENOMEM;
    strcpy(e->path, path);
    e->err = err;
    pthread_mutex_lock(&sim->lock);
    e->next = sim->open_errors;
    sim->open_errors = e;
    pthread_mutex_unlock(&sim->lock);
    return 0;
}

void sim_forget_open_errors(struct sim *sim)
{
    while (sim->open_errors) {
        struct sim_open_error *e = sim->open_errors;

        sim->open_errors = e->next;
        free(e);
    }
}

/* What was said of a path last is in front. */
int sim_open_error(struct sim *sim, const char *path)
{
    const struct sim_open_error *e;
    int err;

    pthread_mutex_lock(&sim->lock);
    for (e = sim->open_errors; e && strcmp(e->path, path);)
        e = e->next;
    err = e ? e->err : 0;
    pthread_mutex_unlock(&sim->lock);
    return err;
}

void sim_set_memlock(struct sim *sim, uint64_t bytes)
{
    sim->memlock = bytes;
}

void sim_set_dma_entry_limit(struct sim *sim, unsigned limit)
{
    sim->entry_limit = limit;
}

void sim_set_vector_limit(struct sim *sim, unsigned limit)
{
    sim->vector_limit = limit;
}

void sim_set_dynamic_msix(struct sim *sim, bool dynamic)
{
    sim->dynamic_msix = dynamic;
}

void sim_set_coherent(struct sim *sim, bool coherent)
{
    sim->coherent = coherent;
}

void sim_set_iommu(struct sim *sim, enum sim_iommu_model model)
{
    sim->iommu = model;
    if (model != SIM_IOMMU_TYPE1)
        sim->iommufd = SIM_IOMMUFD_NONE;
}

void sim_set_eeh(struct sim *sim, bool eeh)
{
    sim->eeh = eeh;
}

void sim_set_dirty_tracking(struct sim *sim, bool able)
{
    sim->dirty_tracking = able;
}

void sim_set_iommu_page(struct sim *sim, uint64_t size)
{
    sim->iommu_page = size;
}

void sim_set_pinned_only(struct sim *sim, bool on)
{
    sim->pinned_only = on;
}

void sim_set_iommufd(struct sim *sim, enum sim_iommufd iommufd)
{
    sim->iommufd = iommufd;
}

void sim_set_dma_buf_error(struct sim *sim, int err)
{
    sim->dma_buf_error = err;
}

void sim_set_dma_buf_mmap(struct sim *sim, bool on)
{
    sim->dma_buf_mmap = on;
}

void sim_fail_nth(struct sim *sim, enum sim_call call, unsigned long request, unsigned n, int err)
{
    struct sim_fault *fault = &sim->fault;

    pthread_mutex_lock(&fault->lock);
    fault->call = call;
    fault->request = request;
    fault->left = n;
    fault->err = err;
    fault->spent = false;
    fault->armed = n > 0;
    pthread_mutex_unlock(&fault->lock);
}

bool sim_fault_spent(struct sim *sim)
{
    bool spent;

    pthread_mutex_lock(&sim->fault.lock);
    spent = sim->fault.spent;
    pthread_mutex_unlock(&sim->fault.lock);
    return spent;
}
