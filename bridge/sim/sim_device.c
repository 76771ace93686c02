/*
 * The descriptor of a device: vfio-pci's life cycle and calls.
 *
 * The first open brings the device into a known state: it clears bus mastering, resets, and makes
 * the client's configuration space anew. The last close does the reverse, so that a device without
 * a reset method keeps its registers for the next user. The driver of a mediated device is a
 * simpler one: it resets when it is asked to.
 *
 * On a root bus a bus reset is not to be had.
 */
#include "bridge/sim/sim_device.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sim/sim_bar.h"
#include "bridge/sim/sim_eeh.h"
#include "bridge/sim/sim_feature.h"
#include "bridge/sim/sim_gfx.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_hot_reset.h"
#include "bridge/sim/sim_info.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_region.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

struct sim_device *sim_device_create(struct sim *sim, const struct sim_model *model,
                                     const char *name, uint32_t *memory, uint32_t *port)
{
    struct sim_device *dev = calloc(1, sizeof(*dev));

    if (!dev)
        return NULL;
    dev->sim = sim;
    dev->model = model;
    dev->has_reset = true;
    snprintf(dev->name, sizeof(dev->name), "%s", name);
    strcpy(dev->driver, sim_device_vfio_driver(dev));
    pthread_mutex_init(&dev->lock, NULL);
    sim_dma_init(&dev->dma);
    sim_irq_init(&dev->irq);
    sim_mapped_init(&dev->mapped);
    sim_power_init(&dev->power);
    sim_pci_init(dev, memory, port);
    sim_migration_init(dev);
    dev->dma.log.missing = !sim_device_is_on_pci(dev);
    if (!sim_bar_create_ram(dev) && !sim_region_create(dev))
        dev->state = model->create(dev);
    if (!dev->state) {
        sim_device_free(dev);
        return NULL;
    }
    return dev;
}

void sim_device_free(struct sim_device *dev)
{
    if (dev->state)
        dev->model->destroy(dev->state);
    sim_bar_destroy_ram(dev);
    sim_region_destroy(dev);
    sim_dma_destroy(&dev->dma);
    pthread_mutex_destroy(&dev->lock);
    free(dev);
}

pthread_mutex_t *sim_device_mutex(struct sim_device *dev)
{
    return &dev->lock;
}

bool sim_device_has_driver(const struct sim_device *dev, const char *driver)
{
    return !strcmp(dev->driver, driver);
}

const char *sim_device_vfio_driver(const struct sim_device *dev)
{
    if (dev->model->platform)
        return "vfio-platform";
    return dev->model->mediated ? "sim-mdev" : "vfio-pci";
}

bool sim_device_is_on_pci(const struct sim_device *dev)
{
    return !dev->model->mediated && !dev->model->platform;
}

bool sim_device_has_vfio(const struct sim_device *dev)
{
    return sim_device_has_driver(dev, sim_device_vfio_driver(dev));
}

/* The kernel saves and restores the configuration around a reset: COMMAND survives it. */
void sim_device_soft_reset(struct sim_device *dev)
{
    uint16_t command = sim_pci_quiesce(dev);

    sim_dma_cancel(dev);
    dev->model->reset(dev->state);
    sim_irq_set_intx(dev, false);
    sim_pci_set_command(dev, command);
}

void sim_device_reset(struct sim_device *dev)
{
    if (dev->gone)
        return;
    sim_power_wake(dev);
    sim_device_soft_reset(dev);
    sim_migration_reset(dev);
    dev->sim->count.resets++;
}

void sim_device_bus_reset(struct sim_device *dev)
{
    uint16_t command;

    pthread_mutex_lock(&dev->lock);
    sim_device_reset(dev);
    command = (uint16_t)sim_pci_read(dev, PCI_COMMAND, 2);
    sim_pci_set_command(dev, command & (uint16_t)~PCI_COMMAND_MASTER);
    pthread_mutex_unlock(&dev->lock);
}

