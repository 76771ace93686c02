#include "tests/bench/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client-example/vfuc.h"
#include "proto/base/cleanup.h"
#include "tests/bench/peer.h"
#include "tests/bench/samples.h"
#include "tests/bench/served.h"

enum {
    STATE_PRE_COPY = 6, /* of <linux/vfio.h>, which may be older */
    BATCH = 32,         /* messages whose time is taken together */
    /* A device that gives a batch and a message before it. */
    GIVEN = (BATCH + 1) * STREAM_MESSAGE,
    /* Of one that takes its state again and again, as in pre-copy; less than a message. */
    TAKEN = STREAM_MESSAGE - 16384,
};

static const char *const names[STREAMS] = {"mig_data_read_1m", "mig_data_write_1m"};

/* The client's side of both. */
struct stream {
    bool writes;
    int pipe; /* the client's end */
    struct vfuc *c;
    /*
     * What is read goes into the first message's place. What is written is, as it comes from the
     * simulated device, a header and then twice its state, which may be repeated for ever.
     */
    uint8_t *bytes;
    size_t header, state;
};

const char *stream_name(unsigned i)
{
    return names[i];
}

/* Both ends of the pipe, for the process that has the other end. */
struct pipe_peer {
    bool client_writes;
    int ends[2];
};

/* Moves bytes until the client's end is closed: from as much memory as the device has, or to as
 * little. */
