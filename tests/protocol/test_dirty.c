/*
 * The log of DMA writes: DMA_LOGGING_START, STOP and REPORT, over the device's own log alone and
 * over the policy that guesses. What all sources have in common is in test_dirty_sources.c.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client-example/vfuc.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    GET = VFIO_USER_DEVICE_FEATURE_GET,
    SET = VFIO_USER_DEVICE_FEATURE_SET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,
    START = VFIO_USER_FEATURE_DMA_LOGGING_START,
    STOP = VFIO_USER_FEATURE_DMA_LOGGING_STOP,
    REPORT = VFIO_USER_FEATURE_DMA_LOGGING_REPORT,

    BASE = 0x10000000, /* of what is mapped */
    PAGES = 1024,
    SIZE = PAGES * PAGE,
    WORD = 64 * PAGE,
};

typedef struct vfio_user_feature_dma_logging_range Range;

#define FEATURE(a, f) MSG_FEATURE(.argsz = (a), .flags = (f))

static void device_writes(const struct harness *h, uint64_t iova, size_t len)
{
    cleanup_free_ char *bytes = calloc(1, len);

    sim_device_dma(h->machine.sim, h->bdf, iova, bytes, len, true);
}

static int start(struct vfuc *c, const Range *ranges, uint32_t n)
{
    uint64_t page_size = PAGE;

    return vfuc_dma_log_start(c, ranges, n, &page_size);
}

static void start_on(struct vfuc *c, uint64_t iova, uint64_t length)
{
    const Range range = {iova, length};

    assert_int_equal(start(c, &range, 1), 0);
}

/* The first word of a report of a few pages. */
static uint64_t report(struct vfuc *c, uint64_t iova, uint64_t length, uint64_t page_size)
{
    uint64_t words[64];

    assert_int_equal(vfuc_dma_log_report(c, iova, length, page_size, words), 0);
    return words[0];
}

/* A session with PAGES pages at BASE that the device may write. */
static struct vfuc *mapped_client(const struct harness *h)
{
    struct vfuc *c = harness_client(h);
    cleanup_close_ int fd = raw_memfd(SIZE);

    assert_int_equal(vfuc_dma_map(c, BASE, SIZE, DMA_RW, fd, 0), 0);
    return c;
}

/* Writes are in it and reads are not, each until it was reported; nothing of before the start. */
static void pages(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    char byte;

    device_writes(h, BASE, 1);
    start_on(c, BASE, SIZE);
    assert_true(harness_device(h).logging);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    device_writes(h, BASE + 3 * PAGE + 5, 1);
    device_writes(h, BASE + 6 * PAGE - 1, 2);
    sim_device_dma(h->machine.sim, h->bdf, BASE + 9 * PAGE, &byte, 1, false);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0x68);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    device_writes(h, BASE, PAGE);
    assert_int_equal(vfuc_dma_log_stop(c), 0);
    assert_false(harness_device(h).logging);
    start_on(c, BASE, SIZE);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    vfuc_close(c);
    harness_await_idle(h);
}

/*
 * A part of a word, and of a page, of the device's log: the rest of it is not forgotten. The
 * device's driver takes whole words alone.
 */
static void parts(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);

    start_on(c, BASE, SIZE);
    device_writes(h, BASE + PAGE, 3 * PAGE);
    assert_int_equal(report(c, BASE + 2 * PAGE, PAGE, PAGE), 1);
    assert_int_equal(report(c, BASE, 8 * PAGE, PAGE), 0xa);
    assert_int_equal(report(c, BASE, 8 * PAGE, PAGE), 0);
    vfuc_close(c);

    harness_await_idle(h);
    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, true, 16 * PAGE), 0);
    c = mapped_client(h);
    start_on(c, BASE, SIZE);
    device_writes(h, BASE + 17 * PAGE, 1);
    assert_int_equal(report(c, BASE + 20 * PAGE, 2 * PAGE, PAGE), 3);
    assert_int_equal(report(c, BASE + 10 * PAGE, 40 * PAGE, PAGE), 0x3ff3c0);
    vfuc_close(c);
}

