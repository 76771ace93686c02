/*
 * VFIO_DEVICE_FEATURE, and the features that the machine's devices have. To add one: enter its
 * handler in the table of sim_feature.c.
 *
 * With the device's lock held.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sim_device;

/*
 * A feature's handler. flags: those of the request, valid as such. data: what follows the struct in
 * the caller's buffer, argsz bytes of it. Returns as the ioctl does.
 */
typedef int sim_feature_handler(struct sim_device *dev, uint32_t flags, void *data, size_t argsz);

/* VFIO_DEVICE_FEATURE. arg: of the caller. -ENOTTY: there is no such feature. */
int sim_feature(struct sim_device *dev, void *arg);

/*
 * What a handler asks first. ops: VFIO_DEVICE_FEATURE_GET and SET as far as the feature has them;
 * minsz: bytes of data that it needs. 1: go on; 0: it was a probe, which is answered; -EINVAL.
 */
int sim_feature_check(uint32_t flags, size_t argsz, uint32_t ops, size_t minsz);
