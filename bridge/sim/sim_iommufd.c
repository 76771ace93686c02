/*
 * The ioctls of iommufd as Linux answers them: the order of the checks decides the errno when
 * several are wrong. Left out are those that the bridge has no use for, and the emulation of VFIO's
 * containers.
 *
 * A struct begins with its size as the caller knows it. The kernel takes what is shorter than its
 * own, down to the first version, as if zeros followed, and what is longer if zeros do.
 */
#include "bridge/sim/sim_iommufd.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "bridge/sim/sim_hwpt.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_ioas.h"
#include "bridge/sim/sim_pages.h"
#include "bridge/sim/sim_uapi.h"
#include "proto/base/arith.h"

enum {
    MAP_RIGHTS = UAPI_IOAS_MAP_WRITEABLE | UAPI_IOAS_MAP_READABLE,
    MAP_FLAGS = UAPI_IOAS_MAP_FIXED_IOVA | MAP_RIGHTS,
};

/* The caller's struct, in and out. */
union command {
    uint32_t size;
    struct uapi_iommu_destroy destroy;
    struct uapi_ioas_alloc alloc;
    struct uapi_ioas_iova_ranges ranges;
    struct uapi_ioas_map map;
    struct uapi_ioas_map_file map_file;
    struct uapi_ioas_copy copy;
    struct uapi_ioas_unmap unmap;
    struct uapi_hwpt_alloc hwpt_alloc;
    struct uapi_hw_info hw_info;
    struct uapi_hwpt_set_dirty set_dirty;
    struct uapi_hwpt_get_dirty get_dirty;
};

static struct sim_ioas *find_ioas(struct sim_context *context, uint32_t id)
{
    return (struct sim_ioas *)sim_object_find_type(&context->objects, id, SIM_OBJECT_IOAS);
}

static void destroy_object(struct sim_context *context, struct sim_object *object)
{
    if (object->type == SIM_OBJECT_HWPT) {
        sim_hwpt_destroy(context, (struct sim_hwpt *)object);
        return;
    }
    assert(object->type == SIM_OBJECT_IOAS);
    sim_object_remove(&context->objects, object);
    sim_ioas_free((struct sim_ioas *)object);
}

static int destroy(struct sim_context *context, union command *cmd)
{
    struct sim_object *object = sim_object_find(&context->objects, cmd->destroy.id);

    if (!object)
        return -ENOENT;
    if (object->users)
        return -EBUSY;
    destroy_object(context, object);
    return 0;
}

static int ioas_alloc(struct sim_context *context, union command *cmd)
{
    struct sim_ioas *ioas;

    if (cmd->alloc.flags)
        return -EOPNOTSUPP;
    ioas = sim_ioas_create(context->sim);
    if (!ioas)
        return -ENOMEM;
    sim_object_add(&context->objects, &ioas->object, SIM_OBJECT_IOAS);
    cmd->alloc.out_ioas_id = ioas->object.id;
    return 0;
}

static int iova_ranges(struct sim_context *context, union command *cmd)
{
    struct uapi_ioas_iova_ranges *get = &cmd->ranges;
    struct uapi_iova_range ranges[SIM_DOMAIN_APERTURES];
    const struct sim_ioas *ioas;
    uint32_t room = get->num_iovas;
    int ret = 0;

    if (get->reserved)
        return -EOPNOTSUPP;
    ioas = find_ioas(context, get->ioas_id);
    if (!ioas)
        return -ENOENT;
    get->num_iovas = sim_ioas_ranges(ioas, ranges);
    get->out_iova_alignment = sim_ioas_alignment(ioas);
    if (room)
        ret = sim_copy_out((void *)(uintptr_t)get->allowed_iovas, ranges,
                           MIN(room, get->num_iovas) * sizeof(ranges[0]));
    if (!ret && get->num_iovas > room)
        ret = -EMSGSIZE;
    return ret;
}

static int check_map(uint32_t flags, uint32_t reserved, uint64_t iova, uint64_t length)
{
    if (flags & ~(uint32_t)MAP_FLAGS || reserved)
        return -EOPNOTSUPP;
    if (iova == UINT64_MAX || length == UINT64_MAX)
        return -EOVERFLOW;
    return flags & MAP_RIGHTS ? 0 : -EINVAL;
}

static int ioas_map(struct sim_context *context, union command *cmd)
{
    struct uapi_ioas_map *map = &cmd->map;
    int ret = check_map(map->flags, map->reserved, map->iova, map->length);
    struct sim_pages *pages;
    struct sim_ioas *ioas;

    if (ret)
        return ret;
    ioas = find_ioas(context, map->ioas_id);
    if (!ioas)
        return -ENOENT;
    ret = sim_pages_of_memory(context->sim, map->user_va, map->length,
                              map->flags & UAPI_IOAS_MAP_WRITEABLE, &pages);
    if (ret)
        return ret;
    ret = sim_ioas_map(ioas, pages, map->length, map->flags, &map->iova);
    sim_pages_put(pages);
    return ret;
}

