/*
 * What the kernel tells the owner of a device: an error that AER reports (ERR), and that somebody
 * wants the device back (REQ): a driver's unbind, a hot-unplug. Whoever asked for that sleeps in
 * the kernel until the device's last descriptor is closed, and REQ comes again every ten seconds.
 * So a client that uses the device is told and has some time to leave it by itself.
 *
 * Created and freed by the control thread, else the export's worker.
 */
#pragma once

#include <stdbool.h>

struct event_base;
struct removal;

struct removal_callbacks {
    void (*error)(void *arg);     /* ERR */
    void (*requested)(void *arg); /* REQ, each time */
    void (*due)(void *arg);       /* the time of removal_begin_grace is over */
};

/* *out: freed by removal_free. 0 or -errno. */
int removal_create(struct removal **out);
/* After removal_stop. NULL is allowed. */
void removal_free(struct removal *r);

/* The eventfds for irq_relay_watch; they live as long as the removal does. */
int removal_err_event(const struct removal *r);
int removal_req_event(const struct removal *r);

/* From now on callbacks come, in the base's loop. 0 or -ENOMEM. */
int removal_start(struct removal *r, struct event_base *base,
                  const struct removal_callbacks *callbacks, void *arg);
void removal_stop(struct removal *r);

/* The client's time begins; it goes on if it has begun. */
void removal_begin_grace(struct removal *r, unsigned seconds);
/* There is no client any more. */
void removal_end_grace(struct removal *r);

/* Takes back what was signalled and not told yet: of a device that is closed. */
void removal_forget(struct removal *r);
