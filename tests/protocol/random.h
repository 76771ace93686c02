/* Random numbers that a seed repeats. */
#pragma once

#include <stdint.h>

struct random {
    uint64_t state;
};

/* A number from the environment, if the variable is there. */
uint64_t random_setting(const char *name, uint64_t otherwise);

/* Seeded by the variable, or else anew; what the seed is is printed, to be set for another run. */
struct random random_start(const char *name);

/* From 0 to n - 1. */
uint64_t random_below(struct random *r, uint64_t n);
