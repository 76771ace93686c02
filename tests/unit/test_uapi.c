#include "bridge/uapi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/fake_host.h"

enum {
    MIN = 16,
    MAX_INFO = 1 << 20,
    TRIES = 8,
    STEPS = 64,
    REQUEST = 0x3b70,
};

/* The fixed part of an information struct. */
struct fixed {
    uint32_t argsz, flags, index, more;
};

static struct fake_host *f;
static const struct fixed question = {.argsz = 0xdeadbeef, .index = 5};

static int setup(void **state)
{
    (void)state;
    f = fake_host_new();
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .ret = FAKE_FD);
    return host_open(fake_host_base(f), "/dev/vfio/x", 0) != FAKE_FD;
}

static int teardown(void **state)
{
    int fd = FAKE_FD;

    (void)state;
    host_close(fake_host_base(f), &fd);
    fake_host_free(f);
    return 0;
}

/* The call is made with a buffer of size bytes and raises argsz to answer. */
static void expect_call(uint32_t size, uint32_t answer, int ret)
{
    const struct fixed asked = {.argsz = size, .index = question.index};
    const struct fixed answered = {.argsz = answer, .flags = 0xf, .index = question.index};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = REQUEST, .in = &asked, .in_len = sizeof(asked),
                .out = &answered, .out_len = sizeof(answered), .ret = ret);
}

static int get(void **out, size_t *len)
{
    return uapi_get_info(fake_host_base(f), FAKE_FD, REQUEST, &question, MIN, out, len);
}

static void assert_refused(int err)
{
    void *out = &f;
    size_t len = 12345;

    assert_int_equal(get(&out, &len), err);
    assert_ptr_equal(out, &f);
    assert_int_equal(len, 12345);
}

static void test_fits(void **state)
{
    cleanup_free_ void *out = NULL;
    struct fixed got;
    size_t len;

    (void)state;
    expect_call(MIN, MIN, 0);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, MIN);
    memcpy(&got, out, sizeof(got));
    assert_int_equal(got.flags, 0xf);
}

/* What lies behind the fixed part is zeroed and comes back whole. */
static void test_grows(void **state)
{
    const uint8_t zeroes[100 - MIN] = {0};
    cleanup_free_ uint8_t *asked = calloc(1, 100);
    uint8_t answered[100];
    cleanup_free_ void *out = NULL;
    size_t len;

    (void)state;
    memcpy(asked, &(struct fixed){.argsz = 100, .index = question.index}, MIN);
    memcpy(asked + MIN, zeroes, sizeof(zeroes));
    memset(answered, 0x5a, sizeof(answered));
    memcpy(answered, &(uint32_t){100}, sizeof(uint32_t));
    expect_call(MIN, 100, 0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = REQUEST, .in = asked, .in_len = 100,
                .out = answered, .out_len = 100);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, 100);
    assert_memory_equal(out, answered, 100);
}

/* The answer may shrink between two calls: the buffer's size is what counts. */
static void test_shrinks(void **state)
{
    cleanup_free_ void *out = NULL;
    size_t len;

    (void)state;
    expect_call(MIN, 200, 0);
    expect_call(200, 100, 0);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, 200);
}

static void test_grows_to_the_end(void **state)
{
    cleanup_free_ void *out = NULL;
    size_t len;

    (void)state;
    for (uint32_t i = 0; i < TRIES - 1; i++)
        expect_call(MIN + i, MIN + i + 1, 0);
    expect_call(MIN + TRIES - 1, MIN + TRIES - 1, 0);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, MIN + TRIES - 1);
}

static void test_grows_for_ever(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < TRIES; i++)
        expect_call(MIN + i, MIN + i + 1, 0);
    assert_refused(-EPROTO);
}

static void test_largest(void **state)
{
    cleanup_free_ void *out = NULL;
    size_t len;

    (void)state;
    expect_call(MIN, MAX_INFO, 0);
    expect_call(MAX_INFO, MAX_INFO, 0);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, MAX_INFO);
}

static void test_lies(void **state)
{
    static const uint32_t lies[] = {0, 1, MIN - 1, MAX_INFO + 1, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        expect_call(MIN, lies[i], 0);
        assert_refused(-EPROTO);
        expect_call(MIN, 64, 0);
        expect_call(64, lies[i], 0);
        assert_refused(-EPROTO);
    }
}

