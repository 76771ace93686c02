#include "tests/unit/sim_iommufd_fixture.h"

#include <pthread.h>

#define TOP UINT64_C(0xffffffffffff)

enum {
    WINDOW = 0xfee00000, /* of the interrupts */
    PAGES = 4,
    SIZE = PAGES * FX_PAGE,
};

/* A context with an IOAS in which the device is, and memory. */
struct scene {
    struct fixture *fx;
    int iommufd;
    uint32_t device, ioas;
    char *memory;
    int memfd;
};

static struct scene scene;

static int setup(void **state)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    scene = (struct scene){.fx = fx, .iommufd = fd_open(fx)};
    scene.ioas = fd_alloc(fx, scene.iommufd);
    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(fd_bind(fx, fx->device, scene.iommufd, &scene.device), 0);
    scene.memory = fx_memory(SIZE, &scene.memfd);
    return 0;
}

static int setup_attached(void **state)
{
    setup(state);
    assert_int_equal(fd_attach_to(scene.fx, scene.fx->device, scene.ioas), 0);
    return 0;
}

static int teardown(void **state)
{
    munmap(scene.memory, SIZE);
    close(scene.memfd);
    host_close(scene.fx->host, &scene.iommufd);
    return fx_teardown(state);
}

static int map(uint64_t iova, uint64_t at, uint64_t length)
{
    return fd_map(scene.fx, scene.iommufd, scene.ioas, iova, scene.memory + at, length);
}

static int map_file(uint64_t iova, int fd, uint64_t start, uint64_t length)
{
    return fd_map_file(scene.fx, scene.iommufd, scene.ioas, iova, fd, start, length);
}

static int64_t unmap(uint64_t iova, uint64_t length)
{
    return fd_unmap(scene.fx, scene.iommufd, scene.ioas, iova, length);
}

static int attach(uint32_t id)
{
    return fd_attach_to(scene.fx, scene.fx->device, id);
}

static void detach(void)
{
    assert_int_equal(fd_detach(scene.fx, scene.fx->device), 0);
}

static uint64_t pinned(void)
{
    return fx_stats(scene.fx).pinned_bytes;
}

static void assert_device_reads(uint64_t iova, const char *text)
{
    char buf[16] = "";

    assert_int_equal(fx_dma(scene.fx, iova, buf, strlen(text), false), 0);
    assert_string_equal(buf, text);
}

static void assert_device_faults(uint64_t iova)
{
    char buf[4];

    assert_int_equal(fx_dma(scene.fx, iova, buf, sizeof(buf), false), -EFAULT);
}

static void levels(void **state)
{
    struct fixture *fx = *state;
    int iommufd;

    sim_set_iommufd(fx->sim, SIM_IOMMUFD_NONE);
    assert_int_equal(fx_open(fx, "/dev/iommu"), -ENOENT);
    assert_int_equal(fx_open(fx, FD_CDEV), -ENOENT);

    sim_set_iommufd(fx->sim, SIM_IOMMUFD_MAP);
    iommufd = fd_open(fx);
    assert_int_equal(fx_stats(fx).contexts, 1);
    assert_int_equal(fd_map_file(fx, iommufd, 1, 0, -1, 0, FX_PAGE), -ENOTTY);
    sim_set_iommufd(fx->sim, SIM_IOMMUFD_MAP_FILE);
    assert_int_equal(fd_map_file(fx, iommufd, 1, 0, -1, 0, FX_PAGE), -ENOENT);
    host_close(fx->host, &iommufd);
}

static void unknown_calls(void **state)
{
    static const unsigned long requests[] = {
        _IO(';', 0x7f), _IO(';', 0x87), _IO(';', 0x88), _IO(';', 0x96), VFIO_GET_API_VERSION, 0,
    };
    struct fixture *fx = *state;
    char byte;

    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        assert_int_equal(fx_ioctl(fx, scene.iommufd, requests[i], NULL), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, scene.iommufd, UAPI_IOMMU_IOAS_MAP, NULL), -EFAULT);
    assert_int_equal(host_pread(fx->host, scene.iommufd, &byte, 1, 0), -EINVAL);
}

