/* SET_IRQS: its forms on the wire, and what is no form. What the interrupts do: test_irqs.c. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    NONE = VFIO_USER_IRQ_SET_DATA_NONE,
    BOOL = VFIO_USER_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_USER_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_USER_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_USER_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_USER_IRQ_SET_ACTION_TRIGGER,

    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX, /* the device has none */
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
    INDEXES = VFIO_PCI_NUM_IRQS,
};

#define SET(i, f, s, c)                                                                            \
    MSG_SET_IRQS(.argsz = 20, .flags = (f), .index = (i), .start = (s), .count = (c))
#define INT32S(...)                                                                                \
    .data = (const int32_t[]){__VA_ARGS__}, .data_len = sizeof((const int32_t[]){__VA_ARGS__})
#define BYTES(...)                                                                                 \
    .data = (const uint8_t[]){__VA_ARGS__}, .data_len = sizeof((const uint8_t[]){__VA_ARGS__})

static const uint8_t zeros[LIMIT_IRQ_DATA + 1];

/* All indexes are off, and no descriptor comes along. */
static const struct request_case without_fd[] = {
    CASE("no flags", EINVAL, SET(INTX, 0, 0, 1)),
    CASE("no action", EINVAL, SET(INTX, NONE, 0, 1)),
    CASE("no data", EINVAL, SET(INTX, TRIGGER, 0, 1)),
    CASE("two kinds of data", EINVAL, SET(INTX, NONE | EVENTFD | TRIGGER, 0, 1)),
    CASE("two actions", EINVAL, SET(INTX, NONE | MASK | TRIGGER, 0, 1)),
    CASE("an unknown flag", EINVAL, SET(INTX, NONE | TRIGGER | 0x40, 0, 0)),
    CASE("all flags", EINVAL, SET(INTX, UINT32_MAX, 0, 1)),
    CASE("index count", EINVAL, SET(INDEXES, NONE | TRIGGER, 0, 0)),
    CASE("index count + 1", EINVAL, SET(INDEXES + 1, NONE | TRIGGER, 0, 0)),
    CASE("index 2^32-1", EINVAL, SET(UINT32_MAX, NONE | TRIGGER, 0, 0)),
    CASE("start + count is 2^32", EINVAL, SET(INTX, NONE | TRIGGER, 1, UINT32_MAX)),
    CASE("start + count passes 2^32", EINVAL, SET(INTX, NONE | TRIGGER, UINT32_MAX, 2)),
    CASE("start 2^32-1", EINVAL, SET(INTX, NONE | TRIGGER, UINT32_MAX, 1)),
    CASE("count 2^32-1", EINVAL, SET(INTX, NONE | TRIGGER, 0, UINT32_MAX)),
    CASE("count 2^32-1 to de-assign", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, UINT32_MAX)),
    CASE("count 2^30, the bytes of 0", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1u << 30)),
    CASE("a vector too many", EINVAL, SET(INTX, NONE | TRIGGER, 0, 2)),
    CASE("a vector past the last", EINVAL, SET(INTX, NONE | TRIGGER, 1, 1)),
    CASE("two of ERR, which is not there", EINVAL,
         SET(VFIO_PCI_ERR_IRQ_INDEX, EVENTFD | TRIGGER, 0, 2)),
    CASE("two of REQ", EINVAL, SET(REQ, EVENTFD | TRIGGER, 0, 2)),
    CASE("a vector of an empty index", EINVAL, SET(MSIX, EVENTFD | TRIGGER, 0, 1)),
    CASE("count 0 to mask", EINVAL, SET(INTX, NONE | MASK, 0, 0)),
    CASE("count 0 of eventfds", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 0)),
    CASE("count 0 of booleans", EINVAL, SET(INTX, BOOL | TRIGGER, 0, 0)),
    CASE("count 0 from 1 on", EINVAL, SET(INTX, NONE | TRIGGER, 1, 0)),
    CASE("no booleans", EINVAL, SET(INTX, BOOL | MASK, 0, 1)),
    CASE("too few booleans", EINVAL, SET(INTX, BOOL | MASK, 0, UINT32_MAX), BYTES(1)),
    CASE("the longest data", 0, SET(INTX, NONE | TRIGGER, 0, 0), .data = zeros,
         .data_len = LIMIT_IRQ_DATA),
    CASE("too much data", E2BIG, SET(INTX, NONE | TRIGGER, 0, 0), .data = zeros,
         .data_len = LIMIT_IRQ_DATA + 1),
    CASE("cut off", EINVAL, .command = VFIO_USER_DEVICE_SET_IRQS, .payload = zeros, .len = 19),
    CASE("trigger while off", EINVAL, SET(INTX, NONE | TRIGGER, 0, 1)),
    CASE("trigger MSI while off", EINVAL, SET(MSI, NONE | TRIGGER, 0, 1)),
    CASE("trigger REQ while off", EINVAL, SET(REQ, NONE | TRIGGER, 0, 1)),
    CASE("mask while off", EINVAL, SET(INTX, NONE | MASK, 0, 1)),
    CASE("unmask while off", EINVAL, SET(INTX, NONE | UNMASK, 0, 1)),
    CASE("mask MSI", ENOTTY, SET(MSI, NONE | MASK, 0, 1)),
    CASE("unmask MSI", ENOTTY, SET(MSI, NONE | UNMASK, 0, 1)),
    CASE("mask REQ", ENOTTY, SET(REQ, NONE | MASK, 0, 1)),

    CASE("disable what is off", 0, SET(INTX, NONE | TRIGGER, 0, 0)),
    CASE("disable it twice", 0, SET(INTX, NONE | TRIGGER, 0, 0)),
    CASE("disable MSI", 0, SET(MSI, NONE | TRIGGER, 0, 0)),
    CASE("disable an empty index", 0, SET(MSIX, NONE | TRIGGER, 0, 0)),
    CASE("disable ERR", 0, SET(VFIO_PCI_ERR_IRQ_INDEX, NONE | TRIGGER, 0, 0)),
    CASE("disable REQ", 0, SET(REQ, NONE | TRIGGER, 0, 0)),

    CASE("an index without descriptor", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(0)),
    CASE("index -2", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(-2)),
    CASE("the lowest index", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(INT32_MIN)),
    CASE("the highest index", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(INT32_MAX)),
    CASE("an index too many", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(-1, -1)),
    CASE("an index too few", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2), INT32S(-1)),
    CASE("half an index", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), BYTES(0xff, 0xff)),
    CASE("indexes of vectors that are not there", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2),
         INT32S(-1, -1)),
};

