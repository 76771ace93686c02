/*
 * A client's access to a BAR by read and write of the device's descriptor.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sim_device;

/*
 * Takes the device's lock for each access. Returns the bytes done, fewer than asked at the BAR's
 * end. -EINVAL: no such BAR, or from its end on; -EIO: memory decoding is off, be it after a part
 * was done.
 */
ssize_t sim_bar_read(struct sim_device *dev, unsigned bar, uint64_t offset, void *buf, size_t len);
ssize_t sim_bar_write(struct sim_device *dev, unsigned bar, uint64_t offset, const void *buf,
                      size_t len);
