#include "server/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

static const struct peer alice = {.pid = 1, .uid = 1000, .gid = 1000};
static const struct peer alice_again = {.pid = 2, .uid = 1000, .gid = 7};
static const struct peer bob = {.pid = 3, .uid = 1001, .gid = 1001};

static struct quota *q;

static int charge(const struct peer *who, uint64_t maps, uint64_t bytes)
{
    return quota_charge(q, who, (struct quota_amount){maps, bytes});
}

static void release(const struct peer *who, uint64_t maps, uint64_t bytes)
{
    quota_release(q, who, (struct quota_amount){maps, bytes});
}

static int setup(void **state)
{
    (void)state;
    return quota_create(&q, (struct quota_amount){.maps = 10, .bytes = 1000});
}

static int teardown(void **state)
{
    (void)state;
    quota_destroy(q);
    return 0;
}

static void test_limits(void **state)
{
    (void)state;
    assert_int_equal(charge(&alice, 10, 1000), 0);
    assert_int_equal(charge(&alice, 1, 0), -ENOSPC);
    assert_int_equal(charge(&alice, 0, 1), -ENOMEM);
    release(&alice, 1, 1);
    assert_int_equal(charge(&alice, 1, 2), -ENOMEM);
    assert_int_equal(charge(&alice, 1, 1), 0);
    release(&alice, 10, 1000);
}

static void test_huge_amounts(void **state)
{
    (void)state;
    assert_int_equal(charge(&alice, 1, 1), 0);
    assert_int_equal(charge(&alice, UINT64_MAX, 0), -ENOSPC);
    assert_int_equal(charge(&alice, 0, UINT64_MAX), -ENOMEM);
    release(&alice, 1, 1);
    assert_int_equal(charge(&alice, UINT64_MAX, UINT64_MAX), -ENOSPC);
}

/* A user's sessions share, users don't. */
static void test_identities(void **state)
{
    (void)state;
    assert_int_equal(charge(&alice, 6, 0), 0);
    assert_int_equal(charge(&alice_again, 6, 0), -ENOSPC);
    assert_int_equal(charge(&bob, 10, 0), 0);
    release(&alice_again, 6, 0);
    release(&bob, 10, 0);
}

static void *charge_and_release(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        if (!charge(arg, 1, 10))
            release(arg, 1, 10);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct peer who = alice;
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, charge_and_release, &who), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(charge(&alice, 10, 1000), 0);
    release(&alice, 10, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_huge_amounts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identities, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
