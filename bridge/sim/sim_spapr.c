/*
 * The ioctls of SPAPR TCE containers as vfio_iommu_spapr_tce of Linux 6.1 answers them on a
 * bare-metal POWER host: one with the IODA1 bridge knows v1 alone, one with IODA2 v2 alone, though
 * both are offered by CHECK_EXTENSION. The order of the checks decides the errno when several are
 * wrong.
 *
 * Two oddities of that kernel are kept: MAP_DMA and UNMAP_DMA of an address that is not aligned
 * return 1, as UNMAP_DMA of a range does that leaves its window; and memory that is unregistered
 * while some of it is mapped stays pinned until the process ends. One is not: MAP_DMA past the end
 * of a window, which the kernel does not look for, is EINVAL.
 */
#include "bridge/sim/sim_spapr.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "bridge/sim/sim_container.h"
#include "bridge/sim/sim_eeh.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_memory.h"
#include "proto/base/arith.h"

enum {
    MAP_PROT = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
    BAD_RANGE = 1, /* what the kernel returns for it */
};

struct sim_registration {
    struct sim_registration *next;
    struct sim_memory *memory;
};

static struct sim_spapr *to_spapr(struct sim_driver *driver)
{
    return (struct sim_spapr *)driver;
}

int sim_spapr_check_extension(const struct sim *sim, unsigned long extension)
{
    switch (extension) {
    case VFIO_SPAPR_TCE_IOMMU:
    case VFIO_SPAPR_TCE_v2_IOMMU:
        return 1;
    case VFIO_EEH:
        return sim->eeh;
    default:
        return 0;
    }
}

/* The container belongs to the process that says first that it wants memory mapped. */
static int bind_process(struct sim_spapr *s)
{
    if (!s->mm)
        s->mm = getpid();
    return s->mm == getpid() ? 0 : -EPERM;
}

static int get_info(struct sim_spapr *s, void *arg)
{
    size_t minsz = offsetof(struct vfio_iommu_spapr_tce_info, ddw);
    struct vfio_iommu_spapr_tce_info info = {0};
    int ret = sim_copy_in(&info, arg, minsz);

    if (ret)
        return ret;
    if (info.argsz < minsz)
        return -EINVAL;
    info.dma32_window_start = 0;
    info.dma32_window_size = SIM_SPAPR_DMA32_SIZE;
    info.flags = s->v2 ? VFIO_IOMMU_SPAPR_INFO_DDW : 0;
    if (s->v2)
        info.ddw = (struct vfio_iommu_spapr_tce_ddw_info){
            .pgsizes = SIM_SPAPR_PGSIZES,
            .max_dynamic_windows_supported = SIM_SPAPR_WINDOWS,
            .levels = SIM_SPAPR_LEVELS,
        };
    return sim_copy_out(arg, &info, info.argsz >= sizeof(info) ? sizeof(info) : minsz);
}

static int enable(struct sim_spapr *s, void *arg)
{
    int ret;

    (void)arg;
    if (s->enabled)
        return -EBUSY;
    if (!s->groups)
        return -ENODEV;
    ret = bind_process(s);
    if (!ret)
        ret = sim_lock_memory(s->driver.sim, SIM_SPAPR_DMA32_SIZE);
    s->enabled = !ret;
    return ret;
}

/* What is mapped stays. */
static int disable(struct sim_spapr *s, void *arg)
{
    (void)arg;
    if (s->enabled)
        sim_unlock_memory(s->driver.sim, SIM_SPAPR_DMA32_SIZE);
    s->enabled = false;
    return 0;
}

static uint64_t page_mask(const struct sim_window *window)
{
    return (UINT64_C(1) << window->page_shift) - 1;
}

/* Of a range that begins in the window. */
static bool ends_within(const struct sim_window *window, uint64_t iova, uint64_t size)
{
    return size <= window->size - (iova - window->start);
}

static int map_window(struct sim_spapr *s, const struct vfio_iommu_type1_dma_map *map)
{
    const struct sim_window *window = sim_tce_find_window(s, map->iova);

    if (!window)
        return -ENXIO;
    if ((map->size | map->vaddr) & page_mask(window) || !(map->flags & MAP_PROT))
        return -EINVAL;
    if (map->iova & page_mask(window))
        return BAD_RANGE;
    if (!ends_within(window, map->iova, map->size))
        return -EINVAL;
    return sim_tce_map(s, window, map->iova, map->size, map->vaddr,
                       (map->flags & VFIO_DMA_MAP_FLAG_READ ? SIM_DOMAIN_READ : 0u) |
                           (map->flags & VFIO_DMA_MAP_FLAG_WRITE ? SIM_DOMAIN_WRITE : 0u));
}

