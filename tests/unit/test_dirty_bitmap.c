#include "bridge/dirty_bitmap.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "tests/unit/fd_leak.h"

enum {
    WORDS = 8,
    ROUNDS = 20000,
};

static void test_size(void **state)
{
    static const struct {
        uint64_t first, last, page_size, size;
    } cases[] = {
        {0,    0,                    4096,       8                },
        {4096, 4096 + 64 * 4096 - 1, 4096,       8                },
        {4096, 4096 + 64 * 4096,     4096,       16               },
        {1,    64 * 4096,            4096,       8                },
        {0,    UINT64_MAX,           4096,       UINT64_C(1) << 49},
        {0,    UINT64_MAX,           1ULL << 63, 8                },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_true(dirty_bitmap_size(cases[i].first, cases[i].last, cases[i].page_size) ==
                    cases[i].size);
}

static bool shares(const struct dirty_bitmap *b, uint64_t n, uint64_t first, uint64_t last)
{
    uint64_t page = b->first + n * b->page_size;
    uint64_t page_last = MIN(page + (b->page_size - 1), b->last);

    return first <= page_last && last >= page;
}

/* One bit after the other, against what it stands for. */
static void test_model(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t words[WORDS] = {0}, n = 0, first = 0, last, base, told_last = 0;
        struct dirty_bitmap b = {.page_size = UINT64_C(1) << (rand() % 4), .words = words};
        uint64_t bits = 1 + (uint64_t)rand() % (WORDS * 64);
        bool any = false;

        b.first = 1000 + (uint64_t)rand() % 64;
        b.last = b.first + (bits - 1) * b.page_size + (uint64_t)rand() % b.page_size;
        base = b.first - 20;
        first = base + (uint64_t)rand() % (b.last - b.first + 40);
        last = first + (uint64_t)rand() % (round % 2 ? 10 : 2000);
        dirty_bitmap_set(&b, first, last);
        for (uint64_t i = 0; i < WORDS * 64; i++)
            assert_int_equal(words[i / 64] >> i % 64 & 1, i < bits && shares(&b, i, first, last));
        while (dirty_bitmap_next(&b, &n, &base, &told_last)) {
            assert_false(any); /* it is one run */
            any = true;
            assert_true(base >= b.first && told_last <= b.last);
            for (uint64_t i = 0; i < bits; i++)
                assert_int_equal(words[i / 64] >> i % 64 & 1, shares(&b, i, base, told_last));
        }
        assert_int_equal(any, first <= b.last && last >= b.first);
    }
}

static void test_runs(void **state)
{
    uint64_t words[3] = {UINT64_C(0x8000000000000005), UINT64_C(1) << 63 | 1, 7};
    const struct dirty_bitmap b = {
        .first = 0, .last = 130 * 16 - 1, .page_size = 16, .words = words};
    static const uint64_t runs[][2] = {
        {0,   0  },
        {2,   2  },
        {63,  64 },
        {127, 129}
    };
    uint64_t n = 0, first, last;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
        assert_true(dirty_bitmap_next(&b, &n, &first, &last));
        assert_int_equal(first, runs[i][0] * 16);
        assert_int_equal(last, runs[i][1] * 16 + 15);
    }
    assert_false(dirty_bitmap_next(&b, &n, &first, &last));
}

/* Bit by bit: what a page of the one says of addresses in the range is in the other's pages. */
static void merge_once(unsigned from_shift, unsigned to_shift, bool aligned)
{
    uint64_t from_words[WORDS], to_words[WORDS] = {0}, before[WORDS];
    struct dirty_bitmap from = {.page_size = UINT64_C(1) << from_shift, .words = from_words};
    struct dirty_bitmap to = {.page_size = UINT64_C(1) << to_shift, .words = to_words};
    uint64_t bits = 1 + (uint64_t)rand() % (WORDS * 64), first, last;

    for (unsigned i = 0; i < WORDS; i++)
        from_words[i] = rand() % 3 ? (uint64_t)rand() * (uint64_t)rand() & (uint64_t)rand() : 0;
    if (rand() % 4 == 0)
        from_words[rand() % WORDS] = UINT64_MAX;
    to_words[rand() % WORDS] = 1;
    memcpy(before, to_words, sizeof(before));
    to.first = 64 * 1024;
    to.last = to.first + (bits - 1) * to.page_size;
    from.first =
        aligned ? to.first + (uint64_t)(rand() % 5) * 64 * from.page_size - 128 * from.page_size
                : to.first + (uint64_t)rand() % 400 - 200;
    from.last = from.first + (uint64_t)rand() % (WORDS * 64 * from.page_size);
    first = from.first + (uint64_t)rand() % (WORDS * 64 * from.page_size);
    last = first + (uint64_t)rand() % (WORDS * 64 * from.page_size);
    dirty_bitmap_merge(&to, &from, first, last);
    for (uint64_t i = 0; i < WORDS * 64; i++) {
        uint64_t low = to.first + i * to.page_size, high = low + to.page_size - 1;
        bool must = before[i / 64] >> i % 64 & 1, may = must;

        for (uint64_t k = 0; k < WORDS * 64; k++) {
            uint64_t a = from.first + k * from.page_size, b = a + from.page_size - 1;

            if (!(from_words[k / 64] >> k % 64 & 1) || a > from.last || i >= bits)
                continue;
            b = MIN(b, from.last);
            /* The whole of its page may be told, and what is in the range must. */
            may |= a <= MIN(high, to.last) && b >= low && a <= last && b >= first;
            must |= MAX(a, first) <= MIN(high, to.last) && MIN(b, last) >= low &&
                    MAX(a, first) <= MIN(b, last);
        }
        if (must)
            assert_true(to_words[i / 64] >> i % 64 & 1);
        if (!may)
            assert_false(to_words[i / 64] >> i % 64 & 1);
    }
}

static void test_merge(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        merge_once(2, 2, true);
        merge_once(2, 2, false);
        merge_once(1, 3, round % 2);
        merge_once(3, 1, round % 2);
        merge_once(1, 8, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_merge),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
