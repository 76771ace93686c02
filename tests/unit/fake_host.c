#include "tests/unit/fake_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"

enum {
    MAX_OPEN = 32,
    MAX_MAPPINGS = 32,
};

struct mapping {
    void *addr;
    size_t len;
};

struct fake_host {
    struct host host; /* first: the host is the machine */
    struct fake_call *script;
    size_t n, next;
    int open[MAX_OPEN];
    unsigned n_open;
    struct mapping mappings[MAX_MAPPINGS];
    unsigned n_mappings;
};

static const char *const kinds[] = {
    [FAKE_OPEN] = "open",         [FAKE_IOCTL] = "ioctl", [FAKE_PREAD] = "pread",
    [FAKE_PWRITE] = "pwrite",     [FAKE_READ] = "read",   [FAKE_WRITE] = "write",
    [FAKE_POLL] = "poll",         [FAKE_MMAP] = "mmap",   [FAKE_SHARE] = "share",
    [FAKE_READLINK] = "readlink", [FAKE_LIST] = "list",   [FAKE_SET_NONBLOCK] = "set_nonblock",
};

static struct fake_host *to_fake(struct host *host)
{
    return (struct fake_host *)host;
}

static const struct fake_call *next_call(struct fake_host *f, enum fake_kind kind)
{
    if (f->next == f->n)
        fail_msg("a call after the script's end: %s", kinds[kind]);
    if (f->script[f->next].kind != kind)
        fail_msg("call %zu is %s, not %s", f->next, kinds[kind], kinds[f->script[f->next].kind]);
    return &f->script[f->next++];
}

static void check_number(const struct fake_host *f, const char *what, uint64_t is, uint64_t wanted)
{
    if (is != wanted)
        fail_msg("call %zu, %s: its %s is 0x%llx, not 0x%llx", f->next - 1,
                 kinds[f->script[f->next - 1].kind], what, (unsigned long long)is,
                 (unsigned long long)wanted);
}

static void check_path(const struct fake_host *f, const struct fake_call *call, const char *path)
{
    if (call->path && strcmp(call->path, path))
        fail_msg("call %zu, %s: its path is %s, not %s", f->next - 1, kinds[call->kind], path,
                 call->path);
}

static void check_fd(const struct fake_host *f, const struct fake_call *call, int fd)
{
    for (unsigned i = 0; i < f->n_open; i++) {
        if (f->open[i] == fd) {
            if (call->fd)
                check_number(f, "descriptor", (unsigned)fd, (unsigned)call->fd);
            return;
        }
    }
    fail_msg("call %zu, %s: descriptor %d is not open", f->next - 1, kinds[call->kind], fd);
}

static int add_fd(struct fake_host *f, int fd)
{
    if (fd >= 0) {
        assert_true(f->n_open < MAX_OPEN);
        f->open[f->n_open++] = fd;
    }
    return fd;
}

static int fake_open(struct host *host, const char *path, int flags)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_OPEN);

    (void)flags;
    check_path(f, call, path);
    return add_fd(f, (int)call->ret);
}

static int fake_close(struct host *host, int fd)
{
    struct fake_host *f = to_fake(host);

    for (unsigned i = 0; i < f->n_open; i++) {
        if (f->open[i] == fd) {
            f->open[i] = f->open[--f->n_open];
            return 0;
        }
    }
    fail_msg("close of descriptor %d, which is not open", fd);
    return -EBADF;
}

static int fake_ioctl(struct host *host, int fd, unsigned long request, void *arg)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_IOCTL);

    check_number(f, "request", request, call->request);
    check_fd(f, call, fd);
    if (call->value)
        check_number(f, "argument", (uintptr_t)arg, call->value);
    if (call->in_len)
        assert_memory_equal(arg, call->in, call->in_len);
    if (call->out_len)
        memcpy(arg, call->out, call->out_len);
    if (call->opens)
        add_fd(f, (int)call->ret);
    return (int)call->ret;
}

static void check_access(const struct fake_host *f, const struct fake_call *call, int fd,
                         size_t len, off_t offset)
{
    check_fd(f, call, fd);
    check_number(f, "offset", (uint64_t)offset, call->offset);
    if (call->len)
        check_number(f, "length", len, call->len);
}

static ssize_t fake_pread(struct host *host, int fd, void *buf, size_t len, off_t offset)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_PREAD);

    check_access(f, call, fd, len, offset);
    if (call->out_len) {
        assert_true(call->out_len <= len);
        memcpy(buf, call->out, call->out_len);
    }
    return call->ret;
}

static ssize_t fake_pwrite(struct host *host, int fd, const void *buf, size_t len, off_t offset)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_PWRITE);

    check_access(f, call, fd, len, offset);
    if (call->in_len) {
        assert_true(call->in_len <= len);
        assert_memory_equal(buf, call->in, call->in_len);
    }
    return call->ret;
}

static ssize_t fake_read(struct host *host, int fd, void *buf, size_t len)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_READ);

    check_access(f, call, fd, len, 0);
    if (call->out_len) {
        assert_true(call->out_len <= len);
        memcpy(buf, call->out, call->out_len);
    }
    return call->ret;
}

static ssize_t fake_write(struct host *host, int fd, const void *buf, size_t len)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_WRITE);

    check_access(f, call, fd, len, 0);
    if (call->in_len) {
        assert_true(call->in_len <= len);
        assert_memory_equal(buf, call->in, call->in_len);
    }
    return call->ret;
}

