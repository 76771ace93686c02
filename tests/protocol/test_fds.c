/*
 * Which descriptors belong to which message. The kernel may hand over messages without
 * descriptors together with the one after them that has some; to mix them up would give a device
 * the wrong memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

static const uint8_t zeros[LIMIT_DATA_XFER];

enum {
    FILES = 40,
};

#define IOVA(i) ((uint64_t)(i)*16 * PAGE)

/* Files that each hold their number. */
static void open_files(int *files)
{
    for (uint32_t i = 0; i < FILES; i++) {
        files[i] = raw_memfd(PAGE);
        assert_int_equal(pwrite(files[i], &i, sizeof(i), 0), sizeof(i));
    }
}

static void close_files(int *files)
{
    for (size_t i = 0; i < FILES; i++)
        fd_close(&files[i]);
}

static void assert_memory_is(const struct harness *h, uint32_t i)
{
    uint32_t seen = UINT32_MAX;

    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, IOVA(i), &seen, sizeof(seen), false),
                     0);
    assert_int_equal(seen, i);
}

/* What stands between the maps in one run: nothing, or messages without descriptor. */
struct filling {
    const char *name;
    unsigned queries;
    uint32_t write; /* bytes of a REGION_WRITE; 0: none */
};

static const struct filling fillings[] = {
    {"maps alone",                                     0,   0                  },
    {"a query before each",                            1,   0                  },
    {"more than a turn of the loop before each",       100, 0                  },
    {"a write before each",                            0,   64                 },
    {"a write of the read-ahead's size less a header", 0,   16384 - 32 - 8     },
    {"a write that ends the read-ahead",               0,   16384 - 32         },
    {"a write longer than the read-ahead",             3,   20000              },
    {"a write of half a transfer",                     0,   LIMIT_DATA_XFER / 2},
};

static unsigned send_filling(int sock, const struct filling *f)
{
    for (unsigned i = 0; i < f->queries; i++)
        raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = 0x100), NULL, 0);
    if (f->write)
        raw_send(sock,
                 MSG(MSG_REGION_WRITE(.region = 0, .count = f->write), .data = zeros,
                     .data_len = f->write, .id = 0x200),
                 NULL, 0);
    return f->queries + !!f->write;
}

static void receive_successes(int sock, unsigned n)
{
    struct reply r;

    while (n--) {
        raw_receive(sock, &r);
        if (r.hdr.error)
            fail_msg("a pipelined message: %s", strerror((int)r.hdr.error));
    }
}

static void run_pipeline(const struct harness *h, const struct filling *f, const int *files,
                         uint32_t step)
{
    cleanup_close_ int sock = raw_session(h);
    unsigned sent = 0;

    print_message("%s, every %u\n", f->name, step);
    for (uint32_t i = 0; i < FILES; i++) {
        sent += send_filling(sock, f) + 1;
        raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = IOVA(i), .size = PAGE)),
                 &files[i], i % step == 0);
        /* Short of what makes both sides wait for each other. */
        if (sent > 64 || f->write > 4096 || i == FILES - 1) {
            receive_successes(sock, sent);
            sent = 0;
        }
    }
    assert_int_equal(harness_stats(h).mappings, (FILES + step - 1) / step);
    for (uint32_t i = 0; i < FILES; i += step)
        assert_memory_is(h, i);
}

static void pipelined_maps(void **state)
{
    struct harness *h = *state;
    int files[FILES];

    open_files(files);
    for (size_t i = 0; i < ARRAY_SIZE(fillings); i++) {
        for (uint32_t step = 1; step <= 3; step++)
            run_pipeline(h, &fillings[i], files, step);
        harness_await_idle(h);
    }
    close_files(files);
}

