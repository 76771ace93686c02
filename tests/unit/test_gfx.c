#include "bridge/gfx.h"

#include <errno.h>
#include <string.h>

#include "bridge/region.h"
#include "tests/unit/fake_device.h"

enum {
    PROBE = VFIO_GFX_PLANE_TYPE_PROBE,
    DMABUF = VFIO_GFX_PLANE_TYPE_DMABUF,
    REGION = VFIO_GFX_PLANE_TYPE_REGION,
    FD = 50,
};

static struct fake_machine m;

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

static int query(uint32_t flags, uint32_t id, int ret)
{
    const struct vfio_device_gfx_plane_info asked = {
        .argsz = sizeof(asked), .flags = flags, .drm_plane_type = 1};
    struct vfio_device_gfx_plane_info answer = asked, plane = asked;

    answer.width = 640;
    answer.dmabuf_id = id;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_QUERY_GFX_PLANE,
                .in = &asked, .in_len = sizeof(asked), .out = &answer, .out_len = sizeof(answer),
                .ret = ret);
    plane.argsz = 0;
    ret = gfx_query_plane(m.dev, &plane);
    if (!ret) {
        assert_int_equal(plane.width, 640);
        assert_int_equal(plane.dmabuf_id, id);
    }
    return ret;
}

static void expect_get(uint32_t id, int ret)
{
    static uint32_t asked;

    asked = id;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_GET_GFX_DMABUF,
                .in = &asked, .in_len = sizeof(asked), .ret = ret);
    assert_int_equal(gfx_get_dmabuf(m.dev, id), ret);
}

static void expect_plane(uint32_t region)
{
    static struct vfio_device_gfx_plane_info answer;

    answer = (struct vfio_device_gfx_plane_info){.flags = REGION, .region_index = region};
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_QUERY_GFX_PLANE,
                .out = &answer, .out_len = sizeof(answer));
}

static int ask_region(void)
{
    struct vfio_device_gfx_plane_info plane = {.flags = REGION};

    return gfx_query_plane(m.dev, &plane);
}

/* Of an id that was not told the kernel is not asked: nor of a region's index, nor by a probe. */
static void test_ids_that_were_told(void **state)
{
    (void)state;
    assert_int_equal(gfx_get_dmabuf(m.dev, 0), -EINVAL);
    assert_int_equal(query(REGION, 5, 0), 0);
    assert_int_equal(query(PROBE | DMABUF, 5, 0), 0);
    assert_int_equal(query(DMABUF, 5, -EINVAL), -EINVAL);
    assert_int_equal(gfx_get_dmabuf(m.dev, 5), -EINVAL);
    assert_int_equal(query(DMABUF, 5, 0), 0);
    expect_get(5, FD);
    expect_get(5, -EMFILE);
    assert_int_equal(gfx_get_dmabuf(m.dev, 6), -EINVAL);
}

/* A device that makes a new one each time does not make the list grow. */
static void test_many_ids(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= 3 * GFX_MOST_IDS; id++)
        assert_int_equal(query(DMABUF, id, 0), 0);
    assert_int_equal(gfx_get_dmabuf(m.dev, 2 * GFX_MOST_IDS), -EINVAL);
    expect_get(2 * GFX_MOST_IDS + 1, FD);
    expect_get(3 * GFX_MOST_IDS, FD);
    /* One that is told again is not a further one. */
    for (uint32_t i = 0; i < 2 * GFX_MOST_IDS; i++)
        assert_int_equal(query(DMABUF, 3 * GFX_MOST_IDS, 0), 0);
    expect_get(2 * GFX_MOST_IDS + 1, FD);
}

static void test_reopen_forgets(void **state)
{
    (void)state;
    assert_int_equal(query(DMABUF, 5, 0), 0);
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, &fake_pci);
    assert_int_equal(device_reopen(m.dev), 0);
    assert_int_equal(gfx_get_dmabuf(m.dev, 5), -EINVAL);
}

/* Its region is read when it is first told of, and one that the kernel refuses has no size. */
static void test_region_beyond_the_count(void **state)
{
    const uint32_t at = VFIO_PCI_NUM_REGIONS + 7;

    (void)state;
    assert_null(region_get(m.dev, at));
    expect_plane(at);
    fake_expect_region_info(m.f, at, &(struct fake_region){.flags = 1, .size = 0x1000});
    assert_int_equal(ask_region(), 0);
    assert_int_equal(region_get(m.dev, at)->size, 0x1000);
    expect_plane(at);
    assert_int_equal(ask_region(), 0);
    expect_plane(at + 1);
    fake_expect_region_info(m.f, at + 1, &(struct fake_region){.err = -EIO});
    assert_int_equal(ask_region(), -EIO);
    assert_int_equal(region_get(m.dev, at)->size, 0x1000);
    expect_plane(UINT32_MAX);
    fake_expect_region_info(m.f, UINT32_MAX, &(struct fake_region){.err = -EINVAL});
    assert_int_equal(ask_region(), 0);
    assert_int_equal(region_get(m.dev, UINT32_MAX)->size, 0);
    assert_null(region_get(m.dev, at));
}

static void test_no_display(void **state)
{
    (void)state;
    assert_int_equal(query(PROBE | REGION, 0, -ENOTTY), -ENOTTY);
}

static void test_closed(void **state)
{
    struct vfio_device_gfx_plane_info plane = {.flags = REGION};

    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EIO);
    assert_int_equal(device_reopen(m.dev), -EIO);
    assert_int_equal(gfx_query_plane(m.dev, &plane), -ENODEV);
    assert_int_equal(gfx_get_dmabuf(m.dev, 0), -ENODEV);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ids_that_were_told),      TEST(test_many_ids),   TEST(test_reopen_forgets),
        TEST(test_region_beyond_the_count), TEST(test_no_display), TEST(test_closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
