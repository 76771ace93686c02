#include "bridge/migration.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "bridge/reset.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"

enum {
    STREAM = FAKE_FD + 8,
    PEER = 77, /* no descriptors of the host's */
    STOP_EVENT = 78,
    PAUSE_NS = 1000000,
};

static struct fake_machine m;
static unsigned pauses;
static time_t seconds,
    step; /* the clock, and by how much each look at it moves it; 0: the real one */

int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __real_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest)
{
    (void)rest;
    assert_int_equal(duration->tv_nsec, PAUSE_NS);
    pauses++;
    return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!step)
        return __real_clock_gettime(clock, now);
    *now = (struct timespec){.tv_sec = seconds};
    seconds += step;
    return 0;
}

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    pauses = 0;
    step = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

struct request {
    struct vfio_device_feature head;
    struct vfio_device_feature_mig_state state;
};

static void expect_set(uint32_t state, int fd, int ret)
{
    const struct request in = {
        .head = {sizeof(in),            VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE},
        .state = {.device_state = state, .data_fd = -1                                                 },
    };
    struct request out = in;

    out.state.data_fd = fd;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = &in, .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

/* The kernel's truth after a change that failed. */
static void expect_get(uint32_t state, int ret)
{
    const uint32_t flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
    const struct request in = {
        .head = {sizeof(in), flags},
        .state = {.data_fd = -1         },
    };
    struct request out = in;

    out.state.device_state = state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = &in, .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

/* The fake kernel keeps its books by itself: the descriptor is one that an ioctl has made. */
static void open_stream(uint32_t state)
{
    FAKE_EXPECT(m.f, .kind = FAKE_OPEN, .ret = STREAM);
    assert_int_equal(host_open(fake_host_base(m.f), "stream", 0), STREAM);
    expect_set(state, STREAM, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_SET_NONBLOCK, .fd = STREAM);
    assert_int_equal(migration_set_state(m.dev, state), 0);
}

static bool is_open(void)
{
    return fake_open_count(m.f) == 4;
}

static void expect_read(const char *text, ssize_t ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_READ, .fd = STREAM, .out = text,
                .out_len = ret > 0 ? (size_t)ret : 0, .ret = ret);
}

static const struct migration_ends ends = {PEER, STOP_EVENT};

static void expect_poll(short stream, short peer)
{
    FAKE_EXPECT(m.f, .kind = FAKE_POLL, .revents = {stream, peer}, .ret = !!stream + !!peer);
}

static void expect_info(uint64_t initial, uint64_t dirty, int ret)
{
    const struct uapi_vfio_precopy_info in = {.argsz = sizeof(in)};
    const struct uapi_vfio_precopy_info out = {sizeof(out), 0, initial, dirty};

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = STREAM, .request = UAPI_VFIO_MIG_GET_PRECOPY_INFO,
                .in = &in, .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

static void assert_read(size_t size, int ret, const char *text)
{
    char buf[32] = "";
    size_t got = 99;

    assert_int_equal(migration_read(m.dev, buf, size, &ends, &got), ret);
    if (!ret) {
        assert_int_equal(got, strlen(text));
        assert_memory_equal(buf, text, got);
    }
    fake_assert_done(m.f);
}

/* The descriptor lives as long as states that have data, and is replaced by a new one. */
static void test_descriptor(void **state)
{
    (void)state;
    assert_int_equal(fake_open_count(m.f), 3);
    open_stream(UAPI_VFIO_STATE_PRE_COPY);
    assert_true(is_open());
    expect_set(VFIO_DEVICE_STATE_STOP_COPY, -1, 0);
    assert_int_equal(migration_set_state(m.dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
    assert_true(is_open());
    expect_set(VFIO_DEVICE_STATE_STOP, -1, 0);
    assert_int_equal(migration_set_state(m.dev, VFIO_DEVICE_STATE_STOP), 0);
    assert_false(is_open());
    open_stream(VFIO_DEVICE_STATE_RESUMING);
    FAKE_EXPECT(m.f, .kind = FAKE_OPEN, .ret = STREAM + 1);
    assert_int_equal(host_open(fake_host_base(m.f), "stream", 0), STREAM + 1);
    expect_set(VFIO_DEVICE_STATE_STOP_COPY, STREAM + 1, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_SET_NONBLOCK, .fd = STREAM + 1);
    assert_int_equal(migration_set_state(m.dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
    assert_true(is_open());
    migration_end_stream(m.dev);
    migration_end_stream(m.dev);
    assert_int_equal(fake_open_count(m.f), 3);
}

static void test_descriptor_blocks(void **state)
{
    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_OPEN, .ret = STREAM);
    assert_int_equal(host_open(fake_host_base(m.f), "stream", 0), STREAM);
    expect_set(VFIO_DEVICE_STATE_STOP_COPY, STREAM, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_SET_NONBLOCK, .ret = -EPERM);
    assert_int_equal(migration_set_state(m.dev, VFIO_DEVICE_STATE_STOP_COPY), -EPERM);
    assert_false(is_open());
    assert_read(1, -EINVAL, NULL);
}

/* The stream goes unless the device is still where it belongs. */
static void test_failed_change(void **state)
{
    static const struct {
        uint32_t before, asked, now;
        int get;
        bool open;
    } cases[] = {
        {VFIO_DEVICE_STATE_RESUMING,  VFIO_DEVICE_STATE_RUNNING,   VFIO_DEVICE_STATE_RESUMING,    0,
         true                                                                                                },
        {VFIO_DEVICE_STATE_RESUMING,  VFIO_DEVICE_STATE_RUNNING,   VFIO_DEVICE_STATE_ERROR,       0,    false},
        {VFIO_DEVICE_STATE_RESUMING,  VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP_COPY,   0,
         false                                                                                               },
        {UAPI_VFIO_STATE_PRE_COPY,    VFIO_DEVICE_STATE_STOP_COPY, UAPI_VFIO_STATE_PRE_COPY_P2P,  0,
         true                                                                                                },
        {UAPI_VFIO_STATE_PRE_COPY,    VFIO_DEVICE_STATE_STOP,      VFIO_DEVICE_STATE_RUNNING_P2P, 0,    false},
        {VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RUNNING,   VFIO_DEVICE_STATE_STOP_COPY,   -EIO,
         false                                                                                               },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (i) {
            teardown(state);
            setup(state);
        }
        open_stream(cases[i].before);
        expect_set(cases[i].asked, -1, -ENOSPC);
        expect_get(cases[i].now, cases[i].get);
        assert_int_equal(migration_set_state(m.dev, cases[i].asked), -ENOSPC);
        assert_int_equal(is_open(), cases[i].open);
        fake_assert_done(m.f);
    }
}

static void test_reset_ends_stream(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    fake_expect_command_read(m.f, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_RESET, .ret = -EIO);
    assert_int_equal(reset_device(m.dev), -EIO);
    assert_true(is_open());
    fake_expect_command_read(m.f, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_RESET);
    assert_int_equal(reset_device(m.dev), 0);
    assert_false(is_open());
}

/* Until the buffer is full; the kernel is not asked again then. */
static void test_short_reads(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    expect_read("abc", 3);
    expect_read("d", 1);
    expect_read("efgh", 4);
    assert_read(8, 0, "abcdefgh");
    expect_read("ij", 2);
    expect_read(NULL, 0);
    assert_read(8, 0, "ij");
    expect_read("kl", 2);
    expect_read(NULL, -ENOMSG);
    assert_read(8, 0, "kl");
    assert_read(0, 0, "");
}

/* At the end the driver is asked for more, once. */
static void test_more(void **state)
{
    (void)state;
    open_stream(UAPI_VFIO_STATE_PRE_COPY);
    expect_read(NULL, -ENOMSG);
    expect_info(0, 0, 0);
    assert_read(8, 0, "");
    expect_read(NULL, 0);
    expect_info(0, 0, -EINVAL); /* no pre-copy */
    assert_read(8, 0, "");
    expect_read(NULL, -ENOMSG);
    expect_info(0, 3, 0);
    expect_read("new", 3);
    expect_read(NULL, -ENOMSG);
    assert_read(8, 0, "new");
    expect_read(NULL, -ENOMSG);
    expect_info(3, 0, 0);
    expect_read(NULL, -ENOMSG);
    assert_read(8, 0, "");
}

static void expect_precopy(int opt_in, uint32_t flags, int ret)
{
    const struct vfio_device_feature request = {
        .argsz = sizeof(request),
        .flags = VFIO_DEVICE_FEATURE_SET | UAPI_VFIO_FEATURE_PRECOPY_INFO_V2,
    };
    const struct uapi_vfio_precopy_info info = {sizeof(info), flags, 3, 5};

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = &request, .in_len = sizeof(request), .ret = opt_in);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = STREAM, .request = UAPI_VFIO_MIG_GET_PRECOPY_INFO,
                .out = &info, .out_len = sizeof(info), .ret = ret);
}

/* Its flags mean something only where the kernel says that they do. */
static void test_precopy(void **state)
{
    struct migration_precopy got;

    (void)state;
    assert_int_equal(migration_get_precopy(m.dev, &got), -EINVAL);
    open_stream(UAPI_VFIO_STATE_PRE_COPY);
    expect_precopy(0, UAPI_VFIO_PRECOPY_INFO_REINIT, 0);
    assert_int_equal(migration_get_precopy(m.dev, &got), 0);
    assert_int_equal(got.initial_bytes, 3);
    assert_int_equal(got.dirty_bytes, 5);
    assert_true(got.reinit);
    expect_precopy(0, ~UAPI_VFIO_PRECOPY_INFO_REINIT, 0);
    assert_int_equal(migration_get_precopy(m.dev, &got), 0);
    assert_false(got.reinit);
    expect_precopy(-ENOTTY, UINT32_MAX, 0);
    assert_int_equal(migration_get_precopy(m.dev, &got), 0);
    assert_false(got.reinit);
    expect_precopy(-ENOTTY, 0, -EINVAL);
    assert_int_equal(migration_get_precopy(m.dev, &got), -EINVAL);
}

static void test_wait(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    expect_read("a", 1);
    expect_read(NULL, -EAGAIN);
    expect_poll(0, 0); /* time to look again */
    expect_read(NULL, -EAGAIN);
    expect_poll(POLLIN, 0);
    expect_read("b", 1);
    assert_read(2, 0, "ab");
    assert_int_equal(pauses, 0);
}

/* A poll that says what is not so must not make us spin. */
static void test_poll_lies(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    for (int i = 0; i < 3; i++) {
        expect_read(NULL, -EAGAIN);
        expect_poll(POLLIN, 0);
    }
    expect_read("b", 1);
    assert_read(1, 0, "b");
    assert_int_equal(pauses, 2);
}

static void test_peer_leaves(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    expect_read("a", 1);
    expect_read(NULL, -EAGAIN);
    expect_poll(0, POLLRDHUP);
    assert_read(2, -ECANCELED, NULL);
    expect_read(NULL, -EAGAIN);
    FAKE_EXPECT(m.f, .kind = FAKE_POLL, .revents = {0, 0, POLLIN}, .ret = 1);
    assert_read(2, -ECANCELED, NULL);
    expect_read(NULL, -EAGAIN);
    FAKE_EXPECT(m.f, .kind = FAKE_POLL, .ret = -ENOMEM);
    assert_read(2, -ENOMEM, NULL);
}

/* A minute for each piece, not for all. */
static void test_timeout(void **state)
{
    (void)state;
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    seconds = 1000;
    step = 20;
    for (int i = 0; i < 3; i++) {
        expect_read(NULL, -EAGAIN);
        expect_poll(0, 0);
        expect_read(NULL, -EAGAIN);
        expect_poll(0, 0);
        expect_read("a", 1);
    }
    assert_read(3, 0, "aaa");
    expect_read(NULL, -EAGAIN);
    expect_poll(0, 0);
    expect_read(NULL, -EAGAIN);
    expect_poll(0, 0);
    expect_read(NULL, -EAGAIN);
    assert_read(3, -ETIMEDOUT, NULL);
}

static void test_read_errors(void **state)
{
    static const int errors[] = {-ENODEV, -EIO, -EINVAL};

    (void)state;
    assert_read(1, -EINVAL, NULL);
    open_stream(VFIO_DEVICE_STATE_STOP_COPY);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_read("abc", 3);
        expect_read(NULL, errors[i]);
        assert_read(8, errors[i], NULL);
    }
    assert_int_equal(migration_write(m.dev, "x", 1, &ends), -EINVAL);
}

static void expect_write(const char *text, size_t len, ssize_t ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_WRITE, .fd = STREAM, .in = text, .in_len = len, .len = len,
                .ret = ret);
}

static void test_write(void **state)
{
    char byte;
    size_t got;

    (void)state;
    open_stream(VFIO_DEVICE_STATE_RESUMING);
    expect_write("abcdef", 6, 2);
    expect_write("cdef", 4, -EAGAIN);
    expect_poll(POLLOUT, 0);
    expect_write("cdef", 4, 4);
    assert_int_equal(migration_write(m.dev, "abcdef", 6, &ends), 0);
    assert_int_equal(migration_write(m.dev, "abcdef", 0, &ends), 0);
    expect_write("x", 1, 0);
    assert_int_equal(migration_write(m.dev, "x", 1, &ends), -EIO);
    expect_write("x", 1, -ENOMEM);
    assert_int_equal(migration_write(m.dev, "x", 1, &ends), -ENOMEM);
    expect_write("x", 1, -EAGAIN);
    expect_poll(0, POLLHUP);
    assert_int_equal(migration_write(m.dev, "x", 1, &ends), -ECANCELED);
    assert_int_equal(migration_read(m.dev, &byte, 1, &ends, &got), -EINVAL);
}

static void test_no_migration(void **state)
{
    uint64_t value;
    uint32_t now;

    (void)state;
    for (int i = 0; i < 4; i++)
        FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_FEATURE, .ret = -ENOTTY);
    assert_int_equal(migration_get_flags(m.dev, &value), -ENOTTY);
    assert_int_equal(migration_get_data_size(m.dev, &value), -ENOTTY);
    assert_int_equal(migration_get_state(m.dev, &now), -ENOTTY);
    assert_int_equal(migration_set_state(m.dev, VFIO_DEVICE_STATE_STOP), -ENOTTY);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_descriptor),   TEST(test_descriptor_blocks), TEST(test_failed_change),
        TEST(test_short_reads),  TEST(test_reset_ends_stream), TEST(test_more),
        TEST(test_wait),         TEST(test_poll_lies),         TEST(test_peer_leaves),
        TEST(test_timeout),      TEST(test_read_errors),       TEST(test_write),
        TEST(test_no_migration), TEST(test_precopy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
