#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/sim/sim.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/unit/fake_host.h"
#include "tests/unit/log_capture.h"

/* By a scripted host: what is called, and every error. */

enum {
    CONTEXT = FAKE_FD,
    CDEV,
    CONTAINER,
    IOAS = 5,
    HWPT = 9,
    PAGE = 4096,
    SIZE = 4 * PAGE,
    OFFSET = 0x3000,
    VADDR = 0x40000000,
    READABLE = UAPI_IOAS_MAP_READABLE,
    WRITEABLE = UAPI_IOAS_MAP_WRITEABLE,
};

#define IOVA UINT64_C(0x100000000)

static const struct sysfs_device device = {.name = "0000:01:00.0", .group = 7, .cdev = "vfio2"};

static struct fake_host *f;
static struct iommufd_context *context;
static struct iommu *iommu;
static struct log_capture capture;
static int memory; /* the client's descriptor */

static int setup_host(void **state)
{
    (void)state;
    f = fake_host_new();
    memory = memfd_create("client", MFD_CLOEXEC);
    return memory < 0;
}

static int teardown_host(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    fake_host_free(f);
    fd_close(&memory);
    return 0;
}

static bool hw_info_was_asked;

static void expect_alloc(int ret)
{
    const struct uapi_ioas_alloc in = {.size = sizeof(in)};
    const struct uapi_ioas_alloc out = {.size = sizeof(out), .out_ioas_id = IOAS};

    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/iommu", .ret = CONTEXT);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_IOAS_ALLOC, .in = &in,
                .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

static int setup(void **state)
{
    setup_host(state);
    hw_info_was_asked = false;
    expect_alloc(0);
    assert_int_equal(iommufd_context_create(fake_host_base(f), &context), 0);
    assert_int_equal(iommu_iommufd_create(context, &iommu), 0);
    assert_string_equal(iommu->ops->name, "iommufd");
    return 0;
}

static int teardown(void **state)
{
    const struct uapi_iommu_destroy destroy = {.size = sizeof(destroy), .id = IOAS};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_DESTROY, .in = &destroy,
                .in_len = sizeof(destroy));
    iommu->ops->destroy(iommu);
    iommufd_context_destroy(context);
    return teardown_host(state);
}

static const char *log_of_create(int err)
{
    struct iommu *none = (struct iommu *)&capture;
    int ret;

    log_capture_start(&capture);
    ret = iommufd_context_create(fake_host_base(f), &context);
    if (!ret) {
        ret = iommu_iommufd_create(context, &none);
        iommufd_context_destroy(context);
    }
    assert_int_equal(ret, err);
    assert_ptr_equal(none, &capture);
    return log_capture_end(&capture);
}

static void no_context(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-ENOENT, "--iommu type1 does without"},
        {-EACCES, "run vfio-userd as root"    },
        {-EMFILE, "Too many open files"       },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/iommu", .ret = cases[i].err);
        assert_non_null(strstr(log_of_create(cases[i].err), cases[i].log));
    }
    expect_alloc(-ENOMEM);
    assert_non_null(strstr(log_of_create(-ENOMEM), "IOAS_ALLOC"));
    assert_int_equal(fake_open_count(f), 0);
}

static void expect_bind(int ret)
{
    const struct uapi_vfio_bind_iommufd bind = {.argsz = UAPI_VFIO_BIND_MIN_SIZE,
                                                .iommufd = CONTEXT};

    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/devices/vfio2", .ret = CDEV);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CDEV, .request = UAPI_VFIO_DEVICE_BIND_IOMMUFD,
                .in = &bind, .in_len = UAPI_VFIO_BIND_MIN_SIZE, .ret = ret);
}

