#include "proto/validate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/limits.h"
#include "tests/unit/payload.h"

static const uint64_t TOP = UINT64_MAX;

static void test_header(void **state)
{
    struct vfio_user_header hdr = {.msg_id = 0};

    (void)state;
    hdr.msg_size = 0;
    assert_int_equal(validate_header(&hdr, 4096), -EINVAL);
    hdr.msg_size = 15;
    assert_int_equal(validate_header(&hdr, 4096), -EINVAL);
    hdr.msg_size = 16;
    assert_int_equal(validate_header(&hdr, 4096), 0);
    hdr.msg_size = 4096;
    assert_int_equal(validate_header(&hdr, 4096), 0);
    hdr.msg_size = 4097;
    assert_int_equal(validate_header(&hdr, 4096), -EMSGSIZE);
    hdr.msg_size = UINT32_MAX;
    assert_int_equal(validate_header(&hdr, LIMIT_MSG_SIZE), -EMSGSIZE);
}

struct request {
    uint32_t payload;
    uint32_t flags;
    unsigned nfds;
    bool truncated;
};

static int validate(const struct command *cmd, struct request r)
{
    const struct vfio_user_header hdr = {
        .command = cmd->id,
        .msg_size = (uint32_t)sizeof(hdr) + r.payload,
        .flags = r.flags,
    };
    struct fdset fds;

    fdset_init(&fds);
    fds.count = r.nfds; /* only the number is looked at */
    fds.truncated = r.truncated;
    return validate_request(cmd, &hdr, &fds);
}

static void for_each_request(void (*check)(const struct command *cmd))
{
    size_t n;
    const struct command *table = command_table(&n);

    for (size_t i = 0; i < n; i++) {
        if (table[i].direction == COMMAND_TO_SERVER)
            check(&table[i]);
    }
}

static void check_sizes(const struct command *cmd)
{
    assert_int_equal(validate(cmd, (struct request){cmd->min_payload}), 0);
    assert_int_equal(validate(cmd, (struct request){cmd->max_payload}), 0);
    assert_int_equal(validate(cmd, (struct request){cmd->max_payload + 1}), -E2BIG);
    assert_int_equal(validate(cmd, (struct request){UINT32_MAX - 16}), -E2BIG);
    if (cmd->min_payload)
        assert_int_equal(validate(cmd, (struct request){cmd->min_payload - 1}), -EINVAL);
}

static void test_request_sizes(void **state)
{
    (void)state;
    for_each_request(check_sizes);
}

static void check_flags(const struct command *cmd)
{
    for (uint32_t type = 1; type <= VFIO_USER_FLAG_TYPE_MASK; type++)
        assert_int_equal(validate(cmd, (struct request){cmd->min_payload, type}), -EINVAL);
    for (unsigned bit = 5; bit < 32; bit++)
        assert_int_equal(validate(cmd, (struct request){cmd->min_payload, UINT32_C(1) << bit}),
                         -EINVAL);
}

static void test_request_flags(void **state)
{
    (void)state;
    for_each_request(check_flags);
}

static void check_no_reply(const struct command *cmd)
{
    const struct request posted = {cmd->min_payload, VFIO_USER_FLAG_NO_REPLY};

    assert_int_equal(validate(cmd, posted), cmd->no_reply_ok ? 0 : -EINVAL);
}

static void test_request_no_reply(void **state)
{
    (void)state;
    for_each_request(check_no_reply);
}

static void check_fds(const struct command *cmd)
{
    const struct request most = {cmd->min_payload, 0, cmd->max_fds};
    const struct request over = {cmd->min_payload, 0, cmd->max_fds + 1};
    const struct request lost = {cmd->min_payload, 0, 0, true};

    assert_int_equal(validate(cmd, (struct request){cmd->min_payload}), 0);
    assert_int_equal(validate(cmd, most), 0);
    assert_int_equal(validate(cmd, over), cmd->spare_fds_ok ? 0 : -EINVAL);
    assert_int_equal(validate(cmd, lost), cmd->spare_fds_ok ? 0 : -EMFILE);
}

static void test_request_fds(void **state)
{
    (void)state;
    for_each_request(check_fds);
}

static void test_requests_of_the_other_direction(void **state)
{
    const struct command *read = command_find(VFIO_USER_DMA_READ);
    const struct command *write = command_find(VFIO_USER_DMA_WRITE);

    (void)state;
    assert_int_equal(validate(read, (struct request){read->min_payload}), -EINVAL);
    assert_int_equal(validate(write, (struct request){write->max_payload}), -EINVAL);
}

