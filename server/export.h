/*
 * An export: a device, the socket that it is served on, and the clients that come.
 *
 * Many may connect; the first that brings a valid VERSION gets the session, so that nobody who
 * connects and says nothing keeps the others out. Whoever comes while there is a session has his
 * VERSION answered with EBUSY. After a session the device is made fresh and offered again by the
 * same process.
 *
 * Created and destroyed by the control thread; between export_start and export_stop it belongs to
 * the worker.
 */
#pragma once

#include "server/config.h"
#include "server/machine.h"

struct event_base;
struct export;

/*
 * Opens the device. *out: freed by export_destroy. config and settings outlive it. 0 or -errno,
 * logged.
 */
int export_create(struct export **out, const struct export_config *config,
                  const struct config *settings, struct machine *machine);

/*
 * Makes the socket, after which clients may connect and wait: so a socket file that is there says
 * that the daemon has its devices. 0 or -errno, logged.
 */
int export_listen(struct export *e);

/* The log's name for it: the configured device. */
const char *export_name(const struct export *e);

/*
 * Begins to serve in the base's loop. stop is readable when the loop is to end. finished is called
 * when nothing more can come: the one client of a connected descriptor has gone. 0 or -errno.
 */
int export_start(struct export *e, struct event_base *base, int stop, void (*finished)(void *arg),
                 void *arg);

/* Ends the session, if there is one, and closes all connections. */
void export_stop(struct export *e);

/* Closes the device and removes the socket. NULL is allowed. */
void export_destroy(struct export *e);