static int ioas_map_file(struct sim_context *context, union command *cmd)
{
    struct uapi_ioas_map_file *map = &cmd->map_file;
    int ret = check_map(map->flags, 0, map->iova, map->length);
    struct sim_pages *pages;
    struct sim_ioas *ioas;

    if (ret)
        return ret;
    ioas = find_ioas(context, map->ioas_id);
    if (!ioas)
        return -ENOENT;
    ret = sim_pages_of_file(context->sim, map->fd, map->start, map->length,
                            map->flags & UAPI_IOAS_MAP_WRITEABLE, &pages);
    if (ret)
        return ret;
    ret = sim_ioas_map(ioas, pages, map->length, map->flags, &map->iova);
    sim_pages_put(pages);
    return ret;
}

static int ioas_copy(struct sim_context *context, union command *cmd)
{
    struct uapi_ioas_copy *copy = &cmd->copy;
    int ret = check_map(copy->flags, 0, copy->dst_iova, copy->length);
    struct sim_ioas *from, *to;

    if (!ret && copy->src_iova == UINT64_MAX)
        ret = -EOVERFLOW;
    if (ret)
        return ret;
    from = find_ioas(context, copy->src_ioas_id);
    to = find_ioas(context, copy->dst_ioas_id);
    if (!from || !to)
        return -ENOENT;
    return sim_ioas_copy(to, from, copy->src_iova, copy->length, copy->flags, &copy->dst_iova);
}

static int ioas_unmap(struct sim_context *context, union command *cmd)
{
    struct uapi_ioas_unmap *unmap = &cmd->unmap;
    struct sim_ioas *ioas = find_ioas(context, unmap->ioas_id);
    int ret;

    if (!ioas)
        return -ENOENT;
    if (unmap->iova == 0 && unmap->length == UINT64_MAX) {
        ret = sim_ioas_unmap(ioas, 0, UINT64_MAX, &unmap->length);
        return ret == -ENOENT ? 0 : ret;
    }
    if (unmap->iova == UINT64_MAX || unmap->length == UINT64_MAX)
        return -EOVERFLOW;
    if (!unmap->length)
        return -EINVAL;
    if (range_wraps(unmap->iova, unmap->length))
        return -EOVERFLOW;
    return sim_ioas_unmap(ioas, unmap->iova, unmap->iova + (unmap->length - 1), &unmap->length);
}

/* Page tables without nesting and faults. */
static int hwpt_alloc(struct sim_context *context, union command *cmd)
{
    struct uapi_hwpt_alloc *alloc = &cmd->hwpt_alloc;
    struct sim_object *pt;
    struct sim_hwpt *hwpt;
    int ret;

    if (alloc->flags & ~(uint32_t)UAPI_HWPT_ALLOC_DIRTY_TRACKING || alloc->reserved)
        return -EOPNOTSUPP;
    if (alloc->data_type ? !alloc->data_len : alloc->data_len || alloc->data_uptr)
        return -EINVAL;
    if (!sim_object_find_type(&context->objects, alloc->dev_id, SIM_OBJECT_DEVICE))
        return -ENOENT;
    pt = sim_object_find(&context->objects, alloc->pt_id);
    if (!pt || pt->type == SIM_OBJECT_DEVICE || pt->type == SIM_OBJECT_ACCESS)
        return -EINVAL;
    if (pt->type == SIM_OBJECT_HWPT || alloc->data_type ||
        (alloc->flags && !context->sim->dirty_tracking))
        return -EOPNOTSUPP;
    ret = sim_hwpt_create(context, (struct sim_ioas *)pt, &hwpt);
    if (ret)
        return ret;
    hwpt->tracks = alloc->flags;
    alloc->out_hwpt_id = hwpt->object.id;
    return 0;
}

/* Of an IOMMU that has nothing of its own to tell. */
static int get_hw_info(struct sim_context *context, union command *cmd)
{
    struct uapi_hw_info *info = &cmd->hw_info;

    if (info->flags || info->reserved)
        return -EOPNOTSUPP;
    if (!sim_object_find_type(&context->objects, info->dev_id, SIM_OBJECT_DEVICE))
        return -ENOENT;
    info->data_len = 0;
    info->out_data_type = 0;
    info->out_capabilities = context->sim->dirty_tracking ? UAPI_HW_CAP_DIRTY_TRACKING : 0;
    return 0;
}

static struct sim_hwpt *find_hwpt(struct sim_context *context, uint32_t id)
{
    return (struct sim_hwpt *)sim_object_find_type(&context->objects, id, SIM_OBJECT_HWPT);
}

static int set_dirty(struct sim_context *context, union command *cmd)
{
    const struct uapi_hwpt_set_dirty *set = &cmd->set_dirty;
    struct sim_hwpt *hwpt = find_hwpt(context, set->hwpt_id);

    if (set->flags & ~(uint32_t)UAPI_HWPT_DIRTY_ENABLE || set->reserved)
        return -EOPNOTSUPP;
    if (!hwpt)
        return -ENOENT;
    return sim_hwpt_track(hwpt, set->flags);
}

