/* What the code under test writes to stderr between the two calls. One capture at a time. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/base/fd.h"

struct log_capture {
    int file;
    int saved; /* above 0: the capture is on */
    char text[4096];
};

static inline void log_capture_start(struct log_capture *c)
{
    c->file = memfd_create("stderr", MFD_CLOEXEC);
    c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(c->file >= 0 && c->saved >= 0);
    assert_int_equal(fcntl(c->file, F_SETFL, O_APPEND), 0);
    assert_int_equal(dup2(c->file, STDERR_FILENO), STDERR_FILENO);
}

/* Its beginning, if it is long. */
static inline const char *log_capture_end(struct log_capture *c)
{
    ssize_t n;

    assert_int_equal(dup2(c->saved, STDERR_FILENO), STDERR_FILENO);
    n = pread(c->file, c->text, sizeof(c->text) - 1, 0);
    assert_true(n >= 0);
    c->text[n] = '\0';
    fd_close(&c->file);
    fd_close(&c->saved);
    return c->text;
}

/* For a teardown: a test that fails inside a capture must be able to say why. */
static inline void log_capture_drop(struct log_capture *c)
{
    if (c->saved > 0)
        log_capture_end(c);
}
