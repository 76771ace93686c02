/* QUERY_GFX_PLANE and GET_GFX_DMABUF of the extension. */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bridge/sim/sim_gfx.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

#define UUID "73696d00-6d64-4576-8000-000000000001" /* the first of a simulated machine */

enum {
    PROBE = VFIO_USERD_GFX_PROBE,
    DMABUF = VFIO_USERD_GFX_DMABUF,
    REGION = VFIO_USERD_GFX_REGION,
    PRIMARY = 1,
    FRAMEBUFFER = 2, /* the region */
    PIXEL = 0x00c0ffee,
};

static const uint8_t zeros[128];

#define MSG_PLANE(...)  MSG_(VFIO_USERD_QUERY_GFX_PLANE, vfio_userd_gfx_plane, __VA_ARGS__)
#define MSG_DMABUF(...) MSG_(VFIO_USERD_GET_GFX_DMABUF, vfio_userd_gfx_dmabuf, __VA_ARGS__)

static int setup_display(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:mdev";
    strcpy(h->bdf, UUID);
    harness_start(h);
    *state = h;
    return 0;
}

static const struct request_case cases[] = {
    CASE("probe a region", 0, MSG_PLANE(64, PROBE | REGION)),
    CASE("probe a dma-buf", 0, MSG_PLANE(64, PROBE | DMABUF)),
    CASE("argsz 2^32-1", 0, MSG_PLANE(UINT32_MAX, REGION, PRIMARY)),
    CASE("other fields not 0", 0, MSG_PLANE(64, REGION, PRIMARY, 1, 2, 3, 4, 5, 6, 7, 8)),
    CASE("no type", EINVAL, MSG_PLANE(64, 0, PRIMARY)),
    CASE("a probe of nothing", EINVAL, MSG_PLANE(64, PROBE)),
    CASE("both types", EINVAL, MSG_PLANE(64, DMABUF | REGION, PRIMARY)),
    CASE("a probe of both", EINVAL, MSG_PLANE(64, PROBE | DMABUF | REGION)),
    CASE("an unknown flag", EINVAL, MSG_PLANE(64, 8 | REGION, PRIMARY)),
    CASE("a plane that it lacks", EINVAL, MSG_PLANE(64, REGION, UINT32_MAX)),
    CASE("argsz 63", EINVAL, MSG_PLANE(63, REGION, PRIMARY)),
    CASE("cut off", EINVAL, .command = VFIO_USERD_QUERY_GFX_PLANE, .payload = zeros, .len = 63),
    CASE("a byte more", E2BIG, MSG_PLANE(64, REGION, PRIMARY), .data = zeros, .data_len = 1),
    CASE("a dma-buf that was not told", EINVAL, MSG_DMABUF(16, 0, SIM_GFX_DMABUF_ID)),
    CASE("2^32-1", EINVAL, MSG_DMABUF(16, 0, UINT32_MAX)),
    CASE("dma-buf, argsz 15", EINVAL, MSG_DMABUF(15, 0, SIM_GFX_DMABUF_ID)),
    CASE("dma-buf, a flag", EINVAL, MSG_DMABUF(16, 1, SIM_GFX_DMABUF_ID)),
    CASE("dma-buf, cut off", EINVAL, .command = VFIO_USERD_GET_GFX_DMABUF, .payload = zeros,
         .len = 12),
    CASE("dma-buf, a byte more", E2BIG, MSG_DMABUF(16), .data = zeros, .data_len = 1),
};

