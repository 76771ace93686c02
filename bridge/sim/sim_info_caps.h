/* The capabilities of VFIO_DEVICE_GET_INFO. With the device's lock held. */
#pragma once

#include <linux/vfio.h>

struct sim_device;

/*
 * Puts the device's, if there are any, behind the struct at arg, if info->argsz has room for them;
 * and what is to be said of them into info, which the caller copies to arg.
 */
void sim_info_add_caps(const struct sim_device *dev, void *arg, struct vfio_device_info *info);
