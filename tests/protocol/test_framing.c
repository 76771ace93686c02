/* Where a message begins and ends, however its bytes arrive. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    CONFIG = 7,
    INTERRUPT_LINE = 0x3c,
};

static const uint8_t zeros[LIMIT_DATA_XFER + 1];

/* A header with a size that no message has: an error reply, then the stream's end. */
static void expect_broken(struct harness *h, bool in_session, uint32_t size, int err)
{
    const struct vfio_user_header hdr = {
        .msg_id = 7,
        .command = VFIO_USER_VERSION,
        .msg_size = size,
    };
    cleanup_close_ int sock = in_session ? raw_session(h) : raw_connect(h);

    raw_send_bytes(sock, &hdr, sizeof(hdr), NULL, 0);
    raw_expect_error(sock, MSG(.command = VFIO_USER_VERSION, .id = 7), err);
    raw_expect_end(sock);
}

static void impossible_sizes(void **state)
{
    for (uint32_t size = 0; size < sizeof(struct vfio_user_header); size++) {
        expect_broken(*state, false, size, EINVAL);
        expect_broken(*state, true, size, EINVAL);
    }
    expect_broken(*state, false, 16 + 4 + LIMIT_VERSION_DATA + 1, EMSGSIZE);
    expect_broken(*state, false, UINT32_MAX, EMSGSIZE);
    expect_broken(*state, true, LIMIT_MSG_SIZE + 1, EMSGSIZE);
    expect_broken(*state, true, UINT32_C(1) << 31, EMSGSIZE);
    expect_broken(*state, true, UINT32_MAX, EMSGSIZE);
    harness_assert_serves(*state);
}

/* The same without an answer, as such a message must not have one. */
static void impossible_sizes_without_answer(void **state)
{
    static const uint32_t flags[] = {VFIO_USER_FLAG_TYPE_REPLY, VFIO_USER_FLAG_NO_REPLY, 0xf};

    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
        const struct vfio_user_header hdr = {.command = 1, .msg_size = 3, .flags = flags[i]};
        cleanup_close_ int sock = raw_session(*state);

        raw_send_bytes(sock, &hdr, sizeof(hdr), NULL, 0);
        raw_expect_end(sock);
    }
    harness_assert_serves(*state);
}

/* The session is over, and all that it had is taken back, though the client stays. */
static void session_ends_with_its_stream(void **state)
{
    const struct vfio_user_header broken = {.command = 1, .msg_size = 1};
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);
    cleanup_close_ int sock = raw_session(h);
    const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)};

    raw_send(sock, &map, &fd, 1);
    raw_expect_reply(sock, &map, &(struct reply){0});
    raw_send_bytes(sock, &broken, sizeof(broken), NULL, 0);
    raw_send(sock, MSG(MSG_RESET()), &fd, 1);
    raw_expect_error(sock, MSG(.command = 1), EINVAL);
    raw_expect_end(sock);
    harness_assert_serves(h); /* which also waits for the mapping to go */
}

static void one_byte_too_many_to_write(void **state)
{
    const struct raw_message m = {
        MSG_REGION_WRITE(.region = 0, .count = LIMIT_DATA_XFER + 1),
        .data = zeros,
        .data_len = LIMIT_DATA_XFER + 1,
    };
    cleanup_close_ int sock = raw_session(*state);

    raw_send(sock, &m, NULL, 0);
    raw_expect_error(sock, &m, EMSGSIZE);
    raw_expect_end(sock);
    fd_close(&sock);
    harness_assert_serves(*state);
}

static void send_in_pieces(int sock, const uint8_t *bytes, size_t len, size_t piece)
{
    for (size_t at = 0; at < len; at += piece)
        raw_send_bytes(sock, bytes + at, MIN(piece, len - at), NULL, 0);
}

static void byte_by_byte(void **state)
{
    const char *text = "{\"capabilities\":{\"max_msg_fds\":1}}";
    const struct raw_message version = {MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1),
                                        .data = text, .data_len = strlen(text) + 1};
    const struct raw_message write = {MSG_REGION_WRITE(INTERRUPT_LINE, CONFIG, 1), .data = "\x42",
                                      .data_len = 1, .id = 1};
    const struct raw_message read = {MSG_REGION_READ(INTERRUPT_LINE, CONFIG, 1), .id = 2};
    cleanup_close_ int sock = raw_connect(*state);
    uint8_t bytes[256];
    struct reply r;

    send_in_pieces(sock, bytes, raw_encode(&version, bytes, sizeof(bytes)), 1);
    raw_expect_reply(sock, &version, &r);
    send_in_pieces(sock, bytes, raw_encode(&write, bytes, sizeof(bytes)), 1);
    raw_expect_reply(sock, &write, &r);
    send_in_pieces(sock, bytes, raw_encode(&read, bytes, sizeof(bytes)), 1);
    raw_expect_reply(sock, &read, &r);
    assert_int_equal(r.payload[16], 0x42);
}

/* The body of a message may come a long time after its header, or never. */
static void every_cut_with_a_pause(void **state)
{
    const struct raw_message write = {MSG_REGION_WRITE(INTERRUPT_LINE, CONFIG, 1), .data = "\x42",
                                      .data_len = 1};
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    uint8_t bytes[64];
    size_t len = raw_encode(&write, bytes, sizeof(bytes));

    for (size_t cut = 1; cut < len; cut++) {
        raw_send_bytes(sock, bytes, cut, NULL, 0);
        harness_pause();
        raw_send_bytes(sock, bytes + cut, len - cut, NULL, 0);
        raw_expect_reply(sock, &write, &(struct reply){0});
    }
}

