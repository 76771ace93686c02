#include "proto/validate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/limits.h"
#include "tests/unit/payload.h"

static const uint64_t TOP = UINT64_MAX;

static void test_read(void **state)
{
    const struct {
        uint64_t offset;
        uint32_t region, count;
        size_t more;
        int result;
    } cases[] = {
        {0,                         7,          256,                 0, 0      },
        {0,                         0,          1,                   0, 0      },
        {0x30,                      7,          4,                   0, 0      },
        {0,                         UINT32_MAX, 8,                   0, 0      }, /* any region */
        {0,                         0,          LIMIT_DATA_XFER,     0, 0      },
        {0,                         0,          LIMIT_DATA_XFER + 1, 0, -EINVAL},
        {0,                         0,          UINT32_MAX,          0, -EINVAL},
        {0,                         0,          0,                   0, -EINVAL},
        {TOP,                       0,          1,                   0, 0      }, /* ends at 2^64 */
        {TOP,                       0,          2,                   0, -EINVAL},
        {TOP - 7,                   0,          8,                   0, 0      },
        {TOP - 7,                   0,          9,                   0, -EINVAL},
        {TOP - LIMIT_DATA_XFER + 2, 0,          LIMIT_DATA_XFER,     0, -EINVAL},
        {0,                         7,          4,                   4, -EINVAL}, /* data */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_region_access in = {cases[i].offset, cases[i].region,
                                                   cases[i].count};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        struct vfio_user_region_access out;

        assert_int_equal(validate_region_read(p.bytes, p.len, &out), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        payload_free(&p);
    }
}

static void test_write(void **state)
{
    const struct {
        uint64_t offset;
        uint32_t count;
        size_t more;
        int result;
    } cases[] = {
        {0,       1,                   1,                   0      },
        {4,       4,                   4,                   0      },
        {0,       LIMIT_DATA_XFER,     LIMIT_DATA_XFER,     0      },
        {0,       LIMIT_DATA_XFER + 1, LIMIT_DATA_XFER + 1, -EINVAL},
        {0,       0,                   0,                   -EINVAL},
        {0,       0,                   4,                   -EINVAL},
        {0,       4,                   0,                   -EINVAL},
        {0,       4,                   3,                   -EINVAL},
        {0,       4,                   5,                   -EINVAL},
        {0,       UINT32_MAX,          16,                  -EINVAL},
        {TOP,     1,                   1,                   0      },
        {TOP,     2,                   2,                   -EINVAL},
        {TOP - 3, 4,                   4,                   0      },
        {TOP - 3, 5,                   5,                   -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_region_access in = {cases[i].offset, 2, cases[i].count};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        struct vfio_user_region_access out;
        const uint8_t *data = NULL;

        assert_int_equal(validate_region_write(p.bytes, p.len, &out, &data), cases[i].result);
        assert_memory_equal(&out, &in, sizeof(in));
        if (!cases[i].result)
            assert_ptr_equal(data, p.bytes + 16);
        payload_free(&p);
    }
}

enum { ENTRY = sizeof(struct vfio_user_write_multi_entry) };

static void test_write_multi(void **state)
{
    const struct {
        uint64_t wr_cnt;
        size_t more;
        int result;
    } cases[] = {
        {1,                     ENTRY,                                   0      },
        {2,                     2 * ENTRY,                               0      },
        {LIMIT_WRITE_MULTI,     (size_t)LIMIT_WRITE_MULTI * ENTRY,       0      },
        {LIMIT_WRITE_MULTI + 1, (size_t)(LIMIT_WRITE_MULTI + 1) * ENTRY, -EINVAL},
        {0,                     0,                                       -EINVAL},
        {0,                     ENTRY,                                   -EINVAL},
        {1,                     0,                                       -EINVAL},
        {1,                     ENTRY - 1,                               -EINVAL},
        {1,                     ENTRY + 1,                               -EINVAL},
        {2,                     ENTRY,                                   -EINVAL},
        {TOP,                   ENTRY,                                   -EINVAL},
        {TOP / ENTRY + 2,       ENTRY,                                   -EINVAL}, /* wraps */
        {UINT64_C(1) << 32 | 1, ENTRY,                                   -EINVAL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct vfio_user_region_write_multi in = {cases[i].wr_cnt};
        struct payload p = payload_new(&in, sizeof(in), NULL, cases[i].more);
        const uint8_t *entries = NULL;
        uint64_t wr_cnt = 0;

        assert_int_equal(validate_write_multi(p.bytes, p.len, &wr_cnt, &entries), cases[i].result);
        if (!cases[i].result) {
            assert_int_equal(wr_cnt, cases[i].wr_cnt);
            assert_ptr_equal(entries, p.bytes + 8);
        }
        payload_free(&p);
    }
}

static void test_write_multi_entry(void **state)
{
    const struct {
        uint64_t offset;
        uint32_t count;
        int result;
    } cases[] = {
        {0,       1,          0      },
        {0x1000,  4,          0      },
        {0,       8,          0      },
        {0,       0,          -EINVAL},
        {0,       9,          -EINVAL},
        {0,       UINT32_MAX, -EINVAL},
        {TOP,     1,          0      },
        {TOP,     2,          -EINVAL},
        {TOP - 7, 8,          0      },
        {TOP - 6, 8,          -EINVAL},
    };
    struct vfio_user_write_multi_entry in[ARRAY_SIZE(cases)];
    struct payload p;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        memset(&in[i], (int)i, sizeof(in[i]));
        in[i].offset = cases[i].offset;
        in[i].count = cases[i].count;
    }
    p = payload_new(in, sizeof(in), NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vfio_user_write_multi_entry out;

        assert_int_equal(validate_write_multi_entry(p.bytes, i, &out), cases[i].result);
        assert_memory_equal(&out, &in[i], sizeof(out));
    }
    payload_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_write_multi),
        cmocka_unit_test(test_write_multi_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
