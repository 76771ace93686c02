#include "server/turn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdatomic.h>

enum {
    THREADS = 4,
    TURNS = 3,
    ROUNDS = 2000,
};

static void in_order(void **state)
{
    struct turn turn;
    uint64_t first, second;

    (void)state;
    turn_init(&turn);
    turn_take(&turn);
    first = turn_ask(&turn);
    second = turn_ask(&turn);
    turn_give_back(&turn);
    turn_await(&turn, first);
    turn_give_back(&turn);
    turn_await(&turn, second);
    turn_give_back(&turn);
    turn_take(&turn);
    turn_give_back(&turn);
    turn_destroy(&turn);
}

/* Each thread has a device of its own and at times wants those of all, as workers do. */
static struct turn turns[TURNS];
static unsigned touched[TURNS]; /* not atomic: the turns keep threads apart */
static pthread_mutex_t list = PTHREAD_MUTEX_INITIALIZER;

static void touch_all(unsigned own)
{
    uint64_t tickets[TURNS];

    pthread_mutex_lock(&list);
    for (unsigned i = 0; i < TURNS; i++)
        tickets[i] = turn_ask(&turns[i]);
    pthread_mutex_unlock(&list);
    turn_give_back(&turns[own]);
    for (unsigned i = 0; i < TURNS; i++) {
        turn_await(&turns[i], tickets[i]);
        touched[i]++;
    }
    for (unsigned i = 0; i < TURNS; i++) {
        if (i != own)
            turn_give_back(&turns[i]);
    }
}

static void *work(void *arg)
{
    unsigned own = *(const unsigned *)arg;

    for (unsigned round = 0; round < ROUNDS; round++) {
        turn_take(&turns[own]);
        touched[own]++;
        if (round % 2)
            touch_all(own);
        turn_give_back(&turns[own]);
    }
    return NULL;
}

static void many_at_once(void **state)
{
    static unsigned owns[THREADS] = {0, 1, 2, 0};
    pthread_t threads[THREADS];
    unsigned sum = 0;

    (void)state;
    for (unsigned i = 0; i < TURNS; i++)
        turn_init(&turns[i]);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &owns[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < TURNS; i++) {
        sum += touched[i];
        turn_destroy(&turns[i]);
    }
    assert_int_equal(sum, THREADS * (ROUNDS + ROUNDS / 2 * TURNS));
}

/* Who has a turn may still be using it. */
static atomic_bool used;

static void *give_back_later(void *arg)
{
    struct turn *turn = arg;

    used = true;
    turn_give_back(turn);
    return NULL;
}

static void destroyed_after_use(void **state)
{
    struct turn turn;
    pthread_t thread;

    (void)state;
    turn_init(&turn);
    turn_take(&turn);
    assert_int_equal(pthread_create(&thread, NULL, give_back_later, &turn), 0);
    turn_destroy(&turn);
    assert_true(used);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(destroyed_after_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
