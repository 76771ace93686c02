/*
 * A host whose calls are answered from a script. Each call must be the script's next one, with the
 * arguments that it names, or the test fails (cmocka); so a script also tells what is not called.
 *
 * SHARE answers with a descriptor of /dev/null, or ret.
 *
 * Closing and unmapping are in no script: the host holds the books of its descriptors and mappings,
 * and fails the test on a close or munmap of what is not there, and at the end on what is left.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/host.h"

enum fake_kind {
    FAKE_OPEN,
    FAKE_IOCTL,
    FAKE_PREAD,
    FAKE_PWRITE,
    FAKE_READ,
    FAKE_WRITE,
    FAKE_SET_NONBLOCK,
    FAKE_POLL,
    FAKE_MMAP,
    FAKE_SHARE,
    FAKE_READLINK,
    FAKE_LIST,
};

/* Descriptors of the host: of no use to the kernel below this process. */
enum {
    FAKE_FD = 1 << 20,
};

/* What a call must be, and its answer. A field that is 0 is not looked at. */
struct fake_call {
    enum fake_kind kind;
    ssize_t ret; /* of OPEN, and of IOCTL with opens: a new descriptor, if not negative */
    bool opens;

    int fd;
    const char *path;
    unsigned long request;
    uintptr_t value;   /* IOCTL: the argument, if it is a number; MMAP: the answer's address */
    const void *in;    /* IOCTL: what the argument begins with; PWRITE, WRITE: the data */
    size_t in_len;     /* of it */
    const void *out;   /* IOCTL, PREAD, READ: what is put there; READLINK: the target's text */
    size_t out_len;    /* of it */
    size_t len;        /* PREAD, PWRITE, READ, WRITE, MMAP */
    short revents[3];  /* POLL: the answers */
    uint64_t offset;   /* PREAD, PWRITE, MMAP; always looked at */
    int prot;          /* MMAP */
    const char *names; /* LIST: the entries, a space between */
};

struct fake_host;

struct fake_host *fake_host_new(void);

/* Asserts that the script was used up and nothing is left open or mapped; frees it. */
void fake_host_free(struct fake_host *f);

struct host *fake_host_base(struct fake_host *f);

/* Adds a call to the script's end. What the pointers point to is copied. */
void fake_expect(struct fake_host *f, const struct fake_call *call);

/* The same, in the place of the struct's fields. */
#define FAKE_EXPECT(f, ...) fake_expect(f, &(const struct fake_call){__VA_ARGS__})

/* Asserts that all calls of the script so far were made. */
void fake_assert_done(const struct fake_host *f);

/* What is open and mapped now. */
unsigned fake_open_count(const struct fake_host *f);
unsigned fake_mapping_count(const struct fake_host *f);
