#include "bridge/dirty_kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/arith.h"

enum {
    PAGE = 4096,
    PAGES = 100000, /* three blocks and a piece */
    ROUNDS = 400,
};

static const uint64_t base = UINT64_C(0xfffffff000000000) - 77 * PAGE;

static bool model[PAGES];

static bool told_now[PAGES];

/* What is in a block and in a range is told twice. */
static void note_told(void *arg, uint64_t first, uint64_t last)
{
    unsigned *told = arg;

    for (uint64_t i = (first - base) / PAGE; i <= (last - base) / PAGE; i++) {
        assert_true(model[i]);
        *told += !told_now[i];
        told_now[i] = true;
    }
}

static unsigned take(struct dirty_kept *kept, uint64_t first, uint64_t last)
{
    unsigned told = 0;

    memset(told_now, 0, sizeof(told_now));
    dirty_kept_take(kept, first, last, note_told, &told);
    for (unsigned i = 0; i < PAGES; i++)
        model[i] &= !told_now[i];
    return told;
}

static unsigned count(unsigned first, unsigned n)
{
    unsigned dirty = 0;

    for (unsigned i = first; i < first + n; i++)
        dirty += model[i];
    return dirty;
}

/* What was put in comes out, once, and nothing else. */
static void test_model(void **state)
{
    struct dirty_kept kept;

    (void)state;
    assert_int_equal(dirty_kept_init(&kept), 0);
    for (int round = 0; round < ROUNDS; round++) {
        unsigned first = (unsigned)rand() % PAGES;
        unsigned n = 1 + (unsigned)rand() % MIN(PAGES - first, rand() % 3 ? 50u : 50000u);
        uint64_t at = base + (uint64_t)first * PAGE, last = at + (uint64_t)n * PAGE - 1;
        unsigned wanted = count(first, n);

        if (rand() % 2) {
            dirty_kept_add(&kept, at, last);
            memset(model + first, true, n);
            continue;
        }
        assert_int_equal(take(&kept, at, last), wanted);
    }
    dirty_kept_free(&kept);
    memset(model, 0, sizeof(model));
}

static void test_bitmap(void **state)
{
    uint64_t words[] = {5, UINT64_C(1) << 63};
    const struct dirty_bitmap from = {base, base + 128 * PAGE - 1, PAGE, words};
    struct dirty_kept kept;

    (void)state;
    assert_int_equal(dirty_kept_init(&kept), 0);
    dirty_kept_add_bitmap(&kept, &from, base + PAGE, base + 127 * PAGE - 1);
    model[2] = true;
    assert_int_equal(take(&kept, 0, UINT64_MAX), 1);
    dirty_kept_add_bitmap(&kept, &from, 0, UINT64_MAX);
    model[0] = model[2] = model[127] = true;
    assert_int_equal(take(&kept, 0, UINT64_MAX), 3);
    assert_null(kept.blocks.root);
    dirty_kept_free(&kept);
}

static void add_up(void *arg, uint64_t first, uint64_t last)
{
    *(uint64_t *)arg += last - first + 1;
}

/* Of a part of a page is told, and the page stays; the whole address space is one range. */
static void test_parts(void **state)
{
    struct dirty_kept kept;
    uint64_t told = 0;

    (void)state;
    assert_int_equal(dirty_kept_init(&kept), 0);
    dirty_kept_add(&kept, base + 10, base + 20);
    dirty_kept_take(&kept, base + 100, base + 199, add_up, &told);
    assert_int_equal(told, 100);
    dirty_kept_take(&kept, base, base + PAGE - 1, add_up, &told);
    assert_int_equal(told, 100 + PAGE);
    dirty_kept_add(&kept, 0, UINT64_MAX);
    told = 1;
    dirty_kept_take(&kept, 0, UINT64_MAX, add_up, &told);
    assert_true(told == 1); /* and 2^64 */
    dirty_kept_add(&kept, UINT64_MAX - PAGE, UINT64_MAX);
    dirty_kept_take(&kept, 0, UINT64_MAX, add_up, &told);
    assert_int_equal(told, 1 + 2 * PAGE);
    dirty_kept_free(&kept);
}

/* What is all over the address space takes no memory without end, and is told all the same. */
static void test_bounded(void **state)
{
    const uint64_t apart = UINT64_C(1) << 27;
    struct dirty_kept kept;
    uint64_t told = 0;
    size_t blocks;

    (void)state;
    assert_int_equal(dirty_kept_init(&kept), 0);
    for (uint64_t i = 0; i < 10000; i++)
        dirty_kept_add(&kept, i * apart, i * apart + PAGE - 1);
    blocks = kept.blocks.count;
    assert_true(blocks < 5000);
    for (uint64_t i = 0; i < 10000; i++) {
        dirty_kept_take(&kept, i * apart, i * apart + PAGE - 1, add_up, &told);
        assert_true(told >= PAGE);
        told = 0;
    }
    assert_int_equal(kept.blocks.count, 0);
    dirty_kept_free(&kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_bitmap),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
