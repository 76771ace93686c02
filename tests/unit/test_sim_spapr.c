/* SPAPR TCE containers and EEH of the simulated kernel. */
#include <sys/wait.h>

#include "proto/base/arith.h"
#include "tests/unit/sim_fixture.h"

enum {
    SIZE = 8 * FX_PAGE,
    RW = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
};

#define DMA32_END UINT64_C(0x80000000)
#define SECOND    (UINT64_C(1) << 59)

static int setup_machine(void **state, enum sim_iommu_model model)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    sim_set_iommu(fx->sim, model);
    return 0;
}

static int setup_v1(void **state)
{
    setup_machine(state, SIM_IOMMU_SPAPR_V1);
    fx_open_group(*state, VFIO_SPAPR_TCE_IOMMU);
    return 0;
}

static int setup_v2(void **state)
{
    setup_machine(state, SIM_IOMMU_SPAPR_V2);
    fx_open_group(*state, VFIO_SPAPR_TCE_v2_IOMMU);
    return 0;
}

static int setup_bare_v1(void **state)
{
    return setup_machine(state, SIM_IOMMU_SPAPR_V1);
}

static int setup_bare_v2(void **state)
{
    return setup_machine(state, SIM_IOMMU_SPAPR_V2);
}

static int teardown(void **state)
{
    struct fixture *fx = *state;

    fx_close_all(fx);
    assert_int_equal(fx_stats(fx).locked_bytes, 0);
    return fx_teardown(state);
}

static int check(struct fixture *fx, uintptr_t extension)
{
    return fx_ioctl_value(fx, fx->container, VFIO_CHECK_EXTENSION, extension);
}

static int set_iommu(struct fixture *fx, uintptr_t model)
{
    return fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, model);
}

static int memory_call(struct fixture *fx, unsigned long request, const void *addr, uint64_t size)
{
    struct vfio_iommu_spapr_register_memory reg = {
        .argsz = sizeof(reg),
        .vaddr = (uintptr_t)addr,
        .size = size,
    };

    return fx_ioctl(fx, fx->container, request, &reg);
}

static int reg(struct fixture *fx, const void *addr, uint64_t size)
{
    return memory_call(fx, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, addr, size);
}

static int unreg(struct fixture *fx, const void *addr, uint64_t size)
{
    return memory_call(fx, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, addr, size);
}

/* The kernel does not write the size back; fx_unmap() gives it as it was. */
static int unmap(struct fixture *fx, uint64_t iova, uint64_t size)
{
    int64_t ret = fx_unmap(fx, iova, size, 0);

    return ret == (int64_t)size ? 0 : (int)ret;
}

static int create_window(struct fixture *fx, uint32_t page_shift, uint64_t size, uint32_t levels,
                         uint64_t *start)
{
    struct vfio_iommu_spapr_tce_create create = {
        .argsz = sizeof(create),
        .page_shift = page_shift,
        .window_size = size,
        .levels = levels,
        .start_addr = 0x55,
    };
    int ret = fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_CREATE, &create);

    *start = create.start_addr;
    return ret;
}

static int remove_window(struct fixture *fx, uint64_t start)
{
    struct vfio_iommu_spapr_tce_remove remove = {.argsz = sizeof(remove), .start_addr = start};

    return fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove);
}

static void assert_reads(struct fixture *fx, uint64_t iova, const char *text)
{
    char buf[8] = "";

    assert_int_equal(fx_dma(fx, iova, buf, strlen(text), false), 0);
    assert_string_equal(buf, text);
}

static void assert_faults(struct fixture *fx, uint64_t iova)
{
    char byte;

    assert_int_equal(fx_dma(fx, iova, &byte, 1, false), -EFAULT);
}

static void machine_has_no_other_iommu(void **state)
{
    static const uintptr_t absent[] = {VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_DMA_CC_IOMMU,
                                       VFIO_UNMAP_ALL,   VFIO_NOIOMMU_IOMMU, 12345};
    struct fixture *fx = *state;

    fx->container = fx_open(fx, "/dev/vfio/vfio");
    fx->group = fx_open(fx, fx->group_path);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_v2_IOMMU), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(check(fx, VFIO_SPAPR_TCE_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_SPAPR_TCE_v2_IOMMU), 1);
    assert_int_equal(check(fx, VFIO_EEH), 1);
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
        assert_int_equal(check(fx, absent[i]), 0);
        assert_int_equal(set_iommu(fx, absent[i]), -ENODEV);
    }
    assert_int_equal(set_iommu(fx, VFIO_EEH), -EINVAL);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_IOMMU), -EPERM); /* it is v2's */
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_v2_IOMMU), 0);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_v2_IOMMU), -EINVAL);
    assert_int_equal(fx_open(fx, "/dev/iommu"), -ENOENT);
    sim_set_eeh(fx->sim, false);
    assert_int_equal(check(fx, VFIO_EEH), 0);
}

