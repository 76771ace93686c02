/* DEVICE_FEATURE: the features of low power, under the operator's policy. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/protocol/raw.h"

enum {
    GET = VFIO_USER_DEVICE_FEATURE_GET,
    SET = VFIO_USER_DEVICE_FEATURE_SET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,
    ENTRY = VFIO_USER_FEATURE_LOW_POWER_ENTRY,
    ENTRY_WITH_WAKEUP = VFIO_USER_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    EXIT = VFIO_USER_FEATURE_LOW_POWER_EXIT,
};

static const struct vfio_user_feature_low_power_wakeup unused = {.wakeup_eventfd = -1};

#define FEATURE(f) MSG_FEATURE(.argsz = 8, .flags = (f))
#define WAKEUP                                                                                     \
    MSG_FEATURE(.argsz = 16, .flags = SET | ENTRY_WITH_WAKEUP), .data = &unused,                   \
                                                                .data_len = sizeof(unused)

static int setup(void **state)
{
    struct harness *h = harness_new();

    h->export_config.low_power = true;
    harness_start(h);
    *state = h;
    return 0;
}

static int setup_two(void **state)
{
    struct harness *h = harness_new();

    h->export_config.low_power = true;
    harness_add_export(h, "sim:edu");
    harness_start(h);
    *state = h;
    return 0;
}

static int new_event(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static uint64_t events(int fd)
{
    uint64_t count = 0;

    return read(fd, &count, sizeof(count)) < 0 ? 0 : count;
}

static void touch(int sock)
{
    raw_call(sock, MSG(MSG_REGION_READ(.region = 7, .count = 2)), NULL);
}

/* As if the device had none of it. */
static void refused_by_default(void **state)
{
    const struct request_case cases[] = {
        CASE("probe entry", ENOTTY, FEATURE(PROBE | SET | ENTRY)),
        CASE("probe wakeup", ENOTTY, FEATURE(PROBE | SET | ENTRY_WITH_WAKEUP)),
        CASE("probe exit", ENOTTY, FEATURE(PROBE | SET | EXIT)),
        CASE("entry", ENOTTY, FEATURE(SET | ENTRY)),
        CASE("exit", ENOTTY, FEATURE(SET | EXIT)),
    };
    const struct request_case wakeup = CASE("wakeup", ENOTTY, WAKEUP);
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = new_event();

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, &wakeup, 1, &event, 1);
    assert_false(harness_device(h).may_sleep);
}

static void requests(void **state)
{
    const struct request_case cases[] = {
        CASE("probe entry", 0, FEATURE(PROBE | SET | ENTRY)),
        CASE("probe wakeup", 0, FEATURE(PROBE | SET | ENTRY_WITH_WAKEUP)),
        CASE("probe exit", 0, FEATURE(PROBE | ENTRY)),
        CASE("probe to get", EINVAL, FEATURE(PROBE | GET | EXIT)),
        CASE("get", EINVAL, FEATURE(GET | ENTRY)),
        CASE("exit without an entry", 0, FEATURE(SET | EXIT)),
        CASE("wakeup without a descriptor", EINVAL, WAKEUP),
        CASE("a token of the host's", ENOTTY, MSG_FEATURE(.argsz = 24, .flags = SET | 0)),
        CASE("entry", 0, FEATURE(SET | ENTRY)),
        CASE("entry while it may sleep", EINVAL, FEATURE(SET | ENTRY)),
    };
    const struct request_case with_fd[] = {
        CASE("entry", EINVAL, FEATURE(SET | ENTRY)),
        CASE("exit", EINVAL, FEATURE(SET | EXIT)),
        CASE("a feature that is not there", EINVAL, FEATURE(PROBE | 1000)),
        CASE("wakeup without data", EINVAL, MSG_FEATURE(.argsz = 16, .flags = SET | 4)),
        CASE("wakeup by a file", EINVAL, WAKEUP),
    };
    const struct request_case two = CASE("two descriptors", EINVAL, WAKEUP);
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const int fds[] = {fd, fd};

    raw_run_cases(sock, with_fd, ARRAY_SIZE(with_fd), &fd, 1);
    raw_run_cases(sock, &two, 1, fds, 2);
    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
}