/* The log's pages are larger than the ranges that were asked for: whole ones are logged. */
static void rounded_ranges(void **state)
{
    static const Range ranges[] = {
        {BASE + PAGE,                  PAGE                 },
        {BASE + 5 * PAGE,              PAGE                 },
        {BASE + 40 * PAGE,             4 * PAGE             },
        {UINT64_C(0xffffffff00000000), UINT64_C(0x100000000)}  /* the last page is not to be had */
    };
    struct harness *h = *state;
    uint64_t page_size = PAGE;
    struct vfuc *c;

    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, true, 16 * PAGE), 0);
    c = mapped_client(h);
    assert_int_equal(vfuc_dma_log_start(c, ranges, ARRAY_SIZE(ranges), &page_size), 0);
    assert_int_equal(page_size, 16 * PAGE);
    device_writes(h, BASE + 5 * PAGE, 1);
    device_writes(h, BASE + 41 * PAGE, 1);
    assert_true(report(c, BASE, 64 * PAGE, PAGE) == UINT64_C(0xffff0000ffff));
    vfuc_close(c);
}

/* The bits of what was not to be logged, and of what lies behind the range, are zero. */
static void holes(void **state)
{
    static const Range ranges[] = {
        {BASE,            2 * PAGE},
        {BASE + 8 * PAGE, PAGE    },
        {BASE + 2 * WORD, WORD    }
    };
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    uint64_t words[3];

    assert_int_equal(start(c, ranges, ARRAY_SIZE(ranges)), 0);
    device_writes(h, BASE, 3 * WORD);
    memset(words, 0xff, sizeof(words));
    assert_int_equal(vfuc_dma_log_report(c, BASE, 2 * WORD + 3 * PAGE, PAGE, words), 0);
    assert_int_equal(words[0], 0x103);
    assert_int_equal(words[1], 0);
    assert_int_equal(words[2], 7);
    vfuc_close(c);
}

/* All that there is, and what is mapped later. */
static void no_ranges(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const uint64_t high = UINT64_C(2) * BASE;

    assert_int_equal(start(c, NULL, 0), 0);
    assert_int_equal(vfuc_dma_map(c, high, PAGE, DMA_RW, fd, 0), 0);
    device_writes(h, BASE + PAGE, 1);
    device_writes(h, high, 1);
    assert_int_equal(report(c, BASE, WORD, PAGE), 2);
    assert_int_equal(report(c, high, PAGE, PAGE), 1);
    assert_int_equal(report(c, high, PAGE, PAGE), 0);
    /* All addresses at once. */
    device_writes(h, high, 1);
    assert_int_equal(report(c, 0, 2 * high, high), 2);
    device_writes(h, high, 1);
    assert_int_equal(report(c, 0, UINT64_MAX, UINT64_C(1) << 58), 1);
    assert_int_equal(report(c, 0, UINT64_MAX, UINT64_C(1) << 58), 0);
    vfuc_close(c);
}

