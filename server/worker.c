#include "server/worker.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/base/log.h"

struct worker {
    pthread_t thread;
    struct export *export;
    struct event_base *base;
    /* The mailbox. "Stop" is the one message that there is, so a counter holds it. */
    int mailbox;
    struct event *mail;
    void (*finished)(void *arg);
    void *finished_arg;
    int result; /* the thread's; to be read when that has been joined */
};

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    event_base_loopbreak(w->base);
}

static void *run(void *arg)
{
    struct worker *w = arg;

    log_set_context(export_name(w->export));
    w->result = export_start(w->export, w->base, w->mailbox, w->finished, w->finished_arg);
    if (w->result) {
        log_error("can't begin to serve: %s", strerror(-w->result));
        w->finished(w->finished_arg);
    }
    event_base_dispatch(w->base);
    export_stop(w->export);
    return NULL;
}

static void free_worker(struct worker *w)
{
    if (w->mail)
        event_free(w->mail);
    if (w->base)
        event_base_free(w->base);
    fd_close(&w->mailbox);
    free(w);
}

/*
 * A base that no other thread touches needs no locks. Its time is not cached: a callback may block
 * for long, and a time limit that is set after that would begin before it.
 */
static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config && !event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) &&
        !event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME))
        base = event_base_new_with_config(config);
    if (config)
        event_config_free(config);
    return base;
}

/* Signals are the control thread's. */
static int create_thread(struct worker *w)
{
    sigset_t all, before;
    int ret;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ret = -pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ret;
}

int worker_start(struct worker **out, struct export *e, void (*finished)(void *arg), void *arg)
{
    struct worker *w = calloc(1, sizeof(*w));
    int ret;

    if (!w)
        return -ENOMEM;
    w->export = e;
    w->finished = finished;
    w->finished_arg = arg;
    w->mailbox = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->base = new_base();
    if (w->base && w->mailbox >= 0)
        w->mail = event_new(w->base, w->mailbox, EV_READ, on_mail, w);
    ret = w->mail && !event_add(w->mail, NULL) ? create_thread(w) : -ENOMEM;
    if (ret) {
        free_worker(w);
        return ret;
    }
    *out = w;
    return 0;
}

void worker_ask_to_stop(struct worker *w)
{
    const uint64_t one = 1;

    if (write(w->mailbox, &one, sizeof(one)) < 0)
        log_error("mailbox of a worker: %s", strerror(errno));
}

int worker_stop(struct worker *w)
{
    int ret;

    worker_ask_to_stop(w);
    pthread_join(w->thread, NULL);
    ret = w->result;
    free_worker(w);
    return ret;
}
