#include "tests/bench/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/sim/sim.h"
#include "client-example/vfuc.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/bench/peer.h"
#include "tests/bench/samples.h"
#include "tests/bench/served.h"

enum {
    PAGE = 4096,
    WORDS = LIMIT_BITMAP_SIZE / 8,
    RUN = 16,           /* pages that are written together */
    STRIDE = 100 * RUN, /* and how far from one run to the next: 1 percent */
};

static const uint64_t all = UINT64_C(1) << 40;
static const uint64_t message = (uint64_t)LIMIT_BITMAP_SIZE * 8 * PAGE; /* bytes it reports of */

const char report_name[] = "report_1t";

/* A reply's payload. */
struct answer {
    struct vfio_user_feature_dma_logging_report args;
    uint64_t words[WORDS];
};

struct client {
    struct vfuc *c;
    int control; /* the client's end */
    int floor;
    struct answer *answer;
};

void report_serve_writes(struct sim *sim, int control)
{
    static char bytes[RUN * PAGE];
    char turn;

    while (read(control, &turn, 1) == 1) {
        /* Nothing is mapped there: the log is the device's, and notes what it has tried. */
        for (uint64_t iova = 0; iova < all; iova += (uint64_t)STRIDE * PAGE)
            sim_device_dma(sim, "0000:00:01.0", iova, bytes, sizeof(bytes), true);
        if (write(control, &turn, 1) != 1)
            return;
    }
}

static int let_device_write(const struct client *r)
{
    char turn = 0;

    return write(r->control, &turn, 1) == 1 && read(r->control, &turn, 1) == 1 ? 0 : -EPIPE;
}

static uint64_t count(const struct answer *answer)
{
    uint64_t bits = 0;

    for (size_t i = 0; i < WORDS; i++)
        bits += (uint64_t)__builtin_popcountll(answer->words[i]);
    return bits;
}

static int read_whole(int fd, void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(fd, (char *)buf + done, len - done);

        if (n <= 0)
            return n ? -errno : -EPIPE;
        done += (size_t)n;
    }
    return 0;
}

static int write_whole(int fd, const void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = send(fd, (const char *)buf + done, len - done, MSG_NOSIGNAL);

        if (n < 0)
            return -errno;
        done += (size_t)n;
    }
    return 0;
}

/* The floor's other end. */
static int run_floor(int sock, const void *arg)
{
    cleanup_free_ struct answer *from = calloc(1, sizeof(*from));
    cleanup_free_ struct answer *to = calloc(1, sizeof(*to));
    struct vfio_user_feature_dma_logging_report args;

    (void)arg;
    if (!from || !to)
        return EXIT_FAILURE;
    for (size_t page = 0; page < (size_t)WORDS * 64; page += STRIDE)
        from->words[page / 64] |= UINT64_C(0xffff) << page % 64;
    while (!read_whole(sock, &args, sizeof(args))) {
        to->args = args;
        memcpy(to->words, from->words, sizeof(to->words));
        if (!count(to) || write_whole(sock, to, sizeof(*to)))
            break;
    }
    fd_close(&sock);
    return EXIT_SUCCESS;
}

static int ask_floor(const struct client *r, uint64_t iova)
{
    const struct vfio_user_feature_dma_logging_report args = {iova, message, PAGE};
    int ret = write_whole(r->floor, &args, sizeof(args));

    return ret ? ret : read_whole(r->floor, r->answer, sizeof(*r->answer));
}

static int ask_server(const struct client *r, uint64_t iova)
{
    const struct vfio_user_feature_dma_logging_report args = {iova, message, PAGE};

    return vfuc_feature(r->c, VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_FEATURE_DMA_LOGGING_REPORT,
                        &args, sizeof(args), r->answer, sizeof(*r->answer));
}

/* Counting is no part of the time. */
static int report_all(const struct client *r, int (*ask)(const struct client *, uint64_t),
                      struct samples *samples, uint64_t *bits)
{
    uint64_t spent = 0;

    *bits = 0;
    for (uint64_t iova = 0; iova < all; iova += message) {
        uint64_t start = samples_now();
        int ret = ask(r, iova);

        if (ret)
            return ret;
        spent += samples_now() - start;
        *bits += count(r->answer);
    }
    samples_add(samples, spent);
    return 0;
}

/* What the server tells must be what was written. */
static int take_turn(const struct client *r, struct samples *floor, struct samples *served)
{
    const uint64_t runs = (all / PAGE + STRIDE - 1) / STRIDE;
    uint64_t bits;
    int ret = let_device_write(r);

    if (!ret)
        ret = report_all(r, ask_floor, floor, &bits);
    if (!ret)
        ret = report_all(r, ask_server, served, &bits);
    return !ret && bits != runs * RUN ? -EBADMSG : ret;
}

static int take_turns(const struct client *r, double seconds, struct samples *floor,
                      struct samples *served)
{
    const struct vfio_user_feature_dma_logging_range range = {0, all};
    uint64_t page_size = PAGE, end;
    int ret = vfuc_dma_log_start(r->c, &range, 1, &page_size);

    if (!ret)
        ret = take_turn(r, floor, served);
    samples_clear(floor);
    samples_clear(served);
    end = samples_now() + (uint64_t)(seconds * 1e9);
    do {
        if (!ret)
            ret = take_turn(r, floor, served);
    } while (!ret && samples_now() < end);
    return ret;
}

static int run(struct client *r, const struct measure_mode *mode, double seconds,
               struct samples *floor, struct samples *served)
{
    struct served real = {.busy_poll_us = mode->server_busy_poll_us, .writes = true};
    struct peer server = PEER_NONE, other = PEER_NONE;
    int control[2], ret, ended;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0)
        return -errno;
    real.control = control[1];
    real.others_end = r->control = control[0];
    ret = peer_start(&server, mode->apart, served_run, &real);
    close(control[1]);
    if (!ret)
        ret = vfuc_open_fd(&r->c, steal_fd(&server.sock), NULL);
    if (!ret)
        ret = peer_start(&other, mode->apart, run_floor, NULL);
    r->floor = other.sock;
    if (!ret)
        ret = take_turns(r, seconds, floor, served);
    /* The floor's process has copies of the server's sockets. */
    ended = peer_stop(&other);
    ret = ret ? ret : ended;
    fd_close(&r->control);
    vfuc_close(r->c);
    ended = peer_stop(&server);
    return ret ? ret : ended;
}

int report_measure(const struct measure_mode *mode, double seconds, struct measure_result *result)
{
    cleanup_free_ struct answer *answer = calloc(1, sizeof(*answer));
    struct client r = {.answer = answer, .control = -1};
    struct samples floor = {0}, served = {0};
    int ret = -ENOMEM;

    if (answer && samples_init(&floor) && samples_init(&served))
        ret = run(&r, mode, seconds, &floor, &served);
    if (ret)
        fprintf(stderr, "bench: %s, %s: %s\n", report_name, mode->name, strerror(-ret));
    *result = (struct measure_result){samples_median_us(&floor), samples_median_us(&served)};
    samples_free(&floor);
    samples_free(&served);
    return ret;
}