/* A device that can't log everything logs what is mapped; what comes later counts as dirty. */
static void no_ranges_but_some(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    cleanup_close_ int fd = raw_memfd(PAGE);

    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_FEATURE, 3, EOPNOTSUPP);
    assert_int_equal(start(c, NULL, 0), 0);
    assert_true(sim_fault_spent(h->machine.sim));
    assert_true(harness_device(h).logging);
    device_writes(h, BASE + PAGE, 1);
    assert_int_equal(report(c, BASE, WORD, PAGE), 2);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    assert_int_equal(report(c, 0, PAGE, PAGE), 0);
    assert_int_equal(vfuc_dma_map(c, 0, PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(report(c, 0, PAGE, PAGE), 1);
    assert_int_equal(report(c, 0, PAGE, PAGE), 1);
    assert_int_equal(vfuc_dma_unmap(c, 0, PAGE), 0);
    assert_int_equal(report(c, 0, PAGE, PAGE), 1);
    assert_int_equal(report(c, 0, PAGE, PAGE), 0);
    vfuc_close(c);
}

/* A reply that the client does not take, or that no message can carry, costs no bit. */
static void capacity(void **state)
{
    static const struct vfio_user_feature_dma_logging_report args = {BASE, WORD, PAGE};
    static const struct vfio_user_feature_dma_logging_report huge = {0, (uint64_t)1 << 36, PAGE};
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    int sock = vfuc_socket(c);
    cleanup_free_ uint64_t *words = malloc(LIMIT_BITMAP_SIZE);

    start_on(c, BASE, SIZE);
    device_writes(h, BASE, 1);
    raw_refused(sock, MSG(FEATURE(39, GET | REPORT), .data = &args, .data_len = 24), EINVAL);
    raw_refused(sock, MSG(FEATURE(8, GET | REPORT), .data = &args, .data_len = 24), EINVAL);
    raw_refused(sock, MSG(FEATURE(UINT32_MAX, GET | REPORT), .data = &huge, .data_len = 24), E2BIG);
    raw_refused(sock, MSG(FEATURE(40, GET | REPORT), .data = &args, .data_len = 23), EINVAL);
    raw_call(sock, MSG(FEATURE(40, PROBE | GET | REPORT), .data = &args, .data_len = 24), NULL);
    assert_int_equal(report(c, BASE, WORD, PAGE), 1);

    /* The largest there is. */
    device_writes(h, BASE, 1);
    assert_int_equal(vfuc_dma_log_report(c, 0, (uint64_t)LIMIT_BITMAP_SIZE * 8 * PAGE, PAGE, words),
                     0);
    for (size_t i = 0; i < LIMIT_BITMAP_SIZE / 8; i++)
        assert_true(words[i] == (i == BASE / WORD));
    vfuc_close(c);
}

/* The kernel's log is lost: so everything may have been written. */
static void kernel_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);

    start_on(c, BASE, 2 * WORD);
    device_writes(h, BASE, 1);
    /* After two probes. */
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_FEATURE, 3, EIO);
    assert_int_equal(report(c, BASE + 62 * PAGE, 8 * PAGE, PAGE), 0xff);
    assert_true(sim_fault_spent(h->machine.sim));
    assert_true(report(c, BASE, WORD, PAGE) == UINT64_MAX >> 2);
    assert_true(report(c, BASE + WORD, WORD, PAGE) == UINT64_MAX << 6);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);

    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_FEATURE, 3, EIO);
    assert_int_equal(vfuc_dma_log_stop(c), -EIO);
    assert_int_equal(vfuc_dma_log_stop(c), 0);
    vfuc_close(c);
    harness_await_idle(h);
    c = mapped_client(h);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_FEATURE, 3, ENOMEM);
    assert_int_equal(start(c, &(const Range){BASE, SIZE}, 1), -ENOMEM);
    start_on(c, BASE, SIZE);
    vfuc_close(c);
}

/* What is unmapped can still be asked for. */
static void unmapped(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);

    start_on(c, BASE, SIZE);
    device_writes(h, BASE + PAGE, 1);
    assert_int_equal(vfuc_dma_unmap(c, BASE, SIZE), 0);
    assert_int_equal(report(c, BASE, WORD, PAGE), 2);
    vfuc_close(c);
}

