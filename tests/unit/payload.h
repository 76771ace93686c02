/*
 * A request's payload as a validator may meet it: at an odd address, and with nothing behind it, so
 * that the sanitizers see an aligned access and a read past the end.
 */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct payload {
    uint8_t *block;
    uint8_t *bytes;
    size_t len;
};

/* The fixed part and, behind it, more bytes of data (zeroes if data is NULL). */
static inline struct payload payload_new(const void *fixed, size_t size, const void *data,
                                         size_t more)
{
    struct payload p = {.block = calloc(1, 1 + size + more), .len = size + more};

    if (!p.block)
        abort();
    p.bytes = p.block + 1;
    memcpy(p.bytes, fixed, size);
    if (data)
        memcpy(p.bytes + size, data, more);
    return p;
}

static inline void payload_free(struct payload *p)
{
    free(p->block);
}
