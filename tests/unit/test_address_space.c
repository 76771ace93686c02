#include "bridge/address_space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"
#include "tests/unit/own_address_space.h"

enum {
    PAGE = 4096,
    MEMORY_SIZE = 64 * PAGE,
    RW = IOMMU_READ | IOMMU_WRITE,
    LIMIT = 6,
};

#define TOP      (UINT64_MAX - PAGE + 1)
#define VADDR(n) (0x7f0000000000 + (uint64_t)(n)*0x100000)

/* What the IOMMU can translate: a gap at 1 MiB, the top page of all. */
static const struct iommu_range ranges[] = {
    {0,        0xfffff   },
    {0x200000, UINT64_MAX}
};

static const struct sysfs_device device = {.name = FAKE_BDF, .group = FAKE_GROUP_NUMBER};

static struct fake_host *f;
static struct address_space *as;
static int memory;
static int fds_before;

static void expect_info(void)
{
    enum { AVAIL_AT = sizeof(struct vfio_iommu_type1_info), RANGES_AT = AVAIL_AT + 16 };
    const struct vfio_iommu_type1_info_cap_iova_range head = {
        .header = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE}, .nr_iovas = ARRAY_SIZE(ranges)};
    const struct vfio_iommu_type1_info_dma_avail avail = {
        .header = {.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .next = RANGES_AT},
          .avail = LIMIT
    };
    uint8_t answer[RANGES_AT + sizeof(head) + sizeof(ranges)] = {0};
    const struct vfio_iommu_type1_info info = {
        .argsz = sizeof(answer),
        .flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
        .iova_pgsizes = PAGE | 2 << 20,
        .cap_offset = AVAIL_AT,
    };

    memcpy(answer, &info, sizeof(info));
    memcpy(answer + AVAIL_AT, &avail, sizeof(avail));
    memcpy(answer + RANGES_AT, &head, sizeof(head));
    memcpy(answer + RANGES_AT + sizeof(head), ranges, sizeof(ranges));
    fake_expect_info(f, FAKE_CONTAINER, VFIO_IOMMU_GET_INFO, answer, sizeof(info), sizeof(answer));
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_CHECK_EXTENSION, .ret = 1);
}

static int setup(void **state)
{
    int fd;

    (void)state;
    fds_before = fd_count_open();
    memory = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(memory, MEMORY_SIZE), 0);
    f = fake_host_new();
    fake_expect_container(f);
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(f);
    expect_info();
    fake_expect_device_fd(f);
    assert_int_equal(own_address_space(fake_host_base(f), IOMMU_TYPE1, &as), 0);
    assert_int_equal(address_space_open_device(as, &device, &fd), 0);
    assert_int_equal(fd, FAKE_DEVICE);
    host_close(fake_host_base(f), &fd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_assert_done(f);
    fake_expect_leave(f, FAKE_GROUP);
    address_space_destroy(as);
    fake_host_free(f);
    fd_close(&memory);
    assert_int_equal(fd_count_open(), fds_before);
    return 0;
}

static void expect_mmap(uint64_t vaddr, uint64_t size, uint64_t offset, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .fd = memory, .value = vaddr, .len = size, .offset = offset,
                .ret = ret);
}

static void expect_map_ioctl(uint64_t vaddr, uint64_t iova, uint64_t size, uint32_t flags, int ret)
{
    const struct vfio_iommu_type1_dma_map map = {sizeof(map), flags, vaddr, iova, size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA,
                .in = &map, .in_len = sizeof(map), .ret = ret);
}

static void expect_unmap(uint64_t iova, uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = iova, .size = size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_UNMAP_DMA,
                .in = &unmap, .in_len = sizeof(unmap), .ret = ret);
}

/* A mapping of memory that succeeds, from the file's start on. */
static void map(uint64_t iova, uint64_t size)
{
    static unsigned n;

    n++;
    expect_mmap(VADDR(n), size, 0, 0);
    expect_map_ioctl(VADDR(n), iova, size, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, 0);
    assert_int_equal(address_space_map(as, iova, size, RW, memory, 0), 0);
}

