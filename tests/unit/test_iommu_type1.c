#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "bridge/iommu.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"

enum {
    SECOND_GROUP = FAKE_DEVICE + 1,
    OTHER_DEVICE,
    INFO_SIZE = sizeof(struct vfio_iommu_type1_info),
};

static const struct sysfs_device device = {.name = FAKE_BDF, .group = FAKE_GROUP_NUMBER};
static const struct sysfs_device sibling = {.name = "0000:01:00.1", .group = FAKE_GROUP_NUMBER};
static const struct sysfs_device stranger = {.name = "0000:02:00.0", .group = 8};

static struct fake_host *f;
static struct iommu *iommu;
static struct log_capture capture;

static int setup_host(void **state)
{
    (void)state;
    f = fake_host_new();
    return 0;
}

static int teardown_host(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    fake_host_free(f);
    return 0;
}

static void create(void)
{
    fake_expect_container(f);
    assert_int_equal(iommu_type1_create(fake_host_base(f), &iommu), 0);
}

static void expect_first_group(void)
{
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(f);
    fake_expect_iommu_info(f);
}

static int open_device(const struct sysfs_device *dev, int *fd)
{
    return iommu->ops->open_device(iommu, dev, fd);
}

/* Opens what the script has been told, and closes it. */
static void assert_opens(const struct sysfs_device *dev, int expected)
{
    int fd = -1;

    assert_int_equal(open_device(dev, &fd), 0);
    assert_int_equal(fd, expected);
    host_close(fake_host_base(f), &fd);
}

static void assert_open_fails(const struct sysfs_device *dev, int err)
{
    int fd = -1;

    assert_int_equal(open_device(dev, &fd), err);
    assert_int_equal(fd, -1);
}

static int setup(void **state)
{
    setup_host(state);
    create();
    expect_first_group();
    fake_expect_device_fd(f);
    assert_opens(&device, FAKE_DEVICE);
    return 0;
}

static int teardown(void **state)
{
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);
    return teardown_host(state);
}

static const char *log_of_create(int err)
{
    struct iommu *none = (struct iommu *)&capture;

    log_capture_start(&capture);
    assert_int_equal(iommu_type1_create(fake_host_base(f), &none), err);
    assert_ptr_equal(none, &capture);
    return log_capture_end(&capture);
}

static void test_no_container(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-ENOENT, "modprobe vfio-pci"     },
        {-ENODEV, "modprobe vfio-pci"     },
        {-EACCES, "run vfio-userd as root"},
        {-EPERM,  "run vfio-userd as root"},
        {-EMFILE, "Too many open files"   },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = cases[i].err);
        assert_non_null(strstr(log_of_create(cases[i].err), cases[i].log));
    }
}

static void expect_version(int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = FAKE_CONTAINER);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GET_API_VERSION, .ret = ret);
}

static void expect_extension(int ret)
{
    expect_version(VFIO_API_VERSION);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_CHECK_EXTENSION, .value = VFIO_TYPE1v2_IOMMU,
                .ret = ret);
}

static void test_container_of_another_kind(void **state)
{
    (void)state;
    expect_version(1);
    assert_non_null(strstr(log_of_create(-EPROTO), "API version 1"));
    expect_version(-ENOTTY);
    log_of_create(-EPROTO);
    expect_extension(0);
    assert_non_null(strstr(log_of_create(-ENODEV), "modprobe vfio_iommu_type1"));
    expect_extension(-EINVAL);
    log_of_create(-ENODEV);
}

static void test_destroy_unused(void **state)
{
    (void)state;
    create();
    iommu->ops->destroy(iommu);
}

static void test_group_does_not_open(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-EBUSY,  "another process has /dev/vfio/7 open"},
        {-EACCES, "chown USER /dev/vfio/7"              },
        {-EPERM,  "chown USER /dev/vfio/7"              },
        {-ENOENT, "no /dev/vfio/7"                      },
        {-EIO,    "Input/output error"                  },
    };

    (void)state;
    create();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/7", .ret = cases[i].err);
        log_capture_start(&capture);
        assert_open_fails(&device, cases[i].err);
        assert_non_null(strstr(log_capture_end(&capture), cases[i].log));
    }
    iommu->ops->destroy(iommu);
}

