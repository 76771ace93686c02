/*
 * VFIO containers (/dev/vfio/vfio).
 *
 * With sim->lock held, unless stated.
 */
#pragma once

#include <stdbool.h>

struct sim;
struct sim_driver;
struct sim_file;
struct sim_group;

/* Lives as long as its descriptor is open or a group is in it. */
struct sim_container {
    unsigned refs;
    unsigned groups;
    struct sim_driver *iommu; /* of SET_IOMMU with a model that does something */
    bool noiommu;             /* its groups are such ones: real groups and those do not mix */
    bool noiommu_set;         /* SET_IOMMU with the model that does nothing */
};

/* open of /dev/vfio/vfio: a descriptor or -errno. Without the lock. */
int sim_container_open(struct sim *sim);

/* NULL: the file is something else. */
struct sim_container *sim_container_of_file(const struct sim_file *file);

bool sim_container_has_model(const struct sim_container *container);

/*
 * -EPERM: groups of the other kind are inside, or the capability for no-IOMMU lacks; or what the
 * IOMMU refuses it with. The group is in no container.
 */
int sim_container_attach(struct sim_container *container, struct sim_group *group);

/* The IOMMU that the last group has left: to be released and put without the lock; or NULL. */
struct sim_driver *sim_container_detach(struct sim_group *group);