/* What stands in reserved fields and in the id does not matter: SPDK's ids are all 0. */
static void test_request_ignores(void **state)
{
    const struct vfio_user_header hdr = {
        .msg_id = 0, .command = VFIO_USER_DEVICE_RESET, .msg_size = 16, .error = UINT32_MAX};
    struct fdset fds;

    (void)state;
    fdset_init(&fds);
    assert_int_equal(validate_request(command_find(VFIO_USER_DEVICE_RESET), &hdr, &fds), 0);
}

/* What known clients send that a strict reading would refuse. */
static void test_request_tolerances(void **state)
{
    const struct {
        uint16_t command;
        uint32_t payload;
        unsigned nfds;
    } cases[] = {
        {VFIO_USER_VERSION,                4,           0 }, /* SPDK: no JSON */
        {VFIO_USER_VERSION,                198,         0 }, /* QEMU */
        {VFIO_USER_DEVICE_GET_INFO,        20,          0 }, /* rust-vmm: with cap_offset */
        {VFIO_USER_DEVICE_GET_REGION_INFO, 4064,        0 }, /* SPDK: its whole buffer */
        {VFIO_USER_DMA_UNMAP,              24,          1 }, /* SPDK: the descriptor of the map */
        {VFIO_USER_DEVICE_SET_IRQS,        20,          16}, /* rust-vmm: always 16 */
        {VFIO_USER_DEVICE_SET_IRQS,        20 + 4 * 32, 31}, /* Alioth: index array */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct request r = {cases[i].payload, 0, cases[i].nfds};

        assert_int_equal(validate(command_find(cases[i].command), r), 0);
    }
}

