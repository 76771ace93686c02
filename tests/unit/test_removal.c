#include "server/removal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <event2/event.h>
#include <sys/eventfd.h>

#include "tests/unit/fd_leak.h"

static struct event_base *base;
static struct removal *removal;
static unsigned errors, requests, dues;
static int fds_before;

static void on_error(void *arg)
{
    (void)arg;
    errors++;
}

static void on_requested(void *arg)
{
    (void)arg;
    requests++;
}

static void on_due(void *arg)
{
    (void)arg;
    dues++;
    event_base_loopbreak(base);
}

static const struct removal_callbacks callbacks = {on_error, on_requested, on_due};

static int setup(void **state)
{
    (void)state;
    fds_before = fd_count_open();
    errors = requests = dues = 0;
    base = event_base_new();
    assert_int_equal(removal_create(&removal), 0);
    assert_int_equal(removal_start(removal, base, &callbacks, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    removal_stop(removal);
    removal_free(removal);
    event_base_free(base);
    assert_int_equal(fd_count_open(), fds_before);
    return 0;
}

static void turn(void)
{
    event_base_loop(base, EVLOOP_NONBLOCK);
}

static void signals(void **state)
{
    (void)state;
    turn();
    assert_int_equal(errors + requests, 0);
    eventfd_write(removal_err_event(removal), 1);
    turn();
    assert_int_equal(errors, 1);
    for (unsigned i = 1; i < 4; i++) {
        eventfd_write(removal_req_event(removal), 2);
        turn();
        turn();
        assert_int_equal(requests, i);
    }
    assert_int_equal(errors, 1);
    assert_int_equal(dues, 0);
}

/* What the kernel has said of a device that is closed by now is not about the next one. */
static void forgotten(void **state)
{
    (void)state;
    eventfd_write(removal_err_event(removal), 1);
    eventfd_write(removal_req_event(removal), 1);
    removal_forget(removal);
    removal_forget(removal);
    turn();
    assert_int_equal(errors + requests, 0);
}

/* A second request does not make it longer, nor does one that is over come. */
static void grace(void **state)
{
    (void)state;
    removal_begin_grace(removal, 0);
    removal_begin_grace(removal, 3600);
    event_base_dispatch(base);
    assert_int_equal(dues, 1);
    removal_begin_grace(removal, 0);
    removal_end_grace(removal);
    turn();
    assert_int_equal(dues, 1);
}

static void stopped(void **state)
{
    (void)state;
    removal_begin_grace(removal, 0);
    removal_stop(removal);
    removal_end_grace(removal);
    eventfd_write(removal_req_event(removal), 1);
    turn();
    assert_int_equal(requests + dues, 0);
    removal_free(NULL);
}

#define removal_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        removal_test(signals),
        removal_test(forgotten),
        removal_test(grace),
        removal_test(stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
