/*
 * A device's BARs: a client's access by read and write of the device's descriptor, that of another
 * device's transfer, and the memory behind those that are RAM.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sim_device;
struct sim_model_bar;

/*
 * Takes the device's lock for each access. Returns the bytes done, fewer than asked at the BAR's
 * end. -EINVAL: no such BAR, or from its end on; -EIO: memory decoding is off, be it after a part
 * was done.
 */
ssize_t sim_bar_read(struct sim_device *dev, unsigned bar, uint64_t offset, void *buf, size_t len);
ssize_t sim_bar_write(struct sim_device *dev, unsigned bar, uint64_t offset, const void *buf,
                      size_t len);

/*
 * The kernel's own write of one register, dropped where a client's would be an error. With the
 * device's lock held.
 */
void sim_bar_poke(struct sim_device *dev, unsigned bar, uint64_t offset, const void *buf,
                  size_t len);

/*
 * Another device's access to a memory BAR, within it. RAM is copied, registers are accessed in up
 * to 4 bytes. With the lock of the device that is accessed held.
 */
void sim_bar_transfer(struct sim_device *dev, unsigned bar, uint64_t offset, void *buf, size_t len,
                      bool write);

/* What a BAR that is RAM takes, in whole pages; 0 for any other. */
size_t sim_bar_ram_size(const struct sim_model_bar *bar);

/* Whole pages, which a mapping of the BAR shares. -ENOMEM: what there is is to be destroyed. */
int sim_bar_create_ram(struct sim_device *dev);
void sim_bar_destroy_ram(struct sim_device *dev);
