/* The extension's calls of the client library, of a server that answers well, and of one that does
 * not. */
#include <errno.h>
#include <linux/vfio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/fake_server.h"

static const char extended[] = "{\"capabilities\":{\"vfio_userd\":{\"extensions\":1}}}";

/* What the server answers to each request: len bytes of it, or the fixed part if argsz is less. */
static uint8_t answer[4096];
static size_t answer_len, fixed_len;

static void serve_info(struct fake *f, const struct request *req)
{
    uint32_t argsz;

    memcpy(&argsz, req->payload, sizeof(argsz));
    reply(f, req, answer, argsz >= answer_len ? answer_len : fixed_len);
}

static void set_answer(const void *fixed, size_t size, const void *rest, size_t rest_len)
{
    const uint32_t argsz = (uint32_t)(size + rest_len);

    fixed_len = size;
    answer_len = argsz;
    memcpy(answer, fixed, size);
    memcpy(answer, &argsz, sizeof(argsz));
    if (rest_len)
        memcpy(answer + size, rest, rest_len);
}

static void test_negotiation(void **state)
{
    struct fake with = {.capabilities = extended}, without = {0};
    struct vfuc *c = fake_open(&with, done);

    (void)state;
    assert_true(vfuc_has_extensions(c));
    fake_stop(&with, c);
    c = fake_open(&without, done);
    assert_false(vfuc_has_extensions(c));
    fake_stop(&without, c);
}

/* Asked again with the room that is needed. */
static void test_ranges(void **state)
{
    static const struct vfio_userd_iova_range ranges[] = {
        {0,          0xfedfffff},
        {1ull << 32, UINT64_MAX}
    };
    const struct vfio_userd_iommu_info fixed = {.pgsizes = 4096, .max_maps = 9, .num_ranges = 2};
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, serve_info);
    cleanup_free_ struct vfio_userd_iommu_info *info = NULL;

    (void)state;
    set_answer(&fixed, sizeof(fixed), ranges, sizeof(ranges));
    assert_int_equal(vfuc_iommu_info(c, &info), 0);
    assert_int_equal(requests_seen(&f), 2);
    assert_int_equal(info->num_ranges, 2);
    assert_int_equal(vfuc_iova_range(info, 1).first, 1ull << 32);
    assert_int_equal(vfuc_iova_range(info, 1).last, UINT64_MAX);
    fake_stop(&f, c);
}

/* More than there is, whatever the server says of it. */
static void test_counts_that_lie(void **state)
{
    static const uint32_t counts[] = {1, 2, 1u << 28, UINT32_MAX};
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, serve_info);
    const uint8_t half[8] = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        const struct vfio_userd_iommu_info iommu = {.num_ranges = counts[i]};
        const struct vfio_userd_hot_reset_info reset = {.count = counts[i]};
        struct vfio_userd_iommu_info *got;
        struct vfio_userd_hot_reset_info *devices;

        set_answer(&iommu, sizeof(iommu), half, sizeof(half));
        assert_int_equal(vfuc_iommu_info(c, &got), -EPROTO);
        assert_null(got);
        set_answer(&reset, sizeof(reset), half, sizeof(half) - 1);
        assert_int_equal(vfuc_hot_reset_info(c, &devices), -EPROTO);
        assert_null(devices);
    }
    fake_stop(&f, c);
}

/* Sizes that make no sense: smaller than the struct, larger than is believed, not what came. */
static void test_sizes_that_lie(void **state)
{
    static const uint32_t sizes[] = {0, 23, 65537, UINT32_MAX, 25};
    const struct vfio_userd_device_info fixed = {.num_regions = 9};
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, serve_info);
    struct vfio_userd_device_info *info;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        set_answer(&fixed, sizeof(fixed), NULL, 0);
        memcpy(answer, &sizes[i], sizeof(sizes[i]));
        assert_int_equal(vfuc_extended_info(c, &info), -EPROTO);
        assert_null(info);
    }
    set_answer(&fixed, sizeof(fixed), NULL, 0);
    answer_len = fixed_len = 8;
    assert_int_equal(vfuc_extended_info(c, &info), -EPROTO);
    fake_stop(&f, c);
}