static void gone_inside_a_message(void **state)
{
    const struct raw_message map = {MSG_DMA_MAP(.flags = DMA_RW, .address = PAGE, .size = PAGE)};
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);
    uint8_t bytes[64];
    size_t len = raw_encode(&map, bytes, sizeof(bytes));
    const int fds[] = {fd, fd, fd};
    int open_before = fd_count_open();

    for (size_t cut = 1; cut < len; cut++) {
        int sock = raw_session(h);

        raw_send_bytes(sock, bytes, cut, fds, cut % 4);
        fd_close(&sock);
    }
    harness_assert_serves(h);
    harness_await_fds(open_before);
}

static void gone_inside_version(void **state)
{
    struct harness *h = *state;
    uint8_t bytes[64];
    size_t len = raw_encode(
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .data = "{}", .data_len = 3), bytes,
        sizeof(bytes));
    int open_before = fd_count_open();

    for (size_t cut = 0; cut < len; cut++) {
        int sock = raw_connect(h);

        if (cut)
            raw_send_bytes(sock, bytes, cut, NULL, 0);
        fd_close(&sock);
    }
    harness_assert_serves(h);
    harness_await_fds(open_before);
}

/* A socket takes what it has room for: a large message always comes in several reads. */
static void large_write_in_pieces(void **state)
{
    static const size_t pieces[] = {1 << 20, 65536, 16384, 16383, 4097, 1021};
    static uint8_t bytes[LIMIT_MSG_SIZE];
    const struct raw_message m = {
        MSG_REGION_WRITE(.region = 0, .count = LIMIT_DATA_XFER),
        .data = zeros,
        .data_len = LIMIT_DATA_XFER,
    };
    cleanup_close_ int sock = raw_session(*state);
    size_t len = raw_encode(&m, bytes, sizeof(bytes));

    assert_int_equal(len, LIMIT_MSG_SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        for (int again = 0; again < 5; again++) {
            send_in_pieces(sock, bytes, len, pieces[i]);
            raw_expect_reply(sock, &m, &(struct reply){0});
            raw_assert_in_step(sock);
        }
    }
}

/* Requests that come by one read, more than one turn of the loop takes, are answered in order. */
static void many_at_once(void **state)
{
    enum { N = 300 };
    static uint8_t bytes[N * 64];
    cleanup_close_ int sock = raw_session(*state);
    size_t len = 0;

    for (uint16_t i = 0; i < N; i++)
        len +=
            raw_encode(MSG(MSG_GET_INFO(.argsz = 16), .id = i), bytes + len, sizeof(bytes) - len);
    for (size_t piece = len; piece > 100; piece = piece * 2 / 3) {
        send_in_pieces(sock, bytes, len, piece);
        for (uint16_t i = 0; i < N; i++)
            raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO, .id = i),
                             &(struct reply){0});
    }
}

/* A message that ends where the read-ahead does, or a byte before or behind it. */
static void around_the_read_ahead(void **state)
{
    static uint8_t bytes[40000];
    cleanup_close_ int sock = raw_session(*state);

    for (uint32_t count = 16384 - 96; count < 16384 + 32; count++) {
        const struct raw_message write = {MSG_REGION_WRITE(.region = 0, .count = count),
                                          .data = zeros, .data_len = count};
        size_t len = raw_encode(&write, bytes, sizeof(bytes));

        len +=
            raw_encode(MSG(MSG_GET_INFO(.argsz = 16), .id = 9), bytes + len, sizeof(bytes) - len);
        raw_send_bytes(sock, bytes, len, NULL, 0);
        raw_expect_reply(sock, &write, &(struct reply){0});
        raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO, .id = 9),
                         &(struct reply){0});
    }
}

/* The client says no more, and still reads: what it asked is answered. */
static void half_closed(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);

    raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = 1), NULL, 0);
    raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16), .id = 2), NULL, 0);
    assert_int_equal(shutdown(sock, SHUT_WR), 0);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO, .id = 1), &(struct reply){0});
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DEVICE_GET_INFO, .id = 2), &(struct reply){0});
    raw_expect_end(sock);
    harness_assert_serves(h);
}

/* A worker that looks for the next message before it sleeps reads by the same rules. */
static void busy_polling(void **state)
{
    void (*const each[])(void **state) = {
        byte_by_byte,          every_cut_with_a_pause, many_at_once, large_write_in_pieces,
        around_the_read_ahead, gone_inside_a_message,  half_closed,
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(each); i++) {
        struct harness *h = harness_new();
        void *as_state = h;

        h->settings.busy_poll_us = 50;
        harness_start(h);
        each[i](&as_state);
        harness_stop(h);
    }
}

static const struct CMUnitTest tests[] = {
    harness_test(impossible_sizes),
    harness_test(impossible_sizes_without_answer),
    harness_test(session_ends_with_its_stream),
    harness_test(one_byte_too_many_to_write),
    harness_test(byte_by_byte),
    harness_test(every_cut_with_a_pause),
    harness_test(gone_inside_a_message),
    harness_test(gone_inside_version),
    harness_test(large_write_in_pieces),
    harness_test(many_at_once),
    harness_test(around_the_read_ahead),
    harness_test(half_closed),
    cmocka_unit_test(busy_polling),
};

HARNESS_MAIN(tests)