static void sizes_of_structs(void **state)
{
    static const struct {
        unsigned long request;
        uint32_t first, whole;
    } cases[] = {
        {UAPI_IOMMU_DESTROY,          8,  8 },
        {UAPI_IOMMU_IOAS_ALLOC,       12, 12},
        {UAPI_IOMMU_IOAS_IOVA_RANGES, 32, 32},
        {UAPI_IOMMU_IOAS_MAP,         40, 40},
        {UAPI_IOMMU_IOAS_MAP_FILE,    40, 40},
        {UAPI_IOMMU_IOAS_COPY,        40, 40},
        {UAPI_IOMMU_IOAS_UNMAP,       24, 24},
        {UAPI_IOMMU_HWPT_ALLOC,       24, 48},
    };
    struct fixture *fx = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned char arg[64] = {0};
        uint32_t size = cases[i].first - 1;
        int ret;

        memcpy(arg, &size, sizeof(size));
        assert_int_equal(fx_ioctl(fx, scene.iommufd, cases[i].request, arg), -EINVAL);
        size = sizeof(arg);
        memcpy(arg, &size, sizeof(size));
        arg[63] = 1;
        assert_int_equal(fx_ioctl(fx, scene.iommufd, cases[i].request, arg), -E2BIG);
        arg[63] = 0;
        arg[cases[i].whole] = 1;
        assert_int_equal(fx_ioctl(fx, scene.iommufd, cases[i].request, arg), -E2BIG);
        /* What is longer by zeros is looked into. */
        arg[cases[i].whole] = 0;
        ret = fx_ioctl(fx, scene.iommufd, cases[i].request, arg);
        assert_true(ret != -E2BIG && ret != -ENOTTY);
    }
}

static void ids_belong_to_a_context(void **state)
{
    struct fixture *fx = *state;
    struct uapi_ioas_alloc alloc = {.size = sizeof(alloc), .flags = 1};
    int other = fd_open(fx);
    uint32_t second = fd_alloc(fx, scene.iommufd);

    assert_int_equal(scene.ioas, 1);
    assert_int_equal(second, 3); /* behind the bound device */
    assert_int_equal(fd_alloc(fx, other), 1);
    assert_int_equal(fd_map(fx, other, second, 0, scene.memory, FX_PAGE), -ENOENT);
    assert_int_equal(fd_map(fx, other, 1, 0, scene.memory, FX_PAGE), 0);
    assert_int_equal(map(0, 0, FX_PAGE), 0);
    assert_int_equal(fd_destroy(fx, other, 1), 0);
    assert_int_equal(fd_destroy(fx, other, 1), -ENOENT);
    assert_int_equal(unmap(0, FX_PAGE), FX_PAGE);

    /* The lowest free one is taken again. */
    assert_int_equal(fd_destroy(fx, scene.iommufd, scene.ioas), 0);
    assert_int_equal(fd_alloc(fx, scene.iommufd), 1);
    assert_int_equal(fx_ioctl(fx, other, UAPI_IOMMU_IOAS_ALLOC, &alloc), -EOPNOTSUPP);
    host_close(fx->host, &other);
}

static void destroy_rules(void **state)
{
    struct fixture *fx = *state;
    uint32_t hwpt = scene.ioas;

    assert_int_equal(map(0, 0, SIZE), 0);
    assert_int_equal(fd_destroy(fx, scene.iommufd, scene.device), -EBUSY);
    assert_int_equal(fd_attach(fx, fx->device, &hwpt), 0);
    assert_int_equal(fd_destroy(fx, scene.iommufd, hwpt), -EBUSY);
    assert_int_equal(fd_destroy(fx, scene.iommufd, scene.ioas), -EBUSY);
    detach();
    assert_int_equal(fd_destroy(fx, scene.iommufd, hwpt), -ENOENT);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(fd_destroy(fx, scene.iommufd, scene.ioas), 0);
    assert_int_equal(fx_stats(fx).mappings, 0);
}

static int get_ranges(struct uapi_ioas_iova_ranges *get, struct uapi_iova_range *ranges,
                      uint32_t room)
{
    *get = (struct uapi_ioas_iova_ranges){
        .size = sizeof(*get),
        .ioas_id = scene.ioas,
        .num_iovas = room,
        .allowed_iovas = (uintptr_t)ranges,
    };
    return fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_IOAS_IOVA_RANGES, get);
}

