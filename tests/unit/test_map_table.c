#include "bridge/map_table.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "proto/base/arith.h"

enum {
    PAGE = 4096,
    STEPS = 100000,
    MODEL_SIZE = 512,
    /* A random tree of 65,535 entries is about 40 deep; this would need luck beyond measure. */
    DEEPEST = 100,
    FULL = 65535,
};

static struct map_entry *new_entry(uint64_t iova, uint64_t size)
{
    struct map_entry *e = calloc(1, sizeof(*e));

    assert_non_null(e);
    e->iova = iova;
    e->size = size;
    return e;
}

static void insert(struct map_table *table, uint64_t iova, uint64_t size)
{
    assert_int_equal(map_table_insert(table, new_entry(iova, size)), 0);
}

static void assert_overlaps(struct map_table *table, uint64_t iova, uint64_t size)
{
    struct map_entry *e = new_entry(iova, size);
    size_t count = table->count;

    assert_int_equal(map_table_insert(table, e), -EEXIST);
    assert_int_equal(table->count, count);
    free(e);
}

static void remove_entry(struct map_table *table, uint64_t iova)
{
    struct map_entry *e = map_table_find(table, iova);

    assert_non_null(e);
    map_table_remove(table, e);
    free(e);
}

static void clear(struct map_table *table)
{
    for (struct map_entry *e; (e = map_table_next(table, 0));)
        remove_entry(table, e->iova);
    assert_int_equal(table->count, 0);
    assert_null(table->root);
}

/* Entries of a subtree, whose addresses lie in [first, last]; *depth: its deepest. */
static size_t check_tree(const struct map_entry *e, uint64_t first, uint64_t last,
                         uint32_t priority, unsigned level, unsigned *depth)
{
    size_t count = 1;

    if (!e)
        return 0;
    if (level > *depth)
        *depth = level;
    assert_true(e->iova >= first && e->iova + (e->size - 1) <= last);
    assert_true(e->priority <= priority);
    if (e->left)
        count += check_tree(e->left, first, e->iova - 1, e->priority, level + 1, depth);
    if (e->right)
        count += check_tree(e->right, e->iova + e->size, last, e->priority, level + 1, depth);
    return count;
}

static unsigned check_table(const struct map_table *table)
{
    unsigned depth = 0;

    assert_int_equal(check_tree(table->root, 0, UINT64_MAX, UINT32_MAX, 1, &depth), table->count);
    return depth;
}

static void test_empty(void **state)
{
    struct map_table table;

    (void)state;
    map_table_init(&table);
    assert_int_equal(table.count, 0);
    assert_null(map_table_find(&table, 0));
    assert_null(map_table_next(&table, 0));
    assert_null(map_table_next(&table, UINT64_MAX));
}

static void test_overlaps(void **state)
{
    struct map_table table;

    (void)state;
    map_table_init(&table);
    insert(&table, 0x4000, 0x2000);
    assert_overlaps(&table, 0x4000, 0x2000); /* the same */
    assert_overlaps(&table, 0x4000, 1);      /* its first byte */
    assert_overlaps(&table, 0x5fff, 1);      /* its last */
    assert_overlaps(&table, 0x3000, 0x1001);
    assert_overlaps(&table, 0x5fff, 0x1000);
    assert_overlaps(&table, 0x4800, 0x100);  /* inside */
    assert_overlaps(&table, 0x3000, 0x4000); /* around */
    assert_overlaps(&table, 0, UINT64_MAX);
    insert(&table, 0x3000, 0x1000); /* touching it */
    insert(&table, 0x6000, 0x1000);
    assert_overlaps(&table, 0x3fff, 2);
    assert_overlaps(&table, 0x2000, 0x9000); /* around all three */
    assert_int_equal(table.count, 3);
    clear(&table);
}

static void test_edges(void **state)
{
    struct map_table table;

    (void)state;
    map_table_init(&table);
    insert(&table, 0, PAGE);
    insert(&table, UINT64_MAX - PAGE + 1, PAGE); /* ends at 2^64 */
    assert_overlaps(&table, UINT64_MAX, 1);
    assert_overlaps(&table, 0, 1);
    assert_overlaps(&table, PAGE, UINT64_MAX - PAGE + 1);
    insert(&table, PAGE, UINT64_MAX - 2 * PAGE + 1); /* all that is left */
    assert_int_equal(map_table_find(&table, PAGE)->size, UINT64_MAX - 2 * PAGE + 1);
    assert_int_equal(map_table_next(&table, PAGE + 1)->iova, UINT64_MAX - PAGE + 1);
    assert_null(map_table_next(&table, UINT64_MAX - PAGE + 2));
    clear(&table);
    insert(&table, 1, UINT64_MAX);
    assert_overlaps(&table, UINT64_MAX, 1);
    insert(&table, 0, 1);
    clear(&table);
}