static void expect_status(uint32_t flags, int ret)
{
    const struct vfio_group_status status = {sizeof(status), flags};

    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/7", .ret = FAKE_GROUP);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_GROUP, .request = VFIO_GROUP_GET_STATUS,
                .out = &status, .out_len = sizeof(status), .ret = ret);
}

static void test_group_not_viable(void **state)
{
    static const char driver[] = "../drivers/nvme";

    (void)state;
    create();
    expect_status(0, 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .path = "/sys/kernel/iommu_groups/7/devices",
                .names = "0000:01:00.1");
    FAKE_EXPECT(f, .kind = FAKE_READLINK,
                .path = "/sys/kernel/iommu_groups/7/devices/0000:01:00.1/driver", .out = driver,
                .out_len = strlen(driver));
    FAKE_EXPECT(f, .kind = FAKE_LIST,
                .path = "/sys/kernel/iommu_groups/7/devices/0000:01:00.1/vfio-dev", .ret = -ENOENT);
    fake_expect_leave(f, FAKE_GROUP);
    log_capture_start(&capture);
    assert_open_fails(&device, -EBUSY);
    assert_non_null(strstr(log_capture_end(&capture), "0000:01:00.1 in it is bound to nvme"));

    expect_status(0, 0);
    FAKE_EXPECT(f, .kind = FAKE_LIST, .ret = -ENOENT);
    fake_expect_leave(f, FAKE_GROUP);
    assert_open_fails(&device, -EBUSY);

    expect_status(VFIO_GROUP_FLAGS_VIABLE, -EIO);
    fake_expect_leave(f, FAKE_GROUP);
    assert_open_fails(&device, -EIO);
    iommu->ops->destroy(iommu);
}

static void test_group_does_not_join(void **state)
{
    (void)state;
    create();
    expect_status(VFIO_GROUP_FLAGS_VIABLE, 0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_SET_CONTAINER, .ret = -EINVAL);
    fake_expect_leave(f, FAKE_GROUP);
    assert_open_fails(&device, -EINVAL);
    iommu->ops->destroy(iommu);
}

static void test_model_refused(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-EPERM,  "allow_unsafe_interrupts"},
        {-ENODEV, "No such device"         },
    };

    (void)state;
    create();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
        FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_SET_IOMMU,
                    .value = VFIO_TYPE1v2_IOMMU, .ret = cases[i].err);
        fake_expect_leave(f, FAKE_GROUP);
        log_capture_start(&capture);
        assert_open_fails(&device, cases[i].err);
        assert_non_null(strstr(log_capture_end(&capture), cases[i].log));
    }
    iommu->ops->destroy(iommu);
}

/* The kernel drops the model with the last group, so the next group has to set it again. */
static void test_model_is_set_again(void **state)
{
    (void)state;
    create();
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(f);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_GET_INFO, .ret = -EIO);
    fake_expect_leave(f, FAKE_GROUP);
    assert_open_fails(&device, -EIO);

    expect_first_group();
    fake_expect_device_fd(f);
    assert_opens(&device, FAKE_DEVICE);
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);
}

/* The group stays in the container: it is found there when the device is opened again. */
static void test_device_does_not_open(void **state)
{
    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -ENODEV);
    assert_open_fails(&device, -ENODEV);
    fake_expect_device_fd(f);
    assert_opens(&device, FAKE_DEVICE);
}

static void test_sibling(void **state)
{
    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_GROUP, .request = VFIO_GROUP_GET_DEVICE_FD,
                .in = sibling.name, .in_len = sizeof(FAKE_BDF), .opens = true, .ret = OTHER_DEVICE);
    assert_opens(&sibling, OTHER_DEVICE);
}

