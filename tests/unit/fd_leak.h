/* A fixture: the test ends with as many open descriptors as it began with. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/base/fd.h"

static inline int fd_leak_setup(void **state)
{
    *state = (void *)(intptr_t)fd_count_open();
    return 0;
}

static inline int fd_leak_teardown(void **state)
{
    assert_int_equal(fd_count_open(), (int)(intptr_t)*state);
    return 0;
}

#define fd_leak_test(f) cmocka_unit_test_setup_teardown(f, fd_leak_setup, fd_leak_teardown)
