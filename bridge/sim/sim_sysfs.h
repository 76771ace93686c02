/*
 * The part of sysfs that tells of PCI devices and IOMMU groups. Takes sim->lock.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct sim;

/* A descriptor; -ENOENT: no such file; -EACCES: for writing; -EISDIR. */
int sim_sysfs_open(struct sim *sim, const char *path, int flags);

/* As of struct host_ops. */
ssize_t sim_sysfs_readlink(struct sim *sim, const char *path, char *buf, size_t size);
int sim_sysfs_list(struct sim *sim, const char *path, int (*entry)(const char *name, void *arg),
                   void *arg);
