/* The log of a device's writes that is on, for the files of bridge/ that make it up. */
#pragma once

#include "bridge/dirty.h"
#include "bridge/dirty_bitmap.h"
#include "bridge/range_set.h"

enum {
    DIRTY_MIN_PAGE = 4096, /* the kernel's */
    /* What the core of the kernel takes of ranges, for all sizes of its pages (64 KiB / 16). */
    DIRTY_MAX_RANGES = 4096,
};

struct dirty_log {
    enum dirty_source source;
    uint64_t page_size;
    struct range_set wanted; /* by the client */
    struct range_set logged; /* by the device; empty with another source */
    struct range_set kept;   /* dirty, and not reported yet */
    uint64_t *scratch;       /* DIRTY_SCRATCH bytes */
};

/* A report on its way. */
struct dirty_report {
    struct device *dev;
    struct dirty_bitmap out;
};

/*
 * The device's own log (dirty_device.c). Start: all: the client wants everything. After an error it
 * is off. Report: what the log tells of the bitmap's range.
 */
int dirty_device_probe(struct device *dev);
int dirty_device_start(struct device *dev, bool all);
int dirty_device_stop(struct device *dev);
void dirty_device_report(struct dirty_report *r);
/* -ENOMEM. */
int dirty_device_init(struct dirty_log *log);
