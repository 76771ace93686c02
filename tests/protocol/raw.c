#include "tests/protocol/raw.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/commands.h"

#define EVERY_CAPABILITY                                                                           \
    "\"pgsizes\":4096,\"max_msg_fds\":16,\"max_dma_maps\":65535,"                                  \
    "\"max_data_xfer_size\":1048576,\"write_multiple\":true"

static const char every_capability[] = "{\"capabilities\":{" EVERY_CAPABILITY "}}";
static const char extended[] =
    "{\"capabilities\":{" EVERY_CAPABILITY ",\"vfio_userd\":{\"extensions\":1}}}";

int raw_connect(const struct harness *h)
{
    const struct timeval limit = {.tv_sec = HARNESS_SECONDS};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(sock >= 0);
    strcpy(addr.sun_path, h->path);
    assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
    if (connect(sock, (const struct sockaddr *)&addr, sizeof(addr)))
        fail_msg("connect: %s", strerror(errno));
    return sock;
}

void raw_send_version(int sock, uint16_t major, uint16_t minor, const char *text)
{
    const struct raw_message m = {
        MSG_(VFIO_USER_VERSION, vfio_user_version, .major = major, .minor = minor),
        .data = text,
        .data_len = text ? strlen(text) + 1 : 0,
    };

    raw_send(sock, &m, NULL, 0);
}

int raw_session_with(const struct harness *h, const char *proposal, struct reply *r)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    int sock;

    /* The session before this one may still be on its way out. */
    for (;;) {
        sock = raw_connect(h);
        raw_send_version(sock, 0, 1, proposal);
        raw_receive(sock, r);
        if (r->hdr.error != EBUSY || harness_now_ms() > deadline)
            break;
        fd_close(&sock);
        harness_pause();
    }
    assert_int_equal(r->hdr.error, 0);
    return sock;
}

int raw_session(const struct harness *h)
{
    struct reply r;

    return raw_session_with(h, every_capability, &r);
}

int raw_extended_session(const struct harness *h)
{
    struct reply r;

    return raw_session_with(h, extended, &r);
}

size_t raw_encode(const struct raw_message *m, void *buf, size_t size)
{
    struct vfio_user_header hdr = {
        .msg_id = m->id,
        .command = m->command,
        .msg_size = (uint32_t)(sizeof(hdr) + m->len + m->data_len),
        .flags = m->flags,
    };
    uint8_t *at = buf;

    assert_true(hdr.msg_size <= size);
    memcpy(at, &hdr, sizeof(hdr));
    if (m->len)
        memcpy(at + sizeof(hdr), m->payload, m->len);
    if (m->data_len)
        memcpy(at + sizeof(hdr) + m->len, m->data, m->data_len);
    return hdr.msg_size;
}

void raw_send_bytes(int sock, const void *bytes, size_t len, const int *fds, unsigned nfds)
{
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    ssize_t n = codec_send(sock, &iov, 1, fds, nfds, 0);

    if (n != (ssize_t)len)
        fail_msg("sent %zd of %zu bytes", n, len);
}

void raw_send(int sock, const struct raw_message *m, const int *fds, unsigned nfds)
{
    static uint8_t buf[2 << 20];

    raw_send_bytes(sock, buf, raw_encode(m, buf, sizeof(buf)), fds, nfds);
}

void raw_receive(int sock, struct reply *r)
{
    static uint8_t buf[sizeof(r->hdr) + sizeof(r->payload)];
    struct fdset fds;
    ssize_t n = recv(sock, buf, sizeof(buf), MSG_PEEK);

    if (n <= 0)
        fail_msg("no reply: %s", n ? strerror(errno) : "the stream has ended");
    assert_true((size_t)n >= sizeof(r->hdr));
    memcpy(&r->hdr, buf, sizeof(r->hdr));
    assert_true(r->hdr.msg_size >= sizeof(r->hdr));
    assert_true(r->hdr.msg_size <= (size_t)n);
    assert_int_equal(r->hdr.flags & VFIO_USER_FLAG_TYPE_MASK, VFIO_USER_FLAG_TYPE_REPLY);

    fdset_init(&fds);
    n = codec_recv(sock, buf, r->hdr.msg_size, &fds, 0);
    assert_int_equal(n, r->hdr.msg_size);
    r->nfds = fds.count;
    fdset_close(&fds);
    r->len = r->hdr.msg_size - sizeof(r->hdr);
    memcpy(r->payload, buf + sizeof(r->hdr), r->len);
}

void raw_expect_reply(int sock, const struct raw_message *m, struct reply *r)
{
    raw_receive(sock, r);
    if (r->hdr.error)
        fail_msg("%s is refused: %s", command_name(m->command), strerror((int)r->hdr.error));
    assert_int_equal(r->hdr.flags, VFIO_USER_FLAG_TYPE_REPLY);
    assert_int_equal(r->hdr.msg_id, m->id);
    assert_int_equal(r->hdr.command, m->command);
    assert_int_equal(r->nfds, 0);
}

void raw_expect_error(int sock, const struct raw_message *m, int err)
{
    struct reply r;

    raw_receive(sock, &r);
    if (r.hdr.error != (uint32_t)err)
        fail_msg("%s is answered with \"%s\", not with \"%s\"", command_name(m->command),
                 strerror((int)r.hdr.error), strerror(err));
    assert_int_equal(r.hdr.flags, VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR);
    assert_int_equal(r.hdr.msg_size, sizeof(r.hdr));
    assert_int_equal(r.hdr.msg_id, m->id);
    assert_int_equal(r.hdr.command, m->command);
    assert_int_equal(r.nfds, 0);
}

void raw_call(int sock, const struct raw_message *m, struct reply *r)
{
    struct reply unused;

    raw_send(sock, m, NULL, 0);
    raw_expect_reply(sock, m, r ? r : &unused);
}

void raw_refused(int sock, const struct raw_message *m, int err)
{
    raw_send(sock, m, NULL, 0);
    raw_expect_error(sock, m, err);
}

void raw_expect_end(int sock)
{
    char byte;
    ssize_t n = recv(sock, &byte, 1, 0);

    if (n < 0)
        fail_msg("the stream does not end: %s", strerror(errno));
    assert_int_equal(n, 0);
}

void raw_assert_in_step(int sock)
{
    static uint16_t id = 0x8000;

    raw_call(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = ++id), NULL);
}

static void run_case(int sock, const struct request_case *t, const int *fds, unsigned nfds)
{
    struct reply r;

    raw_send(sock, &t->msg, fds, nfds);
    raw_receive(sock, &r);
    if (r.hdr.error != (uint32_t)t->err)
        fail_msg("%s: \"%s\", not \"%s\"", t->name, strerror((int)r.hdr.error), strerror(t->err));
    if (t->err && r.len)
        fail_msg("%s: an error reply with a payload of %zu bytes", t->name, r.len);
    if (r.nfds)
        fail_msg("%s: a reply with %u descriptors", t->name, r.nfds);
}

void raw_run_cases(int sock, const struct request_case *cases, size_t n, const int *fds,
                   unsigned nfds)
{
    int open_before = fd_count_open();

    for (size_t i = 0; i < n; i++) {
        run_case(sock, &cases[i], fds, nfds);
        raw_assert_in_step(sock);
    }
    harness_await_fds(open_before);
}

int raw_memfd(size_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}
