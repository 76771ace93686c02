/*
 * The files of VFIO devices (/dev/vfio/devices/vfioN), which work once they are bound to an iommufd
 * context.
 */
#pragma once

struct sim;

/* A descriptor or -errno. -ENOENT: vfio-pci has no such device. Takes sim->lock. */
int sim_cdev_open(struct sim *sim, int number);