static void test_second_group(void **state)
{
    (void)state;
    fake_expect_group(f, stranger.group, SECOND_GROUP);
    fake_expect_iommu_info(f);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = SECOND_GROUP, .request = VFIO_GROUP_GET_DEVICE_FD,
                .in = stranger.name, .in_len = sizeof(FAKE_BDF), .opens = true,
                .ret = OTHER_DEVICE);
    assert_opens(&stranger, OTHER_DEVICE);
    fake_expect_leave(f, SECOND_GROUP);
}

static void test_second_group_fails(void **state)
{
    (void)state;
    fake_expect_group(f, stranger.group, SECOND_GROUP);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_GET_INFO, .ret = -EIO);
    fake_expect_leave(f, SECOND_GROUP);
    assert_open_fails(&stranger, -EIO);
    /* The first one is as it was; the model is not set again for the next. */
    fake_expect_device_fd(f);
    assert_opens(&device, FAKE_DEVICE);
    test_second_group(state);
}

/* An answer to IOMMU_GET_INFO, grown by capabilities. */
struct answer {
    uint8_t bytes[4096];
    size_t len;
    size_t last; /* capability; 0: none */
};

static void answer_init(struct answer *a, uint32_t flags, uint64_t pgsizes)
{
    const struct vfio_iommu_type1_info info = {.flags = flags, .iova_pgsizes = pgsizes};

    memset(a, 0, sizeof(*a));
    memcpy(a->bytes, &info, sizeof(info));
    a->len = sizeof(info);
}

static void put32(struct answer *a, size_t at, size_t value)
{
    const uint32_t v = (uint32_t)value;

    memcpy(a->bytes + at, &v, sizeof(v));
}

/* The kernel of Linux 6.1 leaves capabilities at any multiple of 4, as their sizes give it. */
static void answer_add(struct answer *a, const void *cap, size_t len)
{
    put32(a,
          a->last ? a->last + offsetof(struct vfio_info_cap_header, next)
                  : offsetof(struct vfio_iommu_type1_info, cap_offset),
          a->len);
    memcpy(a->bytes + a->len, cap, len);
    a->last = a->len;
    a->len += len;
}

static void answer_add_avail(struct answer *a, uint32_t avail)
{
    const struct vfio_iommu_type1_info_dma_avail cap = {
        .header = {.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, .version = 1},
        .avail = avail,
    };

    answer_add(a, &cap, sizeof(cap));
}

/* says: how many ranges the capability says that it has. */
static void answer_add_ranges(struct answer *a, const struct iommu_range *ranges, size_t n,
                              uint32_t says)
{
    const struct vfio_iommu_type1_info_cap_iova_range cap = {
        .header = {.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, .version = 1},
        .nr_iovas = says,
    };

    answer_add(a, &cap, sizeof(cap));
    memcpy(a->bytes + a->len, ranges, n * sizeof(*ranges));
    a->len += n * sizeof(*ranges);
}

/* Opens the device of a machine whose IOMMU answers so, and gives what was made of it. */
static struct iommu_info info_of(struct answer *a, int coherent)
{
    struct iommu_info info;

    put32(a, 0, a->len);
    setup_host(NULL);
    create();
    fake_expect_group(f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(f);
    fake_expect_info(f, FAKE_CONTAINER, VFIO_IOMMU_GET_INFO, a->bytes, INFO_SIZE, a->len);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_CHECK_EXTENSION, .value = VFIO_DMA_CC_IOMMU,
                .ret = coherent);
    fake_expect_device_fd(f);
    assert_opens(&device, FAKE_DEVICE);
    info = iommu->info;
    fake_expect_leave(f, FAKE_GROUP);
    iommu->ops->destroy(iommu);
    teardown_host(NULL);
    return info;
}