/* With sim->lock held, as the next one. */
static void enable(struct sim_device *dev)
{
    uint16_t command;

    sim_eeh_unfreeze(dev->group);
    pthread_mutex_lock(&dev->lock);
    sim_power_wake(dev);
    command = sim_pci_quiesce(dev);
    command &= (uint16_t) ~(PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    sim_pci_set_command(dev, command | PCI_COMMAND_MEMORY);
    dev->reset_works = dev->has_reset;
    if (dev->reset_works && !dev->model->mediated)
        sim_device_reset(dev);
    sim_migration_reset(dev);
    sim_config_open(dev);
    sim_mapped_show(dev, sim_config_memory_enabled(dev));
    pthread_mutex_unlock(&dev->lock);
}

static void disable(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    sim_power_close(dev);
    sim_pci_quiesce(dev);
    sim_dmabuf_close(dev);
    sim_mapped_end(dev);
    sim_irq_close(dev);
    sim_ioeventfd_close(dev);
    sim_config_close(dev);
    if (dev->reset_works && !dev->model->mediated)
        sim_device_reset(dev);
    sim_migration_reset(dev);
    sim_log_close(dev);
    pthread_mutex_unlock(&dev->lock);
}

static int do_reset(struct sim_device *dev, void *arg)
{
    (void)arg;
    if (!dev->reset_works)
        return dev->model->mediated ? -ENOTTY : -EINVAL;
    if (dev->gone)
        return -ENOTTY; /* it does not become ready */
    sim_dmabuf_move(dev, true);
    sim_device_reset(dev);
    sim_dmabuf_move(dev, !sim_config_memory_enabled(dev));
    return 0;
}

static const struct {
    unsigned long request;
    int (*call)(struct sim_device *dev, void *arg); /* with the device's lock held */
} ioctls[] = {
    {VFIO_DEVICE_GET_INFO,        sim_info_get_device},
    {VFIO_DEVICE_GET_REGION_INFO, sim_info_get_region},
    {VFIO_DEVICE_GET_IRQ_INFO,    sim_info_get_irq   },
    {VFIO_DEVICE_SET_IRQS,        sim_irq_set        },
    {VFIO_DEVICE_RESET,           do_reset           },
    {VFIO_DEVICE_FEATURE,         sim_feature        },
    {VFIO_DEVICE_IOEVENTFD,       sim_ioeventfd_set  },
    {VFIO_DEVICE_QUERY_GFX_PLANE, sim_gfx_query_plane},
    {VFIO_DEVICE_GET_GFX_DMABUF,  sim_gfx_get_dmabuf },
};

int sim_device_ioctl(struct sim_device *dev, unsigned long request, void *arg)
{
    if (request == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO && sim_device_is_on_pci(dev))
        return sim_hot_reset_info(dev, arg);
    if (request == VFIO_DEVICE_PCI_HOT_RESET && sim_device_is_on_pci(dev))
        return sim_hot_reset(dev, arg);
    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++) {
        int ret;

        if (ioctls[i].request != request)
            continue;
        pthread_mutex_lock(&dev->lock);
        sim_power_get(dev);
        ret = ioctls[i].call(dev, arg);
        sim_power_put(dev);
        pthread_mutex_unlock(&dev->lock);
        return ret;
    }
    return -ENOTTY;
}

/* BARs are accessed without the device's lock. */
static void begin_access(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    sim_power_get(dev);
    pthread_mutex_unlock(&dev->lock);
}

static void end_access(struct sim_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    sim_power_put(dev);
    pthread_mutex_unlock(&dev->lock);
}

static bool is_config(const struct sim_device *dev, uint64_t index)
{
    return index == VFIO_PCI_CONFIG_REGION_INDEX && !dev->model->platform;
}

ssize_t sim_device_pread(struct sim_device *dev, void *buf, size_t len, off_t offset)
{
    uint64_t at, index = sim_info_region_at(dev, (uint64_t)offset, &at);
    ssize_t ret;

    if (index <= VFIO_PCI_BAR5_REGION_INDEX) {
        begin_access(dev);
        ret = sim_bar_read(dev, (unsigned)index, at, buf, len);
        end_access(dev);
        return ret;
    }
    pthread_mutex_lock(&dev->lock);
    sim_power_get(dev);
    ret = is_config(dev, index) ? sim_config_read(dev, at, buf, len)
                                : sim_region_read(dev, (uint32_t)index, at, buf, len);
    sim_power_put(dev);
    pthread_mutex_unlock(&dev->lock);
    return ret;
}

ssize_t sim_device_pwrite(struct sim_device *dev, const void *buf, size_t len, off_t offset)
{
    uint64_t at, index = sim_info_region_at(dev, (uint64_t)offset, &at);
    ssize_t ret;

    if (index <= VFIO_PCI_BAR5_REGION_INDEX) {
        begin_access(dev);
        ret = sim_bar_write(dev, (unsigned)index, at, buf, len);
        end_access(dev);
        return ret;
    }
    pthread_mutex_lock(&dev->lock);
    sim_power_get(dev);
    ret = is_config(dev, index) ? sim_config_write(dev, at, buf, len)
                                : sim_region_write(dev, (uint32_t)index, at, buf, len);
    sim_power_put(dev);
    pthread_mutex_unlock(&dev->lock);
    return ret;
}