static void v1_takes_one_group(void **state)
{
    struct fixture *fx = *state;
    char other[16];
    int second;

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    fx->group = fx_open(fx, fx->group_path);
    second = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_v2_IOMMU), -EPERM);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_IOMMU), -EBUSY);
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
    assert_int_equal(set_iommu(fx, VFIO_SPAPR_TCE_IOMMU), 0);
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), -EBUSY);
    host_close(fx->host, &second);
}

static void v2_shares_windows_between_groups(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL), other[16], byte = 'd';
    int second;

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    second = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(sim_device_dma(fx->sim, other, 0, &byte, 1, true), 0);
    assert_int_equal(memory[0], 'd');
    host_close(fx->host, &second);
    assert_int_equal(sim_device_dma(fx->sim, other, 0, &byte, 1, true), -EFAULT);
    assert_int_equal(fx_stats(fx).mappings, 1);
    munmap(memory, SIZE);
}

static void get_info(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_spapr_tce_info info = {.argsz = 15};

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), -EINVAL);
    info.argsz = 16;
    info.ddw.levels = 77;
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_IOMMU_SPAPR_INFO_DDW);
    assert_int_equal(info.dma32_window_start, 0);
    assert_true(info.dma32_window_size == DMA32_END);
    assert_int_equal(info.ddw.levels, 77); /* no room, not touched */
    info.argsz = sizeof(info);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), 0);
    assert_int_equal(info.ddw.pgsizes, 1 << 12 | 1 << 16 | 1 << 24);
    assert_int_equal(info.ddw.max_dynamic_windows_supported, 2);
    assert_int_equal(info.ddw.levels, 5);
}

static void v1_has_no_dynamic_windows(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_spapr_tce_info info = {.argsz = sizeof(info), .ddw.levels = 77};
    uint64_t start;

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), 0);
    assert_int_equal(info.flags, 0);
    assert_int_equal(info.ddw.levels, 0);
    assert_int_equal(create_window(fx, 16, DMA32_END, 1, &start), -ENOTTY);
    assert_int_equal(remove_window(fx, 0), -ENOTTY);
    assert_int_equal(reg(fx, NULL, 0), -ENOTTY);
    assert_int_equal(unreg(fx, NULL, 0), -ENOTTY);
}

static void v1_counts_the_whole_window(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -EPERM);
    assert_int_equal(unmap(fx, 0, SIZE), -EPERM);
    sim_set_memlock(fx->sim, DMA32_END - 1);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), -ENOMEM);
    sim_set_memlock(fx->sim, DMA32_END);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), 0);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), -EBUSY);
    assert_true(fx_stats(fx).locked_bytes == DMA32_END);
    /* A mapping costs no more. */
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE);
    assert_true(fx_stats(fx).locked_bytes == DMA32_END);

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_DISABLE, NULL), 0);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_DISABLE, NULL), 0);
    assert_int_equal(fx_stats(fx).locked_bytes, 0);
    assert_int_equal(fx_map_rw(fx, SIZE, memory, SIZE), -EPERM);
    assert_int_equal(fx_stats(fx).mappings, 1); /* what was mapped stays */
    strcpy(memory, "still");
    assert_reads(fx, 0, "still");
    munmap(memory, SIZE);
}