/* Messages of any kinds and sizes, in an order that is the same in each run. */
static void pipelined_at_random(void **state)
{
    struct harness *h = *state;
    int files[FILES];
    uint32_t random = 1;

    open_files(files);
    for (int run = 0; run < 30; run++) {
        cleanup_close_ int sock = raw_session(h);

        for (uint32_t i = 0; i < FILES; i++) {
            unsigned sent = 0;

            random = random * 1103515245 + 12345;
            sent += send_filling(sock, &(struct filling){"", random >> 28, (random >> 12) % 17000});
            raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = IOVA(i), .size = PAGE)),
                     &files[i], 1);
            sent += 1 + send_filling(sock, &(struct filling){"", (random >> 24) & 3, 0});
            receive_successes(sock, sent);
        }
        for (uint32_t i = 0; i < FILES; i++)
            assert_memory_is(h, i);
    }
    close_files(files);
}

/* In front of it by the same sendmsg: they are the last message's. */
static void glued_in_front(void **state)
{
    struct harness *h = *state;
    int files[FILES];
    uint8_t bytes[8192];

    open_files(files);
    for (unsigned n = 1; n <= 100; n += 33) {
        cleanup_close_ int sock = raw_session(h);
        size_t len = 0;

        for (unsigned i = 0; i < n; i++)
            len += raw_encode(MSG(MSG_GET_INFO(.argsz = 16)), bytes + len, sizeof(bytes) - len);
        len +=
            raw_encode(MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = IOVA(n % FILES), .size = PAGE)),
                       bytes + len, sizeof(bytes) - len);
        raw_send_bytes(sock, bytes, len, &files[n % FILES], 1);
        receive_successes(sock, n + 1);
        assert_memory_is(h, n % FILES);
    }
    close_files(files);
}

/* They come with the header, with the body, with any byte of a message. */
static void with_any_byte(void **state)
{
    const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .address = IOVA(5), .size = PAGE)};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    int files[FILES];
    uint8_t bytes[64];
    size_t len = raw_encode(&map, bytes, sizeof(bytes));

    open_files(files);
    for (size_t at = 0; at < len; at++) {
        if (at)
            raw_send_bytes(sock, bytes, at, NULL, 0);
        raw_send_bytes(sock, bytes + at, len - at, &files[5], 1);
        raw_expect_reply(sock, &map, &(struct reply){0});
        assert_memory_is(h, 5);
        raw_call(sock, MSG(MSG_DMA_UNMAP(.address = IOVA(5), .size = PAGE)), NULL);
    }
    close_files(files);
}

/* One behind the other without waiting: no map gets the descriptor of its neighbour. */
static void only_every_second_has_one(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    int files[FILES];
    uint32_t word;

    open_files(files);
    for (uint32_t i = 0; i < FILES; i++)
        raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = IOVA(i), .size = PAGE)),
                 &files[i], i & 1);
    receive_successes(sock, FILES);
    for (uint32_t i = 0; i < FILES; i++) {
        if (i & 1)
            assert_memory_is(h, i);
        else
            assert_int_equal(
                sim_device_dma(h->machine.sim, h->bdf, IOVA(i), &word, sizeof(word), false),
                -EFAULT);
    }
    close_files(files);
}

static void fill(int *fds, size_t n, int fd)
{
    for (size_t i = 0; i < n; i++)
        fds[i] = fd;
}

/* More than was advertised is taken, up to what the kernel sends at a time. */
static void numbers_of_descriptors(void **state)
{
    static const unsigned numbers[] = {1, 2, 16, 17, 64, 252, 253};
    const struct request_case unmap = CASE("DMA_UNMAP", ENOENT, MSG_DMA_UNMAP(.size = PAGE));
    const struct request_case map =
        CASE("DMA_MAP", EINVAL, MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE));
    const struct request_case query = CASE("GET_INFO", EINVAL, MSG_GET_INFO(.argsz = 16));
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int event = event_create();
    int fds[LIMIT_RECV_FDS];

    fill(fds, ARRAY_SIZE(fds), event);
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        raw_run_cases(sock, &unmap, 1, fds, numbers[i]);
        raw_run_cases(sock, &map, 1, fds, numbers[i]);
        raw_run_cases(sock, &query, 1, fds, numbers[i]);
    }
}

