/*
 * What failed once may work now. But a client can ask as often as it likes, and each try takes the
 * worker's time and a few lines of log: so there is some time between two tries.
 */
#pragma once

#include <stdbool.h>
#include <time.h>

enum {
    RETRY_SECONDS = 2,
};

struct retry {
    time_t next; /* monotonic seconds */
};

static inline time_t retry_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static inline bool retry_may(const struct retry *retry)
{
    return retry_now() >= retry->next;
}

static inline void retry_failed(struct retry *retry)
{
    retry->next = retry_now() + RETRY_SECONDS;
}