static void test_info_without_capabilities(void **state)
{
    struct answer a;
    struct iommu_info info;

    (void)state;
    answer_init(&a, VFIO_IOMMU_INFO_PGSIZES, 0x40201000);
    info = info_of(&a, 1);
    assert_int_equal(info.pgsizes, 0x40201000);
    assert_int_equal(info.max_maps, 65535);
    assert_int_equal(info.n_ranges, 1);
    assert_int_equal(info.ranges[0].first, 0);
    assert_int_equal(info.ranges[0].last, UINT64_MAX);
    assert_true(info.coherent);

    answer_init(&a, 0, 0x40201000);
    info = info_of(&a, 0);
    assert_int_equal(info.pgsizes, 4096);
    assert_false(info.coherent);

    answer_init(&a, 0, 0);
    assert_false(info_of(&a, -EIO).coherent);
}

static const struct iommu_range two_ranges[] = {
    {0,          0xfedfffff    },
    {0xfef00000, 0x7fffffffffff}
};

static void assert_two_ranges(const struct iommu_info *info)
{
    assert_int_equal(info->n_ranges, 2);
    assert_memory_equal(info->ranges, two_ranges, sizeof(two_ranges));
}

static void test_info_capabilities(void **state)
{
    struct answer a;
    struct iommu_info info;

    (void)state;
    answer_init(&a, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS, 4096);
    answer_add(&a, &(struct vfio_info_cap_header){.id = 0x7777}, 8);
    answer_add_ranges(&a, two_ranges, 2, 2);
    answer_add_avail(&a, 1000);
    info = info_of(&a, 1);
    assert_two_ranges(&info);
    assert_int_equal(info.max_maps, 1000);
}

/* The number of entries that are left has 12 bytes, and what follows it is not aligned. */
static void test_info_capability_misaligned(void **state)
{
    struct answer a;
    struct iommu_info info;

    (void)state;
    answer_init(&a, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS, 4096);
    answer_add_avail(&a, 1000);
    assert_int_equal(a.len % 8, 4);
    answer_add_ranges(&a, two_ranges, 2, 2);
    info = info_of(&a, 1);
    assert_two_ranges(&info);
    assert_int_equal(info.max_maps, 1000);
}

/* A chain that the flag does not tell of is none. */
static void test_info_flag(void **state)
{
    struct answer a;

    (void)state;
    answer_init(&a, VFIO_IOMMU_INFO_PGSIZES, 4096);
    answer_add_avail(&a, 1000);
    assert_int_equal(info_of(&a, 1).max_maps, 65535);
}

static void test_info_lies(void **state)
{
    struct iommu_range many[IOMMU_MAX_RANGES + 6];
    struct answer a;
    struct iommu_info info;

    (void)state;
    /* More ranges than the answer holds. */
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_ranges(&a, two_ranges, 2, UINT32_MAX);
    info = info_of(&a, 1);
    assert_two_ranges(&info);
    /* Fewer. */
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_ranges(&a, two_ranges, 2, 1);
    assert_int_equal(info_of(&a, 1).n_ranges, 1);
    /* None: nothing can be mapped. */
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_ranges(&a, two_ranges, 2, 0);
    assert_int_equal(info_of(&a, 1).n_ranges, 0);
    /* More than are kept: the first ones are. */
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = (struct iommu_range){i * 0x10000, i * 0x10000 + 0xfff};
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_ranges(&a, many, ARRAY_SIZE(many), ARRAY_SIZE(many));
    info = info_of(&a, 1);
    assert_int_equal(info.n_ranges, IOMMU_MAX_RANGES);
    assert_memory_equal(info.ranges, many, sizeof(info.ranges));
}

/* Cut off within the fixed part of a capability: it is not looked at. */
static void test_info_truncated(void **state)
{
    struct answer a;

    (void)state;
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_avail(&a, 1000);
    a.len -= 4;
    assert_int_equal(info_of(&a, 1).max_maps, 65535);
    answer_init(&a, VFIO_IOMMU_INFO_CAPS, 0);
    answer_add_ranges(&a, two_ranges, 0, 2);
    a.len -= 8;
    assert_int_equal(info_of(&a, 1).n_ranges, 1);
}

enum {
    VADDR = 0x7f0000000000,
    IOVA = 0x100000,
    SIZE = 0x3000,
    OFFSET = 0x5000,
    MEMORY = 77, /* a client's descriptor; the fake host does not look at it */
};