/* What the IOMMU can is asked once, after the first bind. */
static void expect_hw_info(uint64_t capabilities, int ret)
{
    const struct uapi_hw_info in = {.size = sizeof(in)};
    const struct uapi_hw_info out = {.size = sizeof(out), .out_capabilities = capabilities};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_GET_HW_INFO, .in = &in,
                .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

static void expect_attach(int ret)
{
    const struct uapi_vfio_attach_pt in = {.argsz = sizeof(in), .pt_id = IOAS};
    const struct uapi_vfio_attach_pt out = {.argsz = sizeof(out), .pt_id = HWPT};

    expect_bind(0);
    if (!hw_info_was_asked)
        expect_hw_info(0, -ENOTTY);
    hw_info_was_asked = true;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CDEV, .request = UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                .in = &in, .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

/* The array itself is the caller's. */
static void expect_range_info(uint32_t count, uint64_t alignment, int ret)
{
    const struct {
        uint32_t size, ioas_id, num_iovas;
    } in = {sizeof(struct uapi_ioas_iova_ranges), IOAS, IOMMU_MAX_RANGES};
    const struct uapi_ioas_iova_ranges out = {
        .size = sizeof(out),
        .ioas_id = IOAS,
        .num_iovas = count,
        .out_iova_alignment = alignment,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_IOAS_IOVA_RANGES,
                .in = &in, .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

static void expect_ranges(uint32_t count, uint64_t alignment, int ret)
{
    expect_attach(0);
    expect_range_info(count, alignment, ret);
}

static const char *log_of_open(const struct sysfs_device *dev, int err)
{
    int fd = -1;

    log_capture_start(&capture);
    assert_int_equal(iommu->ops->open_device(iommu, dev, &fd), err);
    assert_int_equal(fd, -1);
    assert_int_equal(fake_open_count(f), 1); /* the context */
    return log_capture_end(&capture);
}

static void opens_a_device(void **state)
{
    int fd = -1;

    (void)state;
    expect_ranges(2, 0x4000, 0);
    assert_int_equal(iommu->ops->open_device(iommu, &device, &fd), 0);
    assert_int_equal(fd, CDEV);
    assert_true(iommu->info.pgsizes == -UINT64_C(0x4000));
    assert_int_equal(iommu->info.max_maps, IOMMU_NO_MAP_LIMIT);
    assert_int_equal(iommu->info.n_ranges, 2);
    assert_false(iommu->info.coherent);
    host_close(fake_host_base(f), &fd);

    /* Again, after it was closed; with more ranges than there is room for. */
    expect_ranges(IOMMU_MAX_RANGES + 1, PAGE, -EMSGSIZE);
    assert_int_equal(iommu->ops->open_device(iommu, &device, &fd), 0);
    assert_int_equal(iommu->info.n_ranges, IOMMU_MAX_RANGES);
    host_close(fake_host_base(f), &fd);
}

static void expect_hwpt(int ret)
{
    const struct uapi_hwpt_alloc in = {
        .size = sizeof(in),
        .flags = UAPI_HWPT_ALLOC_DIRTY_TRACKING,
        .pt_id = IOAS,
    };
    struct uapi_hwpt_alloc out = in;

    out.out_hwpt_id = HWPT;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_HWPT_ALLOC, .in = &in,
                .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

/* Attached to the page table with dirty bits where there is one; which goes before the IOAS. */
static void prefers_dirty_bits(void **state)
{
    const struct uapi_vfio_attach_pt attach = {.argsz = sizeof(attach), .pt_id = HWPT};
    const struct uapi_iommu_destroy destroy = {.size = sizeof(destroy), .id = HWPT};
    int fd = -1;

    (void)state;
    hw_info_was_asked = true;
    expect_bind(0);
    expect_hw_info(UAPI_HW_CAP_DIRTY_TRACKING, 0);
    expect_hwpt(0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CDEV, .request = UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                .in = &attach, .in_len = sizeof(attach), .ret = -ENOMEM);
    assert_null(iommu->info.dirty_source);
    log_of_open(&device, -ENOMEM);
    expect_bind(0);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CDEV, .request = UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                .in = &attach, .in_len = sizeof(attach));
    expect_range_info(1, PAGE, 0);
    assert_int_equal(iommu->ops->open_device(iommu, &device, &fd), 0);
    assert_non_null(strstr(iommu->info.dirty_source, "HWPT"));
    host_close(fake_host_base(f), &fd);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_DESTROY, .in = &destroy,
                .in_len = sizeof(destroy));
}

/* Without, and when the kernel has none after all, the IOAS does. */
static void does_without_dirty_bits(void **state)
{
    int fd = -1;

    (void)state;
    hw_info_was_asked = true;
    expect_bind(0);
    expect_hw_info(UAPI_HW_CAP_DIRTY_TRACKING, 0);
    expect_hwpt(-EOPNOTSUPP);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CDEV, .request = UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                .in = &(const struct uapi_vfio_attach_pt){.argsz = 12, .pt_id = IOAS},
                .in_len = 12);
    expect_range_info(1, PAGE, 0);
    log_capture_start(&capture);
    assert_int_equal(iommu->ops->open_device(iommu, &device, &fd), 0);
    assert_non_null(strstr(log_capture_end(&capture), "no page table with them"));
    assert_null(iommu->info.dirty_source);
    host_close(fake_host_base(f), &fd);
}

static void device_does_not_open(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-EACCES, "chown USER /dev/vfio/devices/vfio2"         },
        {-EPERM,  "chown USER /dev/vfio/devices/vfio2"         },
        {-ENODEV, "can't open /dev/vfio/devices/vfio2 for 0000"},
    };
    const struct sysfs_device old = {.name = "0000:01:00.0", .group = 7};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/devices/vfio2", .ret = cases[i].err);
        assert_non_null(strstr(log_of_open(&device, cases[i].err), cases[i].log));
    }
    assert_non_null(strstr(log_of_open(&old, -ENOENT), "--iommu type1 does without"));
}

