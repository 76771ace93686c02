/* REGION_WRITE_MULTI: several small writes in one message. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
};

typedef struct vfio_user_write_multi_entry entry;

#define LINE_WRITE(value)                                                                          \
    {                                                                                              \
        PCI_INTERRUPT_LINE, CONFIG, 1,                                                             \
        {                                                                                          \
            (value)                                                                                \
        }                                                                                          \
    }
#define ENTRIES(...)                                                                               \
    .data = (const entry[]){__VA_ARGS__}, .data_len = sizeof((const entry[]){__VA_ARGS__})

static const entry many[LIMIT_WRITE_MULTI + 1];

static const struct request_case cases[] = {
    CASE("one write", 0, MSG_WRITE_MULTI(1), ENTRIES(LINE_WRITE(1))),
    CASE("8 bytes", 0, MSG_WRITE_MULTI(1), ENTRIES({0, BAR0, 8, {0}})),
    CASE("wr_cnt 0", EINVAL, MSG_WRITE_MULTI(0)),
    CASE("wr_cnt 0 with a write", EINVAL, MSG_WRITE_MULTI(0), ENTRIES(LINE_WRITE(1))),
    CASE("wr_cnt 2^61", EINVAL, MSG_WRITE_MULTI(UINT64_C(1) << 61), ENTRIES(LINE_WRITE(1))),
    CASE("wr_cnt whose bytes are those of 1 modulo 2^64", EINVAL,
         MSG_WRITE_MULTI((UINT64_C(1) << 61) + 1), ENTRIES(LINE_WRITE(1))),
    CASE("wr_cnt 2^64-1", EINVAL, MSG_WRITE_MULTI(UINT64_MAX), ENTRIES(LINE_WRITE(1))),
    CASE("wr_cnt 2, one write", EINVAL, MSG_WRITE_MULTI(2), ENTRIES(LINE_WRITE(1))),
    CASE("wr_cnt 1, two writes", EINVAL, MSG_WRITE_MULTI(1), ENTRIES(LINE_WRITE(1), LINE_WRITE(2))),
    CASE("a write cut off", EINVAL, MSG_WRITE_MULTI(1), .data = many,
         .data_len = sizeof(entry) - 1),
    CASE("one too many", E2BIG, MSG_WRITE_MULTI(LIMIT_WRITE_MULTI + 1), .data = many,
         .data_len = sizeof(many)),
    CASE("no payload", EINVAL, .command = VFIO_USER_REGION_WRITE_MULTI),
    CASE("wr_cnt cut off", EINVAL, .command = VFIO_USER_REGION_WRITE_MULTI, .payload = many,
         .len = 7),
    CASE("count 0", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({0, CONFIG, 0, {0}})),
    CASE("count 9", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({0, CONFIG, 9, {0}})),
    CASE("count 2^32-1", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({0, CONFIG, UINT32_MAX, {0}})),
    CASE("passes 2^64", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({UINT64_MAX - 3, BAR0, 8, {0}})),
    CASE("across the end", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({252, CONFIG, 8, {0}})),
    CASE("region 2^32-1", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({0, UINT32_MAX, 4, {0}})),
    CASE("region count", EINVAL, MSG_WRITE_MULTI(1), ENTRIES({0, VFIO_PCI_NUM_REGIONS, 4, {0}})),
};

static void answers(void **state)
{
    int sock = raw_session(*state);
    int fd = raw_memfd(PAGE);
    const struct request_case with_fd =
        CASE("a descriptor", EINVAL, MSG_WRITE_MULTI(1), ENTRIES(LINE_WRITE(1)));

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, &with_fd, 1, &fd, 1);
    fd_close(&fd);
    fd_close(&sock);
}

static uint8_t interrupt_line(struct vfuc *c)
{
    uint8_t line;

    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_INTERRUPT_LINE, &line, 1), 0);
    return line;
}

static void as_many_as_allowed(void **state)
{
    static entry writes[LIMIT_WRITE_MULTI];
    struct vfuc *c = harness_client(*state);

    for (size_t i = 0; i < ARRAY_SIZE(writes); i++)
        writes[i] = (entry)LINE_WRITE((uint8_t)(i % 251));
    assert_int_equal(vfuc_region_write_multi(c, writes, ARRAY_SIZE(writes)), LIMIT_WRITE_MULTI);
    assert_int_equal(interrupt_line(c), (LIMIT_WRITE_MULTI - 1) % 251);
    vfuc_close(c);
}

/* In order up to the first that fails; the reply counts those before it. */
static void stops_at_the_first_error(void **state)
{
    const entry writes[] = {
        LINE_WRITE(1), LINE_WRITE(2), {256, CONFIG, 1, {0}},
          LINE_WRITE(4)
    };
    const entry bad_count[] = {
        LINE_WRITE(7), {0, CONFIG, 9, {0}},
         LINE_WRITE(8)
    };
    struct vfuc *c = harness_client(*state);

    assert_int_equal(vfuc_region_write_multi(c, writes, ARRAY_SIZE(writes)), 2);
    assert_int_equal(interrupt_line(c), 2);
    assert_int_equal(vfuc_region_write_multi(c, bad_count, ARRAY_SIZE(bad_count)), 1);
    assert_int_equal(interrupt_line(c), 7);
    assert_int_equal(vfuc_region_write_multi(c, writes + 2, 2), -EINVAL);
    assert_int_equal(interrupt_line(c), 7);
    vfuc_close(c);
}

/* A write that the bus drops was made all the same. */
static void memory_decode_off(void **state)
{
    const entry writes[] = {
        {EDU_REG_LIVENESS, BAR0, 4, {1, 2, 3, 4}},
        LINE_WRITE(9), {EDU_REG_STATUS,   BAR0, 4, {0}         }
    };
    struct vfuc *c = harness_client(*state);
    const uint16_t off = 0;

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &off, sizeof(off)), 0);
    assert_int_equal(vfuc_region_write_multi(c, writes, ARRAY_SIZE(writes)), ARRAY_SIZE(writes));
    assert_int_equal(interrupt_line(c), 9);
    vfuc_close(c);
}

static void without_reply(void **state)
{
    struct vfuc *c = harness_client(*state);

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct raw_message m = cases[i].msg;

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(vfuc_socket(c), &m, NULL, 0);
    }
    raw_send(vfuc_socket(c),
             MSG(MSG_WRITE_MULTI(1), ENTRIES(LINE_WRITE(0x77)), .flags = VFIO_USER_FLAG_NO_REPLY),
             NULL, 0);
    assert_int_equal(interrupt_line(c), 0x77);
    vfuc_close(c);
}

/* Only for a client to which write_multiple was answered true. */
static void not_negotiated(void **state)
{
    static const char *const proposals[] = {NULL, "{\"capabilities\":{}}",
                                            "{\"capabilities\":{\"write_multiple\":false}}"};

    for (size_t i = 0; i < ARRAY_SIZE(proposals); i++) {
        int sock = raw_connect(*state);
        struct reply r;

        raw_send_version(sock, 0, 1, proposals[i]);
        raw_receive(sock, &r);
        assert_int_equal(r.hdr.error, 0);
        raw_refused(sock, &cases[0].msg, EINVAL);
        raw_assert_in_step(sock);
        fd_close(&sock);
        harness_assert_serves(*state);
    }
}

static const struct CMUnitTest tests[] = {
    harness_test(answers),
    harness_test(as_many_as_allowed),
    harness_test(stops_at_the_first_error),
    harness_test(memory_decode_off),
    harness_test(without_reply),
    harness_test(not_negotiated),
};

HARNESS_MAIN(tests)
