#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/iommu.h"
#include "bridge/sim/sim.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"

enum {
    MEMORY = 77, /* the client's descriptor, which the scripted host only hands on */
    LARGE_PAGE = 0x10000,
    SMALL_PAGE = 4096,
    SIZE = 4 * LARGE_PAGE,
    OFFSET = LARGE_PAGE,
    VADDR = 0x40000000,
    READ = VFIO_DMA_MAP_FLAG_READ,
    WRITE = VFIO_DMA_MAP_FLAG_WRITE,
};

#define GIB   (UINT64_C(1) << 30)
#define IOVA  (4 * GIB)
#define UPPER (UINT64_C(1) << 59)
/* Of a host with 100 GiB: the next power of two above that and 4 GiB. */
#define LARGE (128 * GIB)

/* In the place of libc's: the machine whose page and memory these are. */
static long page_size = LARGE_PAGE;

long __real_sysconf(int name);
long __wrap_sysconf(int name);

long __wrap_sysconf(int name)
{
    switch (name) {
    case _SC_PAGESIZE:
        return page_size;
    case _SC_PHYS_PAGES:
        return (long)(100 * GIB) / page_size;
    default:
        return __real_sysconf(name);
    }
}

/* By a scripted host: what is called, and every error. */

static const struct sysfs_device device = {.name = FAKE_BDF, .group = FAKE_GROUP_NUMBER};

static struct fake_host *f;
static struct iommu *iommu;
static struct log_capture capture;

static void expect_extension(uintptr_t extension, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_CHECK_EXTENSION,
                .value = extension, .ret = ret);
}

static void expect_container(void)
{
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = FAKE_CONTAINER);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GET_API_VERSION, .ret = VFIO_API_VERSION);
}

static void create(void)
{
    expect_container();
    expect_extension(VFIO_SPAPR_TCE_v2_IOMMU, 1);
    assert_int_equal(iommu_spapr_create(fake_host_base(f), &iommu), 0);
}

static void expect_set_iommu(uintptr_t model, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_SET_IOMMU,
                .value = model, .ret = ret);
}

static void expect_info(const struct vfio_iommu_spapr_tce_info *info, int ret)
{
    const uint32_t argsz = sizeof(*info);

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_SPAPR_TCE_GET_INFO, .in = &argsz,
                .in_len = sizeof(argsz), .out = info, .out_len = sizeof(*info), .ret = ret);
    if (!ret && info->dma32_window_size)
        expect_extension(VFIO_EEH, 1);
}

static struct vfio_iommu_spapr_tce_info dynamic_windows(uint32_t n)
{
    return (struct vfio_iommu_spapr_tce_info){
        .argsz = sizeof(struct vfio_iommu_spapr_tce_info),
        .flags = VFIO_IOMMU_SPAPR_INFO_DDW,
        .dma32_window_size = 0x80000000,
        .ddw = {.pgsizes = 1 << 12 | 1 << 16 | 1 << 24,
                .max_dynamic_windows_supported = n,
                .levels = 5},
    };
}

static void expect_remove(int ret)
{
    const struct vfio_iommu_spapr_tce_remove remove = {.argsz = sizeof(remove)};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_SPAPR_TCE_REMOVE, .in = &remove,
                .in_len = sizeof(remove), .ret = ret);
}

static void expect_create(uint64_t size, uint32_t levels, uint64_t start, int ret)
{
    const struct vfio_iommu_spapr_tce_create asked = {
        .argsz = sizeof(asked), .page_shift = 16, .window_size = size, .levels = levels};
    struct vfio_iommu_spapr_tce_create made = asked;

    made.start_addr = start;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_SPAPR_TCE_CREATE, .in = &asked,
                .in_len = sizeof(asked), .out = &made, .out_len = sizeof(made), .ret = ret);
}

static void expect_windows(void)
{
    const struct vfio_iommu_spapr_tce_info info = dynamic_windows(2);

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(0);
    expect_create(LARGE, 2, 0, 0);
    expect_create(LARGE, 2, UPPER, 0);
}

