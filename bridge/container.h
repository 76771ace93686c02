/*
 * A VFIO container and the groups in it (<linux/vfio.h>, "Container user API" and "Group user
 * API"): what its IOMMU models have in common.
 *
 * The kernel's order: open the container, open the group, put the group into the container, set
 * the container's IOMMU model (possible only with a group inside), open the device by the group.
 * A container keeps its IOMMU and mappings as long as a group is inside.
 *
 * Functions return 0 or -errno and have logged the cause of an error. One thread at a time.
 */
#pragma once

#include <stdbool.h>

#include "bridge/host.h"
#include "bridge/sysfs.h"

struct container_model {
    unsigned long id; /* VFIO_*_IOMMU */
    /* Log lines: what is wrong and what helps. */
    const char *missing; /* the kernel does not have the model */
    const char *refused; /* SET_IOMMU failed with EPERM; said behind the device's address */
    /* Tried before that is said, as the machine may be of this kind; NULL: none. */
    const struct container_model *instead;
};

struct container_group;

struct container {
    struct host *host;
    const struct container_model *model; /* the one that is set, or would be */
    int fd;
    bool model_set;
    struct container_group *groups;
};

/* c: closed by container_close, after an error too. */
int container_open(struct container *c, struct host *host, const struct container_model *model);

/* The descriptor of a group that has joined; -1: it has not. */
int container_group_file(const struct container *c, int number);

/* All groups leave. Devices opened through it are closed before. */
void container_close(struct container *c);

/*
 * Makes sure that the device's group is inside. *joined: it was not before. The first one sets the
 * IOMMU model.
 */
int container_join(struct container *c, const struct sysfs_device *dev, bool *joined);

/* Undoes the last container_join that had joined. */
void container_leave(struct container *c);

/*
 * Lets a group go (0 also if it is not inside) whose devices are closed. -EBUSY: another process
 * still has the file of one, and the group stays inside, as nobody could open it then.
 */
int container_vacate(struct container *c, int number);

/* Opens a device of a group that is inside. *fd: of the host, the caller's. */
int container_open_device(struct container *c, const struct sysfs_device *dev, int *fd);