static void device_does_not_bind(void **state)
{
    static const struct {
        int err;
        const char *log;
    } cases[] = {
        {-EBUSY,  "its group's file /dev/vfio/7 is open"                 },
        {-EINVAL, "/dev/vfio/devices/vfio2 is in use by another process" },
        {-EPERM,  "a device of its IOMMU group 7 belongs to another prog"},
        {-EIO,    "BIND_IOMMUFD of 0000:01:00.0: Input/output error"     },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_bind(cases[i].err);
        assert_non_null(strstr(log_of_open(&device, cases[i].err), cases[i].log));
    }
}

static void device_does_not_attach(void **state)
{
    (void)state;
    expect_attach(-ENOMEM);
    assert_non_null(strstr(log_of_open(&device, -ENOMEM), "ATTACH_IOMMUFD_PT of 0000:01:00.0"));
    expect_ranges(0, 0, -EIO);
    assert_non_null(strstr(log_of_open(&device, -EIO), "IOAS_IOVA_RANGES"));
    expect_ranges(1, 0, 0);
    log_of_open(&device, -EPROTO);
    expect_ranges(1, 0x3000, 0);
    log_of_open(&device, -EPROTO);
}

static void expect_map_file(uint64_t at, uint64_t size, uint32_t rights, int ret)
{
    const struct uapi_ioas_map_file map = {
        .size = sizeof(map),
        .flags = UAPI_IOAS_MAP_FIXED_IOVA | rights,
        .ioas_id = IOAS,
        .fd = memory,
        .start = OFFSET + at,
        .length = size,
        .iova = IOVA + at,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_IOAS_MAP_FILE,
                .in = &map, .in_len = sizeof(map), .ret = ret);
}

static void expect_mmap(uint64_t at, uint64_t size, int prot, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .fd = memory, .offset = (off_t)(OFFSET + at), .len = size,
                .prot = prot, .value = VADDR + at, .ret = ret);
}

static void expect_map(uint64_t at, uint64_t size, uint32_t rights, int ret)
{
    const struct uapi_ioas_map map = {
        .size = sizeof(map),
        .flags = UAPI_IOAS_MAP_FIXED_IOVA | rights,
        .ioas_id = IOAS,
        .user_va = VADDR + at,
        .length = size,
        .iova = IOVA + at,
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_IOAS_MAP, .in = &map,
                .in_len = sizeof(map), .ret = ret);
}