static void unmap(uint64_t iova, uint64_t size)
{
    expect_unmap(iova, size, 0);
    assert_int_equal(address_space_unmap(as, iova, size), 0);
}

static void assert_stats(size_t maps, size_t unbacked, uint64_t backed_bytes)
{
    struct address_space_stats stats;

    address_space_get_stats(as, &stats);
    assert_int_equal(stats.maps, maps);
    assert_int_equal(stats.unbacked, unbacked);
    assert_int_equal(stats.backed_bytes, backed_bytes);
}

static void test_info(void **state)
{
    struct iommu_info now, *info = &now;

    (void)state;
    address_space_get_info(as, info);
    assert_int_equal(info->max_maps, LIMIT);
    assert_int_equal(info->n_ranges, 2);
    assert_memory_equal(info->ranges, ranges, sizeof(ranges));
}

static void test_map_and_unmap(void **state)
{
    (void)state;
    expect_mmap(VADDR(0), 3 * PAGE, 5 * PAGE, 0);
    expect_map_ioctl(VADDR(0), 0x8000, 3 * PAGE, VFIO_DMA_MAP_FLAG_READ, 0);
    assert_int_equal(address_space_map(as, 0x8000, 3 * PAGE, IOMMU_READ, memory, 5 * PAGE), 0);
    assert_stats(1, 0, 3 * PAGE);
    unmap(0x8000, 3 * PAGE);
    assert_stats(0, 0, 0);
    map(0x8000, PAGE); /* the place is free again */
    unmap(0x8000, PAGE);
}

/* Requests that are refused without a call to the host. */
static void test_refused(void **state)
{
    static const struct {
        uint64_t iova, size;
        uint32_t prot;
        uint64_t offset;
    } cases[] = {
        {0,          0,                  RW, 0          },
        {0,          PAGE,               0,  0          },
        {1,          PAGE,               RW, 0          },
        {0,          PAGE + 1,           RW, 0          },
        {0,          PAGE - 1,           RW, 0          },
        {0,          PAGE,               RW, 512        },
        {TOP,        2 * PAGE,           RW, 0          },
        {PAGE,       TOP,                RW, 0          },
        {UINT64_MAX, UINT64_MAX,         RW, 0          },
        {0x100000,   PAGE,               RW, 0          }, /* in the gap */
        {0x1ff000,   2 * PAGE,           RW, 0          }, /* half in it */
        {0xff000,    2 * PAGE,           RW, 0          },
        {0xff000,    0x102000,           RW, 0          }, /* across it */
        {0,          MEMORY_SIZE,        RW, PAGE       }, /* of the file */
        {0,          MEMORY_SIZE + PAGE, RW, 0          },
        {0,          PAGE,               RW, MEMORY_SIZE},
        {0,          PAGE,               RW, TOP        },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(address_space_map(as, cases[i].iova, cases[i].size, cases[i].prot, memory,
                                           cases[i].offset),
                         -EINVAL);
    assert_stats(0, 0, 0);
}

static void test_wrong_file(void **state)
{
    cleanup_close_ int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int pipes[2];

    (void)state;
    assert_int_equal(ftruncate(sealed, PAGE), 0);
    assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(address_space_map(as, 0, PAGE, IOMMU_WRITE, sealed, 0), -EPERM);
    assert_int_equal(address_space_map(as, 0, PAGE, IOMMU_READ, pipes[0], 0), -EINVAL);
    assert_int_equal(address_space_map(as, 0, PAGE, IOMMU_READ, FAKE_FD, 0), -EBADF);
    assert_stats(0, 0, 0);
    fd_close(&pipes[0]);
    fd_close(&pipes[1]);
}

static void test_unbacked(void **state)
{
    (void)state;
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, -1, 0), 0);
    /* The IOMMU does not see it, so its ranges don't matter. */
    assert_int_equal(address_space_map(as, 0x100000, PAGE, IOMMU_READ, -1, 0), 0);
    assert_stats(2, 2, 0);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, memory, 0), -EEXIST);
    assert_int_equal(address_space_map(as, 0x9001, PAGE, RW, -1, 0), -EINVAL);
    assert_int_equal(address_space_map(as, TOP, 2 * PAGE, RW, -1, 0), -EINVAL);
    assert_int_equal(address_space_unmap(as, 0x8000, PAGE), 0);
    assert_stats(1, 1, 0);
    assert_int_equal(address_space_unmap_all(as), 0);
    assert_stats(0, 0, 0);
}

