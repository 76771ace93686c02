/* The simulated kernel's dirty bits: those of an HWPT, and type1's VFIO_IOMMU_DIRTY_PAGES. */
#include "proto/base/arith.h"
#include "tests/unit/sim_iommufd_fixture.h"

enum {
    PAGE = FX_PAGE,
    SIZE = 16 * PAGE,
    IOVA = 0x100000,
    LARGE = 2 << 20,
};

struct scene {
    struct fixture *fx;
    int iommufd, memfd;
    uint32_t device, ioas, hwpt;
    char *memory;
};

static struct scene scene;

static int alloc_dirty_hwpt(uint32_t *hwpt)
{
    struct uapi_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = UAPI_HWPT_ALLOC_DIRTY_TRACKING,
        .dev_id = scene.device,
        .pt_id = scene.ioas,
    };
    int ret = fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_HWPT_ALLOC, &alloc);

    *hwpt = alloc.out_hwpt_id;
    return ret;
}

static int setup_hwpt(void **state)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    scene = (struct scene){.fx = fx, .iommufd = fd_open(fx)};
    scene.ioas = fd_alloc(fx, scene.iommufd);
    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(fd_bind(fx, fx->device, scene.iommufd, &scene.device), 0);
    assert_int_equal(alloc_dirty_hwpt(&scene.hwpt), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, scene.hwpt), 0);
    scene.memory = fx_memory(2 * LARGE, &scene.memfd);
    return 0;
}

static int setup_type1(void **state)
{
    fx_setup_open(state);
    scene = (struct scene){.fx = *state, .iommufd = -1};
    scene.memory = fx_memory(SIZE, &scene.memfd);
    return 0;
}

static int teardown(void **state)
{
    munmap(scene.memory, scene.iommufd < 0 ? SIZE : 2 * LARGE);
    close(scene.memfd);
    host_close(scene.fx->host, &scene.iommufd);
    return fx_teardown(state);
}

static void device_writes(uint64_t iova)
{
    char byte = 1;

    assert_int_equal(fx_dma(scene.fx, iova, &byte, 1, true), 0);
}

static int map(uint64_t iova, size_t size)
{
    return fd_map(scene.fx, scene.iommufd, scene.ioas, iova, scene.memory, size);
}

static int set_dirty(uint32_t flags)
{
    struct uapi_hwpt_set_dirty set = {sizeof(set), flags, scene.hwpt, 0};

    return fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_HWPT_SET_DIRTY, &set);
}

static int get_dirty(uint64_t iova, uint64_t length, uint64_t page_size, uint32_t flags,
                     uint64_t *words)
{
    struct uapi_hwpt_get_dirty get = {
        .size = sizeof(get),
        .hwpt_id = scene.hwpt,
        .flags = flags,
        .iova = iova,
        .length = length,
        .page_size = page_size,
        .data = (uintptr_t)words,
    };

    return fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_HWPT_GET_DIRTY, &get);
}

static uint64_t dirty_word(uint64_t iova, uint64_t length, uint64_t page_size, uint32_t flags)
{
    uint64_t words[64] = {0};

    assert_int_equal(get_dirty(iova, length, page_size, flags, words), 0);
    return words[0];
}

/* Cleared when they are read, unless asked not to; when tracking begins, also again. */
static void hwpt_bits(void **state)
{
    const uint32_t no_clear = UAPI_HWPT_GET_DIRTY_NO_CLEAR;

    (void)state;
    assert_int_equal(map(IOVA, SIZE), 0);
    device_writes(IOVA);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0); /* off: no error */
    assert_int_equal(set_dirty(UAPI_HWPT_DIRTY_ENABLE), 0);
    device_writes(IOVA + 3 * PAGE);
    device_writes(IOVA + 15 * PAGE + 4095);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, no_clear), 0x8008);
    assert_int_equal(dirty_word(IOVA, SIZE, 4 * PAGE, no_clear), 9);
    assert_int_equal(dirty_word(IOVA, 4 * PAGE, PAGE, 0), 8);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0x8000);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0);
    device_writes(IOVA);
    assert_int_equal(set_dirty(UAPI_HWPT_DIRTY_ENABLE), 0);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0);
    /* With a translation they go. */
    device_writes(IOVA);
    assert_int_equal(fd_unmap(scene.fx, scene.iommufd, scene.ioas, IOVA, SIZE), SIZE);
    assert_int_equal(map(IOVA, SIZE), 0);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0);
    assert_int_equal(set_dirty(0), 0);
}

/* What lies behind a hole is neither told nor cleared, and nobody says so. */
static void hwpt_holes(void **state)
{
    (void)state;
    assert_int_equal(map(IOVA, 4 * PAGE), 0);
    assert_int_equal(map(IOVA + 4 * PAGE, PAGE), 0);
    assert_int_equal(map(IOVA + 8 * PAGE, PAGE), 0);
    assert_int_equal(set_dirty(UAPI_HWPT_DIRTY_ENABLE), 0);
    for (unsigned i = 0; i < 10; i += 4)
        device_writes(IOVA + i * PAGE);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0x11);
    assert_int_equal(dirty_word(IOVA, SIZE, PAGE, 0), 0);
    assert_int_equal(dirty_word(IOVA + 8 * PAGE, PAGE, PAGE, 0), 1);
}