static void expect_unmap(uint64_t size, uint64_t unmapped, int ret)
{
    const struct uapi_ioas_unmap in = {
        .size = sizeof(in), .ioas_id = IOAS, .iova = IOVA, .length = size};
    struct uapi_ioas_unmap out = in;

    out.length = unmapped;
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = UAPI_IOMMU_IOAS_UNMAP, .in = &in,
                .in_len = sizeof(in), .out = &out, .out_len = sizeof(out), .ret = ret);
}

static int map(uint64_t size, uint32_t prot, void **cookie)
{
    return iommu->ops->map(iommu, IOVA, size, prot, memory, OFFSET, cookie);
}

static int unmap(uint64_t size, void *cookie)
{
    return iommu->ops->unmap(iommu, IOVA, size, cookie);
}

/* The kernel has no IOAS_MAP_FILE, which is asked once. */
static void learn_that_there_is_no_map_file(void)
{
    void *cookie;

    expect_map_file(0, PAGE, READABLE, -ENOTTY);
    expect_mmap(0, PAGE, PROT_READ, 0);
    expect_map(0, PAGE, READABLE, 0);
    assert_int_equal(map(PAGE, IOMMU_READ, &cookie), 0);
    expect_unmap(PAGE, PAGE, 0);
    assert_int_equal(unmap(PAGE, cookie), 0);
}

static const struct {
    uint32_t prot, rights;
    int mmap_prot;
} rights[] = {
    {IOMMU_READ,               READABLE,             PROT_READ             },
    {IOMMU_WRITE,              WRITEABLE,            PROT_READ | PROT_WRITE},
    {IOMMU_READ | IOMMU_WRITE, READABLE | WRITEABLE, PROT_READ | PROT_WRITE},
};

static void maps_the_file(void **state)
{
    void *cookie;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
        expect_map_file(0, SIZE, rights[i].rights, 0);
        assert_int_equal(map(SIZE, rights[i].prot, &cookie), 0);
        expect_unmap(SIZE, SIZE, 0);
        assert_int_equal(unmap(SIZE, cookie), 0);
    }
}

static void maps_by_address(void **state)
{
    void *cookie;

    (void)state;
    log_capture_start(&capture);
    learn_that_there_is_no_map_file();
    assert_non_null(strstr(log_capture_end(&capture), "no IOAS_MAP_FILE"));
    for (size_t i = 0; i < ARRAY_SIZE(rights); i++) {
        log_capture_start(&capture);
        expect_mmap(0, SIZE, rights[i].mmap_prot, 0);
        expect_map(0, SIZE, rights[i].rights, 0);
        assert_int_equal(map(SIZE, rights[i].prot, &cookie), 0);
        assert_int_equal(fake_mapping_count(f), 1);
        expect_unmap(SIZE, SIZE, 0);
        assert_int_equal(unmap(SIZE, cookie), 0);
        assert_int_equal(fake_mapping_count(f), 0);
        assert_string_equal(log_capture_end(&capture), "");
    }
}

static void map_errors(void **state)
{
    static const int errors[] = {-EEXIST, -EINVAL, -ENOMEM, -EBADF, -EOVERFLOW, -EFAULT};
    void *cookie;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_map_file(0, SIZE, READABLE, errors[i]);
        log_capture_start(&capture);
        assert_int_equal(map(SIZE, IOMMU_READ, &cookie), errors[i]);
        assert_non_null(strstr(log_capture_end(&capture), "0x4000 bytes"));
    }
    learn_that_there_is_no_map_file();
    expect_mmap(0, SIZE, PROT_READ, -EACCES);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), -EACCES);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_mmap(0, SIZE, PROT_READ, 0);
        expect_map(0, SIZE, READABLE, errors[i]);
        assert_int_equal(map(SIZE, IOMMU_READ, &cookie), errors[i]);
        assert_int_equal(fake_mapping_count(f), 0);
    }
}

