#include "proto/validate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/limits.h"
#include "tests/unit/payload.h"

enum {
    NONE = VFIO_USER_IRQ_SET_DATA_NONE,
    BOOL = VFIO_USER_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_USER_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_USER_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_USER_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

/* What a validator gave out beside its result. */
enum { DATA_ABSENT, DATA_BOOLS, DATA_INDEXES };

struct irq_case {
    uint32_t flags, start, count;
    unsigned nfds;
    int result;
    int data;
    size_t more;
};

static void check(const struct irq_case *c, const void *data)
{
    const struct vfio_user_irq_set in = {0, c->flags, 2, c->start, c->count};
    struct payload p = payload_new(&in, sizeof(in), data, c->more);
    const uint8_t *bools = p.block, *indexes = p.block;
    struct vfio_user_irq_set out;

    assert_int_equal(validate_irq_set(p.bytes, p.len, c->nfds, &out, &bools, &indexes), c->result);
    assert_memory_equal(&out, &in, sizeof(in));
    if (!c->result) {
        assert_ptr_equal(bools, c->data == DATA_BOOLS ? p.bytes + 20 : NULL);
        assert_ptr_equal(indexes, c->data == DATA_INDEXES ? p.bytes + 20 : NULL);
    }
    payload_free(&p);
}

static void check_all(const struct irq_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check(&cases[i], NULL);
}

/* In the order of QEMU's start and reset. */
static void test_qemu(void **state)
{
    const struct irq_case cases[] = {
        {0x24, 0,  1,  1,  0}, /* trigger eventfd */
        {0x09, 0,  1,  0,  0}, /* mask */
        {0x14, 0,  1,  1,  0}, /* resample eventfd */
        {0x11, 0,  1,  0,  0}, /* unmask */
        {0x21, 0,  0,  0,  0}, /* disable the index */
        {0x24, 0,  1,  0,  0}, /* MSI-X is enabled without descriptor first */
        {0x24, 0,  16, 16, 0},
        {0x24, 16, 16, 16, 0},
        {0x24, 32, 5,  0,  0}, /* a chunk of invalid ones */
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void test_every_pair_of_flags(void **state)
{
    const uint32_t data[] = {NONE, BOOL, EVENTFD}, actions[] = {MASK, UNMASK, TRIGGER};

    (void)state;
    for (size_t d = 0; d < ARRAY_SIZE(data); d++) {
        for (size_t a = 0; a < ARRAY_SIZE(actions); a++) {
            struct irq_case c = {data[d] | actions[a], 1, 2};

            if (data[d] == BOOL) {
                c.more = 2;
                c.data = DATA_BOOLS;
            }
            check(&c, NULL);
        }
    }
}

static void test_bad_flags(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags < 0x80; flags++) {
        const uint32_t data = flags & 7, action = flags & 0x38;
        const bool good = is_pow2(data) && is_pow2(action) && flags < 0x40;

        if (!good)
            check(&(struct irq_case){flags, 0, 1, 0, -EINVAL, .more = 4}, NULL);
    }
    for (unsigned bit = 6; bit < 32; bit++)
        check(&(struct irq_case){NONE | TRIGGER | UINT32_C(1) << bit, 0, 1, 0, -EINVAL}, NULL);
}

static void test_range(void **state)
{
    const struct irq_case cases[] = {
        {NONE | TRIGGER,    UINT32_MAX,     1,              0, -EINVAL},
        {NONE | TRIGGER,    UINT32_MAX - 1, 1,              0, 0      },
        {NONE | TRIGGER,    UINT32_MAX - 1, 2,              0, -EINVAL},
        {NONE | TRIGGER,    0,              UINT32_MAX,     0, 0      }, /* any device */
        {NONE | TRIGGER,    1,              UINT32_MAX,     0, -EINVAL},
        {NONE | TRIGGER,    2,              UINT32_MAX - 1, 0, -EINVAL},
        {EVENTFD | TRIGGER, UINT32_MAX,     1,              1, -EINVAL},
        {EVENTFD | TRIGGER, 0,              UINT32_MAX,     0, 0      },
        {EVENTFD | TRIGGER, UINT32_MAX,     UINT32_MAX,     0, -EINVAL},
        {BOOL | TRIGGER,    0x80000000,     0x80000000,     0, -EINVAL},
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void test_count_0(void **state)
{
    const struct irq_case cases[] = {
        {NONE | TRIGGER,    0,          0, 0, 0      },
        {NONE | TRIGGER,    1,          0, 0, -EINVAL},
        {NONE | TRIGGER,    UINT32_MAX, 0, 0, -EINVAL},
        {NONE | TRIGGER,    0,          0, 1, -EINVAL},
        {NONE | MASK,       0,          0, 0, -EINVAL},
        {NONE | UNMASK,     0,          0, 0, -EINVAL},
        {BOOL | TRIGGER,    0,          0, 0, -EINVAL},
        {EVENTFD | TRIGGER, 0,          0, 0, -EINVAL},
        {EVENTFD | TRIGGER, 0,          0, 1, -EINVAL},
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void test_bools(void **state)
{
    const struct irq_case cases[] = {
        {BOOL | TRIGGER, 0, 1,          0, 0,       DATA_BOOLS,  1},
        {BOOL | TRIGGER, 0, 3,          0, 0,       DATA_BOOLS,  3},
        {BOOL | MASK,    0, 3,          0, 0,       DATA_BOOLS,  4}, /* padded */
        {BOOL | TRIGGER, 0, 3,          0, -EINVAL, DATA_ABSENT, 2},
        {BOOL | TRIGGER, 0, 1,          0, -EINVAL, DATA_ABSENT, 0},
        {BOOL | TRIGGER, 0, UINT32_MAX, 0, -EINVAL, DATA_ABSENT, 8},
        {BOOL | TRIGGER, 0, 1,          1, -EINVAL, DATA_ABSENT, 1}, /* a descriptor */
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void test_none_takes_nothing(void **state)
{
    const struct irq_case cases[] = {
        {NONE | TRIGGER, 0, 1, 1, -EINVAL, DATA_ABSENT, 0},
        {NONE | MASK,    0, 2, 2, -EINVAL, DATA_ABSENT, 0},
        {NONE | TRIGGER, 0, 1, 0, 0,       DATA_ABSENT, 4}, /* ignored */
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void test_number_of_descriptors(void **state)
{
    const struct irq_case cases[] = {
        {EVENTFD | TRIGGER, 0, 1,                  1,              0      },
        {EVENTFD | TRIGGER, 0, 1,                  2,              -EINVAL},
        {EVENTFD | TRIGGER, 0, 2,                  1,              -EINVAL},
        {EVENTFD | UNMASK,  0, 2,                  2,              0      },
        {EVENTFD | TRIGGER, 0, 2048,               0,              0      },
        {EVENTFD | TRIGGER, 0, LIMIT_RECV_FDS,     LIMIT_RECV_FDS, 0      },
        {EVENTFD | TRIGGER, 0, LIMIT_RECV_FDS + 1, LIMIT_RECV_FDS, -EINVAL},
        {EVENTFD | TRIGGER, 0, UINT32_MAX,         1,              -EINVAL},
    };

    (void)state;
    check_all(cases, ARRAY_SIZE(cases));
}

static void check_indexes(const int32_t *indexes, uint32_t count, unsigned nfds, int result)
{
    const struct irq_case c = {EVENTFD | TRIGGER,      0, count, nfds, result, DATA_INDEXES,
                               count * sizeof(int32_t)};

    check(&c, indexes);
}

/* Alioth's form. */
static void test_indexes(void **state)
{
    const int32_t all[] = {0, 1, 2, 3}, holes[] = {-1, 0, -1, 1}, none[] = {-1, -1, -1};

    (void)state;
    check_indexes(all, 4, 4, 0);
    check_indexes(holes, 4, 2, 0);
    check_indexes(none, 3, 0, 0);
    check_indexes(all, 1, 1, 0);
    check_indexes(none, 1, 0, 0);
}

static void test_bad_indexes(void **state)
{
    const int32_t twice[] = {0, 0}, swapped[] = {1, 0}, far[] = {0, 2}, low[] = {0, -2},
                  least[] = {INT32_MIN, 0}, most[] = {0, INT32_MAX}, holes[] = {-1, 0},
                  plain[] = {0, 1}, none[] = {-1, -1};

    (void)state;
    check_indexes(twice, 2, 1, -EINVAL);
    check_indexes(twice, 2, 2, -EINVAL);
    check_indexes(swapped, 2, 2, -EINVAL);
    check_indexes(far, 2, 2, -EINVAL);
    check_indexes(far, 2, 3, -EINVAL);
    check_indexes(low, 2, 1, -EINVAL);
    check_indexes(least, 2, 1, -EINVAL);
    check_indexes(most, 2, 2, -EINVAL);
    check_indexes(holes, 2, 0, -EINVAL); /* names one that did not come */
    check_indexes(plain, 2, 1, -EINVAL);
    check_indexes(plain, 2, 3, -EINVAL); /* one is left over */
    check_indexes(none, 2, 1, -EINVAL);
}

static void test_size_of_indexes(void **state)
{
    const int32_t indexes[] = {0, 1, -1, -1};
    const struct irq_case cases[] = {
        {EVENTFD | TRIGGER, 0, 4,          2, 0,       DATA_INDEXES, 16},
        {EVENTFD | TRIGGER, 0, 4,          2, -EINVAL, DATA_INDEXES, 15},
        {EVENTFD | TRIGGER, 0, 4,          2, -EINVAL, DATA_INDEXES, 12},
        {EVENTFD | TRIGGER, 0, 4,          2, -EINVAL, DATA_INDEXES, 1 },
        {EVENTFD | TRIGGER, 0, 3,          2, -EINVAL, DATA_INDEXES, 16},
        {EVENTFD | TRIGGER, 0, 3,          2, -EINVAL, DATA_INDEXES, 13},
        {EVENTFD | TRIGGER, 0, 0x40000004, 2, -EINVAL, DATA_INDEXES, 16}, /* times 4: 16 */
        {EVENTFD | TRIGGER, 0, UINT32_MAX, 0, -EINVAL, DATA_INDEXES, 16},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        check(&cases[i], indexes);
}

static void test_most_indexes(void **state)
{
    enum { VECTORS = LIMIT_IRQ_DATA / sizeof(int32_t) };
    int32_t indexes[VECTORS];

    (void)state;
    for (int32_t i = 0; i < VECTORS; i++)
        indexes[i] = i < VECTORS - LIMIT_RECV_FDS ? -1 : i - (VECTORS - LIMIT_RECV_FDS);
    check_indexes(indexes, VECTORS, LIMIT_RECV_FDS, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qemu),
        cmocka_unit_test(test_every_pair_of_flags),
        cmocka_unit_test(test_bad_flags),
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_count_0),
        cmocka_unit_test(test_bools),
        cmocka_unit_test(test_none_takes_nothing),
        cmocka_unit_test(test_number_of_descriptors),
        cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_bad_indexes),
        cmocka_unit_test(test_size_of_indexes),
        cmocka_unit_test(test_most_indexes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
