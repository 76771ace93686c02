/*
 * Migration of a device (<linux/vfio.h>, VFIO_DEVICE_FEATURE_MIGRATION, MIG_DEVICE_STATE and
 * MIG_DATA_SIZE): its states, and the stream of its data.
 *
 * The kernel finds the way between two states, and knows alone where a device is: nothing is
 * remembered here but the descriptor of the data, which is made by a state change and closed by
 * the one that ends its use.
 *
 * Not thread-safe: a device belongs to its export's worker. Functions return 0 or -errno; -ENODEV:
 * the device is not open; -ENOTTY: it can't migrate. What is wrong is logged, but for -ENOTTY.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/device.h"

/* *flags: VFIO_MIGRATION_*, the optional states that there are. */
int migration_get_flags(struct device *dev, uint64_t *flags);

/* *state: enum vfio_device_mig_state. */
int migration_get_state(struct device *dev, uint32_t *state);

/*
 * Goes to a state; blocks for as long as the driver needs. After an error the device is where
 * migration_get_state says: where it was, on the way, or in ERROR, which reset_device leaves.
 */
int migration_set_state(struct device *dev, uint32_t state);

/* *bytes: the driver's estimate of what STOP_COPY has to transfer. */
int migration_get_data_size(struct device *dev, uint64_t *bytes);

/* Estimates of what a device in pre-copy still has to say. */
struct migration_precopy {
    uint64_t initial_bytes, dirty_bytes;
    bool reinit; /* there is initial data again, where the kernel tells of it */
};

/* -EINVAL: the device is not in pre-copy. */
int migration_get_precopy(struct device *dev, struct migration_precopy *out);

/* Descriptors that end a wait. */
struct migration_ends {
    int peer; /* a socket, when it has been closed at its other end */
    int stop; /* when it is readable; -1: none */
};

/*
 * Reads size bytes of the state's data. *got: how many there were; less than size: there are no
 * more now, and in STOP_COPY none will come.
 *
 * Both wait for a driver that is not ready, until what ends says: -ECANCELED; or for a minute:
 * -ETIMEDOUT. -EINVAL: the device is in no state to be read, to be written. After an error the
 * stream is of no use any more.
 */
int migration_read(struct device *dev, void *buf, size_t size, const struct migration_ends *ends,
                   size_t *got);
int migration_write(struct device *dev, const void *buf, size_t size,
                    const struct migration_ends *ends);

/* Ends the stream, if there is one. The state is left to whoever resets or closes the device. */
void migration_end_stream(struct device *dev);
