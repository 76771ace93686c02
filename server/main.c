/*
 * vfio-userd: the control thread. It reads the command line, opens every device and socket (what
 * is wrong is said now, and the status is 1), starts a worker for each export, and waits for
 * SIGTERM, SIGINT or the last export's end (status 0).
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "proto/version.h"
#include "server/config.h"
#include "server/export.h"
#include "server/machine.h"
#include "server/worker.h"

struct daemon {
    struct config config;
    struct machine machine;
    struct export *exports[CONFIG_MAX_EXPORTS];
    struct worker *workers[CONFIG_MAX_EXPORTS];
    struct event_base *base;
    struct event *on_signal, *on_finished;
    int signals;  /* signalfd: SIGTERM and SIGINT */
    int finished; /* eventfd: counts the exports that have nothing more to serve */
    size_t n_finished;
};

/*
 * The signals that end the daemon are read, not handled: they interrupt nothing, and one that comes
 * during the start waits until the loop runs and no socket file is left behind.
 */
static int open_signals(void)
{
    sigset_t ending;

    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ending, NULL);
    return signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *d = arg;
    struct signalfd_siginfo info;

    (void)what;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_info("%s: ending", strsignal((int)info.ssi_signo));
    event_base_loopbreak(d->base);
}

/* In a worker's thread. */
static void tell_finished(void *arg)
{
    struct daemon *d = arg;
    const uint64_t one = 1;

    if (write(d->finished, &one, sizeof(one)) < 0)
        log_error("can't tell the control thread: %s", strerror(errno));
}

static void on_finished(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *d = arg;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        d->n_finished += count;
    if (d->n_finished >= d->config.n_exports)
        event_base_loopbreak(d->base);
}

/* Each interrupt vector holds a descriptor, each client up to 253 in flight. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool add_event(struct event *event)
{
    return event && !event_add(event, NULL);
}

static int watch_for_end(struct daemon *d)
{
    d->on_signal = event_new(d->base, d->signals, EV_READ | EV_PERSIST, on_signal, d);
    d->on_finished = event_new(d->base, d->finished, EV_READ | EV_PERSIST, on_finished, d);
    return add_event(d->on_signal) && add_event(d->on_finished) ? 0 : -ENOMEM;
}

static void stop_watching(struct daemon *d)
{
    if (d->on_signal)
        event_free(d->on_signal);
    if (d->on_finished)
        event_free(d->on_finished);
}

static int create_exports(struct daemon *d)
{
    int ret = 0;

    for (size_t i = 0; !ret && i < d->config.n_exports; i++)
        ret = export_create(&d->exports[i], &d->config.exports[i], &d->config, &d->machine);
    for (size_t i = 0; !ret && i < d->config.n_exports; i++)
        ret = export_listen(d->exports[i]);
    return ret;
}

static int start_workers(struct daemon *d)
{
    for (size_t i = 0; i < d->config.n_exports; i++) {
        const struct export_config *e = &d->config.exports[i];
        int ret = worker_start(&d->workers[i], d->exports[i], tell_finished, d);

        if (ret) {
            log_error("can't start the worker of %s: %s", e->device, strerror(-ret));
            return ret;
        }
        if (e->socket_path)
            log_info("%s: listening on %s", e->device, e->socket_path);
        else
            log_info("%s: serving descriptor %d", e->device, e->fd);
    }
    return 0;
}

/* All at the same time. Returns the first error: ret, or that of a worker that could not begin. */
static int stop_workers(struct daemon *d, int ret)
{
    for (size_t i = 0; i < d->config.n_exports; i++) {
        if (d->workers[i])
            worker_ask_to_stop(d->workers[i]);
    }
    for (size_t i = 0; i < d->config.n_exports; i++) {
        int result = d->workers[i] ? worker_stop(d->workers[i]) : 0;

        ret = ret ? ret : result;
    }
    return ret;
}

static int serve(struct daemon *d)
{
    int ret;

    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    d->signals = open_signals();
    d->finished = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->base = event_base_new();
    ret = d->signals >= 0 && d->finished >= 0 && d->base ? watch_for_end(d) : -ENOMEM;
    if (!ret)
        ret = create_exports(d);
    if (!ret)
        ret = start_workers(d);
    if (!ret)
        event_base_dispatch(d->base);

    ret = stop_workers(d, ret);
    for (size_t i = 0; i < d->config.n_exports; i++)
        export_destroy(d->exports[i]);
    machine_destroy(&d->machine);
    stop_watching(d);
    if (d->base)
        event_base_free(d->base);
    fd_close(&d->finished);
    fd_close(&d->signals);
    return ret;
}

static int print_capabilities(void)
{
    char *text = version_capabilities_text(VFIO_USERD_VERSION);

    if (!text)
        return -ENOMEM;
    puts(text);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    static struct daemon d = {.signals = -1, .finished = -1};
    int ret = config_parse(&d.config, argc, argv);

    if (ret)
        return EXIT_FAILURE;
    log_set_level(d.config.log_level);
    switch (d.config.action) {
    case CONFIG_HELP:
        config_print_help(stdout);
        break;
    case CONFIG_VERSION:
        puts("vfio-userd " VFIO_USERD_VERSION);
        break;
    case CONFIG_PRINT_CAPABILITIES:
        ret = print_capabilities();
        break;
    case CONFIG_SERVE:
        ret = serve(&d);
        break;
    }
    return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
