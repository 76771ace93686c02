#include "tests/unit/sim_fixture.h"

#include "proto/base/arith.h"

enum {
    PAGE = 4096,
    WORD = 64 * PAGE,
    BASE = 0x1000000,
};

static int feature(struct fixture *fx, uint32_t flags, void *data, size_t size)
{
    struct vfio_device_feature *request = calloc(1, sizeof(*request) + size);
    int ret;

    request->argsz = (uint32_t)(sizeof(*request) + size);
    request->flags = flags;
    if (size)
        memcpy(request->data, data, size);
    ret = fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, request);
    if (size)
        memcpy(data, request->data, size);
    free(request);
    return ret;
}

static int start_n(struct fixture *fx, const struct vfio_device_feature_dma_logging_range *ranges,
                   uint32_t n, uint64_t *page_size)
{
    struct vfio_device_feature_dma_logging_control control = {
        .page_size = *page_size,
        .num_ranges = n,
        .ranges = (uintptr_t)ranges,
    };
    int ret = feature(fx, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control,
                      sizeof(control));

    *page_size = control.page_size;
    return ret;
}

static int start(struct fixture *fx, uint64_t iova, uint64_t length, uint64_t *page_size)
{
    const struct vfio_device_feature_dma_logging_range range = {.iova = iova, .length = length};

    return start_n(fx, &range, 1, page_size);
}

