/* Looks at memory that may not be there any more (SIGBUS), by having the kernel read it. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

/* The byte at the address; -EFAULT: nobody may touch it. */
static inline int touch(const char *address)
{
    unsigned char byte;
    int ends[2], ret;

    assert_int_equal(pipe(ends), 0);
    ret = write(ends[1], address, 1) == 1 ? 0 : -errno;
    if (!ret) {
        assert_int_equal(read(ends[0], &byte, 1), 1);
        ret = byte;
    }
    close(ends[0]);
    close(ends[1]);
    return ret;
}
