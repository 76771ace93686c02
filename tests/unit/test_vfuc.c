/* The session of the client library, and its exchange of requests and replies. */
#include "client-example/vfuc.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/fake_server.h"

enum {
    SHORT_MS = 50, /* for a server that is meant to be silent */
};

/* --- VERSION --- */

static void test_open_negotiates(void **state)
{
    struct fake f = {.capabilities = "{\"capabilities\":{\"max_msg_fds\":3,"
                                     "\"max_data_xfer_size\":65536,\"write_multiple\":true}}"};
    struct vfuc *c = fake_open(&f, done);

    (void)state;
    assert_int_equal(vfuc_caps(c)->max_msg_fds, 3);
    assert_int_equal(vfuc_caps(c)->minor, 1);
    assert_true(vfuc_caps(c)->write_multiple);
    assert_int_equal(vfuc_max_xfer(c), 65536);
    assert_true(vfuc_socket(c) >= 0);
    fake_stop(&f, c);
}

static void check_own_proposal(struct fake *f, const struct request *req)
{
    struct version_caps caps;

    if (version_parse(req->payload, req->len, &caps) || caps.minor != 1 ||
        caps.max_msg_fds != LIMIT_MSG_FDS || !caps.write_multiple ||
        caps.max_data_xfer_size != LIMIT_DATA_XFER)
        leave(f, req);
    else
        answer_version(f, req);
}

static void test_open_proposes_every_capability(void **state)
{
    struct fake f = {.version = check_own_proposal};

    (void)state;
    fake_stop(&f, fake_open(&f, done));
}

static void check_given_proposal(struct fake *f, const struct request *req)
{
    struct version_caps caps;

    if (version_parse(req->payload, req->len, &caps) || caps.minor != 0 || caps.has_json)
        leave(f, req);
    else
        answer_version_as(f, req, 0, 0);
}

static void test_open_with_a_proposal(void **state)
{
    struct fake f = {.version = check_given_proposal};
    struct version_caps proposal = version_defaults();
    struct vfuc *c;

    (void)state;
    proposal.minor = 0;
    proposal.max_data_xfer_size = 4096;
    assert_int_equal(vfuc_open_fd(&c, fake_start(&f), &proposal), 0);
    assert_int_equal(vfuc_caps(c)->max_msg_fds, 1);
    assert_int_equal(vfuc_max_xfer(c), 4096);
    fake_stop(&f, c);
}

static void refuse_version(struct fake *f, const struct request *req)
{
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, EACCES, 0);

    reply_header(f, &hdr);
}

static void answer_other_major(struct fake *f, const struct request *req)
{
    answer_version_as(f, req, 1, 0);
}

static void answer_later_minor(struct fake *f, const struct request *req)
{
    answer_version_as(f, req, 0, 2);
}

/* Nothing is wrong with it but its length. */
static void answer_long_version(struct fake *f, const struct request *req)
{
    char payload[sizeof(struct vfio_user_version) + LIMIT_VERSION_DATA + 1] = {0};

    memset(payload + sizeof(struct vfio_user_version), ' ', LIMIT_VERSION_DATA);
    payload[sizeof(struct vfio_user_version)] = '{';
    payload[sizeof(payload) - 2] = '}';
    reply(f, req, payload, sizeof(payload));
}

static void answer_short_version(struct fake *f, const struct request *req)
{
    reply(f, req, "\0\0", 2);
}

static void test_open_refused(void **state)
{
    static const struct {
        answer_fn version;
        const char *capabilities;
        int error;
    } cases[] = {
        {refuse_version,       NULL,                                     -EACCES         },
        {leave,                NULL,                                     -ECONNRESET     },
        {answer_other_major,   NULL,                                     -EPROTONOSUPPORT},
        {answer_later_minor,   NULL,                                     -EPROTO         },
        {answer_short_version, NULL,                                     -EPROTO         },
        {answer_long_version,  NULL,                                     -EPROTO         },
        {answer_version,       "{\"capabilities\":{\"max_msg_fds\":0}}", -EPROTO         },
        {answer_version,       "capabilities",                           -EPROTO         },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake f = {.version = cases[i].version, .capabilities = cases[i].capabilities};
        struct vfuc *c = (struct vfuc *)&f;

        assert_int_equal(vfuc_open_fd(&c, fake_start(&f), NULL), cases[i].error);
        assert_null(c);
        fake_stop(&f, NULL);
    }
}