static void v1_maps_what_it_is_told(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL), *constant, byte = 0;

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), 0);
    assert_int_equal(fx_map(fx, 0, memory, SIZE, VFIO_DMA_MAP_FLAG_READ), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), -EFAULT);
    assert_int_equal(unmap(fx, 0, SIZE), 0);
    munmap(memory, SIZE);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -EFAULT);

    constant = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(fx_map_rw(fx, 0, constant, SIZE), -EFAULT);
    assert_int_equal(fx_map(fx, 0, constant, SIZE, VFIO_DMA_MAP_FLAG_READ), 0);
    assert_int_equal(unmap(fx, 0, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(constant, SIZE);
}

static void v2_maps_what_is_registered(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_ENABLE, NULL), -ENOTTY);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_DISABLE, NULL), -ENOTTY);
    assert_int_equal(unreg(fx, memory, SIZE), -EPERM); /* of no process yet */
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -EPERM);
    assert_int_equal(reg(fx, memory + FX_PAGE, SIZE - FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE - FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -EINVAL);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(fx_map_rw(fx, 0x1000, memory + FX_PAGE, SIZE - FX_PAGE), 0);
    strcpy(memory + 2 * FX_PAGE, "two");
    assert_reads(fx, 2 * FX_PAGE, "two");
    assert_int_equal(unmap(fx, 0x1000, SIZE - FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE - FX_PAGE);
    assert_int_equal(unreg(fx, memory + FX_PAGE, SIZE - FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, SIZE);
}

static void registers(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_spapr_register_memory odd = {.argsz = sizeof(odd) - 1};
    char *memory = fx_memory(SIZE, NULL), *constant;

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &odd), -EINVAL);
    odd = (struct vfio_iommu_spapr_register_memory){.argsz = sizeof(odd), .flags = 1};
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &odd), -EINVAL);
    assert_int_equal(reg(fx, memory + 1, FX_PAGE), -EINVAL);
    assert_int_equal(reg(fx, memory, FX_PAGE + 1), -EINVAL);
    assert_int_equal(reg(fx, memory, -(uint64_t)FX_PAGE), -EINVAL);
    assert_int_equal(reg(fx, memory, 0), -ENOMEM);
    assert_int_equal(reg(fx, memory, 4 * FX_PAGE), 0);
    assert_int_equal(reg(fx, memory, 4 * FX_PAGE), -EBUSY);
    assert_int_equal(reg(fx, memory, 5 * FX_PAGE), -EINVAL);
    assert_int_equal(reg(fx, memory + 3 * FX_PAGE, FX_PAGE), -EINVAL);
    assert_int_equal(reg(fx, memory + 4 * FX_PAGE, FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 5 * FX_PAGE);
    assert_int_equal(unreg(fx, memory, 5 * FX_PAGE), -ENOENT);
    assert_int_equal(unreg(fx, memory + 1, 4 * FX_PAGE), -EINVAL);
    assert_int_equal(unreg(fx, memory, 4 * FX_PAGE), 0);
    assert_int_equal(unreg(fx, memory, 4 * FX_PAGE), -ENOENT);

    sim_set_memlock(fx->sim, 2 * FX_PAGE);
    assert_int_equal(reg(fx, memory, 2 * FX_PAGE), -ENOMEM);
    assert_int_equal(reg(fx, memory, FX_PAGE), 0);
    sim_set_memlock(fx->sim, UINT64_MAX);

    /* It is always pinned for writing. */
    constant = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(reg(fx, constant, SIZE), -EFAULT);
    munmap(constant, SIZE);
    assert_int_equal(reg(fx, constant, SIZE), -EFAULT);
    assert_int_equal(fx_stats(fx).pinned_bytes, 2 * FX_PAGE);
    munmap(memory, SIZE);
}

static void mapping_over_two_registrations(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    assert_int_equal(reg(fx, memory, FX_PAGE), 0);
    assert_int_equal(reg(fx, memory + FX_PAGE, SIZE - FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    memcpy(memory + FX_PAGE - 2, "both", 4);
    assert_reads(fx, FX_PAGE - 2, "both");
    munmap(memory, SIZE);
}

static void unregistered_while_mapped(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(unreg(fx, memory, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE);
    strcpy(memory, "pinned");
    assert_reads(fx, 0, "pinned");
    assert_int_equal(unreg(fx, memory, SIZE), -ENOENT);
    assert_int_equal(unmap(fx, 0, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE); /* for good */
    /* Whoever registers the same range gets the old pages. */
    munmap(memory, SIZE);
    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_reads(fx, 0, "pinned");
    fx_close_all(fx);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE);
    sim_destroy(fx->sim);
    free(fx);
}

/* All containers of a process see its registrations, which are counted once. */
static void registrations_are_the_processes(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL), other[16];
    struct fixture second = *fx;

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    strcpy(second.group_path, "/dev/vfio/8");
    fx_open_group(&second, VFIO_SPAPR_TCE_v2_IOMMU);
    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(reg(&second, memory, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE);
    assert_int_equal(unreg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(unmap(fx, 0, SIZE), 0);
    assert_int_equal(unreg(fx, memory, SIZE), -ENOENT);
    host_close(fx->host, &second.group);
    host_close(fx->host, &second.container);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, SIZE);
}

static void map_arguments(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);
    struct vfio_iommu_type1_dma_map small = {.argsz = sizeof(small) - 1};

    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_MAP_DMA, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_MAP_DMA, &small), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, SIZE, RW | VFIO_DMA_MAP_FLAG_VADDR), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, SIZE, 0), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0, memory + 1, SIZE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE - 1), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 1, memory, SIZE), 1);
    assert_int_equal(fx_map_rw(fx, DMA32_END, memory, SIZE), -ENXIO);
    assert_int_equal(fx_map_rw(fx, DMA32_END - FX_PAGE, memory, SIZE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0, memory, 0), 0);
    assert_int_equal(fx_stats(fx).mappings, 0);

    assert_int_equal(fx_unmap(fx, 0, SIZE, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL);
    assert_int_equal(unmap(fx, 0, SIZE - 1), -EINVAL);
    assert_int_equal(unmap(fx, 1, SIZE), 1);
    assert_int_equal(unmap(fx, DMA32_END, SIZE), -ENXIO);
    assert_int_equal(unmap(fx, DMA32_END - FX_PAGE, SIZE), 1);
    assert_int_equal(unmap(fx, 0, SIZE), 0); /* nothing is there */
    munmap(memory, SIZE);
}

