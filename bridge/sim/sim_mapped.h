/*
 * What other processes map of a device: the first of its BARs that are memory. They are not offered
 * its hole; who maps it all the same finds memory there that nobody else sees.
 *
 * While nobody has a descriptor for that, the memory is the machine's own. The first descriptor
 * moves it into a file, which is truncated for as long as the kernel would let nobody reach the
 * BAR, and for good when the device is closed for the last time: as with the kernel, whoever
 * touches his mapping gets SIGBUS, and a mapping lives again when the BAR does. Only during a
 * reset, which the kernel lets him wait for, it is there all the time.
 *
 * Each descriptor has an open file of its own, and a lock on it by which it is seen whether it, a
 * duplicate or a mapping of it is still somewhere, in whatever process.
 *
 * With the device's lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sim_device;

struct sim_mapped {
    int file;     /* -1: nobody has a descriptor of it */
    char *window; /* the file in this process */
    bool hidden;  /* nobody can reach the BAR */
    off_t owners; /* numbers given out */
};

void sim_mapped_init(struct sim_mapped *mapped);

/* The BAR's index; -1: the device has no such memory. */
int sim_mapped_bar(const struct sim_device *dev);

/* Where that BAR's memory is at the moment. */
char *sim_mapped_ram(const struct sim_device *dev);

/*
 * A descriptor of the memory, from its start. *owner: 0, which becomes a number, or that of an
 * earlier call; NULL: nobody will look for it. -EOPNOTSUPP: the device has no such memory; -errno.
 */
int sim_mapped_share(struct sim_device *dev, off_t *owner);

/* Maps a part of it in this process, as mmap does. */
int sim_mapped_map(struct sim_device *dev, void **addr, size_t len, int prot, int flags,
                   off_t offset);

/* Whether a descriptor or a mapping of that owner's is left anywhere. */
bool sim_mapped_is_held(const struct sim_device *dev, off_t owner);

/* Whether anybody can reach the BAR from now on. */
void sim_mapped_show(struct sim_device *dev, bool visible);

/* The device was closed: what others have mapped is gone. */
void sim_mapped_end(struct sim_device *dev);
