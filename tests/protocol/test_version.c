/*
 * VERSION: the proposals of the clients that exist, byte for byte, and those of clients that mean
 * harm. What each of them needs of the answer is in the comments.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/version.h"
#include "tests/protocol/raw.h"

static const char qemu_json[] =
    "{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, \"max_dma_maps\": 65535, "
    "\"max_data_xfer_size\": 1048576, \"migration\": {\"max_bitmap_size\": 268435456, "
    "\"pgsize\": 4096}, \"write_multiple\": true}}";

/* Proposes and parses the answer, which must be a success. The session goes on on *sock. */
static struct version_caps negotiate(const struct harness *h, uint16_t minor, const char *json,
                                     int *sock, struct reply *r)
{
    struct version_caps caps;

    *sock = raw_connect(h);
    raw_send_version(*sock, 0, minor, json);
    raw_receive(*sock, r);
    if (r->hdr.error)
        fail_msg("refused: %s (%s)", strerror((int)r->hdr.error), json ? json : "no JSON");
    assert_int_equal(r->hdr.command, VFIO_USER_VERSION);
    assert_int_equal(r->nfds, 0);
    assert_int_equal(version_parse(r->payload, r->len, &caps), 0);
    assert_int_equal(caps.major, 0);
    assert_true(caps.minor <= minor);
    return caps;
}

static void leave(const struct harness *h, int sock)
{
    raw_assert_in_step(sock);
    fd_close(&sock);
    harness_assert_serves(h);
}

/*
 * Minor 0 alone; the whole reply in the 214 bytes of its request; at most 16 descriptors, 64 MiB a
 * transfer, 65,535 maps; page sizes of 4 KiB and more; write_multiple a boolean; a NUL.
 */
static void qemu(void **state)
{
    struct version_caps caps;
    struct reply r;
    int sock;

    assert_int_equal(sizeof(struct vfio_user_header) + 4 + sizeof(qemu_json), 214);
    caps = negotiate(*state, 0, qemu_json, &sock, &r);
    assert_int_equal(caps.minor, 0);
    assert_true(r.hdr.msg_size <= 214);
    assert_int_equal(r.payload[r.len - 1], '\0');
    assert_true(caps.has_capabilities);
    assert_int_equal(caps.max_msg_fds, 16);
    assert_int_equal(caps.max_data_xfer_size, 1 << 20);
    assert_int_equal(caps.max_dma_maps, 65535);
    assert_true(caps.pgsizes == 4096);
    assert_true(caps.has_write_multiple && caps.write_multiple);
    assert_false(caps.has_twin_socket);
    leave(*state, sock);
}

/* JSON with "capabilities" and a NUL; numbers in 32 bits; no key that it did not propose. */
static void rust_vmm(void **state)
{
    struct version_caps caps;
    struct reply r;
    int sock;

    caps = negotiate(*state, 1,
                     "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
                     "\"migration\":{\"pgsize\":4096}}}",
                     &sock, &r);
    assert_int_equal(caps.minor, 1);
    assert_true(caps.has_json && caps.has_capabilities);
    assert_true(caps.max_msg_fds <= UINT32_MAX && caps.max_data_xfer_size <= UINT32_MAX);
    assert_false(caps.has_pgsizes || caps.has_max_dma_maps || caps.has_write_multiple);
    leave(*state, sock);
}

/* 4 bytes asked, 4 bytes answered. */
static void spdk(void **state)
{
    struct version_caps caps;
    struct reply r;
    int sock;

    caps = negotiate(*state, 1, NULL, &sock, &r);
    assert_int_equal(caps.minor, 1);
    assert_int_equal(r.len, sizeof(struct vfio_user_version));
    leave(*state, sock);
}

/* A later minor, and a key that nobody else knows: neither is answered. */
static void alioth(void **state)
{
    struct version_caps caps;
    struct reply r;
    int sock;

    caps = negotiate(*state, 2, "{\"capabilities\":{\"max_fds\":32}}", &sock, &r);
    assert_int_equal(caps.minor, 1);
    assert_true(caps.has_json && caps.has_capabilities);
    assert_null(memmem(r.payload, r.len, "max_fds", 7));
    assert_false(caps.has_max_msg_fds);
    leave(*state, sock);
}

static void libvfio_user(void **state)
{
    struct version_caps caps;
    struct reply r;
    int sock;

    caps =
        negotiate(*state, 1, "{\"capabilities\":{\"max_msg_fds\":32,\"max_data_xfer_size\":1024}}",
                  &sock, &r);
    assert_true(caps.has_max_msg_fds && caps.has_max_data_xfer_size);
    leave(*state, sock);
}