static void ranges_narrow(void **state)
{
    struct uapi_ioas_iova_ranges get;
    struct uapi_iova_range ranges[3];
    uint32_t hwpt;

    assert_int_equal(get_ranges(&get, ranges, 3), 0);
    assert_int_equal(get.num_iovas, 1);
    assert_int_equal(get.out_iova_alignment, 1);
    assert_true(ranges[0].start == 0 && ranges[0].last == UINT64_MAX);

    assert_int_equal(fd_hwpt(*state, scene.iommufd, scene.device, scene.ioas, &hwpt), 0);
    assert_int_equal(get_ranges(&get, ranges, 1), 0);
    assert_int_equal(get.out_iova_alignment, FX_PAGE);
    assert_true(ranges[0].start == 0 && ranges[0].last == TOP);

    assert_int_equal(attach(scene.ioas), 0);
    assert_int_equal(get_ranges(&get, ranges, 2), 0);
    assert_int_equal(get.num_iovas, 2);
    assert_true(ranges[0].start == 0 && ranges[0].last == WINDOW - 1);
    assert_true(ranges[1].start == WINDOW + 0x100000 && ranges[1].last == TOP);
    detach();
    assert_int_equal(get_ranges(&get, ranges, 3), 0);
    assert_int_equal(get.num_iovas, 1);
}

static void ranges_without_room(void **state)
{
    struct uapi_ioas_iova_ranges get;
    struct uapi_iova_range ranges[2] = {
        {7, 7},
        {7, 7}
    };

    assert_int_equal(get_ranges(&get, NULL, 0), -EMSGSIZE);
    assert_int_equal(get.num_iovas, 2);
    assert_int_equal(get.out_iova_alignment, FX_PAGE);
    assert_int_equal(get_ranges(&get, ranges, 1), -EMSGSIZE);
    assert_int_equal(get.num_iovas, 2);
    assert_int_equal(ranges[0].last, WINDOW - 1);
    assert_int_equal(ranges[1].last, 7);
    assert_int_equal(get_ranges(&get, NULL, 2), -EFAULT);

    get.reserved = 1;
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_IOVA_RANGES, &get),
                     -EOPNOTSUPP);
    get.reserved = 0;
    get.ioas_id = scene.device;
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_IOVA_RANGES, &get), -ENOENT);
}

static void map_rules(void **state)
{
    struct fixture *fx = *state;
    const int c = scene.iommufd;
    const uint32_t ioas = scene.ioas;

    assert_int_equal(fd_map_flags(fx, c, ioas, 0, scene.memory, FX_PAGE, FD_RW | 8), -EOPNOTSUPP);
    assert_int_equal(fd_map_flags(fx, c, ioas, 0, scene.memory, FX_PAGE, 1), -EINVAL);
    assert_int_equal(fd_map(fx, c, 99, 0, scene.memory, FX_PAGE), -ENOENT);
    assert_int_equal(fd_map(fx, c, scene.device, 0, scene.memory, FX_PAGE), -ENOENT);
    assert_int_equal(map(UINT64_MAX, 0, FX_PAGE), -EOVERFLOW);
    assert_int_equal(map(0, 0, UINT64_MAX), -EOVERFLOW);
    assert_int_equal(map(0, 0, UINT64_MAX - FX_PAGE), -EOVERFLOW);
    assert_int_equal(fd_map(fx, c, ioas, 0, NULL, UINT64_MAX - 1), -EINVAL);
    assert_int_equal(map(-(uint64_t)FX_PAGE, 0, 2 * FX_PAGE), -EOVERFLOW);
    assert_int_equal(map(0, 0, 0), -EINVAL);
    assert_int_equal(map(1, 0, FX_PAGE), -EINVAL);
    assert_int_equal(map(0, 1, FX_PAGE), -EINVAL);
    assert_int_equal(map(0, 0, FX_PAGE + 1), -EINVAL);
    assert_int_equal(map(WINDOW, 0, FX_PAGE), -EINVAL);
    assert_int_equal(map(WINDOW - FX_PAGE, 0, 2 * FX_PAGE), -EINVAL);
    assert_int_equal(map(TOP + 1, 0, FX_PAGE), -EINVAL);
    assert_int_equal(fx_stats(fx).mappings, 0);

    assert_int_equal(map(FX_PAGE, 0, 2 * FX_PAGE), 0);
    assert_int_equal(map(0, 0, 2 * FX_PAGE), -EEXIST);
    assert_int_equal(map(2 * FX_PAGE, 0, FX_PAGE), -EEXIST);
    assert_int_equal(map(3 * FX_PAGE, 0, FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).mappings, 2);
    assert_int_equal(pinned(), 3 * FX_PAGE);
    /* Not there: found out only by pinning. */
    assert_int_equal(fd_map(fx, c, ioas, 0x100000, NULL, FX_PAGE), -EFAULT);
    assert_int_equal(fx_stats(fx).mappings, 2);
    assert_int_equal(pinned(), 3 * FX_PAGE);
}