static void test_open_by_path(void **state)
{
    char long_path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
    struct vfuc *c;

    (void)state;
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    assert_int_equal(vfuc_open(&c, long_path, NULL), -ENAMETOOLONG);
    assert_int_equal(vfuc_open(&c, "/nonexistent/socket", NULL), -ENOENT);
    assert_null(c);
    vfuc_close(NULL);
}

/* --- Replies --- */

static void refuse_without_errno(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, EINVAL, 0);

    hdr.error = 0;
    reply_header(f, &hdr);
}

static void refuse_with_nonsense(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, EINVAL, 0);

    hdr.error = 0x80000001;
    reply_header(f, &hdr);
}

static void test_errors_of_the_server(void **state)
{
    static const struct {
        answer_fn answer;
        int error;
    } cases[] = {
        {refuse,               -ENOSPC},
        {refuse_without_errno, -EIO   },
        {refuse_with_nonsense, -EIO   },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake f = {0};
        struct vfuc *c = fake_open(&f, cases[i].answer);
        uint32_t value;

        assert_int_equal(vfuc_reset(c), cases[i].error);
        assert_int_equal(vfuc_dma_map(c, 0, 4096, VFIO_USER_DMA_MAP_READ, -1, 0), cases[i].error);
        assert_int_equal(vfuc_region_read(c, 0, 0, &value, sizeof(value)), cases[i].error);
        assert_int_equal(requests_seen(&f), 3); /* the session went on */
        fake_stop(&f, c);
    }
}

static void answer_other_id(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    hdr.msg_id++;
    reply_header(f, &hdr);
}

static void answer_other_command(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    hdr.command = VFIO_USER_DMA_MAP;
    reply_header(f, &hdr);
}

static void answer_by_request(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    hdr.flags = VFIO_USER_FLAG_TYPE_COMMAND;
    reply_header(f, &hdr);
}

static void answer_too_small(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    hdr.msg_size = sizeof(hdr) - 1;
    reply_header(f, &hdr);
}

static void answer_too_large(struct fake *f, const struct request *req)
{
    struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    hdr.msg_size = LIMIT_REPLY_SIZE + 1;
    reply_header(f, &hdr);
}

static void answer_half_a_header(struct fake *f, const struct request *req)
{
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    send_bytes(f, &hdr, sizeof(hdr) / 2, NULL, 0);
    leave(f, req);
}

static void answer_half_a_payload(struct fake *f, const struct request *req)
{
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 16);

    reply_header(f, &hdr);
    send_bytes(f, req->payload, 8, NULL, 0);
    leave(f, req);
}

static void test_stream_lost(void **state)
{
    static const struct {
        answer_fn answer;
        int error;
    } cases[] = {
        {answer_other_id,       -EPROTO    },
        {answer_other_command,  -EPROTO    },
        {answer_by_request,     -EPROTO    },
        {answer_too_small,      -EPROTO    },
        {answer_too_large,      -EPROTO    },
        {answer_half_a_header,  -ECONNRESET},
        {answer_half_a_payload, -ECONNRESET},
        {leave,                 -ECONNRESET},
        {nothing,               -ETIMEDOUT },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake f = {0};
        struct vfuc *c = fake_open(&f, cases[i].answer);

        vfuc_set_timeout(c, cases[i].error == -ETIMEDOUT ? SHORT_MS : 60000);
        assert_int_equal(vfuc_reset(c), cases[i].error);
        assert_int_equal(vfuc_reset(c), cases[i].error);
        fake_stop(&f, c);
        assert_int_equal(f.count, 1); /* the second was not sent */
    }
}

/* One byte, and never the rest. */
static void dribble(struct fake *f, const struct request *req)
{
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, 0);

    send_bytes(f, &hdr, 1, NULL, 0);
}

