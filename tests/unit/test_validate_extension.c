#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/validate.h"
#include "tests/unit/payload.h"

static int validate(uint32_t argsz, uint32_t flags, uint32_t known)
{
    const struct vfio_userd_eeh_op sent = {argsz, flags, 4, 0x1234};
    struct payload p = payload_new(&sent, sizeof(sent), NULL, 0);
    struct vfio_userd_eeh_op got = {0};
    int ret = validate_extension(VFIO_USERD_EEH_OP, p.bytes, p.len, known, &got, sizeof(got));

    if (!ret)
        assert_memory_equal(&got, &sent, sizeof(sent));
    payload_free(&p);
    return ret;
}

static void test_argsz(void **state)
{
    (void)state;
    assert_int_equal(validate(16, 0, 0), 0);
    assert_int_equal(validate(UINT32_MAX, 0, 0), 0);
    assert_int_equal(validate(15, 0, 0), -EINVAL);
    assert_int_equal(validate(0, 0, 0), -EINVAL);
}

static void test_flags(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 32; bit++) {
        const uint32_t flag = 1u << bit;

        assert_int_equal(validate(16, flag, 0), -EINVAL);
        assert_int_equal(validate(16, flag, ~flag), -EINVAL);
        assert_int_equal(validate(16, flag, flag), 0);
    }
    assert_int_equal(validate(16, UINT32_MAX, UINT32_MAX), 0);
}

static void test_short(void **state)
{
    const struct vfio_userd_eeh_op sent = {.argsz = 16};
    struct vfio_userd_eeh_op got;

    (void)state;
    for (size_t len = 0; len < sizeof(sent); len++) {
        struct payload p = payload_new(&sent, len, NULL, 0);

        assert_int_equal(
            validate_extension(VFIO_USERD_EEH_OP, p.bytes, p.len, 0, &got, sizeof(got)), -EINVAL);
        payload_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argsz),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
