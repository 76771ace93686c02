#include "bridge/sim/sim_object.h"

#include <assert.h>
#include <stddef.h>

void sim_object_add(struct sim_objects *objects, struct sim_object *object,
                    enum sim_object_type type)
{
    struct sim_object **link = &objects->first;

    object->type = type;
    object->id = 1;
    while (*link && (*link)->id == object->id) {
        link = &(*link)->next;
        object->id++;
    }
    object->next = *link;
    *link = object;
}

void sim_object_remove(struct sim_objects *objects, struct sim_object *object)
{
    struct sim_object **link = &objects->first;

    assert(!object->users);
    while (*link != object)
        link = &(*link)->next;
    *link = object->next;
}

struct sim_object *sim_object_find(const struct sim_objects *objects, uint32_t id)
{
    struct sim_object *object = objects->first;

    while (object && object->id != id)
        object = object->next;
    return object;
}

struct sim_object *sim_object_find_type(const struct sim_objects *objects, uint32_t id,
                                        enum sim_object_type type)
{
    struct sim_object *object = sim_object_find(objects, id);

    return object && object->type == type ? object : NULL;
}