static int open_device(void)
{
    int fd = -1, ret = iommu->ops->open_device(iommu, &device, &fd);

    assert_int_equal(fd, ret ? -1 : FAKE_DEVICE);
    host_close(fake_host_base(f), &fd);
    return ret;
}

static void assert_opens(void)
{
    fake_expect_device_fd(f);
    assert_int_equal(open_device(), 0);
    fake_assert_done(f);
}

static int setup_host(void **state)
{
    (void)state;
    page_size = LARGE_PAGE;
    f = fake_host_new();
    return 0;
}

static int setup_created(void **state)
{
    setup_host(state);
    create();
    return 0;
}

static int setup_v2(void **state)
{
    setup_created(state);
    expect_windows();
    assert_opens();
    return 0;
}

static int setup_v1(void **state)
{
    const struct vfio_iommu_spapr_tce_info info = {.dma32_window_size = 0x80000000};

    setup_created(state);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, -EPERM);
    expect_set_iommu(VFIO_SPAPR_TCE_IOMMU, 0);
    expect_info(&info, 0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_ENABLE);
    assert_opens();
    return 0;
}

static int teardown_host(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    fake_host_free(f);
    return 0;
}

static int teardown_created(void **state)
{
    iommu->ops->destroy(iommu);
    return teardown_host(state);
}

static int teardown(void **state)
{
    fake_expect_leave(f, FAKE_GROUP);
    return teardown_created(state);
}

static void no_spapr(void **state)
{
    struct iommu *none = NULL;

    (void)state;
    expect_container();
    expect_extension(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    log_capture_start(&capture);
    assert_int_equal(iommu_spapr_create(fake_host_base(f), &none), -ENODEV);
    assert_non_null(strstr(log_capture_end(&capture), "modprobe vfio_iommu_spapr_tce"));
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = -ENOENT);
    assert_int_equal(iommu_spapr_create(fake_host_base(f), &none), -ENOENT);
    assert_null(none);
}

static void assert_ranges(unsigned n, const struct iommu_range *ranges)
{
    assert_int_equal(iommu->info.n_ranges, n);
    for (unsigned i = 0; i < n; i++) {
        assert_true(iommu->info.ranges[i].first == ranges[i].first);
        assert_true(iommu->info.ranges[i].last == ranges[i].last);
    }
}

static void windows(void **state)
{
    const struct iommu_range ranges[] = {
        {0,     2 * GIB - 1      },
        {IOVA,  LARGE - 1        },
        {UPPER, UPPER + LARGE - 1},
    };

    (void)state;
    assert_ranges(3, ranges);
    assert_true(iommu->info.pgsizes == -(uint64_t)LARGE_PAGE);
    assert_int_equal(iommu->info.max_maps, IOMMU_NO_MAP_LIMIT);
    assert_true(iommu->info.pins_for_writing);
    assert_true(iommu->info.eeh);
    assert_false(iommu->info.coherent);
    assert_opens(); /* again, by the group that it has */
}

static void window_of_v1(void **state)
{
    const struct iommu_range range = {0, 2 * GIB - 1};

    (void)state;
    assert_ranges(1, &range);
    assert_false(iommu->info.pins_for_writing);
}