int sim_device_share(struct sim_device *dev, struct sim_file *file)
{
    int fd;

    pthread_mutex_lock(&dev->lock);
    fd = sim_mapped_share(dev, &file->shared);
    pthread_mutex_unlock(&dev->lock);
    return fd;
}

bool sim_device_is_held(struct sim_device *dev, const struct sim_file *file)
{
    bool held;

    pthread_mutex_lock(&dev->lock);
    held = sim_mapped_is_held(dev, file->shared);
    pthread_mutex_unlock(&dev->lock);
    return held;
}

void sim_device_get(struct sim_device *dev)
{
    if (dev->opened++ == 0) {
        enable(dev);
        sim_token_opened(dev);
    }
}

void sim_device_put(struct sim_device *dev)
{
    if (--dev->opened == 0) {
        sim_token_closed(dev);
        disable(dev);
    }
}

/* A kernel that knows BIND_IOMMUFD refuses it here by another errno than one that does not. */
static int device_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    if (request == UAPI_VFIO_DEVICE_BIND_IOMMUFD && file->sim->iommufd != SIM_IOMMUFD_NONE)
        return -EINVAL;
    return sim_device_ioctl(file->object, request, arg);
}

static ssize_t device_pread(struct sim_file *file, void *buf, size_t len, off_t offset)
{
    return sim_device_pread(file->object, buf, len, offset);
}

static ssize_t device_pwrite(struct sim_file *file, const void *buf, size_t len, off_t offset)
{
    return sim_device_pwrite(file->object, buf, len, offset);
}

static int device_mmap(struct sim_file *file, void **addr, size_t len, int prot, int flags,
                       off_t offset)
{
    return sim_vma_map(file, file->object, addr, len, prot, flags, offset);
}

static int device_share(struct sim_file *file)
{
    return sim_device_share(file->object, file);
}

static bool device_is_held(struct sim_file *file)
{
    return sim_device_is_held(file->object, file);
}

static void device_release(struct sim_file *file)
{
    struct sim_device *dev = file->object;
    struct sim_file *group_file;

    pthread_mutex_lock(&file->sim->lock);
    sim_device_put(dev);
    group_file = sim_group_drop_user(dev->group);
    pthread_mutex_unlock(&file->sim->lock);
    sim_file_put(group_file);
}

static const struct sim_file_ops device_ops = {
    .name = "sim-device",
    .kind = SIM_FILE_DEVICE,
    .ioctl = device_ioctl,
    .pread = device_pread,
    .pwrite = device_pwrite,
    .mmap = device_mmap,
    .share = device_share,
    .is_held = device_is_held,
    .release = device_release,
};

/* "ADDRESS", or with options behind a blank. */
static int find_by_name(struct sim_group *group, const char *name, struct sim_device **out)
{
    for (struct sim_device *dev = group->sim->devices; dev; dev = dev->next) {
        size_t len = strlen(dev->name);

        if (dev->group != group || !sim_device_has_vfio(dev) || strncmp(name, dev->name, len) ||
            (name[len] && name[len] != ' '))
            continue;
        if (!sim_device_is_on_pci(dev) && name[len])
            return -ENODEV;
        *out = dev;
        return sim_token_match_options(dev, name + len);
    }
    return -ENODEV;
}

/* With sim->lock held. */
static int take_device(struct sim_file *group_file, const char *name, struct sim_device **out)
{
    struct sim_device *dev;
    int ret = find_by_name(group_file->object, name, &dev);

    if (!ret)
        ret = sim_group_add_user(dev->group);
    if (ret)
        return ret;
    sim_device_get(dev);
    *out = dev;
    return 0;
}

int sim_device_open(struct sim_file *group_file, const char *name)
{
    struct sim *sim = group_file->sim;
    struct sim_file *file = sim_file_create(sim, &device_ops, NULL);
    struct sim_device *dev;
    int ret;

    if (!file)
        return -ENOMEM;
    pthread_mutex_lock(&sim->lock);
    ret = take_device(group_file, name, &dev);
    pthread_mutex_unlock(&sim->lock);
    if (ret) {
        free(file); /* never was a device's */
        return ret;
    }
    file->object = dev;
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}