static int map_dma(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_type1_dma_map map;
    int ret = s->enabled ? sim_copy_in(&map, arg, sizeof(map)) : -EPERM;

    if (ret)
        return ret;
    if (map.argsz < sizeof(map) || map.flags & ~(uint32_t)MAP_PROT)
        return -EINVAL;
    ret = sim_tce_create_default_window(s);
    return ret ? ret : map_window(s, &map);
}

static int unmap_window(struct sim_spapr *s, const struct vfio_iommu_type1_dma_unmap *unmap)
{
    const struct sim_window *window = sim_tce_find_window(s, unmap->iova);

    if (!window)
        return -ENXIO;
    if (unmap->size & page_mask(window))
        return -EINVAL;
    if (unmap->iova & page_mask(window) || !ends_within(window, unmap->iova, unmap->size))
        return BAD_RANGE;
    return sim_tce_clear(s, unmap->iova, unmap->size);
}

static int unmap_dma(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_type1_dma_unmap unmap;
    int ret = s->enabled ? sim_copy_in(&unmap, arg, sizeof(unmap)) : -EPERM;

    if (ret)
        return ret;
    if (unmap.argsz < sizeof(unmap) || unmap.flags)
        return -EINVAL;
    ret = sim_tce_create_default_window(s);
    return ret ? ret : unmap_window(s, &unmap);
}

static struct sim_registration **find_registration(struct sim_spapr *s,
                                                   const struct sim_memory *memory)
{
    struct sim_registration **link = &s->registered;

    while (*link && (*link)->memory != memory)
        link = &(*link)->next;
    return link;
}

static int add_registration(struct sim_spapr *s, struct sim_memory *memory)
{
    struct sim_registration *new;

    if (*find_registration(s, memory))
        return -EBUSY;
    new = malloc(sizeof(*new));
    if (!new)
        return -ENOMEM;
    *new = (struct sim_registration){.next = s->registered, .memory = memory};
    s->registered = new;
    s->enabled = true;
    return 0;
}

static void drop_registration(struct sim_spapr *s, struct sim_registration **link)
{
    struct sim_registration *r = *link;

    *link = r->next;
    sim_memory_put(s->driver.sim, r->memory);
    free(r);
}

static int copy_memory_request(struct vfio_iommu_spapr_register_memory *reg, const void *arg)
{
    int ret = sim_copy_in(reg, arg, sizeof(*reg));

    if (ret)
        return ret;
    if (reg->argsz < sizeof(*reg) || reg->flags || !is_aligned(reg->vaddr | reg->size, SIM_PAGE))
        return -EINVAL;
    return 0;
}

static int register_memory(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_spapr_register_memory reg;
    struct sim_memory *memory;
    int ret = bind_process(s);

    if (!ret)
        ret = copy_memory_request(&reg, arg);
    if (!ret && reg.vaddr + reg.size < reg.vaddr)
        ret = -EINVAL;
    if (ret)
        return ret;
    memory = sim_memory_get(s->driver.sim, reg.vaddr, reg.size);
    if (!memory)
        ret = sim_memory_register(s->driver.sim, reg.vaddr, reg.size, &memory);
    if (ret)
        return ret;
    ret = add_registration(s, memory);
    if (ret)
        sim_memory_put(s->driver.sim, memory);
    return ret;
}

static int unregister_memory(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_spapr_register_memory reg;
    struct sim_registration **link;
    struct sim_memory *memory;
    int ret = s->mm ? copy_memory_request(&reg, arg) : -EPERM;

    if (ret)
        return ret;
    memory = sim_memory_get(s->driver.sim, reg.vaddr, reg.size);
    if (!memory)
        return -ENOENT;
    link = find_registration(s, memory);
    if (*link)
        drop_registration(s, link);
    else
        ret = -ENOENT;
    sim_memory_put(s->driver.sim, memory);
    return ret;
}

static int create_window(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_spapr_tce_create create;
    struct sim_window *window;
    int ret = bind_process(s);

    if (!ret && !s->groups)
        ret = -ENXIO;
    if (!ret)
        ret = sim_copy_in(&create, arg, sizeof(create));
    if (ret)
        return ret;
    if (create.argsz < sizeof(create) || create.flags)
        return -EINVAL;
    ret = sim_tce_create_default_window(s);
    if (!ret)
        ret =
            sim_tce_create_window(s, create.page_shift, create.window_size, create.levels, &window);
    if (ret)
        return ret;
    create.start_addr = window->start;
    return sim_copy_out(arg, &create, sizeof(create));
}

