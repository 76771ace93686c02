/* REGION_READ and REGION_WRITE. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    NO_BAR = VFIO_PCI_BAR5_REGION_INDEX, /* the index is there, the region is not */
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    REGIONS = VFIO_PCI_NUM_REGIONS,

    BAR0_SIZE = 1 << 20,
    CONFIG_SIZE = 256,
};

static const uint8_t zeros[LIMIT_DATA_XFER];

#define READ(o, r, c) MSG_REGION_READ(.offset = (o), .region = (r), .count = (c))
#define WRITE(o, r, c)                                                                             \
    MSG_REGION_WRITE(.offset = (o), .region = (r), .count = (c)), .data = zeros, .data_len = (c)

/* While the device's memory decode is off: no access to its BAR does anything. */
static const struct request_case cases[] = {
    CASE("a byte", 0, READ(0, CONFIG, 1)),
    CASE("2 bytes", 0, READ(0, CONFIG, 2)),
    CASE("4 bytes", 0, READ(0, CONFIG, 4)),
    CASE("8 bytes", 0, READ(0, CONFIG, 8)),
    CASE("3 bytes", 0, READ(0, CONFIG, 3)),
    CASE("unaligned", 0, READ(1, CONFIG, 4)),
    CASE("the whole config space", 0, READ(0, CONFIG, CONFIG_SIZE)),
    CASE("the last byte", 0, READ(CONFIG_SIZE - 1, CONFIG, 1)),
    CASE("the last bytes of a BAR", 0, READ(BAR0_SIZE - 8, BAR0, 8)),
    CASE("across the end", EINVAL, READ(CONFIG_SIZE - 1, CONFIG, 2)),
    CASE("at the end", EINVAL, READ(CONFIG_SIZE, CONFIG, 1)),
    CASE("a byte too many", EINVAL, READ(0, CONFIG, CONFIG_SIZE + 1)),
    CASE("across a BAR's end", EINVAL, READ(BAR0_SIZE - 4, BAR0, 8)),
    CASE("past a BAR's end", EINVAL, READ(BAR0_SIZE, BAR0, 4)),
    CASE("far past the end", EINVAL, READ(UINT64_C(1) << 40, BAR0, 4)),
    CASE("the next region's kernel offset", EINVAL, READ(UINT64_C(7) << 40, BAR0, 4)),
    CASE("ends at 2^64", EINVAL, READ(UINT64_MAX - 3, BAR0, 4)),
    CASE("passes 2^64", EINVAL, READ(UINT64_MAX - 3, BAR0, 8)),
    CASE("as a negative number", EINVAL, READ(UINT64_C(1) << 63, BAR0, 4)),
    CASE("nothing", EINVAL, READ(0, CONFIG, 0)),
    CASE("more than a transfer", EINVAL, READ(0, BAR0, LIMIT_DATA_XFER + 1)),
    CASE("2^32 - 1 bytes", EINVAL, READ(0, BAR0, UINT32_MAX)),
    CASE("2^31 bytes", EINVAL, READ(0, BAR0, UINT32_C(1) << 31)),
    CASE("a region of size 0", EINVAL, READ(0, NO_BAR, 1)),
    CASE("region count", EINVAL, READ(0, REGIONS, 4)),
    CASE("region count + 1", EINVAL, READ(0, REGIONS + 1, 4)),
    CASE("region 2^32-1", EINVAL, READ(0, UINT32_MAX, 4)),
    CASE("a read with data", E2BIG, MSG_REGION_READ(.region = CONFIG, .count = 4), .data = zeros,
         .data_len = 4),
    CASE("a read cut off", EINVAL, .command = VFIO_USER_REGION_READ, .payload = zeros, .len = 15),

    CASE("write a byte", 0, WRITE(PCI_INTERRUPT_LINE, CONFIG, 1)),
    CASE("write 2 bytes", 0, WRITE(PCI_COMMAND, CONFIG, 2)),
    CASE("write 4 bytes", 0, WRITE(PCI_COMMAND, CONFIG, 4)),
    CASE("write 8 bytes", 0, WRITE(0, BAR0, 8)),
    CASE("write 3 bytes", 0, WRITE(0, BAR0, 3)),
    CASE("write what is read-only", 0, WRITE(PCI_VENDOR_ID, CONFIG, 4)),
    CASE("write the last byte of a transfer", 0, WRITE(0, BAR0, LIMIT_DATA_XFER)),
    CASE("write across the end", EINVAL, WRITE(CONFIG_SIZE - 1, CONFIG, 2)),
    CASE("write past the end", EINVAL, WRITE(CONFIG_SIZE, CONFIG, 1)),
    CASE("write across a BAR's end", EINVAL, WRITE(BAR0_SIZE - 4, BAR0, 8)),
    CASE("write that passes 2^64", EINVAL, WRITE(UINT64_MAX - 3, BAR0, 8)),
    CASE("write nothing", EINVAL, WRITE(0, CONFIG, 0)),
    CASE("write to a region of size 0", EINVAL, WRITE(0, NO_BAR, 1)),
    CASE("write to region count", EINVAL, WRITE(0, REGIONS, 4)),
    CASE("write to region 2^32-1", EINVAL, WRITE(0, UINT32_MAX, 4)),
    CASE("write, less data than count", EINVAL, MSG_REGION_WRITE(.region = BAR0, .count = 8),
         .data = zeros, .data_len = 4),
    CASE("write, more data than count", EINVAL, MSG_REGION_WRITE(.region = BAR0, .count = 4),
         .data = zeros, .data_len = 8),
    CASE("write, count 2^32 - 1", EINVAL, MSG_REGION_WRITE(.region = BAR0, .count = UINT32_MAX),
         .data = zeros, .data_len = 15),
    CASE("write cut off", EINVAL, .command = VFIO_USER_REGION_WRITE, .payload = zeros, .len = 15),
};