static void check_chain(struct vfuc *c, uint32_t first, uint32_t next, int ret)
{
    const struct vfio_userd_device_info fixed = {.flags = VFIO_USERD_DEVICE_CAPS,
                                                 .cap_offset = first};
    const struct vfio_user_cap_header caps[] = {
        {5, 1, next},
        {1, 1, 0   }
    };
    cleanup_free_ struct vfio_userd_device_info *info = NULL;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;

    set_answer(&fixed, sizeof(fixed), caps, sizeof(caps));
    assert_int_equal(vfuc_extended_info(c, &info), 0);
    while (vfuc_device_cap_next(info, &offset, &cap) == 1)
        assert_in_range(offset, sizeof(fixed), info->argsz - sizeof(cap));
    assert_int_equal(vfuc_device_cap_next(info, &offset, &cap), ret);
}

static void test_chains(void **state)
{
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, serve_info);

    (void)state;
    check_chain(c, 24, 32, 0);
    check_chain(c, 32, 0, 0);
    check_chain(c, 0, 0, 0);
    check_chain(c, 24, 24, -EPROTO);
    check_chain(c, 24, 8, -EPROTO);
    check_chain(c, 23, 0, -EPROTO);
    check_chain(c, 33, 0, -EPROTO);
    check_chain(c, UINT32_MAX, 0, -EPROTO);
    check_chain(c, 24, UINT32_MAX, -EPROTO);
    fake_stop(&f, c);
}

static void with_descriptor(struct fake *f, const struct request *req)
{
    cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC);

    reply_with_fds(f, req, req->payload, req->len, &fd, 1);
}

static void test_dmabuf(void **state)
{
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, with_descriptor);
    struct vfio_userd_gfx_dmabuf sent;
    struct request seen;
    int fd = -1;

    (void)state;
    assert_int_equal(vfuc_gfx_dmabuf(c, 7, &fd), 0);
    assert_true(fd >= 0);
    fd_close(&fd);
    seen = request_seen(&f, 0);
    memcpy(&sent, seen.payload, sizeof(sent));
    assert_int_equal(seen.hdr.command, VFIO_USERD_GET_GFX_DMABUF);
    assert_int_equal(sent.dmabuf_id, 7);
    fake_stop(&f, c);
}

/* A success without the dma-buf; and too short replies. */
static void test_short_answers(void **state)
{
    struct fake f = {.capabilities = extended}, g = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, echo);
    struct vfio_userd_precopy_info precopy;
    struct vfio_userd_gfx_plane plane;
    int fd = -1;

    (void)state;
    assert_int_equal(vfuc_gfx_dmabuf(c, 7, &fd), -EPROTO);
    fake_stop(&f, c);
    c = fake_open(&g, done);
    assert_int_equal(vfuc_precopy_info(c, &precopy), -EPROTO);
    assert_int_equal(vfuc_gfx_plane(c, VFIO_USERD_GFX_REGION, 1, &plane), -EPROTO);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_GET_STATE, NULL), -EPROTO);
    fake_stop(&g, c);
}

static void test_refusals(void **state)
{
    struct fake f = {.capabilities = extended};
    struct vfuc *c = fake_open(&f, refuse);
    struct vfio_userd_iommu_info *info;
    int fd = -1;

    (void)state;
    assert_int_equal(vfuc_iommu_info(c, &info), -ENOSPC);
    assert_int_equal(vfuc_gfx_dmabuf(c, 1, &fd), -ENOSPC);
    assert_int_equal(vfuc_hot_reset(c), -ENOSPC);
    assert_int_equal(fd, -1);
    fake_stop(&f, c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fd_leak_setup, fd_leak_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_negotiation),    TEST(test_ranges),   TEST(test_counts_that_lie),
        TEST(test_sizes_that_lie), TEST(test_chains),   TEST(test_dmabuf),
        TEST(test_short_answers),  TEST(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