static int get_dirty(struct sim_context *context, union command *cmd)
{
    const struct uapi_hwpt_get_dirty *get = &cmd->get_dirty;
    struct sim_hwpt *hwpt = find_hwpt(context, get->hwpt_id);

    if (get->flags & ~(uint32_t)UAPI_HWPT_GET_DIRTY_NO_CLEAR || get->reserved)
        return -EOPNOTSUPP;
    if (!hwpt)
        return -ENOENT;
    return sim_hwpt_read_dirty(hwpt, get);
}

static const struct {
    unsigned long request;
    size_t min; /* size of the struct's first version */
    size_t size;
    int (*execute)(struct sim_context *context, union command *cmd); /* with the context's lock */
} ioctls[] = {
    {UAPI_IOMMU_DESTROY,          8,  sizeof(struct uapi_iommu_destroy),    destroy      },
    {UAPI_IOMMU_IOAS_ALLOC,       12, sizeof(struct uapi_ioas_alloc),       ioas_alloc   },
    {UAPI_IOMMU_IOAS_IOVA_RANGES, 32, sizeof(struct uapi_ioas_iova_ranges), iova_ranges  },
    {UAPI_IOMMU_IOAS_MAP,         40, sizeof(struct uapi_ioas_map),         ioas_map     },
    {UAPI_IOMMU_IOAS_MAP_FILE,    40, sizeof(struct uapi_ioas_map_file),    ioas_map_file},
    {UAPI_IOMMU_IOAS_COPY,        40, sizeof(struct uapi_ioas_copy),        ioas_copy    },
    {UAPI_IOMMU_IOAS_UNMAP,       24, sizeof(struct uapi_ioas_unmap),       ioas_unmap   },
    {UAPI_IOMMU_HWPT_ALLOC,       24, sizeof(struct uapi_hwpt_alloc),       hwpt_alloc   },
    {UAPI_IOMMU_GET_HW_INFO,      32, sizeof(struct uapi_hw_info),          get_hw_info  },
    {UAPI_IOMMU_HWPT_SET_DIRTY,   16, sizeof(struct uapi_hwpt_set_dirty),   set_dirty    },
    {UAPI_IOMMU_HWPT_GET_DIRTY,   48, sizeof(struct uapi_hwpt_get_dirty),   get_dirty    },
};

/* user_size: how long the caller says that the struct is. */
static int copy_command(union command *cmd, const char *arg, size_t user_size, size_t size)
{
    memset(cmd, 0, sizeof(*cmd));
    memcpy(cmd, arg, MIN(user_size, size));
    for (size_t i = size; i < user_size; i++) {
        if (arg[i])
            return -E2BIG;
    }
    return 0;
}

static int run(struct sim_context *context, size_t index, void *arg, size_t user_size)
{
    size_t size = ioctls[index].size;
    union command cmd;
    int ret;

    if (user_size < ioctls[index].min)
        return -EINVAL;
    ret = copy_command(&cmd, arg, user_size, size);
    if (ret)
        return ret;
    pthread_mutex_lock(&context->lock);
    ret = ioctls[index].execute(context, &cmd);
    pthread_mutex_unlock(&context->lock);
    /* With too little room for the ranges the caller learns how many there are. */
    if (!ret || ret == -EMSGSIZE)
        memcpy(arg, &cmd, MIN(user_size, size));
    return ret;
}

static bool is_known(const struct sim *sim, unsigned long request)
{
    return request != UAPI_IOMMU_IOAS_MAP_FILE || sim->iommufd == SIM_IOMMUFD_MAP_FILE;
}

static int iommufd_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    uint32_t user_size;

    for (size_t i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request != request || !is_known(file->sim, request))
            continue;
        if (sim_copy_in(&user_size, arg, sizeof(user_size)))
            return -EFAULT;
        return run(file->object, i, arg, user_size);
    }
    return -ENOTTY;
}

/* No device is bound any more: HWPTs are the only users that are left. */
static void iommufd_release(struct sim_file *file)
{
    struct sim_context *context = file->object;
    struct sim_object *o;

    while ((o = context->objects.first)) {
        while (o->users)
            o = o->next;
        destroy_object(context, o);
    }
    pthread_mutex_destroy(&context->lock);
    free(context);
}

static const struct sim_file_ops iommufd_ops = {
    .name = "sim-iommufd",
    .kind = SIM_FILE_IOMMUFD,
    .ioctl = iommufd_ioctl,
    .release = iommufd_release,
};

struct sim_context *sim_iommufd_context(const struct sim_file *file)
{
    return file->ops == &iommufd_ops ? file->object : NULL;
}

int sim_iommufd_open(struct sim *sim)
{
    struct sim_context *context = calloc(1, sizeof(*context));
    struct sim_file *file;
    int ret;

    if (!context)
        return -ENOMEM;
    file = sim_file_create(sim, &iommufd_ops, context);
    if (!file) {
        free(context);
        return -ENOMEM;
    }
    context->sim = sim;
    pthread_mutex_init(&context->lock, NULL);
    ret = sim_file_install(file);
    if (ret < 0)
        sim_file_put(file);
    return ret;
}