static void answers(void **state)
{
    int sock = raw_session(*state);

    raw_call(sock, MSG(WRITE(PCI_COMMAND, CONFIG, 2)), NULL);
    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    fd_close(&sock);
}

static void descriptors_are_refused(void **state)
{
    const struct request_case with_fd[] = {
        CASE("a read", EINVAL, READ(0, CONFIG, 4)),
        CASE("a write", EINVAL, WRITE(PCI_INTERRUPT_LINE, CONFIG, 1)),
    };
    int sock = raw_session(*state);
    int fd = raw_memfd(PAGE);

    raw_run_cases(sock, with_fd, ARRAY_SIZE(with_fd), &fd, 1);
    fd_close(&fd);
    fd_close(&sock);
}

/* The reply repeats the request, and has the bytes behind it: 32 + count in all. */
static void replies_have_their_form(void **state)
{
    static const uint32_t widths[] = {1, 2, 4, 8, 256};
    static const uint8_t ids[] = {0x34, 0x12, 0xe8, 0x11};
    int sock = raw_session(*state);

    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        const struct vfio_user_region_access asked = {.region = CONFIG, .count = widths[i]};
        struct reply r;

        raw_call(sock, MSG(READ(0, CONFIG, widths[i])), &r);
        assert_int_equal(r.len, sizeof(asked) + widths[i]);
        assert_memory_equal(r.payload, &asked, sizeof(asked));
        assert_memory_equal(r.payload + sizeof(asked), ids, MIN(widths[i], sizeof(ids)));
    }
    for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
        const struct vfio_user_region_access asked = {.region = BAR0, .count = widths[i]};
        struct reply r;

        raw_call(sock, MSG(WRITE(0, BAR0, widths[i])), &r);
        assert_int_equal(r.len, sizeof(asked));
        assert_memory_equal(r.payload, &asked, sizeof(asked));
    }
    fd_close(&sock);
}

static void set_command(struct vfuc *c, uint16_t command)
{
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
}