/* What the platform gives, from all of it to what it has by itself. */
static void windows_as_they_can_be_had(void **state)
{
    const struct iommu_range by_default = {0, 2 * GIB - 1};
    const struct iommu_range low[] = {
        by_default, {IOVA, LARGE - 1}
    };
    const struct iommu_range all[] = {
        by_default, {IOVA,  LARGE - 1        },
         {UPPER, UPPER + LARGE - 1}
    };
    const struct iommu_range kept[] = {
        by_default, {UPPER, UPPER + LARGE - 1}
    };
    const struct iommu_range elsewhere[] = {
        {2 * GIB, 3 * GIB - 1        },
        {IOVA,    LARGE + 2 * GIB - 1}
    };
    struct vfio_iommu_spapr_tce_info info;

    (void)state;
    /* The second one fails. */
    info = dynamic_windows(2);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(0);
    expect_create(LARGE, 2, 0, 0);
    expect_create(LARGE, 2, 0, -ENOMEM);
    assert_opens();
    assert_ranges(2, low);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* They come the other way round. */
    create();
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(0);
    expect_create(LARGE, 2, UPPER, 0);
    expect_create(LARGE, 2, 0, 0);
    assert_opens();
    assert_ranges(3, all);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* There is none but one. */
    create();
    info = dynamic_windows(1);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(0);
    expect_create(LARGE, 2, 0, 0);
    assert_opens();
    assert_ranges(2, low);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* The default one can't be removed. */
    create();
    info = dynamic_windows(2);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(-EPERM);
    expect_create(LARGE, 2, UPPER, 0);
    assert_opens();
    assert_ranges(2, kept);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* No room for a large one. */
    create();
    info = dynamic_windows(1);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    expect_remove(0);
    expect_create(LARGE, 2, 0, -ENOMEM);
    expect_create(2 * GIB, 1, 0, 0);
    assert_opens();
    assert_ranges(1, &by_default);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* No pages as small as the processor's: they are not for us. */
    create();
    info = dynamic_windows(2);
    info.ddw.pgsizes = 1 << 24;
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    assert_opens();
    assert_ranges(1, &by_default);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);

    /* The low one is not at 0. */
    create();
    info = dynamic_windows(1);
    info.dma32_window_start = 0x80000000;
    info.dma32_window_size = 0x40000000;
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&info, 0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_SPAPR_TCE_REMOVE);
    expect_create(LARGE, 2, 0x80000000, 0);
    assert_opens();
    assert_ranges(2, elsewhere);
    fake_expect_leave(f, FAKE_GROUP);
}

static const char *log_of_open(int err)
{
    log_capture_start(&capture);
    assert_int_equal(open_device(), err);
    fake_assert_done(f);
    assert_int_equal(fake_open_count(f), 1);
    return log_capture_end(&capture);
}

/* The group is left each time, and with it all that the container had. */
static void device_does_not_open(void **state)
{
    const struct vfio_iommu_spapr_tce_info none = {0};
    const struct vfio_iommu_spapr_tce_info one = dynamic_windows(1);

    (void)state;
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, -EIO);
    fake_expect_leave(f, FAKE_GROUP);
    log_of_open(-EIO);

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, -EPERM);
    expect_set_iommu(VFIO_SPAPR_TCE_IOMMU, -EBUSY);
    fake_expect_leave(f, FAKE_GROUP);
    assert_non_null(strstr(log_of_open(-EBUSY), "SET_IOMMU for " FAKE_BDF));
    iommu->ops->destroy(iommu);

    create();
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, -EPERM);
    expect_set_iommu(VFIO_SPAPR_TCE_IOMMU, -EPERM);
    fake_expect_leave(f, FAKE_GROUP);
    assert_non_null(strstr(log_of_open(-EPERM), "neither kind of SPAPR TCE container"));
    iommu->ops->destroy(iommu);
    create();

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&none, -ENXIO);
    fake_expect_leave(f, FAKE_GROUP);
    log_of_open(-ENXIO);

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&none, 0);
    fake_expect_leave(f, FAKE_GROUP);
    assert_non_null(strstr(log_of_open(-ENODEV), "no DMA window"));

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&one, 0);
    expect_remove(0);
    expect_create(LARGE, 2, 0, -ENOMEM);
    expect_create(2 * GIB, 1, 0, -ENOMEM);
    fake_expect_leave(f, FAKE_GROUP);
    assert_non_null(strstr(log_of_open(-ENOMEM), "RLIMIT_MEMLOCK"));

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&one, 0);
    expect_remove(0);
    expect_create(LARGE, 2, UINT64_MAX, 0);
    expect_create(2 * GIB, 1, UINT64_MAX, 0);
    fake_expect_leave(f, FAKE_GROUP);
    log_of_open(-EPROTO);

    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, -EPERM);
    expect_set_iommu(VFIO_SPAPR_TCE_IOMMU, 0);
    expect_info(&(const struct vfio_iommu_spapr_tce_info){.dma32_window_size = 4096}, 0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_ENABLE, .ret = -ENOMEM);
    fake_expect_leave(f, FAKE_GROUP);
    assert_non_null(strstr(log_of_open(-ENOMEM), "RLIMIT_MEMLOCK"));
    iommu->ops->destroy(iommu);

    /* And as if nothing had been. */
    create();
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    expect_set_iommu(VFIO_SPAPR_TCE_v2_IOMMU, 0);
    expect_info(&none, -EIO);
    fake_expect_leave(f, FAKE_GROUP);
    log_of_open(-EIO);
    expect_windows();
    assert_opens();
    assert_int_equal(iommu->info.n_ranges, 3);
    fake_expect_leave(f, FAKE_GROUP);
}