static void expect_mmap(int prot, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .fd = MEMORY, .len = SIZE, .offset = OFFSET, .prot = prot,
                .value = VADDR, .ret = ret);
}

static void expect_map(uint32_t flags, int ret)
{
    const struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = flags,
        .vaddr = VADDR,
        .iova = IOVA,
        .size = SIZE,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA,
                .in = &map, .in_len = sizeof(map), .ret = ret);
}

static void expect_unmap(uint64_t unmapped, int ret)
{
    const struct vfio_iommu_type1_dma_unmap asked = {
        .argsz = sizeof(asked), .iova = IOVA, .size = SIZE};
    const struct vfio_iommu_type1_dma_unmap answer = {
        .argsz = sizeof(asked), .iova = IOVA, .size = unmapped};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_UNMAP_DMA,
                .in = &asked, .in_len = sizeof(asked), .out = &answer, .out_len = sizeof(answer),
                .ret = ret);
}

static int map(uint32_t prot, void **cookie)
{
    return iommu->ops->map(iommu, IOVA, SIZE, prot, MEMORY, OFFSET, cookie);
}

static void test_map(void **state)
{
    static const struct {
        uint32_t prot, flags;
        int mmap_prot;
    } cases[] = {
        {IOMMU_READ,               VFIO_DMA_MAP_FLAG_READ,                           PROT_READ             },
 /* The kernel reads before it writes, so the process needs both rights. */
        {IOMMU_WRITE,              VFIO_DMA_MAP_FLAG_WRITE,                          PROT_READ | PROT_WRITE},
        {IOMMU_READ | IOMMU_WRITE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
         PROT_READ | PROT_WRITE                                                                            },
    };
    void *cookie;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_mmap(cases[i].mmap_prot, 0);
        expect_map(cases[i].flags, 0);
        assert_int_equal(map(cases[i].prot, &cookie), 0);
        assert_int_equal(fake_mapping_count(f), 1);
        expect_unmap(SIZE, 0);
        assert_int_equal(iommu->ops->unmap(iommu, IOVA, SIZE, cookie), 0);
        assert_int_equal(fake_mapping_count(f), 0);
    }
}

static void test_map_errors(void **state)
{
    static const int errors[] = {-EEXIST, -ENOSPC, -EFAULT, -ENOMEM, -EINVAL, -EIO};
    void *cookie = NULL;

    (void)state;
    expect_mmap(PROT_READ, -EACCES);
    assert_int_equal(map(IOMMU_READ, &cookie), -EACCES);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_mmap(PROT_READ, 0);
        expect_map(VFIO_DMA_MAP_FLAG_READ, errors[i]);
        assert_int_equal(map(IOMMU_READ, &cookie), errors[i]);
        assert_int_equal(fake_mapping_count(f), 0);
        assert_null(cookie);
    }
}

static void expect_chunk(uint64_t at, uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_map chunk = {
        .argsz = sizeof(chunk),
        .flags = VFIO_DMA_MAP_FLAG_READ,
        .vaddr = VADDR + at,
        .iova = IOVA + at,
        .size = size,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_MAP_DMA, .in = &chunk,
                .in_len = sizeof(chunk), .ret = ret);
}

static void expect_unmap_of(uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = IOVA, .size = size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_UNMAP_DMA, .in = &unmap,
                .in_len = sizeof(unmap), .ret = ret);
}

/* Pinned piece by piece, unmapped as one; what was pinned before an error is unmapped again. */
static void test_map_in_chunks(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK, size = 2 * chunk + SIZE;
    void *cookie;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .len = size, .value = VADDR);
    expect_chunk(0, chunk, 0);
    expect_chunk(chunk, chunk, 0);
    expect_chunk(2 * chunk, SIZE, 0);
    assert_int_equal(iommu->ops->map(iommu, IOVA, size, IOMMU_READ, MEMORY, 0, &cookie), 0);
    expect_unmap_of(size, 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, size, cookie), 0);

    FAKE_EXPECT(f, .kind = FAKE_MMAP, .len = size, .value = VADDR);
    expect_chunk(0, chunk, 0);
    expect_chunk(chunk, chunk, 0);
    expect_chunk(2 * chunk, SIZE, -ENOMEM);
    expect_unmap_of(2 * chunk, 0);
    assert_int_equal(iommu->ops->map(iommu, IOVA, size, IOMMU_READ, MEMORY, 0, &cookie), -ENOMEM);
    assert_int_equal(fake_mapping_count(f), 0);
    assert_false(iommu->stray);
}