static void test_reply_that_stops(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, dribble);

    (void)state;
    vfuc_set_timeout(c, SHORT_MS);
    assert_int_equal(vfuc_reset(c), -ETIMEDOUT);
    fake_stop(&f, c);
}

/* The server answers VERSION and then reads no more: the socket's buffer fills up. */
static void stop_reading(struct fake *f, const struct request *req)
{
    struct pollfd pfd = {.fd = f->sock, .events = POLLRDHUP};

    answer_version(f, req);
    poll(&pfd, 1, -1);
}

static void test_request_that_nobody_takes(void **state)
{
    struct fake f = {.version = stop_reading, .answer = done};
    cleanup_free_ uint8_t *bytes = calloc(1, LIMIT_DATA_XFER);
    struct vfuc *c;
    int ret;

    (void)state;
    assert_non_null(bytes);
    assert_int_equal(vfuc_open_fd(&c, fake_start(&f), NULL), 0);
    vfuc_set_timeout(c, SHORT_MS);
    ret = vfuc_region_write(c, 0, 0, bytes, LIMIT_DATA_XFER);
    assert_int_equal(ret, -ETIMEDOUT);
    shutdown(vfuc_socket(c), SHUT_RDWR);
    fake_stop(&f, c);
}

static void answer_version_and_leave(struct fake *f, const struct request *req)
{
    answer_version(f, req);
    leave(f, req);
}

static void test_server_gone_before_the_request(void **state)
{
    struct fake f = {.version = answer_version_and_leave};
    struct vfuc *c = fake_open(&f, done);

    (void)state;
    pthread_join(f.thread, NULL);
    assert_int_equal(vfuc_reset(c), -ECONNRESET);
    fake_free(&f, c);
}

static void test_request_in_pieces(void **state)
{
    struct fake f = {.answer = done};
    cleanup_free_ uint8_t *bytes = calloc(1, LIMIT_DATA_XFER);
    cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);
    int sock = fake_start(&f);
    struct vfuc *c;
    size_t len = 0;

    (void)state;
    assert_non_null(bytes);
    assert_int_equal(fd_set_nonblock(sock), 0); /* takes what fits, and not a byte more */
    assert_int_equal(vfuc_open_fd(&c, sock, NULL), 0);
    assert_int_equal(
        vfuc_call(c, VFIO_USER_REGION_WRITE, bytes, LIMIT_DATA_XFER, &fd, 1, NULL, &len, NULL), 0);
    assert_int_equal(request_seen(&f, 0).len, LIMIT_DATA_XFER);
    assert_int_equal(request_seen(&f, 0).fds.count, 1);
    fake_stop(&f, c);
}

static void answer_in_single_bytes(struct fake *f, const struct request *req)
{
    uint8_t message[sizeof(struct vfio_user_header) + sizeof(struct vfio_user_device_info)];
    const struct vfio_user_device_info info = {16, 2, 9, 5};
    const struct vfio_user_header hdr = codec_reply_header(&req->hdr, 0, sizeof(info));

    memcpy(message, &hdr, sizeof(hdr));
    memcpy(message + sizeof(hdr), &info, sizeof(info));
    for (size_t i = 0; i < sizeof(message); i++)
        send_bytes(f, message + i, 1, NULL, 0);
}

static void test_fragmented_reply(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, answer_in_single_bytes);
    struct vfio_user_device_info info;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(vfuc_device_info(c, &info), 0);
        assert_int_equal(info.num_regions, 9);
    }
    fake_stop(&f, c);
}

/* As many bytes as the first word of the request says. */
static void answer_length(struct fake *f, const struct request *req)
{
    static uint8_t payload[8192];
    uint32_t len;

    memcpy(&len, req->payload, sizeof(len));
    reply(f, req, payload, len);
}