static void takes_one_group(void **state)
{
    const struct sysfs_device stranger = {.name = "0000:02:00.0", .group = 8};
    int fd = -1;

    (void)state;
    log_capture_start(&capture);
    assert_int_equal(iommu->ops->open_device(iommu, &stranger, &fd), -EBUSY);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(log_capture_end(&capture), "0000:02:00.0 is of another IOMMU group"));
}

static void expect_mmap(uint64_t size, int prot, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .fd = MEMORY, .len = size, .offset = OFFSET, .prot = prot,
                .value = VADDR, .ret = ret);
}

static void expect_memory_call(unsigned long request, uint64_t at, uint64_t size, int ret)
{
    const struct vfio_iommu_spapr_register_memory memory = {
        .argsz = sizeof(memory), .vaddr = VADDR + at, .size = size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = request, .in = &memory,
                .in_len = sizeof(memory), .ret = ret);
}

static void expect_register(uint64_t at, uint64_t size, int ret)
{
    expect_memory_call(VFIO_IOMMU_SPAPR_REGISTER_MEMORY, at, size, ret);
}

static void expect_unregister(uint64_t at, uint64_t size, int ret)
{
    expect_memory_call(VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, at, size, ret);
}

static void expect_map(uint32_t flags, uint64_t at, uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = flags,
        .vaddr = VADDR + at,
        .iova = IOVA + at,
        .size = size,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA,
                .in = &map, .in_len = sizeof(map), .ret = ret);
}

static void expect_unmap(uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = IOVA, .size = size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_UNMAP_DMA,
                .in = &unmap, .in_len = sizeof(unmap), .ret = ret);
}

static int map(uint64_t size, uint32_t prot, void **cookie)
{
    return iommu->ops->map(iommu, IOVA, size, prot, MEMORY, OFFSET, cookie);
}

static int unmap(uint64_t size, void *cookie)
{
    return iommu->ops->unmap(iommu, IOVA, size, cookie);
}

static void maps(void **state)
{
    static const struct {
        uint32_t prot, flags;
    } cases[] = {
        {IOMMU_READ,               READ        },
        {IOMMU_WRITE,              WRITE       },
        {IOMMU_READ | IOMMU_WRITE, READ | WRITE},
    };
    void *cookie;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_mmap(SIZE, PROT_READ | PROT_WRITE, 0);
        expect_register(0, SIZE, 0);
        expect_map(cases[i].flags, 0, SIZE, 0);
        assert_int_equal(map(SIZE, cases[i].prot, &cookie), 0);
        assert_int_equal(fake_mapping_count(f), 1);
        expect_unmap(SIZE, 0);
        expect_unregister(0, SIZE, 0);
        assert_int_equal(unmap(SIZE, cookie), 0);
        assert_int_equal(fake_mapping_count(f), 0);
    }
}

static void v1_maps_without_registering(void **state)
{
    void *cookie;

    (void)state;
    expect_mmap(SIZE, PROT_READ, 0);
    expect_map(READ, 0, SIZE, 0);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), 0);
    expect_unmap(SIZE, 0);
    assert_int_equal(unmap(SIZE, cookie), 0);
}