static void smaller_minor_wins(void **state)
{
    static const uint16_t minors[][2] = {
        {0,          0},
        {1,          1},
        {2,          1},
        {UINT16_MAX, 1}
    };

    for (size_t i = 0; i < ARRAY_SIZE(minors); i++) {
        struct reply r;
        int sock;

        assert_int_equal(negotiate(*state, minors[i][0], qemu_json, &sock, &r).minor, minors[i][1]);
        leave(*state, sock);
    }
}

struct accepted {
    const char *name, *json;
    uint64_t max_dma_maps; /* in the answer; 0: the key is not there */
};

#define ACCEPTED(name, max_dma_maps, json)                                                         \
    {                                                                                              \
        (name), (json), (max_dma_maps)                                                             \
    }

static const struct accepted accepted[] = {
    ACCEPTED("an empty string, which is no version data", 0, ""),
    ACCEPTED("an empty object", 0, "{}"),
    ACCEPTED("no capabilities", 0, "{\"other\":[1,2,{}]}"),
    ACCEPTED("empty capabilities", 0, "{\"capabilities\":{}}"),
    ACCEPTED("unknown keys", 9,
             "{\"x\":null,\"capabilities\":{\"y\":{\"z\":[1.5]},\"max_dma_maps\":9}}"),
    ACCEPTED("a key twice: the last counts", 5,
             "{\"capabilities\":{\"max_dma_maps\":3,\"max_dma_maps\":5}}"),
    ACCEPTED("more than the server has", 65535,
             "{\"capabilities\":{\"max_dma_maps\":1099511627776}}"),
    ACCEPTED(
        "2^40 descriptors and bytes", 0,
        "{\"capabilities\":{\"max_msg_fds\":1099511627776,\"max_data_xfer_size\":1099511627776}}"),
    ACCEPTED("the largest number", 65535,
             "{\"capabilities\":{\"max_dma_maps\":9223372036854775807}}"),
    ACCEPTED("page sizes without one in common", 0, "{\"capabilities\":{\"pgsizes\":1}}"),
    ACCEPTED("space around", 7, " \t\n{ \"capabilities\" : { \"max_dma_maps\" : 7 } } "),
};

static void proposals_that_are_accepted(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        const struct accepted *t = &accepted[i];
        struct version_caps caps;
        struct reply r;
        int sock;

        caps = negotiate(*state, 1, t->json, &sock, &r);
        if (caps.has_max_dma_maps != !!t->max_dma_maps ||
            (t->max_dma_maps && caps.max_dma_maps != t->max_dma_maps))
            fail_msg("%s: max_dma_maps %lu", t->name, (unsigned long)caps.max_dma_maps);
        if (caps.has_json != !!*t->json)
            fail_msg("%s: JSON asked is JSON answered, and no other", t->name);
        if (caps.has_pgsizes && caps.pgsizes & 4095)
            fail_msg("%s: page sizes under 4 KiB", t->name);
        leave(*state, sock);
    }
}

#define CAPS(text) "{\"capabilities\":{" text "}}"

struct refused {
    const char *name;
    const char *text; /* with what follows it to len */
    size_t len;       /* 0: text and its NUL */
};

#define EXACTLY(text) text, sizeof(text) - 1

#define REFUSED(name, ...)                                                                         \
    {                                                                                              \
        (name), __VA_ARGS__                                                                        \
    }

static const struct refused refused[] = {
    REFUSED("no NUL", EXACTLY("{}")),
    REFUSED("a NUL in the middle", EXACTLY("{}\0{}\0")),
    REFUSED("not JSON", "hello"),
    REFUSED("cut off", "{\"capabilities\":{\"max_msg_fds\":1}"),
    REFUSED("text after the object", "{} {}"),
    REFUSED("an array", "[]"),
    REFUSED("a number", "1"),
    REFUSED("null", "null"),
    REFUSED("single quotes", "{\"x\":'y'}"),
    REFUSED("a comment", "{}/**/"),
    REFUSED("invalid UTF-8", "{\"capabilities\":{\"\xff\xfe\":1}}"),
    REFUSED("too deep",
            "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}"),
    REFUSED("capabilities that are an array", "{\"capabilities\":[]}"),
    REFUSED("capabilities that are null", "{\"capabilities\":null}"),
    REFUSED("a number as a string", CAPS("\"max_msg_fds\":\"1\"")),
    REFUSED("a float", CAPS("\"max_msg_fds\":1.0")),
    REFUSED("an exponent", CAPS("\"max_dma_maps\":1e3")),
    REFUSED("0 descriptors", CAPS("\"max_msg_fds\":0")),
    REFUSED("-1 descriptors", CAPS("\"max_msg_fds\":-1")),
    REFUSED("0 bytes", CAPS("\"max_data_xfer_size\":0")),
    REFUSED("-1 bytes", CAPS("\"max_data_xfer_size\":-1")),
    REFUSED("0 maps", CAPS("\"max_dma_maps\":0")),
    REFUSED("2^63", CAPS("\"max_dma_maps\":9223372036854775808")),
    REFUSED("2^64", CAPS("\"max_dma_maps\":18446744073709551616")),
    REFUSED("a huge number", CAPS("\"pgsizes\":99999999999999999999999999999999999999")),
    REFUSED("page size 0", CAPS("\"migration\":{\"pgsize\":0}")),
    REFUSED("migration that is a number", CAPS("\"migration\":1")),
    REFUSED("twin_socket that is a boolean", CAPS("\"twin_socket\":true")),
    REFUSED("write_multiple that is a number", CAPS("\"write_multiple\":1")),
};

