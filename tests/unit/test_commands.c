#include "proto/commands.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/limits.h"
#include "proto/wire.h"
#include "proto/wire_extension.h"

#define S     COMMAND_TO_SERVER
#define C     COMMAND_TO_CLIENT
#define FIRST COMMAND_BEFORE_VERSION
#define LATER COMMAND_IN_SESSION

/* The whole table again, in plain numbers. */
static const struct command expected[] = {
    {"VERSION",                  1,      S, FIRST, 4,  4100,    0,   false, false, false},
    {"DMA_MAP",                  2,      S, LATER, 32, 32,      1,   false, true,  false},
    {"DMA_UNMAP",                3,      S, LATER, 24, 40,      0,   true,  true,  false},
    {"DEVICE_GET_INFO",          4,      S, LATER, 16, 65536,   0,   false, false, false},
    {"DEVICE_GET_REGION_INFO",   5,      S, LATER, 32, 65536,   0,   false, false, false},
    {"DEVICE_GET_REGION_IO_FDS", 6,      S, LATER, 16, 65536,   0,   false, false, false},
    {"DEVICE_GET_IRQ_INFO",      7,      S, LATER, 16, 65536,   0,   false, false, false},
    {"DEVICE_SET_IRQS",          8,      S, LATER, 20, 8212,    253, false, true,  false},
    {"REGION_READ",              9,      S, LATER, 16, 16,      0,   false, false, false},
    {"REGION_WRITE",             10,     S, LATER, 16, 1048592, 0,   false, true,  false},
    {"DMA_READ",                 11,     C, LATER, 16, 16,      0,   false, false, false},
    {"DMA_WRITE",                12,     C, LATER, 16, 1048592, 0,   false, true,  false},
    {"DEVICE_RESET",             13,     S, LATER, 0,  0,       0,   false, true,  false},
    {"REGION_WRITE_MULTI",       15,     S, LATER, 8,  24584,   0,   false, true,  false},
    {"DEVICE_FEATURE",           16,     S, LATER, 8,  65560,   1,   false, false, false},
    {"MIG_DATA_READ",            17,     S, LATER, 8,  8,       0,   false, false, false},
    {"MIG_DATA_WRITE",           18,     S, LATER, 8,  1048584, 0,   false, true,  false},
    {"DEVICE_INFO",              0x4000, S, LATER, 24, 24,      0,   false, false, true },
    {"IOMMU_INFO",               0x4001, S, LATER, 24, 24,      0,   false, false, true },
    {"PRECOPY_INFO",             0x4002, S, LATER, 24, 24,      0,   false, false, true },
    {"QUERY_GFX_PLANE",          0x4003, S, LATER, 64, 64,      0,   false, false, true },
    {"GET_GFX_DMABUF",           0x4004, S, LATER, 16, 16,      0,   false, false, true },
    {"EEH_OP",                   0x4005, S, LATER, 16, 16,      0,   false, false, true },
    {"HOT_RESET_INFO",           0x4006, S, LATER, 16, 16,      0,   false, false, true },
    {"HOT_RESET",                0x4007, S, LATER, 8,  8,       0,   false, true,  true },
};

static void test_every_row(void **state)
{
    size_t n;
    const struct command *table = command_table(&n);

    (void)state;
    assert_int_equal(n, ARRAY_SIZE(expected));
    for (size_t i = 0; i < n; i++) {
        const struct command *e = &expected[i], *got = command_find(e->id);

        assert_ptr_equal(got, &table[i]);
        assert_string_equal(got->name, e->name);
        assert_string_equal(command_name(e->id), e->name);
        assert_int_equal(got->id, e->id);
        assert_int_equal(got->direction, e->direction);
        assert_int_equal(got->state, e->state);
        assert_int_equal(got->min_payload, e->min_payload);
        assert_int_equal(got->max_payload, e->max_payload);
        assert_int_equal(got->max_fds, e->max_fds);
        assert_int_equal(got->spare_fds_ok, e->spare_fds_ok);
        assert_int_equal(got->no_reply_ok, e->no_reply_ok);
        assert_int_equal(got->extension, e->extension);
    }
}

static void test_every_other_id_is_unknown(void **state)
{
    unsigned known = 0;

    (void)state;
    for (unsigned id = 0; id <= UINT16_MAX; id++)
        known += command_find((uint16_t)id) != NULL;
    assert_int_equal(known, ARRAY_SIZE(expected));
    assert_null(command_find(0));
    assert_null(command_find(14));
    assert_null(command_find(19));
    assert_null(command_find(UINT16_MAX));
    assert_string_equal(command_name(14), "unknown command");
}

static void test_rows_are_sane(void **state)
{
    size_t n;
    const struct command *table = command_table(&n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        assert_true(table[i].min_payload <= table[i].max_payload);
        assert_true(table[i].max_payload <= LIMIT_MSG_SIZE - sizeof(struct vfio_user_header));
        assert_true(table[i].max_fds <= LIMIT_RECV_FDS);
        /* descriptors that may be lost unnoticed must not mean anything */
        assert_true(!table[i].spare_fds_ok || !table[i].max_fds);
        assert_true(i == 0 || table[i - 1].id < table[i].id);
        assert_true(table[i].extension == (table[i].id >= VFIO_USERD_BASE));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_every_other_id_is_unknown),
        cmocka_unit_test(test_rows_are_sane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