static void requests_without_descriptor(void **state)
{
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, without_fd, ARRAY_SIZE(without_fd), NULL, 0);
}

/* The descriptors do not fit the request: 1 eventfd comes along. */
static const struct request_case with_one_fd[] = {
    CASE("with DATA_NONE", EINVAL, SET(INTX, NONE | TRIGGER, 0, 1)),
    CASE("to disable", EINVAL, SET(INTX, NONE | TRIGGER, 0, 0)),
    CASE("with DATA_BOOL", EINVAL, SET(INTX, BOOL | TRIGGER, 0, 1), BYTES(1)),
    CASE("count 2", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2)),
    CASE("count 0", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 0)),
    CASE("count 2^32-1", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, UINT32_MAX)),
    CASE("a vector past the last", EINVAL, SET(MSI, EVENTFD | TRIGGER, 1, 1)),
    CASE("an empty index", EINVAL, SET(MSIX, EVENTFD | TRIGGER, 0, 1)),
    CASE("index count", EINVAL, SET(INDEXES, EVENTFD | TRIGGER, 0, 1)),
    CASE("to mask INTx", EINVAL, SET(INTX, EVENTFD | MASK, 0, 1)),
    CASE("to unmask an INTx that is off", EINVAL, SET(INTX, EVENTFD | UNMASK, 0, 1)),
    CASE("to mask MSI", ENOTTY, SET(MSI, EVENTFD | MASK, 0, 1)),
    CASE("to mask REQ", ENOTTY, SET(REQ, EVENTFD | MASK, 0, 1)),
    CASE("named by nobody", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(-1)),
    CASE("another one named", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(1)),
    CASE("named twice", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2), INT32S(0, 0)),
    CASE("too much data", E2BIG, SET(INTX, EVENTFD | TRIGGER, 0, 1), .data = zeros,
         .data_len = LIMIT_IRQ_DATA + 1),
};

static const struct request_case with_two_fds[] = {
    CASE("2 descriptors, count 1", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1)),
    CASE("2 descriptors, count 2 of 1", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2)),
    CASE("2 descriptors, count 3", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 3)),
    CASE("one of them named", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 1), INT32S(0)),
    CASE("named in the wrong order", EINVAL, SET(INTX, EVENTFD | TRIGGER, 0, 2), INT32S(1, 0)),
};

static void descriptors_that_do_not_fit(void **state)
{
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int event = event_create();
    const int fds[] = {event, event};

    raw_run_cases(sock, with_one_fd, ARRAY_SIZE(with_one_fd), fds, 1);
    raw_run_cases(sock, with_two_fds, ARRAY_SIZE(with_two_fds), fds, 2);
    assert_false(harness_device(*state).intx_eventfd);
}

static void more_descriptors_than_vectors(void **state)
{
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int event = event_create();
    const struct request_case t =
        CASE("253 descriptors", EINVAL, SET(MSI, EVENTFD | TRIGGER, 0, 253));
    int fds[LIMIT_RECV_FDS];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = event;
    raw_run_cases(sock, &t, 1, fds, ARRAY_SIZE(fds));
}