/* An error reply, then the end of the stream: a client that is closed with data unread aborts. */
static void proposals_that_are_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        const struct refused *t = &refused[i];
        const struct raw_message m = {
            MSG_(VFIO_USER_VERSION, vfio_user_version, .minor = 1),
            .data = t->text,
            .data_len = t->len ? t->len : strlen(t->text) + 1,
            .id = (uint16_t)i,
        };
        struct reply r;
        int sock = raw_connect(*state);

        raw_send(sock, &m, NULL, 0);
        raw_receive(sock, &r);
        if (r.hdr.error != EINVAL)
            fail_msg("%s: \"%s\"", t->name, strerror((int)r.hdr.error));
        assert_int_equal(r.hdr.msg_id, i);
        raw_expect_end(sock);
        fd_close(&sock);
    }
    harness_assert_serves(*state);
}

static void expect_refusal(struct harness *h, const struct raw_message *m, const int *fds,
                           unsigned nfds, int err)
{
    int sock = raw_connect(h);

    raw_send(sock, m, fds, nfds);
    raw_expect_error(sock, m, err);
    raw_expect_end(sock);
    fd_close(&sock);
    harness_assert_serves(h);
}

static void other_majors(void **state)
{
    expect_refusal(*state, MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 1, 0)), NULL, 0,
                   EPROTONOSUPPORT);
    expect_refusal(*state, MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, UINT16_MAX, 1)), NULL, 0,
                   EPROTONOSUPPORT);
}

static void wrong_sizes(void **state)
{
    static const uint8_t zeros[4];
    char *spaces = malloc(1 << 20);

    for (size_t len = 0; len < sizeof(zeros); len++)
        expect_refusal(*state, MSG(.command = VFIO_USER_VERSION, .payload = zeros, .len = len),
                       NULL, 0, EINVAL);

    assert_non_null(spaces);
    memset(spaces, ' ', 1 << 20);
    spaces[(1 << 20) - 1] = '\0';
    expect_refusal(
        *state,
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .data = spaces, .data_len = 1 << 20),
        NULL, 0, EMSGSIZE);
    spaces[4095] = '\0';
    expect_refusal(
        *state,
        MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1), .data = spaces, .data_len = 4096),
        NULL, 0, EINVAL);
    free(spaces);
}

static void with_descriptors(void **state)
{
    int fds[3] = {0, 1, 2};

    expect_refusal(*state, MSG(MSG_(VFIO_USER_VERSION, vfio_user_version, 0, 1)), fds, 3, EINVAL);
}

/* A lower max_dma_maps is the session's; the next one has its own. */
static void agreed_limit_holds(void **state)
{
    const struct raw_message third = {
        MSG_DMA_MAP(.flags = DMA_RW, .address = 2 * PAGE, .size = PAGE)};
    struct reply r;
    int sock;

    negotiate(*state, 1, "{\"capabilities\":{\"max_dma_maps\":2}}", &sock, &r);
    raw_call(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = 0, .size = PAGE)), NULL);
    raw_call(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = PAGE, .size = PAGE)), NULL);
    raw_refused(sock, &third, ENOSPC);
    raw_call(sock, MSG(MSG_DMA_UNMAP(.address = 0, .size = PAGE)), NULL);
    raw_call(sock, &third, NULL);
    fd_close(&sock);
    harness_assert_serves(*state);
}

static const struct CMUnitTest tests[] = {
    harness_test(qemu),
    harness_test(rust_vmm),
    harness_test(spdk),
    harness_test(alioth),
    harness_test(libvfio_user),
    harness_test(smaller_minor_wins),
    harness_test(proposals_that_are_accepted),
    harness_test(proposals_that_are_refused),
    harness_test(other_majors),
    harness_test(wrong_sizes),
    harness_test(with_descriptors),
    harness_test(agreed_limit_holds),
};

HARNESS_MAIN(tests)