static int run_pipe(int sock, const void *arg)
{
    const struct pipe_peer *p = arg;
    cleanup_free_ uint8_t *buf = malloc(GIVEN);
    ssize_t n = 1;

    signal(SIGPIPE, SIG_IGN);
    close(p->ends[p->client_writes]);
    if (buf)
        memset(buf, 1, GIVEN);
    for (size_t at = 0; buf && n > 0; at = (at + STREAM_MESSAGE) % GIVEN)
        n = p->client_writes ? read(p->ends[0], buf, STREAM_MESSAGE)
                             : write(p->ends[1], buf + at, STREAM_MESSAGE);
    fd_close(&sock);
    return n == 0 || (n < 0 && errno == EPIPE) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int start_pipe(struct stream *s, bool apart, struct peer *peer)
{
    struct pipe_peer p = {.client_writes = s->writes};
    int ret;

    if (pipe2(p.ends, O_CLOEXEC) < 0)
        return -errno;
    ret = peer_start(peer, apart, run_pipe, &p);
    s->pipe = p.ends[s->writes];
    close(p.ends[!s->writes]);
    return ret;
}

static int move_by_pipe(const struct stream *s)
{
    for (size_t done = 0; done < STREAM_MESSAGE;) {
        ssize_t n = s->writes ? write(s->pipe, s->bytes + done, STREAM_MESSAGE - done)
                              : read(s->pipe, s->bytes + done, STREAM_MESSAGE - done);

        if (n <= 0)
            return n ? -errno : -EPIPE;
        done += (size_t)n;
    }
    return 0;
}

static int pipe_turn(const struct stream *s, struct samples *samples)
{
    uint64_t start = samples_now();
    int ret = 0;

    for (unsigned i = 0; i < BATCH && !ret; i++)
        ret = move_by_pipe(s);
    samples_add(samples, (samples_now() - start) / BATCH);
    return ret;
}

static int go(const struct stream *s, uint32_t state)
{
    int ret = vfuc_reset(s->c);

    return ret ? ret : vfuc_set_migration_state(s->c, state);
}

static int read_message(const struct stream *s, size_t offset)
{
    int64_t n = vfuc_migration_read(s->c, s->bytes + offset, STREAM_MESSAGE);

    return n == STREAM_MESSAGE ? 0 : n < 0 ? (int)n : -EIO;
}

/* Message number i of a stream whose header has been written. */
static int write_message(const struct stream *s, unsigned i)
{
    size_t offset = (size_t)i * STREAM_MESSAGE % s->state;

    return vfuc_migration_write(s->c, s->bytes + s->header + offset, STREAM_MESSAGE);
}

static int move_message(const struct stream *s, unsigned i)
{
    return s->writes ? write_message(s, i) : read_message(s, 0);
}

static int begin_stream(const struct stream *s)
{
    int ret = go(s, s->writes ? VFIO_DEVICE_STATE_RESUMING : VFIO_DEVICE_STATE_STOP_COPY);

    if (!ret && s->writes)
        ret = vfuc_migration_write(s->c, s->bytes, (uint32_t)s->header);
    return ret;
}

/* The first message is not measured. */
static int served_turn(const struct stream *s, struct samples *samples)
{
    int ret = begin_stream(s);
    uint64_t start;

    if (!ret)
        ret = move_message(s, 0);
    start = samples_now();
    for (unsigned i = 1; i <= BATCH && !ret; i++)
        ret = move_message(s, i);
    samples_add(samples, (samples_now() - start) / BATCH);
    return ret;
}

/* A record of the device's data: its type, the length of the rest, and that. */
static size_t record_size(const uint8_t *record)
{
    uint32_t head[2];

    memcpy(head, record, sizeof(head));
    return sizeof(head) + head[1];
}

/* What the device takes is what it has given, in pre-copy: its header and its state. */
static int take_stream(struct stream *s)
{
    int ret = go(s, STATE_PRE_COPY);
    int64_t n = ret ? ret : vfuc_migration_read(s->c, s->bytes, STREAM_MESSAGE);

    if (n < 0)
        return (int)n;
    s->header = record_size(s->bytes);
    s->state = record_size(s->bytes + s->header);
    if (s->header + s->state != (size_t)n)
        return -EIO;
    memcpy(s->bytes + n, s->bytes + s->header, s->state);
    return 0;
}

static int take_turns(struct stream *s, double seconds, struct samples *floor,
                      struct samples *served)
{
    int ret = s->writes ? take_stream(s) : 0;
    uint64_t end;

    if (!ret)
        ret = pipe_turn(s, floor);
    if (!ret)
        ret = served_turn(s, served);
    samples_clear(floor);
    samples_clear(served);
    end = samples_now() + (uint64_t)(seconds * 1e9);
    do {
        if (!ret)
            ret = pipe_turn(s, floor);
        if (!ret)
            ret = served_turn(s, served);
    } while (!ret && samples_now() < end);
    return ret;
}

static int run(struct stream *s, const struct measure_mode *mode, double seconds,
               struct samples *floor, struct samples *served)
{
    const struct served real = {.busy_poll_us = mode->server_busy_poll_us,
                                .state = s->writes ? TAKEN : GIVEN};
    struct peer server = PEER_NONE, other = PEER_NONE;
    int ret = peer_start(&server, mode->apart, served_run, &real), ended;

    if (!ret)
        ret = vfuc_open_fd(&s->c, steal_fd(&server.sock), NULL);
    if (!ret)
        ret = start_pipe(s, mode->apart, &other);
    if (!ret)
        ret = take_turns(s, seconds, floor, served);
    /* The pipe's process has a copy of the server's socket. */
    fd_close(&s->pipe);
    ended = peer_stop(&other);
    ret = ret ? ret : ended;
    vfuc_close(s->c);
    ended = peer_stop(&server);
    return ret ? ret : ended;
}

int stream_measure(unsigned i, const struct measure_mode *mode, double seconds,
                   struct measure_result *result)
{
    cleanup_free_ uint8_t *bytes = calloc(3, STREAM_MESSAGE);
    struct stream s = {.writes = i == 1, .pipe = -1, .bytes = bytes};
    struct samples floor = {0}, served = {0};
    int ret = -ENOMEM;

    if (bytes && samples_init(&floor) && samples_init(&served))
        ret = run(&s, mode, seconds, &floor, &served);
    if (ret)
        fprintf(stderr, "bench: %s, %s: %s\n", names[i], mode->name, strerror(-ret));
    *result = (struct measure_result){samples_median_us(&floor), samples_median_us(&served)};
    samples_free(&floor);
    samples_free(&served);
    return ret;
}