static void map_errors(void **state)
{
    static const struct {
        int ret, err;
    } cases[] = {
        {-ENOMEM, -ENOMEM},
        {-EFAULT, -EFAULT},
        {-ENXIO,  -ENXIO },
        {1,       -EINVAL}, /* so the kernel says that it does not like the address */
    };
    void *cookie = NULL;

    (void)state;
    expect_mmap(SIZE, 0, -EACCES);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), -EACCES);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_mmap(SIZE, 0, 0);
        expect_register(0, SIZE, cases[i].ret);
        assert_int_equal(map(SIZE, IOMMU_READ, &cookie), cases[i].err);
        assert_int_equal(fake_mapping_count(f), 0);

        expect_mmap(SIZE, 0, 0);
        expect_register(0, SIZE, 0);
        expect_map(READ, 0, SIZE, cases[i].ret);
        expect_unregister(0, SIZE, 0);
        assert_int_equal(map(SIZE, IOMMU_READ, &cookie), cases[i].err);
        assert_int_equal(fake_mapping_count(f), 0);
    }
    assert_null(cookie);
    assert_false(iommu->stray);
}

static void maps_in_chunks(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK, size = 2 * chunk + SIZE;
    void *cookie;

    (void)state;
    expect_mmap(size, 0, 0);
    expect_register(0, chunk, 0);
    expect_map(READ, 0, chunk, 0);
    expect_register(chunk, chunk, 0);
    expect_map(READ, chunk, chunk, 0);
    expect_register(2 * chunk, SIZE, 0);
    expect_map(READ, 2 * chunk, SIZE, 0);
    assert_int_equal(map(size, IOMMU_READ, &cookie), 0);
    expect_unmap(size, 0);
    expect_unregister(2 * chunk, SIZE, 0);
    expect_unregister(chunk, chunk, 0);
    expect_unregister(0, chunk, 0);
    assert_int_equal(unmap(size, cookie), 0);

    /* What was done before an error is undone. */
    expect_mmap(size, 0, 0);
    expect_register(0, chunk, 0);
    expect_map(READ, 0, chunk, 0);
    expect_register(chunk, chunk, 0);
    expect_map(READ, chunk, chunk, -ENOMEM);
    expect_unmap(chunk, 0);
    expect_unregister(chunk, chunk, 0);
    expect_unregister(0, chunk, 0);
    assert_int_equal(map(size, IOMMU_READ, &cookie), -ENOMEM);
    assert_int_equal(fake_mapping_count(f), 0);
    assert_false(iommu->stray);
}

/* The addresses stay taken: what is registered for them would be given to whoever maps them. */
static void undo_fails(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;
    void *cookie;

    (void)state;
    expect_mmap(2 * chunk, 0, 0);
    expect_register(0, chunk, 0);
    expect_map(READ, 0, chunk, 0);
    expect_register(chunk, chunk, -ENOMEM);
    expect_unmap(chunk, -EIO);
    assert_int_equal(map(2 * chunk, IOMMU_READ, &cookie), -ENOMEM);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_true(iommu->stray);
}

static void undo_of_registration_fails(void **state)
{
    void *cookie;

    (void)state;
    expect_mmap(SIZE, 0, 0);
    expect_register(0, SIZE, 0);
    expect_map(READ, 0, SIZE, -EIO);
    expect_unregister(0, SIZE, -EIO);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), -EIO);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_true(iommu->stray);
}

static void map_two_chunks(void **cookie)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;

    expect_mmap(2 * chunk, 0, 0);
    expect_register(0, chunk, 0);
    expect_map(READ, 0, chunk, 0);
    expect_register(chunk, chunk, 0);
    expect_map(READ, chunk, chunk, 0);
    assert_int_equal(map(2 * chunk, IOMMU_READ, cookie), 0);
}

