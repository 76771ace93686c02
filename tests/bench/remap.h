/*
 * What it costs a client to unmap memory and map it again, as QEMU does some times while a BIOS
 * boots: with iommufd, without and with --stable-memory, which keeps the pins.
 *
 * The simulated kernel's pin is a populated mapping of the file: its pages are allocated with the
 * first one.
 */
#pragma once

#include "tests/bench/measure.h"

enum {
    REMAPS = 2,
};

/* "remap_1g", "remap_1g_stable" */
const char *remap_name(unsigned i);

/* Medians. */
struct remap_result {
    double map_us, unmap_us;
};

/* 0 or -errno; said on stderr. */
int remap_measure(unsigned i, const struct measure_mode *mode, struct remap_result *result);