/* Each page by itself: the newer mapping wins, and any part can be taken away. */
static void pages_are_exchanged_and_cut(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    for (unsigned i = 0; i < 8; i++)
        snprintf(memory + i * (size_t)FX_PAGE, 8, "page %u", i);
    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 2 * FX_PAGE, memory, FX_PAGE), 0);
    assert_reads(fx, FX_PAGE, "page 1");
    assert_reads(fx, 2 * FX_PAGE, "page 0");
    assert_reads(fx, 3 * FX_PAGE, "page 3");
    assert_int_equal(unmap(fx, 5 * FX_PAGE, FX_PAGE), 0);
    assert_reads(fx, 4 * FX_PAGE, "page 4");
    assert_faults(fx, 5 * FX_PAGE);
    assert_reads(fx, 6 * FX_PAGE, "page 6");
    assert_int_equal(unmap(fx, 0, FX_PAGE), 0);
    assert_int_equal(unmap(fx, 7 * FX_PAGE, FX_PAGE), 0);
    assert_faults(fx, 0);
    assert_faults(fx, 7 * FX_PAGE);
    assert_reads(fx, FX_PAGE, "page 1");
    assert_reads(fx, 6 * FX_PAGE, "page 6");

    /* One that fails takes what it has exchanged along. */
    assert_int_equal(fx_map_rw(fx, FX_PAGE, memory + 7 * FX_PAGE, 2 * FX_PAGE), -EINVAL);
    assert_faults(fx, FX_PAGE);
    assert_reads(fx, 2 * FX_PAGE, "page 0");
    assert_int_equal(unmap(fx, 0, SIZE), 0);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(unreg(fx, memory, SIZE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, SIZE);
}

static void windows(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);
    uint64_t start;

    assert_int_equal(create_window(fx, 13, DMA32_END, 1, &start), -EINVAL);
    assert_int_equal(create_window(fx, 200, DMA32_END, 1, &start), -EINVAL);
    assert_int_equal(create_window(fx, 12, DMA32_END - FX_PAGE, 1, &start), -EINVAL);
    assert_int_equal(create_window(fx, 12, DMA32_END, 0, &start), -EINVAL);
    assert_int_equal(create_window(fx, 12, DMA32_END, 6, &start), -EINVAL);
    assert_int_equal(create_window(fx, 12, UINT64_C(1) << 56, 2, &start), -EINVAL);
    assert_int_equal(start, 0x55);
    /* The default one is there now; its table of 8 bytes a page is counted, twice. */
    assert_true(fx_stats(fx).locked_bytes == 2 * 8 * (DMA32_END >> 12));
    assert_int_equal(create_window(fx, 12, UINT64_C(1) << 36, 2, &start), 0);
    assert_true(start == SECOND);
    assert_int_equal(create_window(fx, 12, DMA32_END, 1, &start), -ENOSPC);

    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, SECOND, memory, SIZE), 0);
    strcpy(memory, "both");
    assert_reads(fx, 0, "both");
    assert_reads(fx, SECOND, "both");

    /* A larger one takes the first one's place. */
    assert_int_equal(remove_window(fx, 0), 0);
    assert_faults(fx, 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -ENXIO);
    assert_int_equal(remove_window(fx, 0), -EINVAL);
    assert_int_equal(create_window(fx, 12, UINT64_C(1) << 36, 2, &start), 0);
    assert_true(start == 0);
    assert_int_equal(fx_map_rw(fx, DMA32_END, memory, SIZE), 0);
    assert_reads(fx, DMA32_END, "both");
    assert_int_equal(remove_window(fx, SECOND + FX_PAGE), 0); /* any address within */
    assert_int_equal(fx_stats(fx).mappings, 1);
    munmap(memory, SIZE);
}

