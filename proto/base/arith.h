/* Checked arithmetic for numbers that a peer, a kernel or a file has chosen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b)                                                                                  \
    ({                                                                                             \
        __typeof__(a) min_a_ = (a);                                                                \
        __typeof__(b) min_b_ = (b);                                                                \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })

#define MAX(a, b)                                                                                  \
    ({                                                                                             \
        __typeof__(a) max_a_ = (a);                                                                \
        __typeof__(b) max_b_ = (b);                                                                \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

static inline bool is_pow2(uint64_t v)
{
    return v && !(v & (v - 1));
}

/* align: a power of two. */
static inline bool is_aligned(uint64_t v, uint64_t align)
{
    return !(v & (align - 1));
}

/*
 * True if [start, start + len) is not empty and lies below limit, where start + len == limit is
 * inside. No combination of values overflows.
 */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t limit)
{
    return len && start < limit && len <= limit - start;
}

/* True if start + len passes 2^64 (a range that ends exactly there does not). */
static inline bool range_wraps(uint64_t start, uint64_t len)
{
    return len && start + (len - 1) < start;
}