static void test_dma_map(void **state)
{
    const struct {
        uint32_t flags;
        uint64_t offset, address, size;
        int result;
    } cases[] = {
        {1,          0,           0xfffc0000,     0x40000, 0      }, /* QEMU's BIOS */
        {2,          0,           0,              1,       0      },
        {3,          0,           0x200000000000, 0x1000,  0      },
        {0,          0,           0,              0x1000,  -EINVAL},
        {4,          0,           0,              0x1000,  -EINVAL},
        {7,          0,           0,              0x1000,  -EINVAL},
        {0x80000003, 0,           0,              0x1000,  -EINVAL},
        {3,          0,           0,              0,       -EINVAL},
        {3,          TOP,         TOP,            0,       -EINVAL},
        {3,          0,           0,              TOP,     0      },
        {3,          0,           1,              TOP,     0      }, /* ends at 2^64 */
        {3,          0,           2,              TOP,     -EINVAL},
        {3,          0,           TOP,            1,       0      },
        {3,          0,           TOP,            2,       -EINVAL},
        {3,          0,           TOP - 0xfff,    0x1000,  0      },
        {3,          0,           TOP - 0xfff,    0x1001,  -EINVAL},
        {3,          1,           0,              TOP,     0      },
        {3,          2,           0,              TOP,     -EINVAL},
        {3,          TOP - 0xfff, 0,              0x1000,  0      },
        {3,          TOP - 0xfff, 0,              0x2000,  -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_dma_map in = {32, cases[i].flags, cases[i].offset, cases[i].address,
                                             cases[i].size};
        struct payload p = payload_new(&in, sizeof(in), NULL, 0);
        struct vfio_user_dma_map out;

        assert_int_equal(validate_dma_map(p.bytes, p.len, &out), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        payload_free(&p);
    }
}

static void test_dma_unmap(void **state)
{
    const struct {
        uint32_t flags;
        uint64_t address, size;
        size_t more;
        int result;
    } cases[] = {
        {0,          0x1000,      0x1000, 0,  0      },
        {0,          0x1000,      0x1000, 16, 0      },
        {0,          0,           1,      0,  0      },
        {0,          0,           0,      0,  -EINVAL},
        {0,          1,           TOP,    0,  0      },
        {0,          2,           TOP,    0,  -EINVAL},
        {0,          TOP - 0xfff, 0x1000, 0,  0      },
        {0,          TOP - 0xfff, 0x1001, 0,  -EINVAL},
        {2,          0,           0,      0,  0      }, /* QEMU's "all" */
        {2,          0x1234,      TOP,    0,  0      },
        {2,          TOP,         0,      0,  0      },
        {1,          0x1000,      0x1000, 0,  0      },
        {1,          0x1000,      0x1000, 16, 0      },
        {1,          0x1000,      0,      16, -EINVAL},
        {3,          0,           0,      0,  -EINVAL},
        {4,          0x1000,      0x1000, 0,  -EINVAL},
        {6,          0,           0,      0,  -EINVAL},
        {0x80000000, 0x1000,      0x1000, 0,  -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_dma_unmap in = {24, cases[i].flags, cases[i].address, cases[i].size};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        struct vfio_user_dma_unmap out;

        assert_int_equal(validate_dma_unmap(p.bytes, p.len, &out), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        payload_free(&p);
    }
}

static void test_dma_unmap_bitmap(void **state)
{
    static const struct {
        uint64_t size;
        struct vfio_user_bitmap bitmap;
        uint32_t argsz;
        size_t more;
        int result;
    } cases[] = {
        {0x1000,       {4096, 8},                     48,                      16, 0      },
        {0x40000,      {4096, 8},                     48,                      16, 0      },
        {0x40000,      {4096, 100},                   140,                     16, 0      },
        {0x41000,      {4096, 8},                     UINT32_MAX,              16, -EINVAL},
        {0x41000,      {4096, 16},                    56,                      16, 0      },
        {0x41000,      {8192, 8},                     48,                      16, 0      },
        {1,            {UINT64_C(1) << 63, 8},        48,                      16, 0      },
        {0x1000,       {4096, 8},                     47,                      16, -EINVAL},
        {0x1000,       {4096, 7},                     48,                      16, -EINVAL},
        {0x1000,       {4096, 0},                     48,                      16, -EINVAL},
        {0x1000,       {4096, 8},                     48,                      15, -EINVAL},
        {0x1000,       {4096, 8},                     48,                      0,  -EINVAL},
        {0x1000,       {0, 8},                        48,                      16, -EINVAL},
        {0x1000,       {2048, 8},                     48,                      16, -EINVAL},
        {0x1000,       {4097, 8},                     48,                      16, -EINVAL},
        {0x1000,       {4096, LIMIT_BITMAP_SIZE},     LIMIT_BITMAP_SIZE + 40u, 16, 0      },
        {0x1000,       {4096, LIMIT_BITMAP_SIZE + 1}, UINT32_MAX,              16, -E2BIG },
        {0x1000,       {4096, TOP},                   UINT32_MAX,              16, -E2BIG },
        {0x1000000000, {4096, 8},                     UINT32_MAX,              16, -E2BIG },
        {TOP,          {4096, 8},                     UINT32_MAX,              16, -E2BIG },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_dma_unmap in = {cases[i].argsz, 1, 0, cases[i].size};
        struct payload p = payload_new(&in, sizeof(in), &cases[i].bitmap, cases[i].more);
        struct vfio_user_bitmap out;

        assert_int_equal(validate_dma_unmap_bitmap(p.bytes, p.len, &in, &out), cases[i].result);
        payload_free(&p);
    }
}

#define check_info(type, argsz_, more, result)                                                     \
    do {                                                                                           \
        struct vfio_user_##type in_, out_;                                                         \
        struct payload p_;                                                                         \
                                                                                                   \
        memset(&in_, 0xff, sizeof(in_)); /* what is to be 0 is ignored */                          \
        in_.argsz = (argsz_);                                                                      \
        p_ = payload_new(&in_, sizeof(in_), NULL, more);                                           \
        assert_int_equal(validate_##type(p_.bytes, p_.len, &out_), result);                        \
        assert_memory_equal(&out_, &in_, sizeof(in_));                                             \
        payload_free(&p_);                                                                         \
    } while (0)

static void test_device_info(void **state)
{
    (void)state;
    check_info(device_info, 0, 0, -EINVAL);
    check_info(device_info, 15, 0, -EINVAL);
    check_info(device_info, 16, 0, 0);
    check_info(device_info, 32, 0, 0); /* rust-vmm counts the header */
    check_info(device_info, 36, 4, 0);
    check_info(device_info, UINT32_MAX, 0, 0);
}

static void test_region_info(void **state)
{
    (void)state;
    check_info(region_info, 0, 0, -EINVAL);
    check_info(region_info, 31, 0, -EINVAL);
    check_info(region_info, 32, 0, 0);
    check_info(region_info, 4064, 4032, 0); /* SPDK */
    check_info(region_info, UINT32_MAX, 0, 0);
}

static void test_region_io_fds(void **state)
{
    (void)state;
    check_info(region_io_fds, 0, 0, -EINVAL);
    check_info(region_io_fds, 15, 0, -EINVAL);
    check_info(region_io_fds, 16, 0, 0);
    check_info(region_io_fds, 16 + 32 * 48, 0, 0); /* Alioth */
    check_info(region_io_fds, UINT32_MAX, 16, 0);
}

static void test_irq_info(void **state)
{
    (void)state;
    check_info(irq_info, 0, 0, -EINVAL);
    check_info(irq_info, 15, 0, -EINVAL);
    check_info(irq_info, 16, 0, 0);
    check_info(irq_info, 32, 16, 0);
    check_info(irq_info, UINT32_MAX, 0, 0);
}

static void test_device_feature(void **state)
{
    const uint32_t get = VFIO_USER_DEVICE_FEATURE_GET, set = VFIO_USER_DEVICE_FEATURE_SET,
                   probe = VFIO_USER_DEVICE_FEATURE_PROBE;
    const struct {
        uint32_t argsz, flags;
        size_t more;
        int result;
    } cases[] = {
        {8,          probe | VFIO_USER_FEATURE_MIGRATION,                    0,  0      },
        {8,          probe | get | VFIO_USER_FEATURE_MIG_DEVICE_STATE,       0,  0      },
        {8,          probe | get | set | VFIO_USER_FEATURE_MIG_DEVICE_STATE, 0,  0      },
        {16,         get | VFIO_USER_FEATURE_MIGRATION,                      0,  0      },
        {16,         set | VFIO_USER_FEATURE_MIG_DEVICE_STATE,               8,  0      },
        {8,          get | 0xffff,                                           0,  0      },
        {8,          VFIO_USER_FEATURE_MIGRATION,                            0,  -EINVAL},
        {8,          0,                                                      0,  -EINVAL},
        {16,         get | set | VFIO_USER_FEATURE_MIG_DEVICE_STATE,         0,  -EINVAL},
        {8,          probe | 1 << 19,                                        0,  -EINVAL},
        {8,          get | UINT32_C(1) << 31,                                0,  -EINVAL},
        {7,          get | VFIO_USER_FEATURE_MIGRATION,                      0,  -EINVAL},
        {0,          probe | VFIO_USER_FEATURE_MIGRATION,                    0,  -EINVAL},
        {UINT32_MAX, get | VFIO_USER_FEATURE_DMA_LOGGING_REPORT,             24, 0      },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_device_feature in = {cases[i].argsz, cases[i].flags};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        struct vfio_user_device_feature out;

        assert_int_equal(validate_device_feature(p.bytes, p.len, &out), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        payload_free(&p);
    }
}

static void test_mig_data_read(void **state)
{
    const struct {
        uint32_t argsz, size;
        int result;
    } cases[] = {
        {8,                   0,                   0      },
        {8 + 4096,            4096,                0      },
        {8 + LIMIT_DATA_XFER, LIMIT_DATA_XFER,     0      },
        {7 + LIMIT_DATA_XFER, LIMIT_DATA_XFER,     -EINVAL},
        {8,                   1,                   -EINVAL},
        {UINT32_MAX,          LIMIT_DATA_XFER + 1, -EINVAL},
        {UINT32_MAX,          UINT32_MAX,          -EINVAL},
        {7,                   0,                   -EINVAL},
        {0,                   16,                  -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_mig_data in = {cases[i].argsz, cases[i].size};
        struct payload p = payload_new(&in, sizeof(in), NULL, 0);
        struct vfio_user_mig_data out;

        assert_int_equal(validate_mig_data_read(p.bytes, p.len, &out), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        payload_free(&p);
    }
}

static void test_mig_data_write(void **state)
{
    const struct {
        uint32_t argsz, size;
        size_t more;
        int result;
    } cases[] = {
        {8,                   0,                   0,                   0      },
        {8,                   5,                   5,                   0      },
        {8 + LIMIT_DATA_XFER, LIMIT_DATA_XFER,     LIMIT_DATA_XFER,     0      },
        {8,                   LIMIT_DATA_XFER + 1, LIMIT_DATA_XFER + 1, -EINVAL},
        {8,                   5,                   4,                   -EINVAL},
        {8,                   5,                   6,                   -EINVAL},
        {8,                   5,                   0,                   -EINVAL},
        {8,                   0,                   1,                   -EINVAL},
        {8,                   UINT32_MAX,          8,                   -EINVAL},
        {7,                   5,                   5,                   -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_mig_data in = {cases[i].argsz, cases[i].size};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        struct vfio_user_mig_data out;
        const uint8_t *data = NULL;

        assert_int_equal(validate_mig_data_write(p.bytes, p.len, &out, &data), cases[i].result);
        if (!cases[i].result)
            assert_ptr_equal(data, p.bytes + 8);
        payload_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_request_sizes),
        cmocka_unit_test(test_request_flags),
        cmocka_unit_test(test_request_no_reply),
        cmocka_unit_test(test_request_fds),
        cmocka_unit_test(test_requests_of_the_other_direction),
        cmocka_unit_test(test_request_ignores),
        cmocka_unit_test(test_request_tolerances),
        cmocka_unit_test(test_dma_map),
        cmocka_unit_test(test_dma_unmap),
        cmocka_unit_test(test_dma_unmap_bitmap),
        cmocka_unit_test(test_device_info),
        cmocka_unit_test(test_region_info),
        cmocka_unit_test(test_region_io_fds),
        cmocka_unit_test(test_irq_info),
        cmocka_unit_test(test_device_feature),
        cmocka_unit_test(test_mig_data_read),
        cmocka_unit_test(test_mig_data_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
