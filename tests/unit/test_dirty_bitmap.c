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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_runs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
