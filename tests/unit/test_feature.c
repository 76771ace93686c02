#include "bridge/feature.h"

#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"

enum {
    NUMBER = 9,
};

static struct fake_machine m;

struct request {
    struct vfio_device_feature head;
    uint32_t data[3];
};

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

static void expect_feature(const struct request *in, size_t len, const struct request *out, int ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = in, .in_len = len, .out = out, .out_len = out ? len : 0, .ret = ret);
}

/* No data goes with a probe, and argsz says so. */
static void test_probe(void **state)
{
    static const int answers[] = {0, -ENOTTY, -EOPNOTSUPP, -EINVAL};
    static const uint32_t ops[] = {VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET,
                                   VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET, 0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        struct request request = {
            .head = {.argsz = 8, .flags = VFIO_DEVICE_FEATURE_PROBE | ops[i] | NUMBER},
        };

        expect_feature(&request, sizeof(request.head), NULL, answers[i]);
        assert_int_equal(feature_probe(m.dev, NUMBER, ops[i]), answers[i]);
    }
}

/* The caller's data go in, the kernel's come out, and so does its return value. */
static void test_get_and_set(void **state)
{
    struct request in = {
        .head = {.argsz = 20, .flags = VFIO_DEVICE_FEATURE_GET | NUMBER},
        .data = { 1,          2,                                         3},
    };
    struct request out = {
        .head = in.head, .data = {4, 5, 6}
    };
    uint32_t data[3] = {1, 2, 3};

    (void)state;
    expect_feature(&in, sizeof(in), &out, 0);
    assert_int_equal(feature_get(m.dev, NUMBER, data, sizeof(data)), 0);
    assert_memory_equal(data, out.data, sizeof(data));

    in.head.flags = out.head.flags = VFIO_DEVICE_FEATURE_SET | NUMBER;
    memcpy(data, in.data, sizeof(data));
    expect_feature(&in, sizeof(in), &out, 77);
    assert_int_equal(feature_set(m.dev, NUMBER, data, sizeof(data)), 77);
    assert_memory_equal(data, out.data, sizeof(data));

    in.head.argsz = 8;
    expect_feature(&in, sizeof(in.head), NULL, 0);
    assert_int_equal(feature_set(m.dev, NUMBER, NULL, 0), 0);
}

/* What the kernel refuses leaves the data alone. */
static void test_refused(void **state)
{
    struct request in = {
        .head = {.argsz = 20, .flags = VFIO_DEVICE_FEATURE_GET | NUMBER},
        .data = { 1,          2,                                         3},
    };
    struct request out = {
        .head = in.head, .data = {4, 5, 6}
    };
    uint32_t data[3] = {1, 2, 3};

    (void)state;
    expect_feature(&in, sizeof(in), &out, -ENOTTY);
    assert_int_equal(feature_get(m.dev, NUMBER, data, sizeof(data)), -ENOTTY);
    assert_memory_equal(data, in.data, sizeof(data));
}

/* Nothing is asked of a device that could not be opened again. */
static void test_not_open(void **state)
{
    uint32_t data = 0;

    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EBUSY);
    assert_int_equal(device_reopen(m.dev), -EBUSY);
    assert_int_equal(feature_probe(m.dev, NUMBER, 0), -ENODEV);
    assert_int_equal(feature_get(m.dev, NUMBER, &data, sizeof(data)), -ENODEV);
    assert_int_equal(feature_set(m.dev, NUMBER, &data, sizeof(data)), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_probe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_get_and_set, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_open, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