/* Pinned piece by piece, unmapped as one; what was pinned before an error is unmapped again. */
static void maps_the_file_in_chunks(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK, size = 2 * chunk + PAGE;
    void *cookie;

    (void)state;
    for (unsigned failing = 0; failing <= 3; failing++) {
        for (unsigned i = 0; i < 3 && i <= failing; i++)
            expect_map_file(i * chunk, i < 2 ? chunk : PAGE, READABLE, i == failing ? -ENOMEM : 0);
        if (failing == 1 || failing == 2)
            expect_unmap(failing * chunk, failing * chunk, 0);
        assert_int_equal(map(size, IOMMU_READ, &cookie), failing < 3 ? -ENOMEM : 0);
        fake_assert_done(f);
    }
    expect_unmap(size, size, 0);
    assert_int_equal(unmap(size, cookie), 0);

    /* Exactly one: there is no second of nothing. */
    expect_map_file(0, chunk, READABLE, 0);
    assert_int_equal(map(chunk, IOMMU_READ, &cookie), 0);
    expect_unmap(chunk, chunk, 0);
    assert_int_equal(unmap(chunk, cookie), 0);
}

static void maps_by_address_in_chunks(void **state)
{
    const uint64_t chunk = IOMMU_MAP_CHUNK, size = 2 * chunk + PAGE;
    void *cookie;

    (void)state;
    learn_that_there_is_no_map_file();
    for (unsigned failing = 0; failing <= 3; failing++) {
        for (unsigned i = 0; i < 3 && i <= failing; i++) {
            expect_mmap(i * chunk, i < 2 ? chunk : PAGE, PROT_READ, 0);
            expect_map(i * chunk, i < 2 ? chunk : PAGE, READABLE, i == failing ? -EFAULT : 0);
        }
        if (failing == 1 || failing == 2)
            expect_unmap(failing * chunk, failing * chunk, 0);
        assert_int_equal(map(size, IOMMU_READ, &cookie), failing < 3 ? -EFAULT : 0);
        fake_assert_done(f);
        assert_int_equal(fake_mapping_count(f), failing == 3 ? 3 : 0);
    }
    expect_unmap(size, size, 0);
    assert_int_equal(unmap(size, cookie), 0);
}

/* The memory stays mapped in this process: the device may still reach it. */
static void unmap_errors(void **state)
{
    void *cookie;

    (void)state;
    learn_that_there_is_no_map_file();
    expect_mmap(0, SIZE, PROT_READ, 0);
    expect_map(0, SIZE, READABLE, 0);
    assert_int_equal(map(SIZE, IOMMU_READ, &cookie), 0);
    log_capture_start(&capture);
    expect_unmap(SIZE, SIZE, -ENOENT);
    assert_int_equal(unmap(SIZE, cookie), -ENOENT);
    assert_non_null(strstr(log_capture_end(&capture), "IOAS_UNMAP of 0x4000 bytes"));
    expect_unmap(SIZE, PAGE, 0);
    assert_int_equal(unmap(SIZE, cookie), -EIO);
    expect_unmap(SIZE, 2 * SIZE, 0);
    assert_int_equal(unmap(SIZE, cookie), -EIO);
    assert_int_equal(fake_mapping_count(f), 1);
    iommu->ops->abandon(iommu, SIZE, cookie);
    assert_int_equal(fake_mapping_count(f), 0);
}

static void expect_container_kind(int type1, int spapr)
{
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = CONTAINER);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTAINER, .request = VFIO_CHECK_EXTENSION,
                .value = VFIO_TYPE1v2_IOMMU, .ret = type1);
    if (type1 != 1)
        FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTAINER, .request = VFIO_CHECK_EXTENSION,
                    .value = VFIO_SPAPR_TCE_v2_IOMMU, .ret = spapr);
}

static void container_kind(void **state)
{
    static const struct {
        int type1, spapr;
        enum iommu_kind kind;
    } cases[] = {
        {1,       0,       IOMMU_TYPE1},
        {0,       1,       IOMMU_SPAPR},
        {0,       0,       IOMMU_TYPE1},
        {-ENOTTY, 1,       IOMMU_SPAPR},
        {0,       -ENOTTY, IOMMU_TYPE1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_container_kind(cases[i].type1, cases[i].spapr);
        assert_int_equal(iommu_container_kind(fake_host_base(f)), cases[i].kind);
        assert_int_equal(fake_open_count(f), 0);
    }
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = -ENOENT);
    assert_int_equal(iommu_container_kind(fake_host_base(f)), IOMMU_TYPE1);
}