static void errors(void **state)
{
    static const struct {
        Range ranges[2];
        uint32_t n;
        uint64_t page_size;
        int err;
    } cases[] = {
        {{{BASE, PAGE}},                          1, 0,        EINVAL   },
        {{{BASE, PAGE}},                          1, 512,      EINVAL   },
        {{{BASE, PAGE}},                          1, 5000,     EINVAL   },
        {{{BASE, 0}},                             1, PAGE,     EINVAL   },
        {{{BASE + 1, PAGE}},                      1, PAGE,     EINVAL   },
        {{{BASE, PAGE + 1}},                      1, PAGE,     EINVAL   },
        {{{BASE, PAGE}},                          1, 2 * PAGE, EINVAL   },
        {{{0 - (uint64_t)PAGE, 2 * PAGE}},        1, PAGE,     EOVERFLOW},
        {{{BASE, 2 * PAGE}, {BASE + PAGE, PAGE}}, 2, PAGE,     EINVAL   },
        {{{BASE, PAGE}, {BASE, PAGE}},            2, PAGE,     EINVAL   },
        {{{BASE + PAGE, PAGE}, {BASE, PAGE}},     2, PAGE,     0        },
        {{{0 - (uint64_t)PAGE, PAGE}},            1, PAGE,     0        }, /* of which the device logs nothing */
    };
    static const struct vfio_user_feature_dma_logging_report reports[] = {
        {BASE, WORD, 512 },
        {BASE, WORD, 6000},
        {BASE, WORD, 0   },
        {BASE, 0,    PAGE},
    };
    static const struct vfio_user_feature_dma_logging_control short_control = {PAGE, 2, 0};
    struct harness *h = *state;
    struct vfuc *c = mapped_client(h);
    int sock = vfuc_socket(c);
    cleanup_free_ Range *many = calloc(LIMIT_FEATURE_DATA, 1);
    uint64_t words[64];

    assert_int_equal(vfuc_dma_log_stop(c), 0); /* it is off */
    assert_int_equal(vfuc_dma_log_report(c, BASE, WORD, PAGE, words), -EINVAL);
    raw_refused(sock, MSG(FEATURE(64, SET | START), .data = &short_control, .data_len = 15),
                EINVAL);
    raw_refused(sock, MSG(FEATURE(64, SET | START), .data = &short_control, .data_len = 16),
                EINVAL);
    raw_refused(sock, MSG(FEATURE(64, GET | START), .data = &short_control, .data_len = 16),
                EINVAL);
    raw_refused(sock, MSG(FEATURE(64, SET | REPORT), .data = &short_control, .data_len = 16),
                EINVAL);
    for (size_t i = 0; i + 1 < ARRAY_SIZE(cases); i++) {
        uint64_t page_size = cases[i].page_size;

        assert_int_equal(vfuc_dma_log_start(c, cases[i].ranges, cases[i].n, &page_size),
                         -cases[i].err);
    }
    assert_int_equal(start(c, &(const Range){BASE, PAGE}, 1), -EINVAL); /* it is on */
    for (size_t i = 0; i < ARRAY_SIZE(reports); i++)
        raw_refused(sock, MSG(FEATURE(9999, GET | REPORT), .data = &reports[i], .data_len = 24),
                    EINVAL);
    raw_refused(
        sock,
        MSG(FEATURE(9999, GET | REPORT),
            .data = &(const struct vfio_user_feature_dma_logging_report){2 * PAGE,
                                                                         0 - (uint64_t)PAGE, PAGE},
            .data_len = 24),
        EOVERFLOW);
    assert_int_equal(vfuc_dma_log_stop(c), 0);
    for (uint64_t i = 0; i < 4096; i++)
        many[i] = (Range){i * 2 * PAGE, PAGE};
    assert_int_equal(start(c, many, 4096), -E2BIG); /* the kernel's limit */
    assert_int_equal(start(c, many, 256), 0);
    vfuc_close(c);
}

/* Ranges and reports of all kinds against a model of the log in pages of 4 KiB. */
static void run_model(const struct harness *h, unsigned log_pages, unsigned seed)
{
    static bool dirty[PAGES];
    struct vfuc *c = mapped_client(h);
    uint64_t page_size = PAGE, words[PAGES / 64];

    srand(seed);
    memset(dirty, 0, sizeof(dirty));
    assert_int_equal(vfuc_dma_log_start(c, &(const Range){BASE, SIZE}, 1, &page_size), 0);
    assert_int_equal(page_size, log_pages * PAGE);
    for (int round = 0; round < 1000; round++) {
        unsigned first = (unsigned)rand() % PAGES;
        unsigned n = 1 + (unsigned)rand() % MIN(PAGES - first, round % 3 ? 40u : 1000u);
        unsigned shift = (unsigned)rand() % 9;

        if (rand() % 3) {
            unsigned from = first / log_pages * log_pages, end;

            n = MIN(n, 3u);
            end = ((first + n - 1) / log_pages + 1) * log_pages;
            device_writes(h, BASE + (uint64_t)first * PAGE, (size_t)n * PAGE);
            memset(dirty + from, true, MIN(end, (unsigned)PAGES) - from);
            continue;
        }
        assert_int_equal(vfuc_dma_log_report(c, BASE + (uint64_t)first * PAGE, (uint64_t)n * PAGE,
                                             (uint64_t)PAGE << shift, words),
                         0);
        for (unsigned bit = 0; bit < (((n - 1) >> shift) / 64 + 1) * 64; bit++) {
            bool wanted = false;

            for (unsigned i = bit << shift; i < MIN(n, (bit + 1) << shift); i++)
                wanted |= dirty[first + i];
            if ((words[bit / 64] >> bit % 64 & 1) != wanted)
                fail_msg("pages of %u, seed %u, round %d: bit %u of pages of %u from %u on is %s",
                         log_pages, seed, round, bit, 1u << shift, first, wanted ? "0" : "1");
        }
        memset(dirty + first, false, n);
    }
    vfuc_close(c);
    harness_await_idle(h);
}

