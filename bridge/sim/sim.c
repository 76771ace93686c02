#include "bridge/sim/sim.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_irqfd.h"
#include "bridge/sim/sim_memory.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"

enum {
    SLOTS = 32,
    BUSES = 256,
    /* Not the slots' numbers, so that nobody can take the one for the other. */
    FIRST_GROUP = 7,
    FIRST_CDEV = 3,
    FIRST_MEMORY = 0x40000000,
    FIRST_PORT = 0x1000,
};

static const struct sim_model *const models[] = {
    &sim_edu_model, &sim_ivshmem_model, &sim_mdev_model, &sim_platform_model, &sim_testdev_model,
};

int sim_start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
    sigset_t all, before;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -ret;
}

static void free_machine(struct sim *sim)
{
    sim_vmas_destroy(&sim->vmas);
    sim_file_table_destroy(&sim->files);
    fd_close(&sim->proc_fds);
    pthread_mutex_destroy(&sim->fault.lock);
    pthread_mutex_destroy(&sim->memory_lock);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

struct sim *sim_create(void)
{
    struct sim *sim = calloc(1, sizeof(*sim));

    if (!sim)
        return NULL;
    sim->host.ops = &sim_host_ops;
    sim->devices_end = &sim->devices;
    sim->next_memory = FIRST_MEMORY;
    sim->next_port = FIRST_PORT;
    sim->memlock = UINT64_MAX;
    sim->entry_limit = 65535;
    sim->vector_limit = UINT32_MAX;
    sim->coherent = true;
    sim->dirty_tracking = true;
    sim->rawio = true;
    sim->eeh = true;
    sim->dma_buf_mmap = true;
    sim->iommufd = SIM_IOMMUFD_MAP_FILE;
    sim_file_table_init(&sim->files);
    sim_vmas_init(&sim->vmas);
    pthread_mutex_init(&sim->fault.lock, NULL);
    pthread_mutex_init(&sim->lock, NULL);
    pthread_mutex_init(&sim->memory_lock, NULL);
    sim->proc_fds = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sim->proc_fds < 0 || sim_irqfd_start(sim)) {
        free_machine(sim);
        return NULL;
    }
    return sim;
}

static void free_devices(struct sim *sim)
{
    while (sim->devices) {
        struct sim_device *dev = sim->devices;
        struct sim_group *group = dev->group;

        assert(!dev->opened);
        sim->devices = dev->next;
        sim_device_free(dev);
        sim_group_drop_if_empty(group);
    }
}

void sim_destroy(struct sim *sim)
{
    if (!sim)
        return;
    sim_file_reap(sim, true);
    sim_irqfd_stop(sim);
    free_devices(sim);
    sim_memory_forget(sim);
    sim_forget_open_errors(sim);
    free_machine(sim);
}

struct host *sim_host(struct sim *sim)
{
    return &sim->host;
}

struct sim_device *sim_find_device(struct sim *sim, const char *bdf)
{
    struct sim_device *dev = sim->devices;

    while (dev && strcmp(dev->name, bdf))
        dev = dev->next;
    return dev;
}

struct sim_device *sim_lock_device(struct sim *sim, const char *bdf)
{
    struct sim_device *dev;

    pthread_mutex_lock(&sim->lock);
    dev = sim_find_device(sim, bdf);
    if (!dev)
        pthread_mutex_unlock(&sim->lock);
    return dev;
}

/* With sim->lock held. */
static int add_device(struct sim *sim, const struct sim_model *model, const char *name)
{
    struct sim_device *dev =
        sim_device_create(sim, model, name, &sim->next_memory, &sim->next_port);

    if (!dev)
        return -ENOMEM;
    dev->group = sim_group_create(sim, FIRST_GROUP + (int)sim->added);
    if (!dev->group) {
        sim_device_free(dev);
        return -ENOMEM;
    }
    dev->cdev = FIRST_CDEV + (int)sim->added;
    *sim->devices_end = dev;
    sim->devices_end = &dev->next;
    sim->added++;
    return 0;
}

static void name_device(const struct sim_model *model, unsigned place, char *name, size_t size)
{
    if (model->mediated)
        snprintf(name, size, "73696d00-6d64-4576-8000-%012x", place);
    else if (model->platform)
        snprintf(name, size, "sim.%u", place);
    else
        snprintf(name, size, "0000:%02x:%02x.0", place / SLOTS, place % SLOTS);
}

int sim_add_model(struct sim *sim, const struct sim_model *model, char *bdf, size_t size)
{
    unsigned place;
    int ret = -ENOSPC;

    pthread_mutex_lock(&sim->lock);
    place = sim->added + 1; /* slot 0 of the first bus is the host bridge's */
    if (place < SLOTS * BUSES) {
        name_device(model, place, bdf, size);
        ret = add_device(sim, model, bdf);
    }
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

/* "NAME", or "NAME-noiommu". */
static bool is_model(const struct sim_model *model, const char *text, bool *no_iommu)
{
    size_t len = strlen(model->name);

    *no_iommu = !strncmp(text, model->name, len) && !strcmp(text + len, "-noiommu");
    return *no_iommu || !strcmp(text, model->name);
}

int sim_add_device(struct sim *sim, const char *model, char *bdf, size_t size)
{
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        bool no_iommu;
        int ret;

        if (!is_model(models[i], model, &no_iommu) ||
            (no_iommu && (models[i]->mediated || models[i]->platform)))
            continue;
        ret = sim_add_model(sim, models[i], bdf, size);
        if (ret || !no_iommu)
            return ret;
        sim_set_noiommu_mode(sim, true);
        return sim_set_no_iommu(sim, bdf);
    }
    return -ENOENT;
}

const char *sim_model_name(size_t index)
{
    return index < ARRAY_SIZE(models) ? models[index]->name : NULL;
}