/* What failed is as it was, and can be tried again. */
static void unmap_errors(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;
    void *cookie;

    (void)state;
    map_two_chunks(&cookie);
    expect_unmap(2 * chunk, -EIO);
    assert_int_equal(unmap(2 * chunk, cookie), -EIO);
    expect_unmap(2 * chunk, 1);
    assert_int_equal(unmap(2 * chunk, cookie), -EINVAL);
    expect_unmap(2 * chunk, 0);
    expect_unregister(chunk, chunk, 0);
    expect_unregister(0, chunk, -EBUSY);
    expect_map(READ, 0, chunk, 0);
    expect_register(chunk, chunk, 0);
    expect_map(READ, chunk, chunk, 0);
    assert_int_equal(unmap(2 * chunk, cookie), -EBUSY);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_false(iommu->stray);
    expect_unmap(2 * chunk, 0);
    expect_unregister(chunk, chunk, 0);
    expect_unregister(0, chunk, 0);
    assert_int_equal(unmap(2 * chunk, cookie), 0);
    assert_int_equal(fake_mapping_count(f), 0);
}

/* The memory stays pinned, and its addresses taken; but the device does not reach it. */
static void unmap_can_not_be_undone(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;
    void *cookie;

    (void)state;
    map_two_chunks(&cookie);
    expect_unmap(2 * chunk, 0);
    expect_unregister(chunk, chunk, -EIO);
    expect_map(READ, 0, chunk, 0);
    expect_map(READ, chunk, chunk, -ENOMEM);
    expect_unmap(chunk, 0);
    expect_unregister(chunk, chunk, -EIO);
    assert_int_equal(unmap(2 * chunk, cookie), 0);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_true(iommu->stray);
}

static void unmap_ends_in_the_middle(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;
    void *cookie;

    (void)state;
    map_two_chunks(&cookie);
    expect_unmap(2 * chunk, 0);
    expect_unregister(chunk, chunk, -EBUSY);
    expect_map(READ, 0, chunk, 0);
    expect_map(READ, chunk, chunk, -ENOMEM);
    expect_unmap(chunk, -EIO);
    assert_int_equal(unmap(2 * chunk, cookie), -EBUSY);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_true(iommu->stray);
    iommu->ops->abandon(iommu, 2 * chunk, cookie);
}

/* Not before the container is gone; teardown sees that it is then. */
static void abandoned_addresses_stay_taken(void **state)
{
    void *cookie;

    (void)state;
    expect_mmap(SIZE, 0, 0);
    expect_register(0, SIZE, 0);
    expect_map(READ, 0, SIZE, 0);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), 0);
    iommu->ops->abandon(iommu, SIZE, cookie);
    assert_int_equal(fake_mapping_count(f), 1);
}

static void no_peers(void **state)
{
    const struct iommu_peer peer = {.address = (void *)VADDR, .dmabuf = -1};
    void *cookie;

    (void)state;
    assert_int_equal(iommu->ops->map_peer(iommu, IOVA, SIZE, IOMMU_READ, &peer, 0, &cookie),
                     -EOPNOTSUPP);
}

static void eeh(void **state)
{
    struct vfio_eeh_pe_op op = {.argsz = sizeof(op), .op = VFIO_EEH_PE_GET_STATE};

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_EEH_PE_OP, .in = &op,
                .in_len = sizeof(op), .ret = 4);
    assert_int_equal(iommu->ops->eeh(iommu, &op), 4);
}

/* On the simulated kernel. */

struct machine {
    struct sim *sim;
    struct host *host;
    struct sysfs_device where;
    struct iommu *iommu;
    int device, memfd;
    int fds; /* of the process, before anything was opened */
};

