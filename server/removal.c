#include "server/removal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/fd.h"

struct removal {
    const struct removal_callbacks *callbacks;
    void *arg;
    int err, req;
    struct event *on_err, *on_req, *on_due;
};

int removal_create(struct removal **out)
{
    struct removal *r = calloc(1, sizeof(*r));
    int ret = 0;

    if (!r)
        return -ENOMEM;
    r->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->req = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->err < 0 || r->req < 0)
        ret = -errno;
    if (ret) {
        removal_free(r);
        return ret;
    }
    *out = r;
    return 0;
}

void removal_free(struct removal *r)
{
    if (!r)
        return;
    fd_close(&r->err);
    fd_close(&r->req);
    free(r);
}

int removal_err_event(const struct removal *r)
{
    return r->err;
}

int removal_req_event(const struct removal *r)
{
    return r->req;
}

static bool take_signal(int fd)
{
    uint64_t count;

    return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void on_err(evutil_socket_t fd, short what, void *arg)
{
    struct removal *r = arg;

    (void)what;
    if (take_signal(fd))
        r->callbacks->error(r->arg);
}

static void on_req(evutil_socket_t fd, short what, void *arg)
{
    struct removal *r = arg;

    (void)what;
    if (take_signal(fd))
        r->callbacks->requested(r->arg);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct removal *r = arg;

    (void)fd;
    (void)what;
    r->callbacks->due(r->arg);
}

int removal_start(struct removal *r, struct event_base *base,
                  const struct removal_callbacks *callbacks, void *arg)
{
    r->callbacks = callbacks;
    r->arg = arg;
    r->on_err = event_new(base, r->err, EV_READ | EV_PERSIST, on_err, r);
    r->on_req = event_new(base, r->req, EV_READ | EV_PERSIST, on_req, r);
    r->on_due = evtimer_new(base, on_due, r);
    if (r->on_err && r->on_req && r->on_due && !event_add(r->on_err, NULL) &&
        !event_add(r->on_req, NULL))
        return 0;
    removal_stop(r);
    return -ENOMEM;
}

static void free_event(struct event **event)
{
    if (*event)
        event_free(*event);
    *event = NULL;
}

void removal_stop(struct removal *r)
{
    free_event(&r->on_err);
    free_event(&r->on_req);
    free_event(&r->on_due);
}

void removal_begin_grace(struct removal *r, unsigned seconds)
{
    const struct timeval time = {.tv_sec = seconds};

    if (!evtimer_pending(r->on_due, NULL))
        evtimer_add(r->on_due, &time);
}

void removal_end_grace(struct removal *r)
{
    if (r->on_due)
        evtimer_del(r->on_due);
}

void removal_forget(struct removal *r)
{
    take_signal(r->err);
    take_signal(r->req);
}