static void default_window_is_made_late(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);

    assert_int_equal(fx_stats(fx).locked_bytes, 0);
    assert_int_equal(remove_window(fx, 0), 0);
    assert_int_equal(remove_window(fx, 0), -EINVAL);
    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), -ENXIO);
    assert_true(fx_stats(fx).locked_bytes == SIZE);
    munmap(memory, SIZE);
}

static void large_pages_need_huge_memory(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(1 << 20, NULL);
    char *aligned = memory + (-(uintptr_t)memory & 0xffff);
    uint64_t start;

    assert_int_equal(create_window(fx, 16, UINT64_C(1) << 36, 1, &start), 0);
    assert_int_equal(reg(fx, memory, 1 << 20), 0);
    assert_int_equal(fx_map_rw(fx, start, aligned, FX_PAGE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, start, aligned, 0x10000), -EINVAL);
    munmap(memory, 1 << 20);
}

static void another_process_is_refused(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);
    pid_t pid;
    int status;

    assert_int_equal(reg(fx, memory, SIZE), 0);
    pid = fork();
    if (!pid)
        _exit(fx_map_rw(fx, 0, memory, SIZE) == -EPERM && unmap(fx, 0, SIZE) == -EPERM &&
                      unreg(fx, memory, SIZE) == -EPERM && check(fx, VFIO_SPAPR_TCE_IOMMU) == 1
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    munmap(memory, SIZE);
}

static int eeh(struct fixture *fx, uint32_t op)
{
    struct vfio_eeh_pe_op request = {.argsz = sizeof(request), .op = op};

    return fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, &request);
}

static int inject(struct fixture *fx, uint32_t argsz, uint32_t type, uint32_t func)
{
    struct vfio_eeh_pe_op request = {
        .argsz = argsz,
        .op = VFIO_EEH_PE_INJECT_ERR,
        .err = {.type = type, .func = func},
    };

    return fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, &request);
}

static int state_of(struct fixture *fx)
{
    return eeh(fx, VFIO_EEH_PE_GET_STATE);
}

static int setup_device(void **state)
{
    struct fixture *fx;

    setup_v2(state);
    fx = *state;
    fx->device = fx_get_device(fx, fx->bdf);
    assert_true(fx->device >= 0);
    return 0;
}

static void eeh_arguments(void **state)
{
    struct fixture *fx = *state;
    struct vfio_eeh_pe_op request = {.argsz = 11, .op = VFIO_EEH_PE_ENABLE};

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, &request), -EINVAL);
    request.argsz = 12;
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, &request), 0);
    request.flags = 1;
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_EEH_PE_OP, &request), -EINVAL);
    assert_int_equal(eeh(fx, 10), -EINVAL);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_DISABLE), 0);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_CONFIGURE), 0);
    assert_int_equal(inject(fx, 12, 0, 0), -EINVAL);
    assert_int_equal(inject(fx, sizeof(request), 2, 0), -EINVAL);
    assert_int_equal(inject(fx, sizeof(request), 0, 20), -EINVAL);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(inject(fx, sizeof(request), 1, 19), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_STOPPED);
    sim_set_eeh(fx->sim, false);
    assert_int_equal(state_of(fx), -ENODEV);
}

