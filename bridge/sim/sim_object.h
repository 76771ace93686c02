/*
 * The objects of one iommufd context: IOASes, hardware page tables (HWPTs) and bound devices, by
 * the ids that user space knows them by. Each is embedded in what it is, as the first member.
 *
 * With the context's lock held.
 */
#pragma once

#include <stdint.h>

enum sim_object_type {
    SIM_OBJECT_IOAS,
    SIM_OBJECT_HWPT,
    SIM_OBJECT_DEVICE,
    SIM_OBJECT_ACCESS, /* a mediated device, which has no IOMMU to be attached to */
};

struct sim_object {
    struct sim_object *next; /* by ascending id */
    enum sim_object_type type;
    uint32_t id;
    unsigned users; /* which must go before it can */
};

struct sim_objects {
    struct sim_object *first;
};

/* Gives it the lowest free id, from 1. */
void sim_object_add(struct sim_objects *objects, struct sim_object *object,
                    enum sim_object_type type);
void sim_object_remove(struct sim_objects *objects, struct sim_object *object);

/* NULL: there is no such id. */
struct sim_object *sim_object_find(const struct sim_objects *objects, uint32_t id);
/* NULL too if it is of another type. */
struct sim_object *sim_object_find_type(const struct sim_objects *objects, uint32_t id,
                                        enum sim_object_type type);