static void model(void **state)
{
    static const unsigned log_pages[] = {1, 2, 16, 128};
    struct harness *h = *state;

    for (unsigned i = 0; i < ARRAY_SIZE(log_pages); i++) {
        assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, true, log_pages[i] * PAGE), 0);
        for (unsigned seed = 1; seed <= 5; seed++)
            run_model(h, log_pages[i], seed);
    }
}

static void no_source(void **state)
{
    struct harness *h = *state;
    struct vfuc *c;

    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, false, 0), 0);
    c = mapped_client(h);
    assert_int_equal(start(c, &(const Range){BASE, SIZE}, 1), -ENOTTY);
    assert_int_equal(vfuc_dma_log_stop(c), -ENOTTY);
    for (uint32_t f = START; f <= REPORT; f++)
        assert_int_equal(vfuc_feature(c, PROBE | f, NULL, 0, NULL, 0), -ENOTTY);
    vfuc_close(c);
}

/* All that the device may write, each time; what was unmapped, once. */
static void guess(void **state)
{
    struct harness *h = harness_new();
    int fd = raw_memfd(SIZE);
    struct vfuc *c;

    (void)state;
    h->settings.guess_dirty = true;
    h->settings.dirty_source = CONFIG_DIRTY_DEVICE;
    harness_start(h);
    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, false, 0), 0);
    assert_int_equal(sim_set_migration(h->machine.sim, h->bdf, &(struct sim_migration_setup){0}),
                     0);
    c = harness_client(h);
    assert_true(vfuc_caps(c)->has_migration);
    assert_int_equal(vfuc_dma_map(c, BASE, 2 * PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(vfuc_dma_map(c, BASE + 2 * PAGE, PAGE, VFIO_USER_DMA_MAP_READ, fd, 0), 0);
    assert_int_equal(vfuc_dma_map(c, BASE + 3 * PAGE, PAGE, DMA_RW, -1, 0), 0);
    assert_int_equal(vfuc_dma_map(c, BASE + 8 * PAGE, 8 * PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(vfuc_feature(c, PROBE | SET | START, NULL, 0, NULL, 0), 0);
    assert_int_equal(start(c, &(const Range){BASE + PAGE, 10 * PAGE}, 1), 0);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0x702);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0x702);
    assert_int_equal(vfuc_dma_unmap(c, BASE, 2 * PAGE), 0);
    assert_int_equal(vfuc_dma_unmap_all(c), 0);
    assert_int_equal(report(c, BASE + 8 * PAGE, 8 * PAGE, 4 * PAGE), 1);
    assert_int_equal(report(c, BASE, WORD, PAGE), 2);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    assert_int_equal(vfuc_dma_log_stop(c), 0);
    vfuc_close(c);

    /* A better source is taken where there is one. */
    harness_await_idle(h);
    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, true, 0), 0);
    c = mapped_client(h);
    start_on(c, BASE, SIZE);
    assert_int_equal(report(c, BASE, WORD, PAGE), 0);
    vfuc_close(c);
    close(fd);
    harness_stop(h);
}

#define device_test(f)                                                                             \
    cmocka_unit_test_setup_teardown(f, harness_setup_device_log, harness_teardown)

static const struct CMUnitTest tests[] = {
    device_test(pages),      device_test(parts),        device_test(rounded_ranges),
    device_test(holes),      device_test(no_ranges),    device_test(no_ranges_but_some),
    device_test(capacity),   device_test(kernel_fails), device_test(unmapped),
    device_test(errors),     device_test(model),        device_test(no_source),
    cmocka_unit_test(guess),
};

HARNESS_MAIN(tests)
