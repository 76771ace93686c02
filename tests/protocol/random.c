#include "tests/protocol/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "tests/protocol/harness.h"

uint64_t random_setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

struct random random_start(const char *name)
{
    uint64_t seed;

    assert_int_equal(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
    seed = random_setting(name, seed);
    printf("%s=0x%" PRIx64 "\n", name, seed);
    fflush(stdout);
    return (struct random){seed};
}

uint64_t random_below(struct random *r, uint64_t n)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % n;
}
