/* A write that a device's driver makes again and again: see ioeventfd.h. */
#pragma once

#include <stdint.h>

struct doorbell {
    uint32_t region; /* a BAR's index */
    uint32_t width;  /* of the write in bytes: 1, 2, 4, 8 */
    uint64_t offset; /* in the region, a multiple of the width */
    uint64_t data;   /* that is written */
};