/* What could not be undone is told: the kernel has more than anybody's table. */
static void test_undo_fails(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK;
    void *cookie;

    (void)state;
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .len = 2 * chunk, .value = VADDR);
    expect_chunk(0, chunk, 0);
    expect_chunk(chunk, chunk, -ENOMEM);
    expect_unmap_of(chunk, -EIO);
    assert_int_equal(iommu->ops->map(iommu, IOVA, 2 * chunk, IOMMU_READ, MEMORY, 0, &cookie),
                     -ENOMEM);
    assert_int_equal(fake_mapping_count(f), 0);
    assert_true(iommu->stray);
}

/* What an operator has to change is said. */
static void test_locked_memory(void **state)
{
    struct rlimit before, low;
    void *cookie;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &before), 0);
    low = (struct rlimit){.rlim_cur = 65536, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &low), 0);
    expect_mmap(PROT_READ, 0);
    expect_map(VFIO_DMA_MAP_FLAG_READ, -ENOMEM);
    log_capture_start(&capture);
    assert_int_equal(map(IOMMU_READ, &cookie), -ENOMEM);
    assert_non_null(strstr(log_capture_end(&capture), "(RLIMIT_MEMLOCK) is 65536 bytes"));
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

/* The memory stays mapped in this process: the device may still reach it. */
static void test_unmap_errors(void **state)
{
    void *cookie;

    (void)state;
    expect_mmap(PROT_READ, 0);
    expect_map(VFIO_DMA_MAP_FLAG_READ, 0);
    assert_int_equal(map(IOMMU_READ, &cookie), 0);
    expect_unmap(SIZE, -EIO);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, SIZE, cookie), -EIO);
    expect_unmap(SIZE - 0x1000, 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, SIZE, cookie), -EIO);
    expect_unmap(0, 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, SIZE, cookie), -EIO);
    assert_int_equal(fake_mapping_count(f), 1);
    expect_unmap(SIZE, 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, SIZE, cookie), 0);
}

/* Before destroy, for what could not be unmapped. */
static void test_abandon(void **state)
{
    void *cookie;

    (void)state;
    expect_mmap(PROT_READ, 0);
    expect_map(VFIO_DMA_MAP_FLAG_READ, 0);
    assert_int_equal(map(IOMMU_READ, &cookie), 0);
    iommu->ops->abandon(iommu, SIZE, cookie);
    assert_int_equal(fake_mapping_count(f), 0);
}

#define host_test(t)   cmocka_unit_test_setup_teardown(t, setup_host, teardown_host)
#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        host_test(test_no_container),
        host_test(test_container_of_another_kind),
        host_test(test_destroy_unused),
        host_test(test_group_does_not_open),
        host_test(test_group_not_viable),
        host_test(test_group_does_not_join),
        host_test(test_model_refused),
        host_test(test_model_is_set_again),
        device_test(test_device_does_not_open),
        device_test(test_sibling),
        device_test(test_second_group),
        device_test(test_second_group_fails),
        cmocka_unit_test(test_info_without_capabilities),
        cmocka_unit_test(test_info_capabilities),
        cmocka_unit_test(test_info_capability_misaligned),
        cmocka_unit_test(test_info_flag),
        cmocka_unit_test(test_info_lies),
        cmocka_unit_test(test_info_truncated),
        device_test(test_map),
        device_test(test_map_errors),
        device_test(test_map_in_chunks),
        device_test(test_undo_fails),
        device_test(test_locked_memory),
        device_test(test_unmap_errors),
        device_test(test_abandon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