static void chosen_addresses(void **state)
{
    struct uapi_ioas_map map_any = {
        .size = sizeof(map_any),
        .flags = UAPI_IOAS_MAP_READABLE,
        .ioas_id = scene.ioas,
        .user_va = (uintptr_t)scene.memory,
        .length = FX_PAGE,
        .iova = 0x123,
    };

    assert_int_equal(map(2 * FX_PAGE, 0, FX_PAGE), 0);
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_MAP, &map_any), 0);
    assert_int_equal(map_any.iova, FX_PAGE);
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_MAP, &map_any), 0);
    assert_int_equal(map_any.iova, 3 * FX_PAGE);
    map_any.length = UINT64_C(1) << 63;
    map_any.user_va = 0;
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_MAP, &map_any), -EOVERFLOW);
    map_any.length = TOP + 1;
    assert_int_equal(fx_ioctl(*state, scene.iommufd, UAPI_IOMMU_IOAS_MAP, &map_any), -ENOSPC);
}

static void device_sees_the_memory(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(map(0, 0, 2 * FX_PAGE), 0);
    assert_int_equal(
        fd_map_flags(fx, scene.iommufd, scene.ioas, SIZE, scene.memory, FX_PAGE, FD_RO), 0);
    strcpy(scene.memory + FX_PAGE - 2, "across");
    assert_device_reads(FX_PAGE - 2, "across");
    assert_int_equal(fx_dma_put(fx, FX_PAGE, "DEVICE", 7), 0);
    assert_string_equal(scene.memory + FX_PAGE, "DEVICE");
    assert_int_equal(fx_dma_put(fx, SIZE, "x", 1), -EFAULT);
    assert_device_faults(2 * FX_PAGE);
    assert_int_equal(unmap(0, 2 * FX_PAGE), 2 * FX_PAGE);
    assert_device_faults(0);
}

static void unmap_rules(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(unmap(0, 0), -EINVAL);
    assert_int_equal(unmap(UINT64_MAX, FX_PAGE), -EOVERFLOW);
    assert_int_equal(unmap(FX_PAGE, UINT64_MAX), -EOVERFLOW);
    assert_int_equal(unmap(UINT64_MAX - 1, FX_PAGE), -EOVERFLOW);
    assert_int_equal(unmap(0, FX_PAGE), -ENOENT);
    assert_int_equal(fd_unmap(fx, scene.iommufd, 99, 0, FX_PAGE), -ENOENT);
    assert_int_equal(unmap(0, UINT64_MAX), 0);

    assert_int_equal(map(0, 0, 2 * FX_PAGE), 0);
    assert_int_equal(map(4 * FX_PAGE, 0, FX_PAGE), 0);
    assert_int_equal(map(6 * FX_PAGE, 0, 2 * FX_PAGE), 0);
    /* Inside, or partly, of one. */
    assert_int_equal(unmap(0, FX_PAGE), -ENOENT);
    assert_int_equal(unmap(FX_PAGE, FX_PAGE), -ENOENT);
    assert_int_equal(unmap(FX_PAGE, 4 * FX_PAGE), -ENOENT);
    assert_int_equal(unmap(2 * FX_PAGE, 2 * FX_PAGE), -ENOENT);
    assert_int_equal(fx_stats(fx).mappings, 3);
    /* Those below the one that is only touched are gone. */
    assert_int_equal(unmap(0, 7 * FX_PAGE), -ENOENT);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(map(0, 0, FX_PAGE), 0);
    /* What it returns does not count the holes. */
    assert_int_equal(unmap(0, 0x100000), 3 * FX_PAGE);
    assert_int_equal(pinned(), 0);

    assert_int_equal(map(0, 0, SIZE), 0);
    assert_int_equal(map(TOP + 1 - FX_PAGE, 0, FX_PAGE), 0);
    assert_int_equal(unmap(0, UINT64_MAX), SIZE + FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 0);
}