static void test_errors(void **state)
{
    (void)state;
    expect_call(MIN, MIN, -EINVAL);
    assert_refused(-EINVAL);
    expect_call(MIN, 64, 0);
    expect_call(64, 64, -EIO);
    assert_refused(-EIO);
}

/* A positive return is no error: some drivers give one. */
static void test_positive_return(void **state)
{
    cleanup_free_ void *out = NULL;
    size_t len;

    (void)state;
    expect_call(MIN, MIN, 1);
    assert_int_equal(get(&out, &len), 0);
    assert_int_equal(len, MIN);
}

/* A chain in memory of exactly len bytes, so that a read behind it is seen. */
static uint8_t *new_chain(size_t len)
{
    uint8_t *buf = calloc(1, len);

    assert_non_null(buf);
    return buf;
}

static void put_cap(uint8_t *buf, uint32_t at, uint32_t next)
{
    const struct vfio_info_cap_header cap = {.id = 1, .version = 1, .next = next};

    memcpy(buf + at, &cap, sizeof(cap));
}

/* Links that a walk from offset follows. */
static unsigned walk(const uint8_t *buf, size_t len, uint32_t offset)
{
    const struct vfio_info_cap_header *cap;
    unsigned steps = 0, links = 0;
    size_t size;

    while ((cap = uapi_cap_at(buf, len, offset, &steps, &size))) {
        assert_int_equal((const uint8_t *)cap - buf, offset);
        assert_int_equal(size, len - offset);
        links++;
        offset = cap->next;
    }
    return links;
}

static void test_chain(void **state)
{
    cleanup_free_ uint8_t *buf = new_chain(64);

    (void)state;
    put_cap(buf, 32, 16);
    put_cap(buf, 16, 56); /* ends with the buffer */
    put_cap(buf, 56, 0);
    assert_int_equal(walk(buf, 64, 32), 3);
    assert_int_equal(walk(buf, 64, 56), 1);
    assert_int_equal(walk(buf, 64, 0), 0);
}

static void test_out_of_bounds(void **state)
{
    static const uint32_t outside[] = {60, 64, 68, 1 << 20, UINT32_MAX & ~3u};
    static const uint32_t misaligned[] = {1, 2, 3, 17, 18, 55, 57, UINT32_MAX};
    cleanup_free_ uint8_t *buf = new_chain(64);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
        assert_int_equal(walk(buf, 64, outside[i]), 0);
        put_cap(buf, 16, outside[i]);
        assert_int_equal(walk(buf, 64, 16), 1);
    }
    for (size_t i = 0; i < ARRAY_SIZE(misaligned); i++) {
        assert_int_equal(walk(buf, 64, misaligned[i]), 0);
        put_cap(buf, 16, misaligned[i]);
        assert_int_equal(walk(buf, 64, 16), 1);
    }
}

static void test_buffer_shorter_than_a_header(void **state)
{
    cleanup_free_ uint8_t *buf = new_chain(7);

    (void)state;
    assert_int_equal(walk(buf, 7, 4), 0);
    assert_int_equal(walk(buf, 0, 4), 0);
}

static void test_cycles(void **state)
{
    cleanup_free_ uint8_t *buf = new_chain(64);

    (void)state;
    put_cap(buf, 16, 16);
    assert_int_equal(walk(buf, 64, 16), STEPS);
    put_cap(buf, 16, 32);
    put_cap(buf, 32, 16);
    assert_int_equal(walk(buf, 64, 16), STEPS);
}

/* As many links as may be followed, and one more. */
static void test_longest_chain(void **state)
{
    cleanup_free_ uint8_t *buf = new_chain(8 * (STEPS + 2));

    (void)state;
    for (uint32_t i = 1; i < STEPS; i++)
        put_cap(buf, 8 * i, 8 * (i + 1));
    assert_int_equal(walk(buf, 8 * (STEPS + 2), 8), STEPS);
    put_cap(buf, 8 * STEPS, 8 * (STEPS + 1));
    assert_int_equal(walk(buf, 8 * (STEPS + 2), 8), STEPS);
}

#define call_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        call_test(test_fits),
        call_test(test_grows),
        call_test(test_shrinks),
        call_test(test_grows_to_the_end),
        call_test(test_grows_for_ever),
        call_test(test_largest),
        call_test(test_lies),
        call_test(test_errors),
        call_test(test_positive_return),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_out_of_bounds),
        cmocka_unit_test(test_buffer_shorter_than_a_header),
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_longest_chain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
