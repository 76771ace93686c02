/*
 * A worker: the thread that serves one export. The kernel's VFIO calls block, for as long as
 * pinning memory or a reset takes; in a thread of its own a device makes no other wait.
 *
 * The control thread speaks to it through its mailbox and by no other way.
 */
#pragma once

#include "server/export.h"

struct worker;

/*
 * Starts the thread. finished(arg) is called from it when its export has nothing more to serve,
 * or could not begin. The export is the worker's until worker_stop has returned. 0 or -errno.
 */
int worker_start(struct worker **out, struct export *e, void (*finished)(void *arg), void *arg);

/*
 * Tells the worker to end its export's session and itself, without waiting: several workers do so
 * at the same time.
 */
void worker_ask_to_stop(struct worker *w);

/*
 * Ends the export's session, waits for the thread, frees the worker. 0, or the -errno with which
 * its export could not begin.
 */
int worker_stop(struct worker *w);
