/*
 * The throughput of migration data: messages of 1 MiB one after the other, MIG_DATA_READ of a
 * device in STOP_COPY and MIG_DATA_WRITE of one in RESUMING. The floor is a bare pipe between two
 * processes that brings, or takes, as many bytes.
 */
#pragma once

#include "tests/bench/measure.h"

enum {
    STREAMS = 2,
    STREAM_MESSAGE = 1 << 20,
};

/* "mig_data_read_1m", "mig_data_write_1m" */
const char *stream_name(unsigned i);

/* Medians of the time of a message. 0 or -errno; said on stderr. */
int stream_measure(unsigned i, const struct measure_mode *mode, double seconds,
                   struct measure_result *result);