/* A message in many pieces can carry more of them than any message may. */
static void too_many_in_pieces(void **state)
{
    const struct raw_message unmap = {MSG_DMA_UNMAP(.size = PAGE)};
    const struct raw_message set = {
        MSG_SET_IRQS(.argsz = 20, .index = 1, .count = 1,
                     .flags = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER)};
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int event = event_create();
    int open_before = fd_count_open();
    int fds[LIMIT_RECV_FDS];
    uint8_t bytes[64];
    size_t len = raw_encode(&unmap, bytes, sizeof(bytes));

    fill(fds, ARRAY_SIZE(fds), event);
    for (size_t i = 0; i < len; i++)
        raw_send_bytes(sock, bytes + i, 1, fds, ARRAY_SIZE(fds));
    raw_expect_error(sock, &unmap, ENOENT);

    len = raw_encode(&set, bytes, sizeof(bytes));
    raw_send_bytes(sock, bytes, 10, fds, ARRAY_SIZE(fds));
    raw_send_bytes(sock, bytes + 10, len - 10, fds, 1);
    raw_expect_error(sock, &set, EMFILE);
    raw_assert_in_step(sock);
    harness_await_fds(open_before);
}

/* Control messages as a client may compose them: the kernel makes one of them. */
static void several_control_messages(void **state)
{
    const struct raw_message unmap = {MSG_DMA_UNMAP(.size = PAGE)};
    const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)};
    const struct raw_message *const messages[] = {&map, &unmap};
    static const int errors[] = {EINVAL, ENOENT};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int fd = raw_memfd(PAGE);
    int open_before = fd_count_open();

    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        char control[2 * CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
        uint8_t bytes[64];
        struct iovec iov = {bytes, raw_encode(messages[i], bytes, sizeof(bytes))};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};

        for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c;) {
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(sizeof(fd));
            memcpy(CMSG_DATA(c), &fd, sizeof(fd));
            c = CMSG_NXTHDR(&msg, c);
        }
        assert_int_equal(sendmsg(sock, &msg, 0), iov.iov_len);
        raw_expect_error(sock, messages[i], errors[i]);
    }
    raw_assert_in_step(sock);
    harness_await_fds(open_before);
}

/* Sets the limit to max and opens descriptors until there is none left but some. */
static unsigned exhaust_descriptors(int *taken, unsigned max, unsigned leave)
{
    struct rlimit limit;
    unsigned n = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < max && (taken[n] = dup(0)) >= 0)
        n++;
    assert_int_equal(errno, EMFILE);
    assert_true(n >= leave);
    while (leave--)
        fd_close(&taken[--n]);
    return n;
}

/* The process has none left: the message is refused, what arrived of it is closed. */
static void no_descriptor_left(void **state)
{
    const struct raw_message set = {
        MSG_SET_IRQS(.argsz = 20, .index = 1, .count = 8,
                     .flags = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER)};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();
    int open_before = fd_count_open();
    struct rlimit before;
    int fds[8], taken[256];

    fill(fds, ARRAY_SIZE(fds), event);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned leave = 0; leave < 3; leave++) {
        unsigned n = exhaust_descriptors(taken, ARRAY_SIZE(taken), leave);

        raw_send(sock, &set, fds, ARRAY_SIZE(fds));
        raw_expect_error(sock, &set, EMFILE);
        raw_send(sock, MSG(MSG_DMA_UNMAP(.size = PAGE)), fds, ARRAY_SIZE(fds));
        raw_expect_error(sock, MSG(MSG_DMA_UNMAP(0)), ENOENT);
        raw_assert_in_step(sock);
        while (n)
            fd_close(&taken[--n]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    }
    harness_await_fds(open_before);
    fd_close(&sock);
    harness_assert_serves(h);
}

static const struct CMUnitTest tests[] = {
    harness_test(pipelined_maps),
    harness_test(pipelined_at_random),
    harness_test(glued_in_front),
    harness_test(with_any_byte),
    harness_test(only_every_second_has_one),
    harness_test(numbers_of_descriptors),
    harness_test(too_many_in_pieces),
    harness_test(several_control_messages),
    harness_test(no_descriptor_left),
};

HARNESS_MAIN(tests)