static int boot(void **state, enum sim_iommu_model model)
{
    static struct machine m;
    char bdf[16];

    page_size = SMALL_PAGE;
    m = (struct machine){.sim = sim_create(), .device = -1, .memfd = -1};
    assert_non_null(m.sim);
    m.host = sim_host(m.sim);
    sim_set_iommu(m.sim, model);
    assert_int_equal(sim_add_device(m.sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sysfs_find_device(m.host, bdf, &m.where), 0);
    m.fds = fd_count_open();
    m.memfd = memfd_create("client", MFD_CLOEXEC);
    assert_int_equal(ftruncate(m.memfd, SIZE), 0);
    assert_int_equal(iommu_spapr_create(m.host, &m.iommu), 0);
    *state = &m;
    return 0;
}

static int boot_v1(void **state)
{
    return boot(state, SIM_IOMMU_SPAPR_V1);
}

static int boot_v2(void **state)
{
    return boot(state, SIM_IOMMU_SPAPR_V2);
}

static struct sim_stats stats_of(const struct machine *m)
{
    struct sim_stats stats;

    sim_get_stats(m->sim, &stats);
    return stats;
}

static int halt(void **state)
{
    struct machine *m = *state;
    struct sim_stats stats;

    host_close(m->host, &m->device);
    m->iommu->ops->destroy(m->iommu);
    fd_close(&m->memfd);
    stats = stats_of(m);
    assert_int_equal(stats.devices + stats.groups + stats.containers + stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(stats.locked_bytes, 0);
    assert_int_equal(fd_count_open(), m->fds);
    sim_destroy(m->sim);
    return 0;
}

static int open_machine_device(struct machine *m)
{
    return m->iommu->ops->open_device(m->iommu, &m->where, &m->device);
}

static int machine_map(struct machine *m, uint64_t iova, uint64_t size, void **cookie)
{
    return m->iommu->ops->map(m->iommu, iova, size, IOMMU_READ | IOMMU_WRITE, m->memfd, 0, cookie);
}

static void assert_reaches(struct machine *m, uint64_t iova)
{
    char buf[8] = "";

    assert_int_equal(pwrite(m->memfd, "client", 6, SMALL_PAGE), 6);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, iova + SMALL_PAGE, buf, 6, false), 0);
    assert_string_equal(buf, "client");
    memcpy(buf, "device", 6);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, iova + SMALL_PAGE, buf, 6, true), 0);
    assert_int_equal(pread(m->memfd, buf, 6, SMALL_PAGE), 6);
    assert_string_equal(buf, "device");
}

/* At the edges of each range that the backend tells; and not beside. */
static void reaches_the_clients_memory(void **state)
{
    struct machine *m = *state;
    const struct iommu_ops *ops = m->iommu->ops;
    char byte;

    assert_int_equal(iommu_best_kind(m->host, &m->where), IOMMU_SPAPR);
    assert_int_equal(open_machine_device(m), 0);
    assert_true(m->iommu->info.pgsizes == -(uint64_t)SMALL_PAGE);
    for (unsigned i = 0; i < m->iommu->info.n_ranges; i++) {
        const struct iommu_range *r = &m->iommu->info.ranges[i];
        const uint64_t at[] = {r->first, r->last - (SIZE - 1)};

        for (size_t k = 0; k < ARRAY_SIZE(at); k++) {
            void *cookie;

            assert_int_equal(machine_map(m, at[k], SIZE, &cookie), 0);
            assert_reaches(m, at[k]);
            assert_int_equal(sim_device_dma(m->sim, m->where.name, at[k] - 1, &byte, 1, false),
                             -EFAULT);
            assert_int_equal(stats_of(m).pinned_bytes, SIZE);
            assert_int_equal(ops->unmap(m->iommu, at[k], SIZE, cookie), 0);
            assert_int_equal(sim_device_dma(m->sim, m->where.name, at[k], &byte, 1, false),
                             -EFAULT);
            assert_int_equal(stats_of(m).pinned_bytes, 0);
        }
    }
}

static void mappings_outlive_the_device(void **state)
{
    struct machine *m = *state;
    void *cookie;

    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(machine_map(m, 0, SIZE, &cookie), 0);
    host_close(m->host, &m->device);
    assert_int_equal(stats_of(m).mappings, 1);
    assert_int_equal(open_machine_device(m), 0);
    assert_reaches(m, 0);
    assert_int_equal(m->iommu->ops->unmap(m->iommu, 0, SIZE, cookie), 0);
}

static void window_does_not_fit(void **state)
{
    struct machine *m = *state;

    sim_set_memlock(m->sim, 2 * GIB - 1);
    assert_int_equal(open_machine_device(m), -ENOMEM);
    assert_int_equal(stats_of(m).groups, 0);
    sim_set_memlock(m->sim, 2 * GIB);
    assert_int_equal(open_machine_device(m), 0);
    assert_true(stats_of(m).locked_bytes == 2 * GIB);
}

