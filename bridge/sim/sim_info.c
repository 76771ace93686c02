/*
 * The questions about a device that vfio-pci answers.
 */
#include "bridge/sim/sim_info.h"

#include <errno.h>
#include <linux/vfio.h>

#include "bridge/sim/sim_bar.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_gfx.h"
#include "bridge/sim/sim_info_caps.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_region.h"

static uint32_t irq_indexes(const struct sim_device *dev)
{
    return dev->model->platform ? 1 : VFIO_PCI_NUM_IRQS;
}

enum {
    REGION_SHIFT = 40, /* as in vfio-pci */
};

/* A permutation that is its own inverse. */
static uint64_t swap_mapped(const struct sim_device *dev, uint64_t index)
{
    int mapped = sim_mapped_bar(dev);

    if (mapped < 0 || (index && index != (uint64_t)mapped))
        return index;
    return index ? 0 : (uint64_t)mapped;
}

uint64_t sim_info_region_offset(const struct sim_device *dev, uint32_t index)
{
    return swap_mapped(dev, index) << REGION_SHIFT;
}

uint64_t sim_info_region_at(const struct sim_device *dev, uint64_t offset, uint64_t *at)
{
    *at = offset & ((UINT64_C(1) << REGION_SHIFT) - 1);
    return swap_mapped(dev, offset >> REGION_SHIFT);
}

int sim_info_get_device(struct sim_device *dev, void *arg)
{
    size_t minsz = offsetof(struct vfio_device_info, cap_offset);
    struct vfio_device_info info = {0};
    int ret = sim_copy_in(&info, arg, minsz);

    if (ret)
        return ret;
    if (info.argsz < minsz)
        return -EINVAL;
    if (info.argsz >= sizeof(info))
        minsz = sizeof(info);
    info.flags = dev->model->platform ? VFIO_DEVICE_FLAGS_PLATFORM : VFIO_DEVICE_FLAGS_PCI;
    /* As the kernel's samples, which reset all the same. */
    if (dev->reset_works && !dev->model->mediated)
        info.flags |= VFIO_DEVICE_FLAGS_RESET;
    info.num_regions = sim_region_count(dev);
    info.num_irqs = irq_indexes(dev);
    sim_info_add_caps(dev, arg, &info);
    return sim_copy_out(arg, &info, minsz);
}

/* False: there is nothing behind the index. */
static bool describe_region(const struct sim_device *dev, struct vfio_region_info *info)
{
    const struct sim_model_region *region = sim_region_find(dev, info->index);
    const struct sim_model_bar *bar;

    if (region) {
        info->size = region->size;
        info->flags = VFIO_REGION_INFO_FLAG_READ;
        if (!region->read_only)
            info->flags |= VFIO_REGION_INFO_FLAG_WRITE;
        return true;
    }
    if (info->index == VFIO_PCI_CONFIG_REGION_INDEX) {
        info->size = dev->pci.size;
        info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        return true;
    }
    if (info->index > VFIO_PCI_BAR5_REGION_INDEX)
        return false;
    bar = &dev->model->bars[info->index];
    if (!bar->size)
        return false;
    info->size = bar->size;
    info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if ((int)info->index == sim_mapped_bar(dev))
        info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
    return true;
}

static bool has_msix_table(const struct sim_device *dev, const struct vfio_region_info *info)
{
    uint64_t start, end;
    unsigned bar;

    return sim_pci_msix_table(dev, &bar, &start, &end) && bar == info->index;
}

/* The one capability that a region has. */
union region_cap {
    struct vfio_info_cap_header header;
    struct vfio_region_info_cap_type type;
    struct {
        struct vfio_region_info_cap_sparse_mmap head;
        struct vfio_region_sparse_mmap_area areas[2];
    } sparse;
};

/* As drivers of their own kind have it, for vfio-pci itself never does: the areas beside a hole. */
static size_t describe_hole(const struct sim_model_bar *bar, union region_cap *cap)
{
    const uint32_t end = bar->hole + bar->hole_size;

    cap->header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
    cap->sparse.head.nr_areas = 2;
    cap->sparse.areas[0] = (struct vfio_region_sparse_mmap_area){.size = bar->hole};
    cap->sparse.areas[1] =
        (struct vfio_region_sparse_mmap_area){.offset = end, .size = bar->size - end};
    return sizeof(cap->sparse);
}

/* Its size, 0 if there is none. */
static size_t describe_cap(const struct sim_device *dev, const struct vfio_region_info *info,
                           union region_cap *cap)
{
    const struct sim_model_region *region = sim_region_find(dev, info->index);

    *cap = (union region_cap){.sparse.head.header.version = 1};
    if (region && region->type) {
        cap->header.id = VFIO_REGION_INFO_CAP_TYPE;
        cap->type.type = region->type;
        cap->type.subtype = region->subtype;
        return sizeof(cap->type);
    }
    if (info->flags & VFIO_REGION_INFO_FLAG_MMAP && dev->model->bars[info->index].hole_size)
        return describe_hole(&dev->model->bars[info->index], cap);
    cap->header.id = VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;
    return has_msix_table(dev, info) ? sizeof(cap->header) : 0;
}

static bool has_index(const struct sim_device *dev, uint32_t index)
{
    if (dev->model->platform)
        return !index;
    return index < VFIO_PCI_VGA_REGION_INDEX || sim_region_find(dev, index);
}

int sim_info_get_region(struct sim_device *dev, void *arg)
{
    union region_cap cap;
    struct vfio_region_info info = {0};
    size_t cap_size;
    int ret = sim_copy_in(&info, arg, sizeof(info));
    const uint32_t asked = info.index;

    if (ret)
        return ret;
    if (dev->model->display && asked == SIM_GFX_REGION)
        info.index = dev->model->display;
    if (info.argsz < sizeof(info) || !has_index(dev, info.index))
        return -EINVAL;
    info.offset = sim_info_region_offset(dev, info.index);
    if (!describe_region(dev, &info)) {
        info.size = 0;
        info.flags = 0;
        return sim_copy_out(arg, &info, sizeof(info));
    }
    cap_size = describe_cap(dev, &info, &cap);
    if (cap_size) {
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
        info.cap_offset = 0;
        if (info.argsz < sizeof(info) + cap_size) {
            info.argsz = (uint32_t)(sizeof(info) + cap_size);
        } else {
            info.cap_offset = sizeof(info);
            memcpy((char *)arg + sizeof(info), &cap, cap_size);
        }
    }
    info.index = asked;
    return sim_copy_out(arg, &info, sizeof(info));
}

int sim_info_get_irq(struct sim_device *dev, void *arg)
{
    struct vfio_irq_info info;
    int ret = sim_copy_in(&info, arg, sizeof(info));

    if (ret)
        return ret;
    if (info.argsz < sizeof(info) || info.index >= irq_indexes(dev))
        return -EINVAL;
    if (info.index >= VFIO_PCI_ERR_IRQ_INDEX && !sim_irq_count(dev, info.index))
        return -EINVAL;
    info.flags = VFIO_IRQ_INFO_EVENTFD;
    if (info.index == VFIO_PCI_INTX_IRQ_INDEX)
        info.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    else if (!sim_irq_is_dynamic(dev, info.index))
        info.flags |= VFIO_IRQ_INFO_NORESIZE;
    info.count = sim_irq_count(dev, info.index);
    return sim_copy_out(arg, &info, sizeof(info));
}