static void pins_while_there_is_a_domain(void **state)
{
    struct fixture *fx = *state;
    uint32_t hwpt;

    assert_int_equal(map(0, 0, SIZE), 0);
    assert_int_equal(pinned(), 0);
    assert_int_equal(attach(scene.ioas), 0);
    assert_int_equal(pinned(), SIZE);
    assert_int_equal(fd_hwpt(fx, scene.iommufd, scene.device, scene.ioas, &hwpt), 0);
    assert_int_equal(pinned(), SIZE);
    detach();
    assert_int_equal(pinned(), SIZE);
    assert_device_faults(0);
    assert_int_equal(fd_destroy(fx, scene.iommufd, scene.ioas), -EBUSY);
    assert_int_equal(fd_destroy(fx, scene.iommufd, hwpt), 0);
    assert_int_equal(pinned(), 0);
    assert_int_equal(unmap(0, SIZE), SIZE);
}

static void what_a_domain_can_not_have(void **state)
{
    static const struct {
        uint64_t iova, at, length;
    } cases[] = {
        {1,       0, FX_PAGE    },
        {0,       5, FX_PAGE    },
        {0,       0, FX_PAGE - 1},
        {TOP + 1, 0, FX_PAGE    },
        {WINDOW,  0, FX_PAGE    },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(map(cases[i].iova, cases[i].at, cases[i].length), 0);
        assert_int_equal(attach(scene.ioas), -EADDRINUSE);
        assert_int_equal(pinned(), 0);
        assert_int_equal(unmap(0, UINT64_MAX), cases[i].length);
    }
    /* Memory that is not there, behind some that is. */
    assert_int_equal(fd_map(*state, scene.iommufd, scene.ioas, 0, NULL, FX_PAGE), 0);
    assert_int_equal(map(FX_PAGE, 0, FX_PAGE), 0);
    assert_int_equal(attach(scene.ioas), -EFAULT);
    assert_int_equal(pinned(), 0);
    assert_int_equal(unmap(0, FX_PAGE), FX_PAGE);
    assert_int_equal(attach(scene.ioas), 0);
    assert_int_equal(pinned(), FX_PAGE);
}

static void limit_on_locked_memory(void **state)
{
    struct fixture *fx = *state;

    sim_set_memlock(fx->sim, 2 * FX_PAGE);
    assert_int_equal(map(0, 0, 3 * FX_PAGE), 0);
    assert_int_equal(attach(scene.ioas), -ENOMEM);
    assert_int_equal(unmap(0, UINT64_MAX), 3 * FX_PAGE);
    assert_int_equal(attach(scene.ioas), 0);
    assert_int_equal(map(0, 0, 2 * FX_PAGE), 0);
    assert_int_equal(map(2 * FX_PAGE, 0, FX_PAGE), -ENOMEM);
    assert_int_equal(map_file(2 * FX_PAGE, scene.memfd, 0, FX_PAGE), -ENOMEM);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(pinned(), 2 * FX_PAGE);
}

static void copies_share_the_pins(void **state)
{
    struct fixture *fx = *state;
    const int c = scene.iommufd;
    uint32_t cache = fd_alloc(fx, c), hwpt;

    assert_int_equal(fd_hwpt(fx, c, scene.device, cache, &hwpt), 0);
    assert_int_equal(fd_map_file(fx, c, cache, 0, scene.memfd, 0, SIZE), 0);
    assert_int_equal(pinned(), SIZE);
    assert_int_equal(fd_copy(fx, c, scene.ioas, 0x100000, cache, 0, SIZE, FD_RW), 0);
    assert_int_equal(fd_copy(fx, c, scene.ioas, 0x200000, cache, FX_PAGE, FX_PAGE, FD_RO), 0);
    assert_int_equal(pinned(), SIZE);
    assert_int_equal(fx_stats(fx).mappings, 3);
    strcpy(scene.memory + FX_PAGE, "shared");
    assert_device_reads(0x100000 + FX_PAGE, "shared");
    assert_device_reads(0x200000, "shared");
    assert_int_equal(fx_dma_put(fx, 0x200000, "x", 1), -EFAULT);

    assert_int_equal(fd_unmap(fx, c, cache, 0, SIZE), SIZE);
    assert_int_equal(fd_unmap(fx, c, scene.ioas, 0x100000, SIZE), SIZE);
    assert_int_equal(pinned(), SIZE);
    assert_device_reads(0x200000, "shared");
    assert_int_equal(unmap(0x200000, FX_PAGE), FX_PAGE);
    assert_int_equal(pinned(), 0);
}