static void frozen_pe(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL), byte = 'd';

    assert_int_equal(reg(fx, memory, SIZE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, SIZE), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), 0);
    assert_int_equal(sim_freeze_pe(fx->sim, fx->bdf), 0);
    assert_int_equal(sim_freeze_pe(fx->sim, "0000:00:1f.0"), -ENODEV);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_STOPPED);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), -EFAULT);
    assert_true(fx_bar_get(fx, 0) == UINT32_MAX);
    assert_int_equal(fx_config_get(fx, PCI_COMMAND, 1), 0xff);
    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 2), 0x1234); /* the kernel's copy */
    fx_config_set(fx, PCI_COMMAND, PCI_COMMAND_MASTER, 2);
    assert_false(fx_state(fx).bus_master);
    fx_bar_set(fx, 4, 0x12345678);

    assert_int_equal(eeh(fx, VFIO_EEH_PE_UNFREEZE_IO), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_STOPPED_DMA);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
    assert_true(fx_bar_get(fx, 4) != ~0x12345678u); /* the write was dropped */
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), -EFAULT);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_UNFREEZE_DMA), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), 0);

    assert_int_equal(sim_freeze_pe(fx->sim, fx->bdf), 0);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_UNFREEZE_DMA), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_UNAVAIL);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_ENABLE), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
    munmap(memory, SIZE);
}

static void reset_of_a_pe(void **state)
{
    static const uint32_t kinds[] = {VFIO_EEH_PE_RESET_HOT, VFIO_EEH_PE_RESET_FUNDAMENTAL};
    struct fixture *fx = *state;

    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        unsigned before = fx_stats(fx).resets;

        fx_set_bus_master(fx, true);
        fx_bar_set(fx, 4, 0x12345678);
        assert_int_equal(eeh(fx, kinds[i]), 0);
        assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_RESET);
        assert_true(fx_bar_get(fx, 0) == UINT32_MAX);
        assert_int_equal(eeh(fx, VFIO_EEH_PE_RESET_DEACTIVATE), 0);
        assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
        assert_int_equal(fx_stats(fx).resets, before + 1);
        assert_false(fx_state(fx).bus_master);
        assert_true(fx_bar_get(fx, 4) != ~0x12345678u);
    }
}

static void opening_unfreezes(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(eeh(fx, VFIO_EEH_PE_RESET_HOT), 0);
    host_close(fx->host, &fx->device);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
}

/* Another device's BAR is no memory that the kernel would pin here. */
static void bars_are_not_registered(void **state)
{
    struct fixture *fx = *state;
    void *bar;

    assert_int_equal(host_mmap(fx->host, &bar, FX_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                               fx->device, fx_offset(fx, VFIO_PCI_BAR0_REGION_INDEX, 0)),
                     0);
    assert_int_equal(reg(fx, bar, FX_PAGE), -EFAULT);
    assert_int_equal(host_munmap(fx->host, bar, FX_PAGE), 0);
}

/* All groups of the container, one after the other. */
static void eeh_is_for_each_group(void **state)
{
    struct fixture *fx = *state;
    char other[16];
    int second;

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    second = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(sim_freeze_pe(fx->sim, other), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_STOPPED);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed); /* this one is not */
    assert_int_equal(sim_freeze_pe(fx->sim, fx->bdf), 0);
    assert_int_equal(eeh(fx, VFIO_EEH_PE_ENABLE), 0);
    assert_int_equal(state_of(fx), VFIO_EEH_PE_STATE_NORMAL);
    host_close(fx->host, &second);
}

#define ON_V1(f)  cmocka_unit_test_setup_teardown(f, setup_v1, teardown)
#define ON_V2(f)  cmocka_unit_test_setup_teardown(f, setup_v2, teardown)
#define ON_EEH(f) cmocka_unit_test_setup_teardown(f, setup_device, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(machine_has_no_other_iommu, setup_bare_v2, teardown),
        cmocka_unit_test_setup_teardown(v1_takes_one_group, setup_bare_v1, teardown),
        ON_V2(v2_shares_windows_between_groups),
        ON_V2(get_info),
        ON_V1(v1_has_no_dynamic_windows),
        ON_V1(v1_counts_the_whole_window),
        ON_V1(v1_maps_what_it_is_told),
        ON_V2(v2_maps_what_is_registered),
        ON_V2(registers),
        ON_V2(mapping_over_two_registrations),
        cmocka_unit_test_setup(unregistered_while_mapped, setup_v2),
        ON_V2(registrations_are_the_processes),
        ON_V2(map_arguments),
        ON_V2(pages_are_exchanged_and_cut),
        ON_V2(windows),
        ON_V2(default_window_is_made_late),
        ON_V2(large_pages_need_huge_memory),
        ON_V2(another_process_is_refused),
        ON_EEH(eeh_arguments),
        ON_EEH(frozen_pe),
        ON_EEH(reset_of_a_pe),
        ON_EEH(opening_unfreezes),
        ON_EEH(bars_are_not_registered),
        ON_EEH(eeh_is_for_each_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
