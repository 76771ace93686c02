#include "bridge/sim/sim_hwpt.h"

#include <errno.h>
#include <stdlib.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_group.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_ioas.h"
#include "bridge/sim/sim_iommufd.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

int sim_hwpt_create(struct sim_context *context, struct sim_ioas *ioas, struct sim_hwpt **out)
{
    struct sim_hwpt *hwpt = calloc(1, sizeof(*hwpt));
    int ret;

    if (!hwpt)
        return -ENOMEM;
    ret = sim_ioas_add_domain(ioas);
    if (ret) {
        free(hwpt);
        return ret;
    }
    hwpt->ioas = ioas;
    ioas->object.users++;
    sim_object_add(&context->objects, &hwpt->object, SIM_OBJECT_HWPT);
    *out = hwpt;
    return 0;
}

void sim_hwpt_destroy(struct sim_context *context, struct sim_hwpt *hwpt)
{
    sim_object_remove(&context->objects, &hwpt->object);
    sim_ioas_remove_domain(hwpt->ioas);
    hwpt->ioas->object.users--;
    free(hwpt);
}

static void put_if_automatic(struct sim_context *context, struct sim_hwpt *hwpt)
{
    if (hwpt->automatic && !hwpt->object.users)
        sim_hwpt_destroy(context, hwpt);
}

static void switch_group(struct sim_group *group, struct sim_hwpt *hwpt)
{
    pthread_mutex_lock(&group->sim->lock);
    sim_group_set_domain(group, hwpt ? &hwpt->ioas->domain : NULL);
    pthread_mutex_unlock(&group->sim->lock);
    group->hwpt = hwpt;
}

/* Of a group of which no device is attached, or others are. */
static int attach_first(struct sim_device *dev, struct sim_hwpt *hwpt)
{
    struct sim_group *group = dev->group;
    int ret;

    if (group->hwpt && group->hwpt != hwpt)
        return -EINVAL;
    ret = sim_ioas_add_devices(hwpt->ioas, 1);
    if (ret)
        return ret;
    if (group->attached++ == 0)
        switch_group(group, hwpt);
    hwpt->object.users++;
    dev->attached = true;
    return 0;
}

static int replace(struct sim_context *context, struct sim_group *group, struct sim_hwpt *hwpt)
{
    struct sim_hwpt *before = group->hwpt;
    int ret;

    if (before == hwpt)
        return 0;
    ret = sim_ioas_add_devices(hwpt->ioas, group->attached);
    if (ret)
        return ret;
    switch_group(group, hwpt);
    hwpt->object.users += group->attached;
    sim_ioas_remove_devices(before->ioas, group->attached);
    before->object.users -= group->attached;
    put_if_automatic(context, before);
    return 0;
}

static int attach(struct sim_context *context, struct sim_device *dev, struct sim_hwpt *hwpt)
{
    return dev->attached ? replace(context, dev->group, hwpt) : attach_first(dev, hwpt);
}

/* The IOAS's automatic one, new if need be. */
static int get_automatic(struct sim_context *context, struct sim_ioas *ioas, struct sim_hwpt **out)
{
    int ret;

    for (struct sim_object *o = context->objects.first; o; o = o->next) {
        struct sim_hwpt *hwpt = (struct sim_hwpt *)o;

        if (o->type == SIM_OBJECT_HWPT && hwpt->ioas == ioas && hwpt->automatic) {
            *out = hwpt;
            return 0;
        }
    }
    ret = sim_hwpt_create(context, ioas, out);
    if (!ret)
        (*out)->automatic = true;
    return ret;
}

int sim_hwpt_attach(struct sim_context *context, struct sim_device *dev, uint32_t *id)
{
    struct sim_object *object = sim_object_find(&context->objects, *id);
    struct sim_hwpt *hwpt = (struct sim_hwpt *)object;
    int ret = 0;

    if (!object || (dev->model->mediated && object->type != SIM_OBJECT_IOAS))
        return -ENOENT;
    if (object->type == SIM_OBJECT_DEVICE || object->type == SIM_OBJECT_ACCESS)
        return -EINVAL;
    if (object->type == SIM_OBJECT_IOAS)
        ret = get_automatic(context, (struct sim_ioas *)object, &hwpt);
    if (ret)
        return ret;
    ret = attach(context, dev, hwpt);
    if (ret) {
        put_if_automatic(context, hwpt);
        return ret;
    }
    *id = hwpt->object.id;
    return 0;
}

void sim_hwpt_detach(struct sim_context *context, struct sim_device *dev)
{
    struct sim_group *group = dev->group;
    struct sim_hwpt *hwpt = group->hwpt;

    if (!dev->attached)
        return;
    dev->attached = false;
    if (--group->attached == 0)
        switch_group(group, NULL);
    sim_ioas_remove_devices(hwpt->ioas, 1);
    hwpt->object.users--;
    put_if_automatic(context, hwpt);
}

int sim_hwpt_track(struct sim_hwpt *hwpt, bool on)
{
    if (!hwpt->tracks)
        return -EOPNOTSUPP;
    sim_track_switch(&hwpt->ioas->domain.track, on);
    return 0;
}

static int check_range(const struct sim_ioas *ioas, const struct uapi_hwpt_get_dirty *get)
{
    const uint64_t end = get->iova + get->length;

    if (get->iova + (get->length - 1) < get->iova)
        return -EOVERFLOW;
    if (!get->page_size || (get->iova | end) & (sim_ioas_alignment(ioas) - 1) ||
        (get->iova | end) & (get->page_size - 1))
        return -EINVAL;
    return 0;
}

int sim_hwpt_read_dirty(struct sim_hwpt *hwpt, const struct uapi_hwpt_get_dirty *get)
{
    const struct sim_bitmap bitmap = {get->iova, get->page_size, get->data};
    int ret = check_range(hwpt->ioas, get);

    if (ret)
        return ret;
    if (!hwpt->tracks)
        return -EOPNOTSUPP;
    sim_track_read(&hwpt->ioas->domain, get->iova, get->iova + (get->length - 1),
                   !(get->flags & UAPI_HWPT_GET_DIRTY_NO_CLEAR), &bitmap);
    return 0;
}