static void best_kind(void **state)
{
    static const struct {
        int context, cdev;
        enum iommu_kind kind;
    } cases[] = {
        {-ENOENT, 0,       IOMMU_SPAPR  },
        {CONTEXT, -EACCES, IOMMU_SPAPR  },
        {CONTEXT, CDEV,    IOMMU_IOMMUFD},
    };
    const struct sysfs_device old = {.name = "0000:01:00.0", .group = 7};

    (void)state;
    expect_container_kind(0, 1);
    assert_int_equal(iommu_best_kind(fake_host_base(f), &old), IOMMU_SPAPR);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/iommu", .ret = cases[i].context);
        if (cases[i].context >= 0)
            FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/devices/vfio2",
                        .ret = cases[i].cdev);
        if (cases[i].kind != IOMMU_IOMMUFD)
            expect_container_kind(0, 1);
        assert_int_equal(iommu_best_kind(fake_host_base(f), &device), cases[i].kind);
        assert_int_equal(fake_open_count(f), 0);
    }
}

/* On the simulated kernel, with IOAS_MAP_FILE and without. */

struct machine {
    struct sim *sim;
    struct host *host;
    struct sysfs_device where;
    struct iommufd_context *context;
    struct iommu *iommu;
    int device;
    int fds; /* of the process, before anything was opened */
};

static int boot(void **state, enum sim_iommufd level)
{
    static struct machine m;
    char bdf[16];

    m = (struct machine){.sim = sim_create(), .device = -1};
    assert_non_null(m.sim);
    m.host = sim_host(m.sim);
    sim_set_iommufd(m.sim, level);
    assert_int_equal(sim_add_device(m.sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sysfs_find_device(m.host, bdf, &m.where), 0);
    m.fds = fd_count_open();
    assert_int_equal(iommufd_context_create(m.host, &m.context), 0);
    assert_int_equal(iommu_iommufd_create(m.context, &m.iommu), 0);
    *state = &m;
    return 0;
}

static int boot_map(void **state)
{
    return boot(state, SIM_IOMMUFD_MAP);
}

static int boot_map_file(void **state)
{
    return boot(state, SIM_IOMMUFD_MAP_FILE);
}

static int halt(void **state)
{
    struct machine *m = *state;
    struct sim_stats stats;

    host_close(m->host, &m->device);
    m->iommu->ops->destroy(m->iommu);
    iommufd_context_destroy(m->context);
    sim_get_stats(m->sim, &stats);
    assert_int_equal(stats.devices + stats.contexts + stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(fd_count_open(), m->fds);
    sim_destroy(m->sim);
    return 0;
}

static struct sim_stats stats_of(const struct machine *m)
{
    struct sim_stats stats;

    sim_get_stats(m->sim, &stats);
    return stats;
}

static int open_machine_device(struct machine *m)
{
    return m->iommu->ops->open_device(m->iommu, &m->where, &m->device);
}

static void reaches_the_clients_memory(void **state)
{
    struct machine *m = *state;
    const struct iommu_ops *ops = m->iommu->ops;
    cleanup_close_ int memfd = memfd_create("client", MFD_CLOEXEC);
    char buf[8] = "";
    void *cookie;

    assert_int_equal(iommu_best_kind(m->host, &m->where), IOMMU_IOMMUFD);
    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(m->iommu->info.n_ranges, 2);
    assert_int_equal(m->iommu->info.ranges[0].last, 0xfedfffff);
    assert_true(m->iommu->info.ranges[1].first == 0xfef00000);
    assert_true(m->iommu->info.pgsizes == -(uint64_t)PAGE);

    assert_int_equal(ftruncate(memfd, SIZE), 0);
    assert_int_equal(ops->map(m->iommu, IOVA, PAGE, IOMMU_READ | IOMMU_WRITE, memfd, PAGE, &cookie),
                     0);
    assert_int_equal(pwrite(memfd, "client", 6, PAGE), 6);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, IOVA, buf, 6, false), 0);
    assert_string_equal(buf, "client");
    memcpy(buf, "device", 6);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, IOVA + 10, buf, 6, true), 0);
    assert_int_equal(pread(memfd, buf, 6, PAGE + 10), 6);
    assert_string_equal(buf, "device");
    assert_int_equal(stats_of(m).pinned_bytes, PAGE);

    /* The mappings of an address space outlive the device's descriptor. */
    host_close(m->host, &m->device);
    assert_int_equal(stats_of(m).mappings, 1);
    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, IOVA, buf, 6, false), 0);
    assert_int_equal(ops->unmap(m->iommu, IOVA, PAGE, cookie), 0);
    assert_int_equal(sim_device_dma(m->sim, m->where.name, IOVA, buf, 6, false), -EFAULT);
}