static void copy_rules(void **state)
{
    struct fixture *fx = *state;
    const int c = scene.iommufd;
    const uint32_t to = scene.ioas, from = fd_alloc(fx, c);

    assert_int_equal(fd_map(fx, c, from, 0, scene.memory, FX_PAGE), 0);
    assert_int_equal(fd_map(fx, c, from, FX_PAGE, scene.memory + 2 * FX_PAGE, FX_PAGE), 0);
    assert_int_equal(fd_map_flags(fx, c, from, 0x10000, scene.memory + FX_PAGE, FX_PAGE, FD_RO), 0);
    assert_int_equal(pinned(), 0);

    assert_int_equal(fd_copy(fx, c, to, 0, from, 0, FX_PAGE, 8 | FD_RW), -EOPNOTSUPP);
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0, FX_PAGE, UAPI_IOAS_MAP_FIXED_IOVA), -EINVAL);
    assert_int_equal(fd_copy(fx, c, to, UINT64_MAX, from, 0, FX_PAGE, FD_RW), -EOVERFLOW);
    assert_int_equal(fd_copy(fx, c, to, 0, from, UINT64_MAX, FX_PAGE, FD_RW), -EOVERFLOW);
    assert_int_equal(fd_copy(fx, c, to, 0, from, FX_PAGE, UINT64_MAX - 1, FD_RW), -EOVERFLOW);
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0, 0, FD_RW), -EINVAL);
    assert_int_equal(fd_copy(fx, c, 99, 0, from, 0, FX_PAGE, FD_RW), -ENOENT);
    assert_int_equal(fd_copy(fx, c, to, 0, 99, 0, FX_PAGE, FD_RW), -ENOENT);
    assert_int_equal(fd_copy(fx, c, to, 0, from, FX_PAGE, 2 * FX_PAGE, FD_RW), -ENOENT);
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0x20000, FX_PAGE, FD_RW), -ENOENT);
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0, 1, FD_RW), -EINVAL);
    assert_int_equal(fd_copy(fx, c, to, 0, from, 1, FX_PAGE, FD_RW), -EINVAL);
    /* A right that the memory was not mapped with. */
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0x10000, FX_PAGE, FD_RW), -EPERM);
    assert_int_equal(fx_stats(fx).mappings, 3);
    assert_int_equal(pinned(), 0);

    /* Of two that adjoin: two again. */
    strcpy(scene.memory + 2 * FX_PAGE, "second");
    assert_int_equal(fd_copy(fx, c, to, FX_PAGE, from, 0, 2 * FX_PAGE, FD_RW), 0);
    assert_int_equal(fx_stats(fx).mappings, 5);
    assert_device_reads(2 * FX_PAGE, "second");
    assert_int_equal(fd_copy(fx, c, to, 0, from, 0, 2 * FX_PAGE, FD_RW), -EEXIST);
    assert_int_equal(unmap(FX_PAGE, FX_PAGE), FX_PAGE);
    assert_int_equal(pinned(), FX_PAGE);
    /* All or nothing: the second does not fit into the limit. */
    sim_set_memlock(fx->sim, 2 * FX_PAGE);
    assert_int_equal(fd_map(fx, c, to, 0x100000, scene.memory, FX_PAGE), 0);
    assert_int_equal(fd_copy(fx, c, to, 0x200000, from, 0, 2 * FX_PAGE, FD_RW), -ENOMEM);
    assert_int_equal(pinned(), 2 * FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 5);
}

