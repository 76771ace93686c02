/* Eventfds, as a client of interrupts uses them. Functions return -errno on an error. */
#pragma once

#include <stdint.h>

enum {
    EVENT_TIMEOUT_MS = 30000, /* until something that should come is given up */
    EVENT_QUIET_MS = 300,     /* how long something that must not come is waited for */
};

/* A new eventfd with counter 0, the caller's. */
int event_create(void);

/* Waits for the eventfd to be signalled and clears it. 1: it was; 0: not within the time. */
int event_wait(int fd, int timeout_ms);

int event_signal(int fd);

/* Milliseconds of a clock that only goes forward; for the deadline of a loop. */
int64_t event_now_ms(void);

/* Gives the device a moment between two looks at a register. */
void event_pause(void);
