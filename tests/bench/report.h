/*
 * The report of a dirty log over 1 TiB in pages of 4 KiB, of which 1 percent is dirty: all of its
 * messages, one after the other. The simulated device has written the pages, and its log, which is
 * the kernel's part, is in the time.
 *
 * The floor is a process that only copies as many bytes of such a bitmap, looks at each word, and
 * sends them in as many messages of the same size.
 */
#pragma once

#include "tests/bench/measure.h"

struct sim;

/* "report_1t" */
extern const char report_name[];

/* Medians of a report of all. 0 or -errno; said on stderr. */
int report_measure(const struct measure_mode *mode, double seconds, struct measure_result *result);

/*
 * In the server's process: for each byte that comes by the socket the first device writes its
 * pages, and a byte goes back; until the socket's end.
 */
void report_serve_writes(struct sim *sim, int control);