/* Windows that are too large for the limit give way to the default one. */
static void small_limit_on_locked_memory(void **state)
{
    struct machine *m = *state;
    uint64_t table = 2 * 8 * (2 * GIB / SMALL_PAGE); /* of one level */
    void *cookie;

    sim_set_memlock(m->sim, 2 * table);
    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(m->iommu->info.n_ranges, 1);
    assert_true(m->iommu->info.ranges[0].last == 2 * GIB - 1);
    assert_true(stats_of(m).locked_bytes <= 2 * table);
    assert_int_equal(machine_map(m, 0, SIZE, &cookie), 0);
    assert_int_equal(m->iommu->ops->unmap(m->iommu, 0, SIZE, cookie), 0);
}

/*
 * Another export's mapping must not be given the pages of one that was abandoned: the kernel would,
 * for the same address.
 */
static void abandoned_memory_is_nobody_elses(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int other = memfd_create("other", MFD_CLOEXEC);
    struct sysfs_device second;
    struct iommu *iommu2;
    void *cookie, *cookies[16];
    char bdf[16], buf[8] = "";
    int device2 = -1;

    assert_int_equal(ftruncate(other, SIZE), 0);
    assert_int_equal(sim_add_device(m->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sysfs_find_device(m->host, bdf, &second), 0);
    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(iommu_spapr_create(m->host, &iommu2), 0);
    assert_int_equal(iommu2->ops->open_device(iommu2, &second, &device2), 0);

    assert_int_equal(pwrite(m->memfd, "secret", 6, 0), 6);
    assert_int_equal(machine_map(m, 0, SIZE, &cookie), 0);
    m->iommu->ops->abandon(m->iommu, SIZE, cookie);
    for (size_t i = 0; i < ARRAY_SIZE(cookies); i++) {
        assert_int_equal(
            iommu2->ops->map(iommu2, i * SIZE, SIZE, IOMMU_READ, other, 0, &cookies[i]), 0);
        assert_int_equal(sim_device_dma(m->sim, bdf, i * SIZE, buf, 6, false), 0);
        assert_string_equal(buf, "");
    }
    for (size_t i = 0; i < ARRAY_SIZE(cookies); i++)
        assert_int_equal(iommu2->ops->unmap(iommu2, i * SIZE, SIZE, cookies[i]), 0);
    host_close(m->host, &device2);
    iommu2->ops->destroy(iommu2);
}

#define no_script(t) cmocka_unit_test_setup_teardown(t, setup_host, teardown_host)
#define created(t)   cmocka_unit_test_setup_teardown(t, setup_created, teardown_created)
#define on_v1(t)     cmocka_unit_test_setup_teardown(t, setup_v1, teardown)
#define on_v2(t)     cmocka_unit_test_setup_teardown(t, setup_v2, teardown)
#define on_sim_v1(t) cmocka_unit_test_setup_teardown(t, boot_v1, halt)
#define on_sim_v2(t) cmocka_unit_test_setup_teardown(t, boot_v2, halt)

int main(void)
{
    const struct CMUnitTest tests[] = {
        no_script(no_spapr),
        on_v2(windows),
        on_v1(window_of_v1),
        created(windows_as_they_can_be_had),
        created(device_does_not_open),
        on_v2(takes_one_group),
        on_v2(maps),
        on_v1(v1_maps_without_registering),
        on_v2(map_errors),
        on_v2(maps_in_chunks),
        on_v2(undo_fails),
        on_v2(undo_of_registration_fails),
        on_v2(unmap_errors),
        on_v2(unmap_can_not_be_undone),
        on_v2(unmap_ends_in_the_middle),
        on_v2(abandoned_addresses_stay_taken),
        on_v2(no_peers),
        on_v2(eeh),
        on_sim_v1(reaches_the_clients_memory),
        on_sim_v2(reaches_the_clients_memory),
        on_sim_v1(mappings_outlive_the_device),
        on_sim_v2(mappings_outlive_the_device),
        on_sim_v1(window_does_not_fit),
        on_sim_v2(small_limit_on_locked_memory),
        on_sim_v2(abandoned_memory_is_nobody_elses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