/* It sleeps until the client wants something of it, and again. */
static void entry(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    struct reply r;

    raw_call(sock, MSG(FEATURE(SET | ENTRY)), &r);
    assert_int_equal(r.len, 8); /* the request comes back */
    assert_true(harness_device(h).asleep);
    touch(sock);
    assert_true(harness_device(h).asleep);
    raw_call(sock, MSG(FEATURE(SET | EXIT)), NULL);
    assert_false(harness_device(h).asleep);
    touch(sock);
    assert_false(harness_device(h).may_sleep);
}

static void wakeup(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int event = new_event();
    int fds = fd_count_open();
    struct reply r;

    raw_send(sock, MSG(WAKEUP), &event, 1);
    raw_expect_reply(sock, MSG(WAKEUP), &r);
    assert_int_equal(r.len, 16);
    assert_int_equal(fd_count_open(), fds + 1); /* the kernel's */
    assert_true(harness_device(h).asleep);
    assert_int_equal(events(event), 0);
    touch(sock);
    assert_int_equal(events(event), 1);
    assert_false(harness_device(h).may_sleep);
    touch(sock);
    assert_int_equal(events(event), 0);
    assert_int_equal(fd_count_open(), fds);
}

/* The next session has a device that is awake, and the eventfd is nobody's any more. */
static void end_of_session(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int event = new_event();
    int fds = fd_count_open();
    int sock = raw_session(h);
    struct reply r;

    raw_send(sock, MSG(WAKEUP), &event, 1);
    raw_expect_reply(sock, MSG(WAKEUP), &r);
    close(sock);
    harness_await_fds(fds);
    harness_assert_serves(h);
    sock = raw_session(h);
    raw_call(sock, MSG(FEATURE(SET | ENTRY)), NULL);
    close(sock);
    harness_await_fds(fds);
    harness_assert_serves(h);
    assert_false(harness_device(h).may_sleep);
    assert_false(harness_device(h).asleep);
}

/* And it may sleep on behind it. */
static void reset_wakes(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    unsigned resets = harness_stats(h).resets;

    raw_call(sock, MSG(FEATURE(SET | ENTRY)), NULL);
    raw_call(sock, MSG(MSG_RESET()), NULL);
    assert_int_equal(harness_stats(h).resets, resets + 1);
    assert_true(harness_device(h).asleep);
}

/*
 * Where the device's BARs are is told to the client's other devices after a reset, and again when
 * it is awake, as often as the client says so.
 */
static void with_another_device(void **state)
{
    const struct {
        uint32_t bar0;
        uint16_t command;
    } config = {.bar0 = 0xfe000000, .command = PCI_COMMAND_MEMORY};
    cleanup_close_ int sock = raw_session(*state);

    raw_call(sock,
             MSG(MSG_REGION_WRITE(.offset = PCI_BASE_ADDRESS_0, .region = 7, .count = 4),
                 .data = &config.bar0, .data_len = 4),
             NULL);
    raw_call(sock,
             MSG(MSG_REGION_WRITE(.offset = PCI_COMMAND, .region = 7, .count = 2),
                 .data = &config.command, .data_len = 2),
             NULL);
    raw_call(sock, MSG(FEATURE(SET | EXIT)), NULL);
    raw_call(sock, MSG(FEATURE(SET | ENTRY)), NULL);
    raw_call(sock, MSG(MSG_RESET()), NULL);
    raw_call(sock, MSG(FEATURE(SET | EXIT)), NULL);
    raw_call(sock, MSG(FEATURE(SET | EXIT)), NULL);
}

static const struct CMUnitTest tests[] = {
    harness_test(refused_by_default),
    cmocka_unit_test_setup_teardown(requests, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(entry, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(wakeup, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(end_of_session, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(reset_wakes, setup, harness_teardown),
    cmocka_unit_test_setup_teardown(with_another_device, setup_two, harness_teardown),
};

HARNESS_MAIN(tests)