static void wrong_kinds_of_descriptors(void **state)
{
    static const uint32_t indexes[] = {INTX, MSI, REQ};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int event = event_create();
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    for (size_t i = 0; i < ARRAY_SIZE(indexes); i++) {
        const struct request_case t =
            CASE("no eventfd", EINVAL, SET(indexes[i], EVENTFD | TRIGGER, 0, 1));

        raw_run_cases(sock, &t, 1, &memory, 1);
        raw_run_cases(sock, &t, 1, &ends[0], 1);
        raw_run_cases(sock, &t, 1, &ends[1], 1);
        raw_run_cases(sock, &t, 1, &sock, 1);
    }
    assert_false(harness_device(h).intx_eventfd);
    assert_int_equal(harness_device(h).msi_eventfds, 0);

    /* The resample eventfd, of an index that is on. */
    raw_send(sock, MSG(SET(INTX, EVENTFD | TRIGGER, 0, 1)), &event, 1);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_SET_IRQS), &(struct reply){0});
    raw_run_cases(sock,
                  &(const struct request_case)CASE("no eventfd to unmask", EINVAL,
                                                   SET(INTX, EVENTFD | UNMASK, 0, 1)),
                  1, &memory, 1);
    assert_true(harness_device(h).intx_eventfd);
    close(ends[0]);
    close(ends[1]);
}

/* Of a vector that has one: it has its old one afterwards, or none, and the session goes on. */
static void wrong_kind_in_place_of_a_right_one(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int event = event_create();
    const struct raw_message set = {SET(MSI, EVENTFD | TRIGGER, 0, 1)};

    raw_send(sock, &set, &event, 1);
    raw_expect_reply(sock, &set, &(struct reply){0});
    raw_send(sock, &set, &memory, 1);
    raw_expect_error(sock, &set, EINVAL);
    raw_send(sock, &set, &event, 1);
    raw_expect_reply(sock, &set, &(struct reply){0});
    assert_int_equal(harness_device(h).msi_eventfds, 1);
    raw_call(sock, MSG(SET(MSI, NONE | TRIGGER, 0, 1)), NULL);
    assert_int_equal(event_wait(event, 0), 1);
}

/* One set at a time, as in the hardware. */
static void another_index_is_on(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();
    const struct raw_message msi = {SET(MSI, EVENTFD | TRIGGER, 0, 1)};
    const struct raw_message intx = {SET(INTX, EVENTFD | TRIGGER, 0, 1)};

    raw_send(sock, &intx, &event, 1);
    raw_expect_reply(sock, &intx, &(struct reply){0});
    raw_send(sock, &msi, &event, 1);
    raw_expect_error(sock, &msi, EINVAL);
    raw_call(sock, MSG(SET(INTX, NONE | TRIGGER, 0, 0)), NULL);
    raw_send(sock, &msi, &event, 1);
    raw_expect_reply(sock, &msi, &(struct reply){0});
    raw_send(sock, &intx, &event, 1);
    raw_expect_error(sock, &intx, EINVAL);
    raw_call(sock, MSG(SET(MSI, NONE | TRIGGER, 0, 0)), NULL);
    assert_int_equal(harness_device(h).msi_eventfds, 0);
}

static void without_reply(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();
    const struct raw_message set = {SET(MSI, EVENTFD | TRIGGER, 0, 1),
                                    .flags = VFIO_USER_FLAG_NO_REPLY};

    for (size_t i = 0; i < ARRAY_SIZE(without_fd); i++) {
        struct raw_message m = without_fd[i].msg;

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(sock, &m, NULL, 0);
    }
    raw_send(sock, &set, &event, 1);
    raw_assert_in_step(sock);
    assert_int_equal(harness_device(h).msi_eventfds, 1);
}

/* All that was given is taken back, and nothing is kept, however often. */
static void descriptors_do_not_pile_up(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = event_create();
    const struct raw_message set = {SET(MSI, EVENTFD | TRIGGER, 0, 1)};
    int open_before = fd_count_open(), open_set = 0;

    for (int i = 0; i < 100; i++) {
        raw_send(sock, &set, &event, 1);
        raw_expect_reply(sock, &set, &(struct reply){0});
        raw_assert_in_step(sock);
        if (!i)
            open_set = fd_count_open();
    }
    harness_await_fds(open_set);
    raw_call(sock, MSG(SET(MSI, EVENTFD | TRIGGER, 0, 1)), NULL); /* 0 descriptors: de-assign */
    assert_int_equal(harness_device(h).msi_eventfds, 0);
    harness_await_fds(open_before);
    raw_call(sock, MSG(SET(MSI, NONE | TRIGGER, 0, 0)), NULL);
    harness_await_fds(open_before);
}

static const struct CMUnitTest tests[] = {
    harness_test(requests_without_descriptor),
    harness_test(descriptors_that_do_not_fit),
    harness_test(more_descriptors_than_vectors),
    harness_test(wrong_kinds_of_descriptors),
    harness_test(wrong_kind_in_place_of_a_right_one),
    harness_test(another_index_is_on),
    harness_test(without_reply),
    harness_test(descriptors_do_not_pile_up),
};

HARNESS_MAIN(tests)