static int stop(struct fixture *fx)
{
    return feature(fx, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

static int report(struct fixture *fx, uint64_t iova, uint64_t length, uint64_t page_size,
                  uint64_t *bitmap)
{
    struct vfio_device_feature_dma_logging_report args = {
        .iova = iova,
        .length = length,
        .page_size = page_size,
        .bitmap = (uintptr_t)bitmap,
    };

    return feature(fx, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &args,
                   sizeof(args));
}

/* The first word of a report that must work. */
static uint64_t report_word(struct fixture *fx, uint64_t iova, uint64_t length, uint64_t page_size)
{
    uint64_t bitmap[16] = {0};

    assert_int_equal(report(fx, iova, length, page_size, bitmap), 0);
    return bitmap[0];
}

static void touch(struct fixture *fx, uint64_t iova, size_t len)
{
    char bytes[2 * PAGE] = "";

    fx_dma(fx, iova, bytes, len, true);
}

/* Writes alone are in it, with all pages that they touch, and a report takes them out. */
static void test_pages(void **state)
{
    struct fixture *fx = *state;
    uint64_t size = PAGE;
    char bytes[16];

    touch(fx, BASE, 1); /* before the start */
    assert_int_equal(start(fx, BASE, 4 * WORD, &size), 0);
    assert_int_equal(size, PAGE);
    assert_true(fx_state(fx).logging);
    assert_int_equal(report_word(fx, BASE, WORD, PAGE), 0);
    touch(fx, BASE + 3 * PAGE, 1);
    touch(fx, BASE + 6 * PAGE - 1, 2);
    fx_dma(fx, BASE + 9 * PAGE, bytes, sizeof(bytes), false);
    touch(fx, BASE + WORD, 1);
    touch(fx, BASE - 1, 1);
    assert_int_equal(report_word(fx, BASE, WORD, PAGE), 0x68);
    assert_int_equal(report_word(fx, BASE, WORD, PAGE), 0);
    assert_int_equal(report_word(fx, BASE + WORD, WORD, PAGE), 1);
    assert_int_equal(stop(fx), 0);
    assert_false(fx_state(fx).logging);
}

/* Bits are set and none is cleared. */
static void test_bitmap_is_added_to(void **state)
{
    struct fixture *fx = *state;
    uint64_t size = PAGE, bitmap[1] = {UINT64_C(1) << 63 | 2};

    assert_int_equal(start(fx, BASE, WORD, &size), 0);
    touch(fx, BASE, 1);
    assert_int_equal(report(fx, BASE, WORD, PAGE, bitmap), 0);
    assert_true(bitmap[0] == (UINT64_C(1) << 63 | 3));
}

static void test_page_sizes(void **state)
{
    struct fixture *fx = *state;
    uint64_t size = PAGE, bitmap[64] = {0};

    assert_int_equal(sim_set_dma_log(fx->sim, fx->bdf, true, 16 * PAGE), 0);
    assert_int_equal(start(fx, BASE, 16 * WORD, &size), 0);
    assert_int_equal(size, 16 * PAGE);
    touch(fx, BASE + 17 * PAGE, 1);
    assert_int_equal(report(fx, BASE, 16 * WORD, PAGE, bitmap), 0);
    assert_true(bitmap[0] == UINT64_C(0xffff0000));
    touch(fx, BASE + 17 * PAGE, 1);
    assert_int_equal(report_word(fx, BASE, 16 * WORD, 64 * PAGE), 1);
    assert_int_equal(sim_set_dma_log(fx->sim, fx->bdf, true, 0), -EBUSY);
    assert_int_equal(stop(fx), 0);
    assert_int_equal(sim_set_dma_log(fx->sim, fx->bdf, true, 0), 0);
    size = 1 << 20;
    assert_int_equal(start(fx, 0, 1 << 30, &size), 0);
    assert_int_equal(size, 1 << 20);
}

static void test_start_errors(void **state)
{
    struct vfio_device_feature_dma_logging_range ranges[257];
    struct fixture *fx = *state;
    uint64_t size = PAGE;

    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++)
        ranges[i] = (struct vfio_device_feature_dma_logging_range){
            .iova = (uint64_t)i * 2 * PAGE,
            .length = PAGE,
        };
    assert_int_equal(start_n(fx, ranges, 0, &size), -EINVAL);
    assert_int_equal(start_n(fx, ranges, 257, &size), -E2BIG);
    assert_int_equal(start_n(fx, NULL, 1, &size), -EFAULT);
    ranges[1].iova = 0;
    assert_int_equal(start_n(fx, ranges, 2, &size), -EINVAL);
    ranges[1].iova = 512;
    assert_int_equal(start_n(fx, ranges, 2, &size), -EINVAL);
    ranges[1].iova = UINT64_MAX - PAGE + 1;
    assert_int_equal(start_n(fx, ranges, 2, &size), -EOVERFLOW);
    ranges[1].iova = 2 * PAGE;
    assert_int_equal(start_n(fx, ranges, 256, &size), 0);
    assert_int_equal(start_n(fx, ranges, 256, &size), -EINVAL); /* it is on */
    assert_int_equal(stop(fx), 0);
    assert_int_equal(stop(fx), 0);
    assert_int_equal(start_n(fx, ranges, 256, &size), 0);
}

static void test_report_errors(void **state)
{
    static const struct {
        uint64_t iova, length, page_size;
        int err;
    } cases[] = {
        {BASE,        WORD,       512,  -EINVAL   },
        {BASE,        WORD,       6000, -EINVAL   },
        {BASE,        0,          PAGE, -EINVAL   },
        {BASE,        UINT64_MAX, PAGE, -EOVERFLOW},
        {BASE + PAGE, WORD,       PAGE, -EINVAL   },
        {BASE,        PAGE,       PAGE, -EINVAL   },
        {BASE - WORD, 2 * WORD,   PAGE, -EINVAL   },
        {BASE + WORD, 2 * WORD,   PAGE, -EINVAL   },
        {BASE + WORD, 5 * PAGE,   PAGE, 0         },
        {BASE,        WORD,       PAGE, 0         },
    };
    struct fixture *fx = *state;
    uint64_t size = PAGE, bitmap[16] = {0};

    assert_int_equal(report(fx, BASE, WORD, PAGE, bitmap), -EINVAL);
    assert_int_equal(start(fx, BASE, WORD + 5 * PAGE, &size), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(report(fx, cases[i].iova, cases[i].length, cases[i].page_size, bitmap),
                         cases[i].err);
}

static void test_no_log(void **state)
{
    struct fixture *fx = *state;
    uint64_t size = PAGE, bitmap[1];

    assert_int_equal(sim_set_dma_log(fx->sim, fx->bdf, false, 0), 0);
    assert_int_equal(start(fx, 0, PAGE, &size), -ENOTTY);
    assert_int_equal(stop(fx), -ENOTTY);
    assert_int_equal(report(fx, 0, PAGE, PAGE, bitmap), -ENOTTY);
    for (uint32_t f = 6; f <= 8; f++)
        assert_int_equal(feature(fx, VFIO_DEVICE_FEATURE_PROBE | f, NULL, 0), -ENOTTY);
}

static void test_requests(void **state)
{
    const uint32_t probe = VFIO_DEVICE_FEATURE_PROBE, get = VFIO_DEVICE_FEATURE_GET,
                   set = VFIO_DEVICE_FEATURE_SET;
    struct fixture *fx = *state;
    char data[32] = "";

    assert_int_equal(feature(fx, probe | set | 6, NULL, 0), 0);
    assert_int_equal(feature(fx, probe | set | 7, NULL, 0), 0);
    assert_int_equal(feature(fx, probe | get | 8, NULL, 0), 0);
    assert_int_equal(feature(fx, probe | get | 6, NULL, 0), -EINVAL);
    assert_int_equal(feature(fx, probe | set | 8, NULL, 0), -EINVAL);
    assert_int_equal(feature(fx, set | 6, data, 23), -EINVAL);
    assert_int_equal(feature(fx, get | 8, data, 31), -EINVAL);
}

static void test_close_ends_it(void **state)
{
    struct fixture *fx = *state;
    uint64_t size = PAGE;

    assert_int_equal(start(fx, BASE, WORD, &size), 0);
    touch(fx, BASE, 1);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(report_word(fx, BASE, WORD, PAGE), 1);
    host_close(fx->host, &fx->device);
    assert_false(fx_state(fx).logging);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_int_equal(start(fx, BASE, WORD, &size), 0);
    assert_int_equal(report_word(fx, BASE, WORD, PAGE), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fx_setup_open, fx_teardown)

static const struct CMUnitTest tests[] = {
    TEST(test_pages),        TEST(test_bitmap_is_added_to), TEST(test_page_sizes),
    TEST(test_start_errors), TEST(test_report_errors),      TEST(test_no_log),
    TEST(test_requests),     TEST(test_close_ends_it),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
