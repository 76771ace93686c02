/*
 * IOMMU groups and their descriptors (/dev/vfio/N).
 *
 * With sim->lock held, unless stated.
 */
#pragma once

#include <stdbool.h>

#include "bridge/sim/sim_eeh.h"

struct sim;
struct sim_container;
struct sim_context;
struct sim_device;
struct sim_domain;
struct sim_file;
struct sim_hwpt;

struct sim_group {
    struct sim *sim;
    struct sim_group *next;
    int number;
    bool noiommu; /* made by vfio-pci for a device that has no IOMMU; there as long as it has it */
    struct sim_file *opened; /* the one descriptor's */
    struct sim_container *container;
    unsigned users; /* of the container: the group itself, and a descriptor of a device each */

    struct sim_pe pe; /* of a POWER machine: the group is one */

    struct sim_context *owner; /* of the devices' DMA, if devices are bound by their own files */
    unsigned bound;            /* such devices */

    /* With the owner's lock: what its devices are attached to, NULL: nothing. */
    struct sim_hwpt *hwpt;
    unsigned attached;
};

/* A new group of the machine; NULL without memory. */
struct sim_group *sim_group_create(struct sim *sim, int number);
/* Frees the group if no device is in it. */
void sim_group_drop_if_empty(struct sim_group *group);

/* NULL: there is none of that number. */
struct sim_group *sim_group_find(struct sim *sim, int number);

/* False: of a device without an IOMMU that vfio-pci does not have. */
bool sim_group_exists(const struct sim_group *group);
/* True: vfio-pci has one of its devices, so the group has a file. */
bool sim_group_has_file(const struct sim_group *group);

/* The first device of the group, or the one behind dev; NULL: no more. */
struct sim_device *sim_group_next_device(const struct sim_group *group, struct sim_device *dev);

/* True: its IOMMU is made up for the one mediated device in it. */
bool sim_group_is_emulated(const struct sim_group *group);

/* False: a driver that does DMA itself has one of the devices. */
bool sim_group_is_viable(const struct sim_group *group);

/* All of the group's devices at once: the IOMMU can't tell them apart. NULL: blocked. */
void sim_group_set_domain(struct sim_group *group, struct sim_domain *domain);

/*
 * open of /dev/vfio/N, or /dev/vfio/noiommu-N: a descriptor or -errno. -ENOENT: no such group, or
 * none of it is vfio-pci's; -EPERM: no-IOMMU without the capability; -EBUSY: it is open, or a
 * device of it is bound by its own file. Without the lock.
 */
int sim_group_open(struct sim *sim, int number, bool noiommu);

/*
 * A device's descriptor keeps the group's file open. add: -EINVAL if the group's container has no
 * IOMMU. drop: the reference to be put without the lock.
 */
int sim_group_add_user(struct sim_group *group);
struct sim_file *sim_group_drop_user(struct sim_group *group);