/* As on a bus: reads give all ones, writes are lost, and neither is an error. */
static void memory_decode_off(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    uint32_t value = 0;

    set_command(c, 0);
    assert_false(harness_device(h).memory_enabled);
    assert_int_equal(edu_read(c, EDU_REG_ID, &value), 0);
    assert_int_equal(value, UINT32_MAX);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0x12345678), 0);

    set_command(c, PCI_COMMAND_MEMORY);
    assert_true(harness_device(h).memory_enabled);
    assert_int_equal(edu_read(c, EDU_REG_ID, &value), 0);
    assert_int_equal(value, 0x010000ed);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_not_equal(value, ~UINT32_C(0x12345678));
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0x12345678), 0);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, ~UINT32_C(0x12345678));

    set_command(c, 0);
    assert_int_equal(edu_read(c, EDU_REG_ID, &value), 0);
    assert_int_equal(value, UINT32_MAX);
    vfuc_close(c);
}

/* max_data_xfer_size at once. The bus access is 8 bytes wide, which not every register likes. */
static void whole_bar(void **state)
{
    struct vfuc *c = harness_client(*state);
    uint8_t *bytes = calloc(1, BAR0_SIZE);
    const uint8_t source[8] = {0x78, 0x56, 0x34};

    assert_non_null(bytes);
    assert_int_equal(vfuc_max_xfer(c), BAR0_SIZE);
    set_command(c, PCI_COMMAND_MEMORY);
    assert_int_equal(edu_write(c, EDU_REG_DMA_SOURCE, 0x345678), 0);
    assert_int_equal(vfuc_region_read(c, BAR0, 0, bytes, BAR0_SIZE), 0);
    assert_memory_equal(bytes + EDU_REG_DMA_SOURCE, source, sizeof(source));
    assert_int_equal(vfuc_region_read(c, BAR0, 0, bytes, BAR0_SIZE + 1), -EINVAL);
    free(bytes);
    vfuc_close(c);
}

/* Whatever comes of it: an answer to one of these would be taken for another's. */
static void writes_without_reply(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    uint8_t line = 0x5a;
    int sock = vfuc_socket(c);
    unsigned refused = 0;

    set_command(c, 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct raw_message m = cases[i].msg;

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(sock, &m, NULL, 0);
        refused += cases[i].err != 0;
    }
    assert_true(refused > 10);
    raw_assert_in_step(sock);

    assert_int_equal(vfuc_region_write_posted(c, CONFIG, PCI_INTERRUPT_LINE, &line, sizeof(line)),
                     0);
    line = 0;
    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_INTERRUPT_LINE, &line, sizeof(line)), 0);
    assert_int_equal(line, 0x5a);
    vfuc_close(c);
}

/* How a driver finds out the size of a BAR, and QEMU that there is no ROM. */
static void bar_sizing(void **state)
{
    struct vfuc *c = harness_client(*state);
    const uint32_t ones = UINT32_MAX;
    uint32_t before, value;

    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_BASE_ADDRESS_0, &before, 4), 0);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_BASE_ADDRESS_0, &ones, 4), 0);
    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_BASE_ADDRESS_0, &value, 4), 0);
    assert_int_equal(value & PCI_BASE_ADDRESS_MEM_MASK, (uint32_t)-BAR0_SIZE);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_BASE_ADDRESS_0, &before, 4), 0);

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_ROM_ADDRESS, &ones, 4), 0);
    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_ROM_ADDRESS, &value, 4), 0);
    assert_int_equal(value, 0);
    vfuc_close(c);
}

static const struct CMUnitTest tests[] = {
    harness_test(answers),
    harness_test(descriptors_are_refused),
    harness_test(replies_have_their_form),
    harness_test(memory_decode_off),
    harness_test(whole_bar),
    harness_test(writes_without_reply),
    harness_test(bar_sizing),
};

HARNESS_MAIN(tests)