static void kernels_errors(void **state)
{
    struct machine *m = *state;
    const struct iommu_ops *ops = m->iommu->ops;
    cleanup_close_ int memfd = memfd_create("client", MFD_CLOEXEC);
    void *cookie;

    assert_int_equal(ftruncate(memfd, SIZE), 0);
    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(ops->map(m->iommu, 0xfee00000, PAGE, IOMMU_READ, memfd, 0, &cookie), -EINVAL);
    sim_set_memlock(m->sim, PAGE);
    assert_int_equal(ops->map(m->iommu, 0, SIZE, IOMMU_READ, memfd, 0, &cookie), -ENOMEM);
    assert_int_equal(ops->map(m->iommu, 0, PAGE, IOMMU_READ, memfd, 0, &cookie), 0);
    assert_int_equal(ops->unmap(m->iommu, 0, SIZE, cookie), -EIO); /* more than is there */
    ops->abandon(m->iommu, PAGE, cookie);
    assert_int_equal(stats_of(m).mappings, 0);
}

static void device_is_taken(void **state)
{
    struct machine *m = *state;
    struct iommufd_context *elsewhere;
    struct iommu *other;
    char path[32];
    int group, fd = -1;

    assert_int_equal(open_machine_device(m), 0);
    assert_int_equal(iommufd_context_create(m->host, &elsewhere), 0);
    assert_int_equal(iommu_iommufd_create(elsewhere, &other), 0);
    assert_int_equal(other->ops->open_device(other, &m->where, &fd), -EINVAL);
    host_close(m->host, &m->device);
    snprintf(path, sizeof(path), "/dev/vfio/%d", m->where.group);
    group = host_open(m->host, path, O_RDWR);
    assert_int_equal(other->ops->open_device(other, &m->where, &fd), -EBUSY);
    host_close(m->host, &group);
    assert_int_equal(other->ops->open_device(other, &m->where, &fd), 0);
    host_close(m->host, &fd);
    other->ops->destroy(other);
    iommufd_context_destroy(elsewhere);
}

#define scripted(t)  cmocka_unit_test_setup_teardown(t, setup, teardown)
#define no_script(t) cmocka_unit_test_setup_teardown(t, setup_host, teardown_host)
#define on_both(t)                                                                                 \
    {#t " (IOAS_MAP)", t, boot_map, halt, NULL},                                                   \
    {                                                                                              \
#t " (IOAS_MAP_FILE)", t, boot_map_file, halt, NULL                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        no_script(no_context),
        no_script(container_kind),
        no_script(best_kind),
        scripted(opens_a_device),
        scripted(prefers_dirty_bits),
        scripted(does_without_dirty_bits),
        scripted(device_does_not_open),
        scripted(device_does_not_bind),
        scripted(device_does_not_attach),
        scripted(maps_the_file),
        scripted(maps_by_address),
        scripted(map_errors),
        scripted(maps_the_file_in_chunks),
        scripted(maps_by_address_in_chunks),
        scripted(unmap_errors),
        on_both(reaches_the_clients_memory),
        on_both(kernels_errors),
        on_both(device_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
