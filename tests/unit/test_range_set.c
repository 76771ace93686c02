#include "bridge/range_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "tests/unit/fd_leak.h"

enum {
    SPACE = 200, /* addresses of the model */
    ROUNDS = 20000,
};

static bool model[SPACE];
static bool told[SPACE];

static void tell(void *arg, uint64_t first, uint64_t last)
{
    uint64_t *before = arg; /* parts come in order */

    assert_true(first <= last);
    assert_true(last < SPACE);
    assert_true(!*before || first >= *before);
    *before = last + 1;
    for (; first <= last; first++)
        told[first] = true;
}

static void check_shape(const struct range_set *set)
{
    for (size_t i = 0; i < set->n; i++) {
        assert_true(set->at[i].first <= set->at[i].last);
        assert_true(!i || set->at[i].first > set->at[i - 1].last + 1);
    }
    assert_true(set->n <= set->room);
}

static void check(const struct range_set *set, bool exact)
{
    uint64_t before = 0;

    check_shape(set);
    memset(told, 0, sizeof(told));
    range_set_each(set, 0, SPACE - 1, tell, &before);
    for (size_t i = 0; i < SPACE; i++)
        assert_true(exact ? told[i] == model[i] : told[i] >= model[i]);
}

static void run(size_t room, bool exact)
{
    struct range_set set;

    memset(model, 0, sizeof(model));
    assert_int_equal(range_set_init(&set, room), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t first = (uint64_t)rand() % SPACE, before = 0;
        uint64_t last = MIN(first + (uint64_t)rand() % 9, (uint64_t)SPACE - 1);
        bool any = false;

        memset(told, 0, sizeof(told));
        switch (rand() % 5) {
        case 0:
        case 1:
            range_set_add(&set, first, last);
            for (uint64_t i = first; i <= last; i++)
                model[i] = true;
            break;
        case 2:
            range_set_take(&set, first, last, tell, &before);
            for (uint64_t i = 0; i < SPACE; i++) {
                bool inside = i >= first && i <= last;

                assert_true(exact ? told[i] == (inside && model[i])
                                  : told[i] >= (inside && model[i]));
                if (inside)
                    model[i] = false;
            }
            break;
        case 3:
            range_set_gaps(&set, first, last, tell, &before);
            for (uint64_t i = 0; exact && i < SPACE; i++)
                assert_int_equal(told[i], i >= first && i <= last && !model[i]);
            break;
        default:
            for (uint64_t i = first; i <= last; i++)
                any |= model[i];
            if (exact)
                assert_int_equal(range_set_overlaps(&set, first, last), any);
            break;
        }
        check(&set, exact);
    }
    range_set_free(&set);
}

static void test_model(void **state)
{
    (void)state;
    run(SPACE, true);
}

/* Too little room: more is in it than was put in, never less. */
static void test_full(void **state)
{
    (void)state;
    run(1, false);
    run(3, false);
    run(10, false);
}

static void ends(void *arg, uint64_t first, uint64_t last)
{
    *(struct range *)arg = (struct range){first, last};
}

/* The last address has no next one. */
static void test_ends(void **state)
{
    struct range_set set;
    struct range got;

    (void)state;
    assert_int_equal(range_set_init(&set, 4), 0);
    range_set_add(&set, UINT64_MAX, UINT64_MAX);
    range_set_add(&set, 0, 0);
    assert_int_equal(set.n, 2);
    range_set_gaps(&set, 0, UINT64_MAX, ends, &got);
    assert_true(got.first == 1 && got.last == UINT64_MAX - 1);
    range_set_add(&set, 1, UINT64_MAX - 1);
    assert_int_equal(set.n, 1);
    range_set_take(&set, 5, UINT64_MAX, ends, &got);
    assert_true(got.first == 5 && got.last == UINT64_MAX);
    assert_true(set.n == 1 && set.at[0].first == 0 && set.at[0].last == 4);
    range_set_free(&set);
    range_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
