/*
 * As vfio_pci_dmabuf.c of Linux 7.3 answers; the order of the checks decides the errno when several
 * are wrong.
 */
#include "bridge/sim/sim_dmabuf.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_feature.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_peer.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

/* Others map the device's memory from its start: what begins elsewhere would be something else. */
static bool can_be_mapped(const struct sim_dmabuf *dmabuf)
{
    return dmabuf->dev->sim->dma_buf_mmap && (int)dmabuf->bar == sim_mapped_bar(dmabuf->dev) &&
           dmabuf->ranges == 1 && !dmabuf->start;
}

static int dmabuf_mmap(struct sim_file *file, void **addr, size_t len, int prot, int flags,
                       off_t offset)
{
    const struct sim_dmabuf *dmabuf = file->object;
    int ret;

    if (!can_be_mapped(dmabuf) || (flags & MAP_TYPE) == MAP_PRIVATE ||
        !range_within((uint64_t)offset, len, dmabuf->size))
        return -EINVAL;
    pthread_mutex_lock(&dmabuf->dev->lock);
    ret = sim_mapped_map(dmabuf->dev, addr, len, prot, flags, offset);
    pthread_mutex_unlock(&dmabuf->dev->lock);
    return ret;
}

/* It keeps nothing open: it is revoked when the device is closed. */
static int dmabuf_share(struct sim_file *file)
{
    const struct sim_dmabuf *dmabuf = file->object;
    int fd;

    if (!can_be_mapped(dmabuf))
        return -EOPNOTSUPP;
    pthread_mutex_lock(&dmabuf->dev->lock);
    fd = dmabuf->listed ? sim_mapped_share(dmabuf->dev, NULL) : -ENODEV;
    pthread_mutex_unlock(&dmabuf->dev->lock);
    return fd;
}

static void dmabuf_release(struct sim_file *file)
{
    struct sim_dmabuf *dmabuf = file->object;

    pthread_mutex_lock(&dmabuf->dev->lock);
    if (dmabuf->listed)
        LIST_REMOVE(dmabuf, link);
    pthread_mutex_unlock(&dmabuf->dev->lock);
    free(dmabuf);
}

static const struct sim_file_ops dmabuf_ops = {
    .name = "sim-dmabuf",
    .kind = SIM_FILE_DMABUF,
    .mmap = dmabuf_mmap,
    .share = dmabuf_share,
    .release = dmabuf_release,
};

struct sim_dmabuf *sim_dmabuf_of_file(const struct sim_file *file)
{
    return file->ops == &dmabuf_ops ? file->object : NULL;
}

static int check_range(const struct uapi_dma_range *range, uint64_t *total)
{
    if (!range->length || !is_aligned(range->offset | range->length, SIM_PAGE))
        return -EINVAL;
    return __builtin_add_overflow(*total, range->length, total) ? -EINVAL : 0;
}

/* All ranges are looked at for themselves before any is held against the BAR. */
static int check_ranges(const struct sim_model_bar *bar, const struct uapi_dma_range *ranges,
                        uint32_t n, uint64_t *total)
{
    int ret = 0;

    *total = 0;
    for (uint32_t i = 0; !ret && i < n; i++)
        ret = check_range(&ranges[i], total);
    if (!ret && (!bar->size || bar->flags & PCI_BASE_ADDRESS_SPACE_IO))
        ret = -EINVAL;
    for (uint32_t i = 0; !ret && i < n; i++) {
        if (ranges[i].length > UINT64_MAX - ranges[i].offset)
            ret = -EOVERFLOW;
        else if (!range_within(ranges[i].offset, ranges[i].length, bar->size))
            ret = -EINVAL;
    }
    return ret;
}

/* On an error the dma-buf is still the caller's. */
static int install(struct sim_device *dev, struct sim_dmabuf *dmabuf)
{
    struct sim_file *file = sim_file_create(dev->sim, &dmabuf_ops, dmabuf);
    int fd;

    if (!file)
        return -ENOMEM;
    LIST_INSERT_HEAD(&dev->dmabufs, dmabuf, link);
    fd = sim_file_install(file);
    if (fd < 0) {
        LIST_REMOVE(dmabuf, link);
        free(file); /* nobody has seen it */
    }
    return fd;
}

int sim_dmabuf_export(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    const struct uapi_feature_dma_buf *get = data;
    int ret, err = dev->sim->dma_buf_error;
    struct sim_dmabuf *dmabuf;
    uint64_t size;

    if (err)
        return -err;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(*get));
    if (ret != 1)
        return ret;
    if (!get->nr_ranges || get->flags)
        return -EINVAL;
    if (get->region_index >= VFIO_PCI_ROM_REGION_INDEX)
        return -ENODEV;
    ret =
        check_ranges(&dev->model->bars[get->region_index], get->dma_ranges, get->nr_ranges, &size);
    if (ret)
        return ret;
    dmabuf = malloc(sizeof(*dmabuf));
    if (!dmabuf)
        return -ENOMEM;
    *dmabuf = (struct sim_dmabuf){
        .dev = dev,
        .bar = get->region_index,
        .ranges = get->nr_ranges,
        .start = get->dma_ranges[0].offset,
        .size = size,
        .listed = true,
        .revoked = !sim_config_memory_enabled(dev),
    };
    ret = install(dev, dmabuf);
    if (ret < 0)
        free(dmabuf);
    return ret;
}

static void move(struct sim_dmabuf *dmabuf, bool revoked)
{
    if (revoked && !dmabuf->revoked)
        dmabuf->revocations++;
    dmabuf->revoked = revoked;
}

void sim_dmabuf_move(struct sim_device *dev, bool revoked)
{
    struct sim_dmabuf *dmabuf;

    LIST_FOREACH(dmabuf, &dev->dmabufs, link)
    {
        move(dmabuf, revoked);
    }
}

void sim_dmabuf_close(struct sim_device *dev)
{
    struct sim_dmabuf *dmabuf;

    while ((dmabuf = LIST_FIRST(&dev->dmabufs))) {
        move(dmabuf, true);
        LIST_REMOVE(dmabuf, link);
        dmabuf->listed = false;
    }
}

int sim_dmabuf_attach(const struct sim_dmabuf *dmabuf, uint64_t start, uint64_t length,
                      struct sim_peer *peer)
{
    int ret = 0;

    if (!range_within(start, length, dmabuf->size))
        return -EINVAL;
    pthread_mutex_lock(&dmabuf->dev->lock);
    if (dmabuf->revoked)
        ret = -ENODEV;
    else if (dmabuf->ranges != 1)
        ret = -EOPNOTSUPP;
    *peer = (struct sim_peer){
        .dev = dmabuf->dev,
        .bar = dmabuf->bar,
        .start = dmabuf->start + start,
        .dmabuf = dmabuf,
        .revocations = dmabuf->revocations,
    };
    pthread_mutex_unlock(&dmabuf->dev->lock);
    return ret;
}