static void requests(void **state)
{
    cleanup_close_ int sock = raw_extended_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const struct request_case with_fd[] = {
        CASE("a plane with a descriptor", EINVAL, MSG_PLANE(64, REGION, PRIMARY)),
        CASE("a dma-buf with a descriptor", EINVAL, MSG_DMABUF(16, 0, SIM_GFX_DMABUF_ID)),
    };

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, with_fd, ARRAY_SIZE(with_fd), &fd, 1);
    raw_send(sock, MSG(MSG_PLANE(64, REGION, PRIMARY), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_send(sock, MSG(MSG_DMABUF(16, 0, SIM_GFX_DMABUF_ID), .flags = VFIO_USER_FLAG_NO_REPLY),
             NULL, 0);
    raw_assert_in_step(sock);
}

static void paint(struct vfuc *c)
{
    const uint32_t pixel = PIXEL;

    assert_int_equal(vfuc_region_write(c, FRAMEBUFFER, 0, &pixel, sizeof(pixel)), 0);
}

static void check_plane(const struct vfio_userd_gfx_plane *plane, uint32_t flags)
{
    assert_int_equal(plane->argsz, sizeof(*plane));
    assert_int_equal(plane->flags, flags);
    assert_int_equal(plane->drm_plane_type, PRIMARY);
    assert_memory_equal(&plane->drm_format, "XR24", 4);
    assert_int_equal(plane->width, SIM_GFX_WIDTH);
    assert_int_equal(plane->height, SIM_GFX_HEIGHT);
    assert_int_equal(plane->stride, SIM_GFX_WIDTH * 4);
    assert_int_equal(plane->size, SIM_GFX_SIZE);
    assert_int_equal(plane->x_hot, UINT32_MAX);
}

static void plane_in_a_region(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_gfx_plane plane;
    uint32_t pixel = 0;

    paint(c);
    assert_int_equal(vfuc_gfx_plane(c, REGION, PRIMARY, &plane), 0);
    check_plane(&plane, REGION);
    assert_int_equal(vfuc_region_read(c, plane.source, 0, &pixel, sizeof(pixel)), 0);
    assert_int_equal(pixel, PIXEL);
    assert_int_equal(vfuc_region_read(c, plane.source, plane.size, &pixel, sizeof(pixel)), -EINVAL);
    vfuc_close(c);
}

/* It is not among those that GET_INFO counts: a session that was not told of it has none such. */
static void region_of_a_plane(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    struct vfio_userd_gfx_plane plane;
    int fd;

    assert_int_equal(vfuc_region_info(c, SIM_GFX_REGION, &info, &fd), -EINVAL);
    assert_int_equal(vfuc_gfx_plane(c, REGION, PRIMARY, &plane), 0);
    assert_int_equal(plane.source, SIM_GFX_REGION);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vfuc_region_info(c, SIM_GFX_REGION, &info, &fd), 0);
        assert_int_equal(info->size, SIM_GFX_SIZE);
        assert_int_equal(info->flags, VFIO_USER_REGION_INFO_READ);
        fd_close(&fd);
        free(steal_ptr(info));
        assert_int_equal(vfuc_gfx_plane(c, REGION, PRIMARY, &plane), 0);
    }
    assert_int_equal(vfuc_region_info(c, SIM_GFX_REGION + 1, &info, &fd), -EINVAL);
    vfuc_close(c);
    c = harness_client(*state);
    assert_int_equal(vfuc_region_info(c, SIM_GFX_REGION, &info, &fd), -EINVAL);
    vfuc_close(c);
}

static void plane_in_a_dmabuf(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_gfx_plane plane;
    uint32_t *picture;

    paint(c);
    assert_int_equal(vfuc_gfx_plane(c, DMABUF, PRIMARY, &plane), 0);
    check_plane(&plane, DMABUF);
    for (int i = 0; i < 3; i++) {
        cleanup_close_ int fd = -1;

        assert_int_equal(vfuc_gfx_dmabuf(c, plane.source, &fd), 0);
        picture = mmap(NULL, plane.size, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(picture != MAP_FAILED);
        assert_int_equal(*picture, PIXEL);
        munmap(picture, plane.size);
    }
    vfuc_close(c);
}

/* What one client was told is nothing to the next one. */
static void ids_end_with_the_session(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_gfx_plane plane;
    cleanup_close_ int fd = -1;

    assert_int_equal(vfuc_gfx_plane(c, DMABUF, PRIMARY, &plane), 0);
    vfuc_close(c);
    c = harness_client(*state);
    assert_int_equal(vfuc_gfx_dmabuf(c, plane.source, &fd), -EINVAL);
    assert_int_equal(vfuc_gfx_plane(c, DMABUF, PRIMARY, &plane), 0);
    assert_int_equal(vfuc_gfx_dmabuf(c, plane.source, &fd), 0);
    vfuc_close(c);
}

static void kernel_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    struct vfio_userd_gfx_plane plane;
    cleanup_close_ int fd = -1;

    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_QUERY_GFX_PLANE, 1, EIO);
    assert_int_equal(vfuc_gfx_plane(c, DMABUF, PRIMARY, &plane), -EIO);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_REGION_INFO, 1, ENOMEM);
    assert_int_equal(vfuc_gfx_plane(c, REGION, PRIMARY, &plane), -ENOMEM);
    assert_int_equal(vfuc_gfx_plane(c, REGION, PRIMARY, &plane), 0);
    assert_int_equal(vfuc_gfx_plane(c, DMABUF, PRIMARY, &plane), 0);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_GFX_DMABUF, 1, EMFILE);
    assert_int_equal(vfuc_gfx_dmabuf(c, plane.source, &fd), -EMFILE);
    assert_int_equal(fd, -1);
    assert_int_equal(vfuc_gfx_dmabuf(c, plane.source, &fd), 0);
    vfuc_close(c);
}

/* A plain PCI device. */
static void no_display(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_gfx_plane plane;

    assert_int_equal(vfuc_gfx_plane(c, PROBE | REGION, 0, &plane), -ENOTTY);
    assert_int_equal(vfuc_gfx_plane(c, PROBE | DMABUF, 0, &plane), -ENOTTY);
    vfuc_close(c);
}

#define display_test(f) cmocka_unit_test_setup_teardown(f, setup_display, harness_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        display_test(requests),
        display_test(plane_in_a_region),
        display_test(region_of_a_plane),
        display_test(plane_in_a_dmabuf),
        display_test(ids_end_with_the_session),
        display_test(kernel_fails),
        harness_test(no_display),
    };
    /* SPAPR TCE has no mediated devices. */
    const struct CMUnitTest spapr_tests[] = {
        harness_test(no_display),
    };

    if (!harness_select_backend(argc, argv))
        return 2;
    return harness_is_spapr() ? cmocka_run_group_tests(spapr_tests, NULL, NULL)
                              : cmocka_run_group_tests(tests, NULL, NULL);
}
