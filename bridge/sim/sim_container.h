/*
 * VFIO containers (/dev/vfio/vfio).
 *
 * With sim->lock held, unless stated.
 */
#pragma once

#include <stdbool.h>

struct sim;
struct sim_file;
struct sim_group;
struct sim_iommu;

/* Lives as long as its descriptor is open or a group is in it. */
struct sim_container {
    unsigned refs;
    unsigned groups;
    struct sim_iommu *iommu; /* of SET_IOMMU with a type1 model */
    bool noiommu;            /* its groups are such ones: real groups and those do not mix */
    bool noiommu_set;        /* SET_IOMMU with the model that does nothing */
};

/* open of /dev/vfio/vfio: a descriptor or -errno. Without the lock. */
int sim_container_open(struct sim *sim);

/* NULL: the file is something else. */
struct sim_container *sim_container_of_file(const struct sim_file *file);

bool sim_container_has_model(const struct sim_container *container);

/*
 * -EBUSY: addresses of mappings are invalid; -EPERM: groups of the other kind are inside, or the
 * capability for no-IOMMU lacks. The group is in no container.
 */
int sim_container_attach(struct sim_container *container, struct sim_group *group);

/* The IOMMU that the last group has left: to be released and put without the lock; or NULL. */
struct sim_iommu *sim_container_detach(struct sim_group *group);
