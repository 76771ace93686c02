/*
 * VFIO containers (/dev/vfio/vfio).
 *
 * With sim->lock held, unless stated.
 */
#pragma once

struct sim;
struct sim_file;
struct sim_group;
struct sim_iommu;

/* Lives as long as its descriptor is open or a group is in it. */
struct sim_container {
    unsigned refs;
    unsigned groups;
    struct sim_iommu *iommu; /* of SET_IOMMU */
};

/* open of /dev/vfio/vfio: a descriptor or -errno. Without the lock. */
int sim_container_open(struct sim *sim);

/* NULL: the file is something else. */
struct sim_container *sim_container_of_file(const struct sim_file *file);

/* -EBUSY: addresses of mappings are invalid. The group is in no container. */
int sim_container_attach(struct sim_container *container, struct sim_group *group);

/* The IOMMU that the last group has left: to be released and put without the lock; or NULL. */
struct sim_iommu *sim_container_detach(struct sim_group *group);
