/*
 * A migration data transfer session: what is behind the descriptor that some state changes give
 * (<linux/vfio.h>, data_fd). sim_migration.c begins and ends it.
 *
 * The stream is a sequence of records: a header that says whose state it is, images that are out
 * of date when the device has run on, and the final one. A saving session is a queue of bytes; a
 * resuming one takes records in as they become whole, whatever the pieces that they come in.
 *
 * With the device's lock held.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;
struct sim_file;

enum sim_stream_kind {
    SIM_STREAM_PRE_COPY,  /* begins with the device's state as it is now */
    SIM_STREAM_STOP_COPY, /* is just that */
    SIM_STREAM_RESUMING,
};

/* A session without descriptor; *out: to be given one by sim_file_install, and to be ended.
 * -ENOMEM. */
int sim_stream_open(struct sim_device *dev, enum sim_stream_kind kind, struct sim_file **out);

/* Whoever has the descriptor gets ENODEV from now on; drops the caller's reference. */
void sim_stream_end(struct sim_file *file);

/* The device has stopped: ends a saving session with its state. -ENOMEM. */
int sim_stream_finish(struct sim_file *file);

/* Gives the model the state that a resuming session has received. -EINVAL: it is not whole, or the
 * model does not take it. */
int sim_stream_restore(struct sim_file *file);

/* Bytes of a session that begins in STOP_COPY. */
uint64_t sim_stream_size(const struct sim_device *dev);
