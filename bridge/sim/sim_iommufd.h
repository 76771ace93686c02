/*
 * iommufd (/dev/iommu): every open file is a context with objects of its own.
 */
#pragma once

#include <pthread.h>

#include "bridge/sim/sim_object.h"

struct sim;
struct sim_file;

/* Lives as long as its descriptor is open or a device is bound to it. */
struct sim_context {
    struct sim *sim;
    pthread_mutex_t lock; /* for the block below */
    struct sim_objects objects;
};

/* open of /dev/iommu: a descriptor or -errno. */
int sim_iommufd_open(struct sim *sim);

/* NULL: the file is something else. */
struct sim_context *sim_iommufd_context(const struct sim_file *file);
