#include "proto/base/arith.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t TOP = UINT64_MAX;

static void test_array_size(void **state)
{
    static const struct {
        char bytes[3];
    } array[7];

    (void)state;
    assert_int_equal(ARRAY_SIZE(array), 7);
}

static void test_min_evaluates_once(void **state)
{
    int calls = 0;

    (void)state;
    assert_int_equal(MIN(++calls, 5), 1);
    assert_int_equal(calls, 1);
    assert_int_equal(MIN(-3, 2), -3);
    assert_true(MIN(TOP, TOP - 1) == TOP - 1);
}

static void test_is_pow2(void **state)
{
    (void)state;
    assert_false(is_pow2(0));
    assert_true(is_pow2(1));
    assert_false(is_pow2(3));
    assert_true(is_pow2(4096));
    assert_false(is_pow2(4097));
    assert_true(is_pow2(UINT64_C(1) << 63));
    assert_false(is_pow2(TOP));
}

static void test_is_aligned(void **state)
{
    (void)state;
    assert_true(is_aligned(0, 4096));
    assert_true(is_aligned(8192, 4096));
    assert_false(is_aligned(8193, 4096));
    assert_false(is_aligned(2048, 4096));
    assert_true(is_aligned(7, 1));
    assert_true(is_aligned(TOP - 4095, 4096));
    assert_false(is_aligned(TOP, UINT64_C(1) << 63));
}

static void test_range_within(void **state)
{
    (void)state;
    assert_true(range_within(0, 1, 1));
    assert_true(range_within(0, 256, 256));
    assert_true(range_within(255, 1, 256));
    assert_false(range_within(0, 0, 256));
    assert_false(range_within(256, 0, 256));
    assert_false(range_within(256, 1, 256));
    assert_false(range_within(255, 2, 256));
    assert_false(range_within(0, 257, 256));
    assert_false(range_within(0, 1, 0));
}

static void test_range_within_does_not_overflow(void **state)
{
    (void)state;
    assert_false(range_within(TOP, 1, 256));
    assert_false(range_within(TOP, TOP, 256));
    assert_false(range_within(1, TOP, 256));
    assert_false(range_within(255, TOP - 254, 256)); /* the sum is 1 */
    assert_false(range_within(1, TOP, TOP));
    assert_true(range_within(0, TOP, TOP));
    assert_true(range_within(TOP - 1, 1, TOP));
    assert_false(range_within(TOP, 1, TOP));
}

static void test_range_wraps(void **state)
{
    (void)state;
    assert_false(range_wraps(0, 0));
    assert_false(range_wraps(TOP, 0));
    assert_false(range_wraps(0, TOP));
    assert_false(range_wraps(1, TOP)); /* ends at 2^64 */
    assert_true(range_wraps(2, TOP));
    assert_false(range_wraps(TOP, 1));
    assert_true(range_wraps(TOP, 2));
    assert_false(range_wraps(TOP - 4095, 4096));
    assert_true(range_wraps(TOP - 4095, 4097));
    assert_true(range_wraps(TOP, TOP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_array_size),   cmocka_unit_test(test_min_evaluates_once),
        cmocka_unit_test(test_is_pow2),      cmocka_unit_test(test_is_aligned),
        cmocka_unit_test(test_range_within), cmocka_unit_test(test_range_within_does_not_overflow),
        cmocka_unit_test(test_range_wraps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