/* A page of the table has one bit, of which a part is told, and all is cleared. */
static void hwpt_large_pages(void **state)
{
    const uint64_t at = 4 * LARGE;
    uint64_t words[16] = {0};

    (void)state;
    sim_set_iommu_page(scene.fx->sim, LARGE);
    assert_int_equal(map(at, LARGE + PAGE), 0);
    assert_int_equal(set_dirty(UAPI_HWPT_DIRTY_ENABLE), 0);
    device_writes(at + 5 * PAGE);
    device_writes(at + LARGE);
    assert_int_equal(get_dirty(at, LARGE + PAGE, PAGE, UAPI_HWPT_GET_DIRTY_NO_CLEAR, words), 0);
    for (unsigned i = 0; i < 8; i++)
        assert_true(words[i] == UINT64_MAX);
    assert_true(words[8] == 1);
    assert_int_equal(dirty_word(at + 7 * PAGE, 2 * PAGE, PAGE, 0), 3);
    assert_int_equal(dirty_word(at, LARGE, PAGE, 0), 0);
    assert_int_equal(dirty_word(at + LARGE, PAGE, PAGE, 0), 1);
}

static void hwpt_errors(void **state)
{
    struct uapi_hw_info info = {.size = sizeof(info), .dev_id = scene.device};
    const uint32_t hwpt = scene.hwpt;
    uint64_t word;

    (void)state;
    assert_int_equal(fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_GET_HW_INFO, &info), 0);
    assert_int_equal(info.out_capabilities, UAPI_HW_CAP_DIRTY_TRACKING);
    info.flags = 2;
    assert_int_equal(fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_GET_HW_INFO, &info), -EOPNOTSUPP);
    info = (struct uapi_hw_info){.size = sizeof(info), .dev_id = 99};
    assert_int_equal(fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_GET_HW_INFO, &info), -ENOENT);
    assert_int_equal(set_dirty(2), -EOPNOTSUPP);
    assert_int_equal(get_dirty(0, PAGE, PAGE, 2, &word), -EOPNOTSUPP);
    assert_int_equal(get_dirty(UINT64_MAX, 2, PAGE, 0, &word), -EOVERFLOW);
    assert_int_equal(get_dirty(0, PAGE, 0, 0, &word), -EINVAL);
    assert_int_equal(get_dirty(1, PAGE, PAGE, 0, &word), -EINVAL);
    assert_int_equal(get_dirty(0, PAGE + 1, PAGE, 0, &word), -EINVAL);
    assert_int_equal(get_dirty(PAGE, PAGE, 2 * PAGE, 0, &word), -EINVAL);
    scene.hwpt = scene.ioas;
    assert_int_equal(set_dirty(0), -ENOENT);
    assert_int_equal(get_dirty(0, PAGE, PAGE, 0, &word), -ENOENT);

    /* One that was made without; a machine without. */
    assert_int_equal(fd_hwpt(scene.fx, scene.iommufd, scene.device, scene.ioas, &scene.hwpt), 0);
    assert_int_equal(set_dirty(UAPI_HWPT_DIRTY_ENABLE), -EOPNOTSUPP);
    assert_int_equal(get_dirty(0, PAGE, PAGE, 0, &word), -EOPNOTSUPP);
    sim_set_dirty_tracking(scene.fx->sim, false);
    assert_int_equal(alloc_dirty_hwpt(&scene.hwpt), -EOPNOTSUPP);
    info = (struct uapi_hw_info){.size = sizeof(info), .dev_id = scene.device};
    assert_int_equal(fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_GET_HW_INFO, &info), 0);
    assert_int_equal(info.out_capabilities, 0);
    scene.hwpt = hwpt;
}

static int type1_call(uint32_t flags)
{
    struct vfio_iommu_type1_dirty_bitmap args = {.argsz = sizeof(args), .flags = flags};

    return fx_ioctl(scene.fx, scene.fx->container, VFIO_IOMMU_DIRTY_PAGES, &args);
}

static int start(void)
{
    return type1_call(VFIO_IOMMU_DIRTY_PAGES_FLAG_START);
}

static int get_bitmap(uint64_t iova, uint64_t size, uint64_t page_size, uint64_t bytes,
                      uint64_t *words)
{
    struct {
        struct vfio_iommu_type1_dirty_bitmap head;
        struct vfio_iommu_type1_dirty_bitmap_get get;
    } args = {
        .head = {sizeof(args), VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP},
        .get = { iova,        size,      {page_size, bytes, (void *)words}},
    };

    return fx_ioctl(scene.fx, scene.fx->container, VFIO_IOMMU_DIRTY_PAGES, &args);
}

