/* Durations, and what their median is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct samples {
    uint32_t *ns;
    size_t count;
};

/* false without memory. */
bool samples_init(struct samples *s);
void samples_free(struct samples *s);

/* Begins anew. */
void samples_clear(struct samples *s);

/* A sample over the capacity is dropped; see samples_full. */
void samples_add(struct samples *s, uint64_t ns);
bool samples_full(const struct samples *s);

/* The clock of durations, in nanoseconds. */
uint64_t samples_now(void);

/* In microseconds, 0 without samples. The samples lose their order. */
double samples_median_us(struct samples *s);