static void files(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(map_file(0, scene.memfd, FX_PAGE, 2 * FX_PAGE), 0);
    assert_int_equal(pinned(), 2 * FX_PAGE);
    assert_int_equal(fd_count_open(), fx->fds + 3); /* nothing but ours */
    strcpy(scene.memory + 2 * FX_PAGE, "file");
    assert_device_reads(FX_PAGE, "file");
    assert_int_equal(fx_dma_put(fx, 0, "DEVICE", 7), 0);
    assert_string_equal(scene.memory + FX_PAGE, "DEVICE");
    assert_int_equal(map_file(0x100000, scene.memfd, 0, FX_PAGE + 1), -EINVAL);
    assert_int_equal(map_file(0x100000, scene.memfd, 1, FX_PAGE), -EINVAL);
}

static void files_that_can_not_be_pinned(void **state)
{
    struct fixture *fx = *state;
    int pipes[2], path, other = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    path = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    assert_int_equal(map_file(0, -1, 0, FX_PAGE), -EBADF);
    assert_int_equal(map_file(0, path, 0, FX_PAGE), -EBADF);
    assert_int_equal(map_file(0, pipes[0], 0, FX_PAGE), -EINVAL);
    assert_int_equal(map_file(0, other, 0, FX_PAGE), -EINVAL);
    assert_int_equal(map_file(0, scene.iommufd, 0, FX_PAGE), -EINVAL);
    assert_int_equal(map_file(0, scene.memfd, 0, SIZE + FX_PAGE), -EINVAL);
    assert_int_equal(map_file(0, scene.memfd, SIZE, FX_PAGE), -EINVAL);
    assert_int_equal(map_file(0, scene.memfd, -(uint64_t)FX_PAGE, FX_PAGE), -EOVERFLOW);
    assert_int_equal(map_file(0, scene.memfd, -2 * (uint64_t)FX_PAGE, FX_PAGE), -EINVAL);
    assert_int_equal(ftruncate(scene.memfd, SIZE - 1), 0);
    assert_int_equal(map_file(0, scene.memfd, 0, SIZE), -EINVAL);
    assert_int_equal(pinned(), 0);

    /* Without a domain it comes out when there is one. */
    detach();
    assert_int_equal(map_file(0, pipes[0], 0, FX_PAGE), 0);
    assert_int_equal(attach(scene.ioas), -EINVAL);
    assert_int_equal(unmap(0, FX_PAGE), FX_PAGE);
    assert_int_equal(map_file(0, scene.memfd, 0, 2 * FX_PAGE), 0);
    assert_int_equal(ftruncate(scene.memfd, FX_PAGE), 0);
    assert_int_equal(attach(scene.ioas), -EINVAL);
    assert_int_equal(ftruncate(scene.memfd, SIZE), 0);
    assert_int_equal(attach(scene.ioas), 0);
    assert_int_equal(fx_stats(fx).mappings, 1);
    close(pipes[0]);
    close(pipes[1]);
    close(path);
    close(other);
}