static int unmap_bitmap(uint64_t iova, uint64_t size, uint64_t page_size, uint64_t *words)
{
    struct {
        struct vfio_iommu_type1_dma_unmap unmap;
        struct vfio_bitmap bitmap;
    } args = {
        .unmap = {sizeof(args), VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, iova, size},
        .bitmap = {page_size,            8,                                        (void *)words                               },
    };

    return fx_ioctl(scene.fx, scene.fx->container, VFIO_IOMMU_UNMAP_DMA, &args);
}

static void type1_map(uint64_t iova, uint64_t pages)
{
    assert_int_equal(fx_map_rw(scene.fx, iova, scene.memory, pages * PAGE), 0);
}

/* Everything, for a device that pins all it can reach; whole words are written. */
static void type1_all(void **state)
{
    uint64_t words[2] = {UINT64_MAX, UINT64_MAX};

    (void)state;
    type1_map(IOVA, 2);
    type1_map(IOVA + 4 * PAGE, 1);
    assert_int_equal(start(), 0);
    assert_int_equal(start(), 0); /* it is on */
    assert_int_equal(get_bitmap(IOVA, 8 * PAGE, PAGE, 8, words), 0);
    assert_true(words[0] == 0x13 && words[1] == UINT64_MAX);
    /* A hole is left as it was. */
    words[0] = 4;
    assert_int_equal(get_bitmap(IOVA + 2 * PAGE, 2 * PAGE, PAGE, 8, words), 0);
    assert_true(words[0] == 4);
    words[0] = 0;
    assert_int_equal(unmap_bitmap(IOVA, 2 * PAGE, PAGE, words), 0);
    assert_true(words[0] == 3);
    assert_int_equal(get_bitmap(IOVA, 8 * PAGE, PAGE, 8, words), 0);
    assert_true(words[0] & 0x10);
    assert_int_equal(type1_call(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), 0);
    assert_int_equal(type1_call(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), 0);
}

/* What was written, for drivers that say so. */
static void type1_pinned_only(void **state)
{
    uint64_t word = 0;

    (void)state;
    sim_set_pinned_only(scene.fx->sim, true);
    type1_map(IOVA, 16);
    assert_int_equal(start(), 0);
    device_writes(IOVA + 3 * PAGE);
    assert_int_equal(get_bitmap(IOVA, SIZE, PAGE, 8, &word), 0);
    assert_int_equal(word, 8);
    device_writes(IOVA + 5 * PAGE);
    assert_int_equal(get_bitmap(IOVA, SIZE, PAGE, 8, &word), 0);
    assert_int_equal(word, 0x20); /* and not what was there: the words are overwritten */
    device_writes(IOVA);
    assert_int_equal(unmap_bitmap(IOVA, SIZE, PAGE, &word), 0);
    assert_int_equal(word, 1);
}

static void type1_errors(void **state)
{
    const uint32_t both = VFIO_IOMMU_DIRTY_PAGES_FLAG_START | VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
    uint64_t word = 0;

    (void)state;
    type1_map(IOVA, 4);
    assert_int_equal(get_bitmap(IOVA, 4 * PAGE, PAGE, 8, &word), -EINVAL); /* it is off */
    assert_int_equal(unmap_bitmap(IOVA, 4 * PAGE, PAGE, &word), -EINVAL);
    assert_int_equal(type1_call(0), -EINVAL);
    assert_int_equal(type1_call(8), -EINVAL);
    assert_int_equal(type1_call(both), -EINVAL);
    assert_int_equal(type1_call(VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP), -EINVAL); /* argsz */
    assert_int_equal(start(), 0);
    assert_int_equal(get_bitmap(IOVA, 2 * PAGE, PAGE, 8, &word), -EINVAL); /* a part of a map */
    assert_int_equal(get_bitmap(IOVA + PAGE, 8 * PAGE, PAGE, 8, &word), -EINVAL);
    assert_int_equal(get_bitmap(IOVA, 4 * PAGE, 2 * PAGE, 8, &word), -EINVAL);
    assert_int_equal(get_bitmap(IOVA, 4 * PAGE, PAGE, 7, &word), -EINVAL);
    assert_int_equal(get_bitmap(IOVA, 4 * PAGE, PAGE, (1 << 28) + 8, &word), -EINVAL);
    assert_int_equal(get_bitmap(IOVA + 1, 4 * PAGE, PAGE, 8, &word), -EINVAL);
    assert_int_equal(get_bitmap(IOVA, 0, PAGE, 8, &word), -EINVAL);
    assert_int_equal(unmap_bitmap(IOVA, 2 * PAGE, PAGE, &word), -EINVAL);
    assert_int_equal(unmap_bitmap(IOVA, 4 * PAGE, 2 * PAGE, &word), -EINVAL);
    assert_int_equal(word, 0);
    assert_int_equal(fx_stats(scene.fx).mappings, 1);
}

#define in_hwpt(f)  cmocka_unit_test_setup_teardown(f, setup_hwpt, teardown)
#define in_type1(f) cmocka_unit_test_setup_teardown(f, setup_type1, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_hwpt(hwpt_bits),     in_hwpt(hwpt_holes), in_hwpt(hwpt_large_pages),
        in_hwpt(hwpt_errors),   in_type1(type1_all), in_type1(type1_pinned_only),
        in_type1(type1_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