static void test_overlap(void **state)
{
    (void)state;
    map(0x8000, 4 * PAGE);
    assert_int_equal(address_space_map(as, 0x8000, 4 * PAGE, RW, memory, 0), -EEXIST);
    assert_int_equal(address_space_map(as, 0x9000, PAGE, RW, memory, 0), -EEXIST);
    assert_int_equal(address_space_map(as, 0x7000, 2 * PAGE, RW, memory, 0), -EEXIST);
    assert_int_equal(address_space_map(as, 0xb000, 2 * PAGE, RW, -1, 0), -EEXIST);
    assert_int_equal(address_space_map(as, 0, 32 * PAGE, RW, -1, 0), -EEXIST);
    assert_stats(1, 0, 4 * PAGE);
    map(0x7000, PAGE);
    map(0xc000, PAGE);
    assert_stats(3, 0, 6 * PAGE);
    unmap(0x7000, PAGE);
    unmap(0x8000, 4 * PAGE);
    unmap(0xc000, PAGE);
}

static void test_limit(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LIMIT; i++)
        assert_int_equal(address_space_map(as, i * PAGE, PAGE, RW, -1, 0), 0);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, -1, 0), -ENOSPC);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, memory, 0), -ENOSPC);
    assert_int_equal(address_space_unmap(as, 0, PAGE), 0);
    map(0x8000, PAGE);
    assert_stats(LIMIT, LIMIT - 1, PAGE);
    unmap(0x8000, PAGE);
}

/* Nothing is changed, so the same request succeeds when the kernel lets it. */
static void test_map_errors(void **state)
{
    (void)state;
    expect_mmap(0, PAGE, 0, -ENOMEM);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, memory, 0), -ENOMEM);
    expect_mmap(VADDR(0), PAGE, 0, 0);
    expect_map_ioctl(VADDR(0), 0x8000, PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                     -EIO);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, memory, 0), -EIO);
    assert_stats(0, 0, 0);
    assert_int_equal(fake_mapping_count(f), 0);
    map(0x8000, PAGE);
    unmap(0x8000, PAGE);
}

static void test_unmap_must_match(void **state)
{
    (void)state;
    assert_int_equal(address_space_unmap(as, 0x8000, PAGE), -ENOENT);
    assert_int_equal(address_space_unmap(as, 0, 0), -ENOENT);
    map(0x8000, 4 * PAGE);
    map(0xc000, PAGE);
    assert_int_equal(address_space_unmap(as, 0x8000, PAGE), -EINVAL);     /* a part */
    assert_int_equal(address_space_unmap(as, 0x8000, 5 * PAGE), -EINVAL); /* both */
    assert_int_equal(address_space_unmap(as, 0x8000, 0), -EINVAL);
    assert_int_equal(address_space_unmap(as, 0x8000, UINT64_MAX), -EINVAL);
    assert_int_equal(address_space_unmap(as, 0x9000, 3 * PAGE), -ENOENT); /* its tail */
    assert_int_equal(address_space_unmap(as, 0x7000, 5 * PAGE), -ENOENT); /* around it */
    assert_int_equal(address_space_unmap(as, 0, UINT64_MAX), -ENOENT);
    assert_stats(2, 0, 5 * PAGE);
    unmap(0x8000, 4 * PAGE);
    unmap(0xc000, PAGE);
}