/* Neither what the descriptor may nor seals are looked at. */
static void files_that_may_not_be_written(void **state)
{
    int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char path[32];
    int reader;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", scene.memfd);
    reader = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(reader >= 0);
    assert_int_equal(map_file(0, reader, 0, FX_PAGE), 0);
    close(reader);
    assert_int_equal(fx_dma_put(*state, 0, "DEVICE", 7), 0);
    assert_string_equal(scene.memory, "DEVICE");

    assert_int_equal(ftruncate(sealed, FX_PAGE), 0);
    assert_int_equal(pwrite(sealed, "sealed", 6, 0), 6);
    assert_int_equal(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
    assert_int_equal(map_file(FX_PAGE, sealed, 0, FX_PAGE), 0);
    close(sealed);
    assert_device_reads(FX_PAGE, "sealed");
}

/* The client's file may be closed, and the memory mapped by address unmapped. */
static void pins_hold_the_memory(void **state)
{
    int memfd;
    char *memory = fx_memory(FX_PAGE, &memfd);

    strcpy(memory, "held");
    assert_int_equal(map_file(0, memfd, 0, FX_PAGE), 0);
    assert_int_equal(fd_map(*state, scene.iommufd, scene.ioas, FX_PAGE, memory, FX_PAGE), 0);
    close(memfd);
    munmap(memory, FX_PAGE);
    assert_device_reads(0, "held");
    assert_device_reads(FX_PAGE, "held");
}

static int alloc_hwpt(const struct uapi_hwpt_alloc *with)
{
    struct uapi_hwpt_alloc alloc = *with;

    alloc.size = sizeof(alloc);
    return fx_ioctl(scene.fx, scene.iommufd, UAPI_IOMMU_HWPT_ALLOC, &alloc);
}

#define ALLOC_HWPT(...) alloc_hwpt(&(const struct uapi_hwpt_alloc){__VA_ARGS__})

static void hwpt_rules(void **state)
{
    const uint32_t dev = scene.device, ioas = scene.ioas;
    uint32_t hwpt, other;

    sim_set_dirty_tracking(scene.fx->sim, false);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas, .flags = 2), -EOPNOTSUPP);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas, .reserved = 1), -EOPNOTSUPP);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas, .data_len = 1), -EINVAL);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas, .data_type = 1), -EINVAL);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas, .data_type = 1, .data_len = 1),
                     -EOPNOTSUPP);
    assert_int_equal(ALLOC_HWPT(.dev_id = ioas, .pt_id = ioas), -ENOENT);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = 99), -EINVAL);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = dev), -EINVAL);
    assert_int_equal(map(1, 0, FX_PAGE), 0);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = ioas), -EADDRINUSE);
    assert_int_equal(unmap(0, UINT64_MAX), FX_PAGE);

    assert_int_equal(fd_hwpt(*state, scene.iommufd, dev, ioas, &hwpt), 0);
    assert_int_equal(ALLOC_HWPT(.dev_id = dev, .pt_id = hwpt), -EOPNOTSUPP);
    other = hwpt;
    assert_int_equal(fd_attach(*state, scene.fx->device, &other), 0);
    assert_int_equal(other, hwpt);
    assert_int_equal(fd_destroy(*state, scene.iommufd, hwpt), -EBUSY);
    /* One that was asked for stays, and closing the context takes it. */
    detach();
    assert_int_equal(fd_destroy(*state, scene.iommufd, scene.ioas), -EBUSY);
}

static void *map_and_unmap(void *arg)
{
    uint64_t iova = (uintptr_t)arg * FX_PAGE;

    for (int i = 0; i < 200; i++) {
        assert_int_equal(map_file(iova, scene.memfd, 0, FX_PAGE), 0);
        assert_int_equal(unmap(iova, FX_PAGE), FX_PAGE);
    }
    return NULL;
}

static void *attach_and_detach(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        detach();
        assert_int_equal(attach(scene.ioas), 0);
    }
    return NULL;
}

static void threads(void **state)
{
    pthread_t thread[3];
    char byte;

    assert_int_equal(map(0, 0, FX_PAGE), 0);
    pthread_create(&thread[0], NULL, map_and_unmap, (void *)1);
    pthread_create(&thread[1], NULL, map_and_unmap, (void *)2);
    pthread_create(&thread[2], NULL, attach_and_detach, NULL);
    for (int i = 0; i < 200; i++) {
        int ret = fx_dma(*state, (uint64_t)(i % 3) * FX_PAGE, &byte, 1, false);

        assert_true(ret == 0 || ret == -EFAULT);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(pinned(), FX_PAGE);
}

#define in_scene(f)    cmocka_unit_test_setup_teardown(f, setup, teardown)
#define in_attached(f) cmocka_unit_test_setup_teardown(f, setup_attached, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(levels, fx_setup, fx_teardown),
        in_scene(unknown_calls),
        in_scene(sizes_of_structs),
        in_scene(ids_belong_to_a_context),
        in_scene(destroy_rules),
        in_scene(ranges_narrow),
        in_attached(ranges_without_room),
        in_attached(map_rules),
        in_attached(chosen_addresses),
        in_attached(device_sees_the_memory),
        in_attached(unmap_rules),
        in_scene(pins_while_there_is_a_domain),
        in_scene(what_a_domain_can_not_have),
        in_scene(limit_on_locked_memory),
        in_attached(copies_share_the_pins),
        in_attached(copy_rules),
        in_attached(files),
        in_attached(files_that_can_not_be_pinned),
        in_attached(files_that_may_not_be_written),
        in_attached(pins_hold_the_memory),
        in_scene(hwpt_rules),
        in_attached(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