static int fake_set_nonblock(struct host *host, int fd)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_SET_NONBLOCK);

    check_fd(f, call, fd);
    return (int)call->ret;
}

static int fake_poll(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    const struct fake_call *call = next_call(to_fake(host), FAKE_POLL);

    (void)timeout_ms;
    assert_true(n <= ARRAY_SIZE(call->revents));
    for (nfds_t i = 0; i < n; i++)
        fds[i].revents = call->revents[i];
    return (int)call->ret;
}

/* fd: of the kernel below, as a client's memory is. */
static int fake_mmap(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                     off_t offset)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_MMAP);

    (void)flags;
    check_number(f, "offset", (uint64_t)offset, call->offset);
    if (call->len)
        check_number(f, "length", len, call->len);
    if (call->prot)
        check_number(f, "protection", (unsigned)prot, (unsigned)call->prot);
    if (call->fd)
        check_number(f, "descriptor", (unsigned)fd, (unsigned)call->fd);
    if (call->ret)
        return (int)call->ret;
    assert_true(f->n_mappings < MAX_MAPPINGS);
    *addr = (void *)call->value;
    f->mappings[f->n_mappings++] = (struct mapping){.addr = *addr, .len = len};
    return 0;
}

static int fake_munmap(struct host *host, void *addr, size_t len)
{
    struct fake_host *f = to_fake(host);

    for (unsigned i = 0; i < f->n_mappings; i++) {
        if (f->mappings[i].addr == addr && f->mappings[i].len == len) {
            f->mappings[i] = f->mappings[--f->n_mappings];
            return 0;
        }
    }
    fail_msg("munmap of 0x%zx bytes at %p, which are no mapping", len, addr);
    return -EINVAL;
}

static int fake_share(struct host *host, int fd)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_SHARE);

    check_fd(f, call, fd);
    return call->ret ? (int)call->ret : open("/dev/null", O_RDWR | O_CLOEXEC);
}

static ssize_t fake_readlink(struct host *host, const char *path, char *buf, size_t size)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_READLINK);

    check_path(f, call, path);
    if (call->ret < 0)
        return call->ret;
    assert_true(call->out_len < size);
    memcpy(buf, call->out, call->out_len);
    buf[call->out_len] = '\0';
    return (ssize_t)call->out_len;
}

static int fake_list(struct host *host, const char *path, int (*entry)(const char *name, void *arg),
                     void *arg)
{
    struct fake_host *f = to_fake(host);
    const struct fake_call *call = next_call(f, FAKE_LIST);
    const int answer = (int)call->ret;
    char names[256] = "";
    char *rest = names;
    int ret = 0;

    check_path(f, call, path);
    if (call->names)
        strncat(names, call->names, sizeof(names) - 1);
    for (char *name; !ret && (name = strsep(&rest, " "));) {
        if (*name)
            ret = entry(name, arg);
    }
    return ret ? ret : answer;
}

static const struct host_ops fake_ops = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .ioctl = fake_ioctl,
    .pread = fake_pread,
    .pwrite = fake_pwrite,
    .read = fake_read,
    .write = fake_write,
    .set_nonblock = fake_set_nonblock,
    .poll = fake_poll,
    .mmap = fake_mmap,
    .munmap = fake_munmap,
    .share = fake_share,
    .readlink = fake_readlink,
    .list = fake_list,
};

struct fake_host *fake_host_new(void)
{
    struct fake_host *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->host.ops = &fake_ops;
    return f;
}

void fake_host_free(struct fake_host *f)
{
    fake_assert_done(f);
    assert_int_equal(f->n_open, 0);
    assert_int_equal(f->n_mappings, 0);
    for (size_t i = 0; i < f->n; i++) {
        free((void *)(uintptr_t)f->script[i].in);
        free((void *)(uintptr_t)f->script[i].out);
        free((void *)(uintptr_t)f->script[i].path);
        free((void *)(uintptr_t)f->script[i].names);
    }
    free(f->script);
    free(f);
}

struct host *fake_host_base(struct fake_host *f)
{
    return &f->host;
}

static void *copy_bytes(const void *bytes, size_t len)
{
    void *copy;

    if (!len)
        return NULL;
    copy = malloc(len);
    assert_non_null(copy);
    return memcpy(copy, bytes, len);
}

static const char *copy_text(const char *text)
{
    return text ? copy_bytes(text, strlen(text) + 1) : NULL;
}

void fake_expect(struct fake_host *f, const struct fake_call *call)
{
    struct fake_call *copy;

    f->script = realloc(f->script, (f->n + 1) * sizeof(*f->script));
    assert_non_null(f->script);
    copy = &f->script[f->n++];
    *copy = *call;
    copy->in = copy_bytes(call->in, call->in_len);
    copy->out = copy_bytes(call->out, call->out_len);
    copy->path = copy_text(call->path);
    copy->names = copy_text(call->names);
}

void fake_assert_done(const struct fake_host *f)
{
    if (f->next < f->n)
        fail_msg("call %zu of the script was not made: %s", f->next,
                 kinds[f->script[f->next].kind]);
}

unsigned fake_open_count(const struct fake_host *f)
{
    return f->n_open;
}

unsigned fake_mapping_count(const struct fake_host *f)
{
    return f->n_mappings;
}
