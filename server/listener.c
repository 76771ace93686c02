#include "server/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

enum {
    BACKLOG = 64,
    PAUSE_SECONDS = 1,
};

struct listener {
    int fd;
    char *path; /* NULL: not ours to remove */
    struct event *acceptable, *resume;
    void (*accepted)(int sock, void *arg);
    void *arg;
};

static int new_listener(struct listener **out, int fd, const char *path)
{
    struct listener *l = calloc(1, sizeof(*l));

    if (l && path)
        l->path = strdup(path);
    if (!l || (path && !l->path)) {
        free(l);
        return -ENOMEM;
    }
    l->fd = fd;
    *out = l;
    return 0;
}

static bool is_stale(const struct sockaddr_un *addr)
{
    cleanup_close_ int probe = -1;
    struct stat st;

    if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    /* One that is too busy to answer is alive. */
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return probe >= 0 && connect(probe, (const struct sockaddr *)addr, sizeof(*addr)) < 0 &&
           errno == ECONNREFUSED;
}

static int bind_path(int fd, const struct sockaddr_un *addr, mode_t mode)
{
    /* Between bind and a chmod anybody could connect: the file is born with its mode. */
    mode_t before = umask(~mode & 0777);
    int ret = 0;

    if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
        ret = -errno;
    if (ret == -EADDRINUSE && is_stale(addr)) {
        log_info("replacing %s, which nobody listens on", addr->sun_path);
        ret = 0;
        if (unlink(addr->sun_path) < 0 ||
            bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
            ret = -errno;
    }
    umask(before);
    return ret;
}

/*
 * Between bind and listen a socket looks as if its server had died, and one that was found dead may
 * be another's by the time it is removed. So nobody binds but who holds the lock file beside it.
 * That is there no longer than this takes: to find it locked, or gone since it was opened, is to
 * have met another server's start.
 */
static int take_lock(const char *path)
{
    cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat held, there;

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
    if (fstat(fd, &held) < 0 || lstat(path, &there) < 0 || held.st_dev != there.st_dev ||
        held.st_ino != there.st_ino)
        return -EADDRINUSE;
    return steal_fd(&fd);
}

static int bind_and_listen(int fd, const struct sockaddr_un *addr, mode_t mode)
{
    char lock_path[sizeof(addr->sun_path) + sizeof(".lock")];
    cleanup_close_ int lock = -1;
    int ret;

    snprintf(lock_path, sizeof(lock_path), "%s.lock", addr->sun_path);
    lock = take_lock(lock_path);
    if (lock < 0)
        return lock;
    ret = bind_path(fd, addr, mode);
    if (!ret && listen(fd, BACKLOG) < 0)
        ret = -errno;
    unlink(lock_path);
    return ret;
}

int listener_bind(struct listener **out, const char *path, mode_t mode)
{
    cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int ret;

    if (fd < 0)
        return -errno;
    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    ret = bind_and_listen(fd, &addr, mode);
    if (ret == -EADDRINUSE) {
        log_error("socket path %s is in use: another server listens on it, or it is no socket",
                  path);
        return ret;
    }
    if (ret) {
        log_error("can't listen on socket path %s: %s", path, strerror(-ret));
        return ret;
    }
    ret = new_listener(out, fd, path);
    if (!ret)
        fd = -1; /* the listener's */
    return ret;
}

int listener_adopt(struct listener **out, int fd)
{
    int ret = fd_set_nonblock(fd);

    if (!ret)
        ret = new_listener(out, fd, NULL);
    if (ret)
        fd_close(&fd);
    return ret;
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;

    (void)fd;
    (void)what;
    event_add(l->acceptable, NULL);
}

static void pause_accepting(struct listener *l, int err)
{
    const struct timeval pause = {.tv_sec = PAUSE_SECONDS};

    log_peer_warning("can't accept clients for a moment: %s", strerror(err));
    event_del(l->acceptable);
    event_add(l->resume, &pause);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

    (void)what;
    if (sock >= 0)
        l->accepted(sock, l->arg);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
        pause_accepting(l, errno);
    /* Else the client has gone in the meantime. */
}

int listener_start(struct listener *l, struct event_base *base,
                   void (*accepted)(int sock, void *arg), void *arg)
{
    l->accepted = accepted;
    l->arg = arg;
    l->acceptable = event_new(base, l->fd, EV_READ | EV_PERSIST, on_acceptable, l);
    l->resume = evtimer_new(base, on_resume, l);
    if (!l->acceptable || !l->resume || event_add(l->acceptable, NULL))
        return -ENOMEM;
    return 0;
}

void listener_stop(struct listener *l)
{
    if (l->acceptable)
        event_free(l->acceptable);
    if (l->resume)
        event_free(l->resume);
    l->acceptable = NULL;
    l->resume = NULL;
}

void listener_free(struct listener *l)
{
    if (!l)
        return;
    /* Before it is closed: what nobody listens on, another server may have replaced already. */
    if (l->path)
        unlink(l->path);
    fd_close(&l->fd);
    free(l->path);
    free(l);
}