static int remove_window(struct sim_spapr *s, void *arg)
{
    struct vfio_iommu_spapr_tce_remove remove;
    struct sim_window *window;
    int ret = bind_process(s);

    if (!ret && !s->groups)
        ret = -ENXIO;
    if (!ret)
        ret = sim_copy_in(&remove, arg, sizeof(remove));
    if (ret)
        return ret;
    if (remove.argsz < sizeof(remove) || remove.flags)
        return -EINVAL;
    if (s->default_pending && !remove.start_addr) {
        s->default_pending = false;
        return 0;
    }
    window = sim_tce_find_window(s, remove.start_addr);
    if (!window)
        return -EINVAL;
    sim_tce_remove_window(s, window);
    return 0;
}

static const struct {
    unsigned long request;
    bool v1, v2;
    int (*call)(struct sim_spapr *s, void *arg); /* with the lock held */
} ioctls[] = {
    {VFIO_IOMMU_SPAPR_TCE_GET_INFO,      true,  true,  get_info         },
    {VFIO_IOMMU_MAP_DMA,                 true,  true,  map_dma          },
    {VFIO_IOMMU_UNMAP_DMA,               true,  true,  unmap_dma        },
    {VFIO_IOMMU_ENABLE,                  true,  false, enable           },
    {VFIO_IOMMU_DISABLE,                 true,  false, disable          },
    {VFIO_IOMMU_SPAPR_REGISTER_MEMORY,   false, true,  register_memory  },
    {VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, false, true,  unregister_memory},
    {VFIO_IOMMU_SPAPR_TCE_CREATE,        false, true,  create_window    },
    {VFIO_IOMMU_SPAPR_TCE_REMOVE,        false, true,  remove_window    },
};

static int dispatch(struct sim_spapr *s, unsigned long request, void *arg)
{
    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request == request && (s->v2 ? ioctls[i].v2 : ioctls[i].v1))
            return ioctls[i].call(s, arg);
    }
    return -ENOTTY;
}

/* On each group in turn; the first answer that is not 0 ends it. */
static int operate_pes(struct sim_driver *driver, void *arg)
{
    struct sim *sim = driver->sim;
    int ret = 0;

    pthread_mutex_lock(&sim->lock);
    for (struct sim_group *group = sim->groups; group && !ret; group = group->next) {
        if (group->container && group->container->iommu == driver)
            ret = sim_eeh_operate(group, arg);
    }
    pthread_mutex_unlock(&sim->lock);
    return ret;
}

static int spapr_ioctl(struct sim_driver *driver, unsigned long request, void *arg)
{
    struct sim_spapr *s = to_spapr(driver);
    int ret = 0;

    pthread_mutex_lock(&s->lock);
    if (s->released)
        ret = -EINVAL;
    else if (s->mm && s->mm != getpid())
        ret = -EPERM;
    else if (request != VFIO_EEH_PE_OP)
        ret = dispatch(s, request, arg);
    pthread_mutex_unlock(&s->lock);
    return ret || request != VFIO_EEH_PE_OP ? ret : operate_pes(driver, arg);
}

/* v1's window is the group's own, so it takes one group. */
static int attach(struct sim_driver *driver, struct sim_group *group)
{
    struct sim_spapr *s = to_spapr(driver);
    bool v2 = driver->sim->iommu == SIM_IOMMU_SPAPR_V2;

    if (sim_group_is_emulated(group))
        return -EINVAL;
    if (!v2 && s->groups)
        return -EBUSY;
    if (s->v2 != v2)
        return -EPERM;
    s->groups++;
    return 0;
}

static void detach(struct sim_driver *driver, struct sim_group *group)
{
    (void)group;
    to_spapr(driver)->groups--;
}

static void release(struct sim_driver *driver)
{
    struct sim_spapr *s = to_spapr(driver);

    pthread_mutex_lock(&s->lock);
    s->released = true;
    for (unsigned i = 0; i < SIM_SPAPR_WINDOWS; i++) {
        if (s->windows[i].size)
            sim_tce_remove_window(s, &s->windows[i]);
    }
    while (s->registered)
        drop_registration(s, &s->registered);
    if (!s->v2)
        disable(s, NULL);
    pthread_mutex_unlock(&s->lock);
}

static void destroy(struct sim_driver *driver)
{
    struct sim_spapr *s = to_spapr(driver);

    pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct sim_driver_ops spapr_ops = {
    .attach = attach,
    .detach = detach,
    .ioctl = spapr_ioctl,
    .release = release,
    .destroy = destroy,
};

struct sim_driver *sim_spapr_create(struct sim *sim, bool v2)
{
    struct sim_spapr *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    sim_driver_init(&s->driver, &spapr_ops, sim);
    s->v2 = v2;
    s->default_pending = v2;
    if (!v2)
        s->windows[0] = (struct sim_window){
            .size = SIM_SPAPR_DMA32_SIZE,
            .page_shift = SIM_SPAPR_DEFAULT_SHIFT,
        };
    pthread_mutex_init(&s->lock, NULL);
    return &s->driver;
}