static void test_unmap_error(void **state)
{
    (void)state;
    map(0x8000, PAGE);
    expect_unmap(0x8000, PAGE, -EIO);
    assert_int_equal(address_space_unmap(as, 0x8000, PAGE), -EIO);
    assert_stats(1, 0, PAGE);
    assert_int_equal(address_space_map(as, 0x8000, PAGE, RW, memory, 0), -EEXIST);
    unmap(0x8000, PAGE);
    assert_stats(0, 0, 0);
}

/* Ascending, to the last page of all. */
static void test_unmap_all(void **state)
{
    (void)state;
    assert_int_equal(address_space_unmap_all(as), 0);
    map(TOP, PAGE);
    map(0, PAGE);
    map(0x200000, 2 * PAGE);
    assert_int_equal(address_space_map(as, 0x100000, PAGE, RW, -1, 0), 0);
    assert_stats(4, 1, 4 * PAGE);
    expect_unmap(0, PAGE, 0);
    expect_unmap(0x200000, 2 * PAGE, 0);
    expect_unmap(TOP, PAGE, 0);
    assert_int_equal(address_space_unmap_all(as), 0);
    assert_stats(0, 0, 0);
}

/* What fails stays, once each: a kernel that refuses for ever holds nobody up. */
static void test_unmap_all_with_errors(void **state)
{
    (void)state;
    map(0, PAGE);
    map(0x8000, PAGE);
    map(TOP, PAGE);
    expect_unmap(0, PAGE, -EIO);
    expect_unmap(0x8000, PAGE, 0);
    expect_unmap(TOP, PAGE, -EBUSY);
    assert_int_equal(address_space_unmap_all(as), -EIO);
    assert_stats(2, 0, 2 * PAGE);
    expect_unmap(0, PAGE, 0);
    expect_unmap(TOP, PAGE, 0);
    assert_int_equal(address_space_unmap_all(as), 0);
}

static void test_destroy_unmaps(void **state)
{
    (void)state;
    map(0x8000, PAGE);
    map(0xa000, PAGE);
    assert_int_equal(address_space_map(as, 0xc000, PAGE, RW, -1, 0), 0);
    expect_unmap(0x8000, PAGE, 0);
    expect_unmap(0xa000, PAGE, 0);
    fake_expect_leave(f, FAKE_GROUP);
    address_space_destroy(as);
    fake_host_free(f);
    fd_close(&memory);
}

/* A kernel that refuses: the process must not keep the client's memory all the same. */
static void test_destroy_with_errors(void **state)
{
    (void)state;
    map(0x8000, PAGE);
    map(0xa000, PAGE);
    expect_unmap(0x8000, PAGE, -EIO);
    expect_unmap(0xa000, PAGE, -EIO);
    fake_expect_leave(f, FAKE_GROUP);
    address_space_destroy(as);
    fake_host_free(f);
    fd_close(&memory);
}

static void test_destroy_null(void **state)
{
    (void)state;
    address_space_destroy(NULL);
}

static void test_create_error(void **state)
{
    struct fake_host *host = fake_host_new();
    struct address_space *none = (struct address_space *)&memory;

    (void)state;
    FAKE_EXPECT(host, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = -ENOENT);
    assert_int_equal(own_address_space(fake_host_base(host), IOMMU_TYPE1, &none), -ENOENT);
    assert_ptr_equal(none, &memory);
    fake_host_free(host);
}

#define as_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        as_test(test_info),
        as_test(test_map_and_unmap),
        as_test(test_refused),
        as_test(test_wrong_file),
        as_test(test_unbacked),
        as_test(test_overlap),
        as_test(test_limit),
        as_test(test_map_errors),
        as_test(test_unmap_must_match),
        as_test(test_unmap_error),
        as_test(test_unmap_all),
        as_test(test_unmap_all_with_errors),
        cmocka_unit_test_setup(test_destroy_unmaps, setup),
        cmocka_unit_test_setup(test_destroy_with_errors, setup),
        cmocka_unit_test(test_destroy_null),
        cmocka_unit_test(test_create_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
