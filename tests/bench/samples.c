#include "tests/bench/samples.h"

#include <stdlib.h>
#include <time.h>

#include "proto/base/arith.h"

enum {
    CAPACITY = 1 << 18,
};

bool samples_init(struct samples *s)
{
    *s = (struct samples){.ns = malloc(CAPACITY * sizeof(*s->ns))};
    return s->ns;
}

void samples_free(struct samples *s)
{
    free(s->ns);
    s->ns = NULL;
}

void samples_clear(struct samples *s)
{
    s->count = 0;
}

void samples_add(struct samples *s, uint64_t ns)
{
    if (s->count < CAPACITY)
        s->ns[s->count++] = (uint32_t)MIN(ns, (uint64_t)UINT32_MAX);
}

bool samples_full(const struct samples *s)
{
    return s->count == CAPACITY;
}

uint64_t samples_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

double samples_median_us(struct samples *s)
{
    if (!s->count)
        return 0;
    qsort(s->ns, s->count, sizeof(*s->ns), compare);
    return s->ns[s->count / 2] / 1000.0;
}