static void test_find_and_next(void **state)
{
    struct map_table table;

    (void)state;
    map_table_init(&table);
    insert(&table, 0x1000, 0x1000);
    insert(&table, 0x8000, 0x1000);
    assert_null(map_table_find(&table, 0));
    assert_null(map_table_find(&table, 0x1001)); /* inside is not its beginning */
    assert_null(map_table_find(&table, 0x2000));
    assert_int_equal(map_table_find(&table, 0x8000)->iova, 0x8000);
    assert_int_equal(map_table_next(&table, 0)->iova, 0x1000);
    assert_int_equal(map_table_next(&table, 0x1000)->iova, 0x1000);
    assert_int_equal(map_table_next(&table, 0x1001)->iova, 0x8000);
    assert_null(map_table_next(&table, 0x8001));
    clear(&table);
}

/* The same rules over an array, by looking at every entry. */
struct model {
    struct map_entry *entries[MODEL_SIZE];
    size_t n;
};

static bool model_overlaps(const struct model *m, uint64_t iova, uint64_t size)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct map_entry *e = m->entries[i];

        if (iova <= e->iova + (e->size - 1) && e->iova <= iova + (size - 1))
            return true;
    }
    return false;
}

static struct map_entry *model_next(const struct model *m, uint64_t iova)
{
    struct map_entry *best = NULL;

    for (size_t i = 0; i < m->n; i++) {
        if (m->entries[i]->iova >= iova && (!best || m->entries[i]->iova < best->iova))
            best = m->entries[i];
    }
    return best;
}

static uint64_t random_number(unsigned *seed, uint64_t limit)
{
    uint64_t r = ((uint64_t)rand_r(seed) << 31) ^ (uint64_t)rand_r(seed);

    return r % limit;
}

/* Small numbers, so that ranges meet, at the bottom or the top of the address space. */
static void random_range(unsigned *seed, uint64_t *iova, uint64_t *size)
{
    *iova = random_number(seed, 4096);
    *size = 1 + random_number(seed, 16);
    if (random_number(seed, 2))
        *iova = UINT64_MAX - *iova - (*size - 1);
}

static void step_insert(struct map_table *table, struct model *m, unsigned *seed)
{
    uint64_t iova, size;
    struct map_entry *e;
    bool overlaps;

    random_range(seed, &iova, &size);
    overlaps = model_overlaps(m, iova, size);
    e = new_entry(iova, size);
    assert_int_equal(map_table_insert(table, e), overlaps ? -EEXIST : 0);
    if (overlaps)
        free(e);
    else
        m->entries[m->n++] = e;
}

static void step_remove(struct map_table *table, struct model *m, unsigned *seed)
{
    size_t i = random_number(seed, m->n);

    map_table_remove(table, m->entries[i]);
    free(m->entries[i]);
    m->entries[i] = m->entries[--m->n];
}

static void step_look(const struct map_table *table, const struct model *m, unsigned *seed)
{
    uint64_t iova, size;
    struct map_entry *next;

    random_range(seed, &iova, &size);
    next = model_next(m, iova);
    assert_ptr_equal(map_table_next(table, iova), next);
    assert_ptr_equal(map_table_find(table, iova), next && next->iova == iova ? next : NULL);
}

static void test_against_model(void **state)
{
    const char *given = getenv("TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    struct map_table table;
    struct model m = {.n = 0};

    (void)state;
    print_message("TEST_SEED=%u\n", seed);
    map_table_init(&table);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t dice = random_number(&seed, 100);

        if (dice < 45 && m.n < MODEL_SIZE)
            step_insert(&table, &m, &seed);
        else if (dice < 70 && m.n)
            step_remove(&table, &m, &seed);
        else
            step_look(&table, &m, &seed);
        assert_int_equal(table.count, m.n);
        if (i % 1000 == 0)
            check_table(&table);
    }
    assert_true(check_table(&table) < DEEPEST);
    clear(&table);
}

/* The order that the addresses of a client have, and the worst for a tree that is not balanced. */
static void check_depth(uint64_t (*address)(uint32_t i))
{
    struct map_table table;

    map_table_init(&table);
    for (uint32_t i = 0; i < FULL; i++)
        insert(&table, address(i), PAGE);
    assert_int_equal(table.count, FULL);
    assert_in_range(check_table(&table), 16, DEEPEST);
    for (uint32_t i = 0; i < FULL; i += 2)
        remove_entry(&table, address(i));
    assert_in_range(check_table(&table), 15, DEEPEST);
    clear(&table);
}

static uint64_t ascending(uint32_t i)
{
    return (uint64_t)i * PAGE;
}

static uint64_t descending(uint32_t i)
{
    return UINT64_MAX - (uint64_t)(i + 1) * PAGE + 1;
}

/* From both ends to the middle. */
static uint64_t alternating(uint32_t i)
{
    return i % 2 ? descending(i) : ascending(i);
}

static void test_depth(void **state)
{
    (void)state;
    check_depth(ascending);
    check_depth(descending);
    check_depth(alternating);
}

/* A client that knew the shape could build a deep tree: no two tables have the same. */
static void test_shape_is_random(void **state)
{
    struct map_table a, b;

    (void)state;
    map_table_init(&a);
    map_table_init(&b);
    assert_true(a.random != b.random);
    assert_true(a.random && b.random);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),           cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_edges),           cmocka_unit_test(test_find_and_next),
        cmocka_unit_test(test_against_model),   cmocka_unit_test(test_depth),
        cmocka_unit_test(test_shape_is_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
