/* Messages that are well formed, at the wrong time or in the wrong direction. */
#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/commands.h"
#include "tests/protocol/raw.h"

static const uint8_t zeros[64];

/* Refused, and the connection ended: whoever sends this speaks another protocol. */
static void before_version(void **state)
{
    size_t n;
    const struct command *commands = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        const struct raw_message m = {
            .command = commands[i].id,
            .payload = zeros,
            .len = commands[i].min_payload,
            .id = 0x1234,
        };
        cleanup_close_ int sock = raw_connect(*state);

        if (commands[i].id == VFIO_USER_VERSION)
            continue;
        raw_send(sock, &m, NULL, 0);
        raw_expect_error(sock, &m, EINVAL);
        raw_expect_end(sock);
    }
    harness_assert_serves(*state);
}

static void before_version_without_answer(void **state)
{
    const struct raw_message *const messages[] = {
        MSG(MSG_GET_INFO(.argsz = 16), .flags = VFIO_USER_FLAG_TYPE_REPLY),
        MSG(MSG_RESET(), .flags = VFIO_USER_FLAG_NO_REPLY),
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .flags = VFIO_USER_FLAG_NO_REPLY),
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .flags = VFIO_USER_FLAG_TYPE_REPLY),
    };

    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        cleanup_close_ int sock = raw_connect(*state);

        raw_send(sock, messages[i], NULL, 0);
        raw_expect_end(sock);
    }
    harness_assert_serves(*state);
}

/* What follows the refused message is not carried out, nor are its descriptors kept. */
static void more_behind_a_refused_first_message(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);
    int open_before = fd_count_open();
    cleanup_close_ int sock = raw_connect(h);

    raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0);
    raw_send_version(sock, 0, 1, NULL);
    raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)), &fd, 1);
    raw_expect_error(sock, MSG(MSG_GET_INFO(0)), EINVAL);
    raw_expect_end(sock);
    assert_int_equal(harness_stats(h).mappings, 0);
    fd_close(&sock);
    harness_await_fds(open_before);
    harness_assert_serves(h);
}

static void second_version(void **state)
{
    const struct request_case t =
        CASE("VERSION", EINVAL, MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1));
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, &t, 1, NULL, 0);
}

/* Requests that only a server sends, and ids that mean nothing. */
static void not_for_servers(void **state)
{
    const struct request_case cases[] = {
        CASE("DMA_READ", EINVAL, MSG_DMA_READ(.address = 0, .count = 4)),
        CASE("DMA_WRITE", EINVAL, MSG_DMA_WRITE(.address = 0, .count = 4), .data = zeros,
             .data_len = 4),
        CASE("command 0", ENOTTY, .command = 0),
        CASE("command 14, of an early revision", ENOTTY, .command = 14, .payload = zeros,
             .len = 16),
        CASE("command 19", ENOTTY, .command = 19),
        CASE("command 65535", ENOTTY, .command = 65535, .payload = zeros, .len = 64),
        CASE("the error flag", EINVAL, MSG_GET_INFO(16), .flags = VFIO_USER_FLAG_ERROR),
        CASE("flag bit 6", EINVAL, MSG_GET_INFO(16), .flags = 0x40),
        CASE("flag bit 31", EINVAL, MSG_GET_INFO(16), .flags = 0x80000000),
    };
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, cases, ARRAY_SIZE(cases), &fd, 1);
}

/* A reply to a request that the server never made, and other types: there is no answer to them. */
static void not_a_request(void **state)
{
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    int open_before = fd_count_open();
    size_t n;
    const struct command *commands = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        for (uint32_t type = 1; type <= VFIO_USER_FLAG_TYPE_MASK; type++)
            raw_send(sock,
                     MSG(.command = commands[i].id, .payload = zeros,
                         .len = commands[i].min_payload, .flags = type),
                     &fd, 1);
    }
    raw_send(sock, MSG(.command = 99, .flags = VFIO_USER_FLAG_TYPE_REPLY), NULL, 0);
    raw_send(sock,
             MSG(.command = VFIO_USER_DMA_READ,
                 .flags = VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR),
             NULL, 0);
    raw_send(sock, MSG(MSG_GET_INFO(16), .flags = UINT32_MAX), NULL, 0);
    raw_send(sock, MSG(MSG_GET_INFO(16), .flags = 0xf | VFIO_USER_FLAG_ERROR), NULL, 0);
    raw_send(sock, MSG(.command = 99, .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_assert_in_step(sock);
    assert_int_equal(harness_stats(*state).mappings, 0);
    harness_await_fds(open_before);
}

/* The field is reserved in a request: whatever stands in it. */
static void error_field_of_a_request(void **state)
{
    cleanup_close_ int sock = raw_session(*state);
    uint8_t bytes[64];
    struct vfio_user_header hdr;
    struct reply r;
    size_t len = raw_encode(MSG(MSG_GET_INFO(.argsz = 16)), bytes, sizeof(bytes));

    memcpy(&hdr, bytes, sizeof(hdr));
    hdr.error = UINT32_MAX;
    memcpy(bytes, &hdr, sizeof(hdr));
    raw_send_bytes(sock, bytes, len, NULL, 0);
    raw_expect_reply(sock, MSG(MSG_GET_INFO(0)), &r);
    assert_int_equal(r.hdr.error, 0);
}

static const struct CMUnitTest tests[] = {
    harness_test(before_version),
    harness_test(before_version_without_answer),
    harness_test(more_behind_a_refused_first_message),
    harness_test(second_version),
    harness_test(not_for_servers),
    harness_test(not_a_request),
    harness_test(error_field_of_a_request),
};

HARNESS_MAIN(tests)