static void test_reply_of_another_length(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, answer_length);
    struct vfio_user_device_info info;
    uint8_t got[16];
    size_t len = sizeof(got);
    uint32_t want = 8000;

    (void)state;
    /* The rest is dropped, the stream goes on. */
    assert_int_equal(
        vfuc_call(c, VFIO_USER_DEVICE_GET_INFO, &want, sizeof(want), NULL, 0, got, &len, NULL), 0);
    assert_int_equal(len, 8000);
    want = 3;
    len = sizeof(got);
    assert_int_equal(
        vfuc_call(c, VFIO_USER_DEVICE_GET_INFO, &want, sizeof(want), NULL, 0, got, &len, NULL), 0);
    assert_int_equal(len, 3);
    assert_int_equal(vfuc_device_info(c, &info), 0); /* its argsz, 16, is the length */
    fake_stop(&f, c);
}

static void answer_less(struct fake *f, const struct request *req)
{
    reply(f, req, req->payload, req->len > 8 ? req->len - 8 : 4);
}

static void test_reply_too_short_for_its_command(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, answer_less);
    struct vfio_user_device_info info;
    const struct vfio_user_write_multi_entry entry = {0};
    uint32_t value = 0;

    (void)state;
    assert_int_equal(vfuc_device_info(c, &info), -EPROTO);
    assert_int_equal(vfuc_region_read(c, 0, 0, &value, sizeof(value)), -EPROTO);
    assert_int_equal(vfuc_region_write(c, 0, 0, &value, sizeof(value)), -EPROTO);
    assert_int_equal(vfuc_region_write_multi(c, &entry, 1), -EPROTO);
    assert_int_equal(vfuc_dma_unmap(c, 0, 4096), -EPROTO);
    assert_int_equal(vfuc_reset(c), -EPROTO); /* 4 bytes where there are none */
    assert_int_equal(requests_seen(&f), 6);
    fake_stop(&f, c);
}

static void answer_with_fds(struct fake *f, const struct request *req)
{
    int fds[3];

    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = eventfd(0, EFD_CLOEXEC);
    reply_with_fds(f, req, req->payload, req->len, fds, ARRAY_SIZE(fds));
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fd_close(&fds[i]);
}

static void test_unexpected_fds_are_closed(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, answer_with_fds);
    struct vfio_user_device_info info;
    size_t len = 0;
    int fd;

    (void)state;
    assert_int_equal(vfuc_device_info(c, &info), 0);
    /* One that is asked for is the caller's, the others are closed all the same. */
    assert_int_equal(vfuc_call(c, VFIO_USER_DEVICE_RESET, NULL, 0, NULL, 0, NULL, &len, &fd), 0);
    assert_int_equal(vfuc_reset(c), 0);
    /* The echo is no reply to a read. */
    assert_int_equal(vfuc_region_read(c, 0, 0, &info, sizeof(info)), -EPROTO);
    fake_stop(&f, c);
    assert_true(inode_of(fd) != 0);
    fd_close(&fd);
}

static void test_bad_descriptor_does_not_end_the_session(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, done);

    (void)state;
    assert_int_equal(vfuc_dma_map(c, 0, 4096, 3, 1 << 20, 0), -EBADF);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(requests_seen(&f), 1);
    fake_stop(&f, c);
}

static void test_message_ids_differ(void **state)
{
    struct fake f = {0};
    struct vfuc *c = fake_open(&f, done);

    (void)state;
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_not_equal(request_seen(&f, 0).hdr.msg_id, request_seen(&f, 1).hdr.msg_id);
    fake_stop(&f, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_open_negotiates),
        fd_leak_test(test_open_proposes_every_capability),
        fd_leak_test(test_open_with_a_proposal),
        fd_leak_test(test_open_refused),
        fd_leak_test(test_open_by_path),
        fd_leak_test(test_errors_of_the_server),
        fd_leak_test(test_stream_lost),
        fd_leak_test(test_reply_that_stops),
        fd_leak_test(test_request_that_nobody_takes),
        fd_leak_test(test_server_gone_before_the_request),
        fd_leak_test(test_request_in_pieces),
        fd_leak_test(test_fragmented_reply),
        fd_leak_test(test_reply_of_another_length),
        fd_leak_test(test_reply_too_short_for_its_command),
        fd_leak_test(test_unexpected_fds_are_closed),
        fd_leak_test(test_bad_descriptor_does_not_end_the_session),
        fd_leak_test(test_message_ids_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
