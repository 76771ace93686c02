#include "tests/unit/sim_fixture.h"

#include <pthread.h>

#define TOP 0xffffffffffff

static int setup(void **state)
{
    fx_setup(state);
    fx_open_group(*state, VFIO_TYPE1v2_IOMMU);
    return 0;
}

static int setup_v1(void **state)
{
    fx_setup(state);
    fx_open_group(*state, VFIO_TYPE1_IOMMU);
    return 0;
}

static void info_without_room_for_capabilities(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_type1_info info = {.argsz = 15};
    uint32_t whole;

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, &info), -EINVAL);
    /* Of old: without cap_offset. */
    info.argsz = 16;
    info.cap_offset = 0x55;
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS);
    assert_int_equal(info.iova_pgsizes, 0x40201000);
    assert_int_equal(info.cap_offset, 0x55);
    whole = info.argsz;
    assert_true(whole > sizeof(info));
    info.argsz = sizeof(info);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, &info), 0);
    assert_int_equal(info.argsz, whole);
    assert_int_equal(info.cap_offset, 0);
}

static void info_with_capabilities(void **state)
{
    struct fixture *fx = *state;
    struct vfio_iommu_type1_info info = {.argsz = 4096};
    struct vfio_iommu_type1_info_cap_migration migration;
    struct vfio_iommu_type1_info_dma_avail avail;
    struct vfio_info_cap_header header;
    uint8_t buf[4096] = {0};
    struct vfio_iova_range ranges[2];
    uint32_t nr;

    memcpy(buf, &info, sizeof(info));
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, buf), 0);
    memcpy(&info, buf, sizeof(info));
    assert_int_equal(info.argsz, 4096);
    memcpy(&migration, buf + info.cap_offset, sizeof(migration));
    assert_int_equal(migration.header.id, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
    assert_int_equal(migration.header.version, 1);
    assert_int_equal(migration.pgsize_bitmap, FX_PAGE);
    assert_int_equal(migration.max_dirty_bitmap_size, 256 << 20);
    memcpy(&avail, buf + migration.header.next, sizeof(avail));
    assert_int_equal(avail.header.id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
    assert_int_equal(avail.avail, 65535);
    memcpy(&header, buf + avail.header.next, sizeof(header));
    assert_int_equal(header.id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
    assert_int_equal(header.next, 0);
    memcpy(&nr, buf + avail.header.next + sizeof(header), sizeof(nr));
    assert_int_equal(nr, 2);
    memcpy(ranges, buf + avail.header.next + sizeof(header) + 8, sizeof(ranges));
    assert_int_equal(ranges[0].start, 0);
    assert_int_equal(ranges[0].end, 0xfedfffff);
    assert_int_equal(ranges[1].start, 0xfef00000);
    assert_int_equal(ranges[1].end, TOP);
}

static void malformed_maps(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(2 * FX_PAGE, NULL);
    struct vfio_iommu_type1_dma_map small = {.argsz = sizeof(small) - 1};
    const uint32_t rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_MAP_DMA, &small), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_MAP_DMA, NULL), -EFAULT);
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE, rw | 8), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE, rw | VFIO_DMA_MAP_FLAG_VADDR), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, 0, rw), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE - 1, rw), -EINVAL);
    assert_int_equal(fx_map(fx, 1, memory, FX_PAGE, rw), -EINVAL);
    assert_int_equal(fx_map(fx, 0, memory + 1, FX_PAGE, rw), -EINVAL);
    assert_int_equal(fx_map(fx, 0 - (uint64_t)FX_PAGE, memory, 2 * FX_PAGE, rw), -EINVAL);
    assert_int_equal(fx_map(fx, 0, (void *)-4096, 2 * FX_PAGE, rw), -EINVAL);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, 2 * FX_PAGE);
}

static void maps_stay_within_the_apertures(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(2 * FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, 0xfedff000, memory, 2 * FX_PAGE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0xfee00000, memory, FX_PAGE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, TOP + 1, memory, FX_PAGE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, TOP + 1 - FX_PAGE, memory, 2 * FX_PAGE), -EINVAL);
    assert_int_equal(fx_map_rw(fx, 0xfedff000, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 0xfef00000, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, TOP + 1 - FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 3 * FX_PAGE);
    munmap(memory, 2 * FX_PAGE);
}

static void overlaps(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(8 * FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, 4 * FX_PAGE, memory, 4 * FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 4 * FX_PAGE, memory, 4 * FX_PAGE), -EEXIST);
    assert_int_equal(fx_map_rw(fx, 3 * FX_PAGE, memory, 2 * FX_PAGE), -EEXIST);
    assert_int_equal(fx_map_rw(fx, 7 * FX_PAGE, memory, 2 * FX_PAGE), -EEXIST);
    assert_int_equal(fx_map_rw(fx, 5 * FX_PAGE, memory, FX_PAGE), -EEXIST);
    assert_int_equal(fx_map_rw(fx, 2 * FX_PAGE, memory, 8 * FX_PAGE), -EEXIST);
    assert_int_equal(fx_map_rw(fx, 3 * FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 8 * FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).mappings, 3);
    munmap(memory, 8 * FX_PAGE);
}

static void unmap_rules(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(4 * FX_PAGE, NULL);
    struct vfio_iommu_type1_dma_unmap small = {.argsz = sizeof(small) - 1};

    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_UNMAP_DMA, &small), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_UNMAP_DMA, NULL), -EFAULT);
    assert_int_equal(fx_map_rw(fx, 0x10000, memory, 4 * FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0x10000, 0, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x10001, FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x10000, FX_PAGE + 1, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0 - (uint64_t)FX_PAGE, 2 * FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x10000, FX_PAGE, 8), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x10000, FX_PAGE, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP), -EINVAL);
    /* A part of a mapping, at each end and in the middle. */
    assert_int_equal(fx_unmap(fx, 0x10000, FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x11000, FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0x13000, FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0xf000, 2 * FX_PAGE, 0), -EINVAL);
    assert_int_equal(fx_stats(fx).mappings, 1);
    /* Nothing there is no error. */
    assert_int_equal(fx_unmap(fx, 0x20000, FX_PAGE, 0), 0);
    assert_int_equal(fx_unmap(fx, 0x10000, 4 * FX_PAGE, 0), 4 * FX_PAGE);
    assert_int_equal(fx_unmap(fx, 0x10000, 4 * FX_PAGE, 0), 0);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, 4 * FX_PAGE);
}

static void unmap_of_several(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);

    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(fx_map_rw(fx, i * 0x10000, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0x10000, 0x30000, 0), 3 * FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 5);
    assert_int_equal(fx_unmap(fx, 0, 0xfffffffffffff000, 0), 5 * FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 0);
    munmap(memory, FX_PAGE);
}

static void unmap_all(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);

    assert_int_equal(fx_unmap(fx, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, TOP + 1 - FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL);
    assert_int_equal(fx_unmap(fx, FX_PAGE, 0, VFIO_DMA_UNMAP_FLAG_ALL), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 2 * FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 0);
    munmap(memory, FX_PAGE);
}

static void version_1_unmaps_otherwise(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(2 * FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, 0x10000, memory, 2 * FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0x11000, FX_PAGE, 0), 0);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(fx_unmap(fx, 0xf000, 2 * FX_PAGE, 0), 2 * FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 0);
    munmap(memory, 2 * FX_PAGE);
}

static uint32_t avail_of(struct fixture *fx)
{
    struct vfio_iommu_type1_info info = {.argsz = 256};
    struct vfio_iommu_type1_info_dma_avail avail;
    struct vfio_info_cap_header first;
    uint8_t buf[256] = {0};

    memcpy(buf, &info, sizeof(info));
    assert_int_equal(fx_ioctl(fx, fx->container, VFIO_IOMMU_GET_INFO, buf), 0);
    memcpy(&info, buf, sizeof(info));
    memcpy(&first, buf + info.cap_offset, sizeof(first));
    memcpy(&avail, buf + first.next, sizeof(avail));
    return avail.avail;
}

static void entry_limit(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);

    sim_set_dma_entry_limit(fx->sim, 2);
    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    assert_int_equal(avail_of(fx), 2);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(avail_of(fx), 0);
    assert_int_equal(fx_map_rw(fx, 2 * FX_PAGE, memory, FX_PAGE), -ENOSPC);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), -EEXIST);
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 2 * FX_PAGE, memory, FX_PAGE), 0);
    munmap(memory, FX_PAGE);
}

static void memlock_limit(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(4 * FX_PAGE, NULL);

    sim_set_memlock(fx->sim, 3 * FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 0, memory, 4 * FX_PAGE), -ENOMEM);
    assert_int_equal(fx_map_rw(fx, 0, memory, 2 * FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 0x10000, memory, 2 * FX_PAGE), -ENOMEM);
    assert_int_equal(fx_map_rw(fx, 0x10000, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0, 2 * FX_PAGE, 0), 2 * FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 0x20000, memory, 2 * FX_PAGE), 0);
    munmap(memory, 4 * FX_PAGE);
}

static void memory_that_cannot_be_pinned(void **state)
{
    struct fixture *fx = *state;
    int fd;
    char *memory = fx_memory(2 * FX_PAGE, &fd), *readable, *gone;

    readable = mmap(NULL, 2 * FX_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    assert_int_equal(fx_map_rw(fx, 0, readable, 2 * FX_PAGE), -EFAULT);
    assert_int_equal(fx_map(fx, 0, readable, 2 * FX_PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
    assert_int_equal(fx_unmap(fx, 0, 2 * FX_PAGE, 0), 2 * FX_PAGE);

    gone = mmap(NULL, FX_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    munmap(gone, FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 0, gone, FX_PAGE), -EFAULT);

    /* Beyond the end of the file, where an access would raise SIGBUS. */
    assert_int_equal(ftruncate(fd, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 0, memory, 2 * FX_PAGE), -EFAULT);
    assert_int_equal(fx_map(fx, 0, readable, 2 * FX_PAGE, VFIO_DMA_MAP_FLAG_READ), -EFAULT);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, FX_PAGE);
    assert_int_equal(fx_stats(fx).mappings, 1);
    munmap(memory, 2 * FX_PAGE);
    munmap(readable, 2 * FX_PAGE);
    close(fd);
}

static void transfers_both_ways(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), buf[16] = "";
    struct sim_stats stats;

    assert_int_equal(fx_map_rw(fx, 0x10000, memory, FX_PAGE), 0);
    strcpy(memory + 100, "to the device");
    assert_int_equal(fx_dma(fx, 0x10064, buf, sizeof(buf), false), 0);
    assert_string_equal(buf, "to the device");
    assert_int_equal(fx_dma_put(fx, 0x10000, "from the device", 16), 0);
    assert_string_equal(memory, "from the device");
    stats = fx_stats(fx);
    assert_int_equal(stats.dma_reads, 1);
    assert_int_equal(stats.dma_writes, 1);
    assert_int_equal(stats.dma_faults, 0);
    munmap(memory, FX_PAGE);
}

static void transfers_over_several_mappings(void **state)
{
    struct fixture *fx = *state;
    char *first = fx_memory(FX_PAGE, NULL), *second = fx_memory(2 * FX_PAGE, NULL);
    char *buf = malloc(4 * FX_PAGE);

    assert_int_equal(fx_map_rw(fx, 0x11000, first, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, 0x12000, second, 2 * FX_PAGE), 0);
    memset(buf, 'x', 4 * FX_PAGE);
    assert_int_equal(fx_dma(fx, 0x11800, buf, 2 * FX_PAGE, true), 0);
    assert_int_equal(first[0x7ff], 0);
    assert_int_equal(first[0x800], 'x');
    assert_int_equal(second[0x17ff], 'x');
    assert_int_equal(second[0x1800], 0);

    /* With a hole before and behind: what is there goes through, each missing page is a fault. */
    memset(first, 'f', FX_PAGE);
    memset(second, 's', 2 * FX_PAGE);
    assert_int_equal(fx_unmap(fx, 0x11000, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(fx_dma(fx, 0x10800, buf, 0x3000, false), -EFAULT);
    assert_int_equal(fx_stats(fx).dma_faults, 2);
    assert_int_equal(buf[0], 0);
    assert_int_equal(buf[0x17ff], 0);
    assert_int_equal(buf[0x1800], 's');
    assert_int_equal(buf[0x2fff], 's');
    munmap(first, FX_PAGE);
    munmap(second, 2 * FX_PAGE);
    free(buf);
}

static void rights(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), byte = 'd';

    memory[0] = 'm';
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, true), -EFAULT);
    assert_int_equal(memory[0], 'm');
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    assert_int_equal(byte, 'm');
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(fx_map(fx, 0, memory, FX_PAGE, VFIO_DMA_MAP_FLAG_WRITE), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), -EFAULT);
    assert_int_equal(byte, 0);
    assert_int_equal(fx_stats(fx).dma_faults, 2);
    munmap(memory, FX_PAGE);
}

static void pins_survive_munmap(void **state)
{
    struct fixture *fx = *state;
    int fd;
    char *memory = fx_memory(2 * FX_PAGE, &fd), byte = 0;

    assert_int_equal(fx_map_rw(fx, 0, memory, 2 * FX_PAGE), 0);
    munmap(memory, 2 * FX_PAGE);
    assert_int_equal(fx_dma_put(fx, FX_PAGE, "p", 1), 0);
    assert_int_equal(pread(fd, &byte, 1, FX_PAGE), 1);
    assert_int_equal(byte, 'p');
    close(fd);
}

static void truncated_memory_is_harmless(void **state)
{
    struct fixture *fx = *state;
    int fd;
    char *memory = fx_memory(2 * FX_PAGE, &fd), buf[8192];

    memset(memory, 'm', 2 * FX_PAGE);
    assert_int_equal(fx_map_rw(fx, 0, memory, 2 * FX_PAGE), 0);
    assert_int_equal(ftruncate(fd, FX_PAGE), 0);
    /* The kernel's pins are still there: no fault. */
    assert_int_equal(fx_dma(fx, 0, buf, sizeof(buf), false), 0);
    assert_int_equal(buf[FX_PAGE - 1], 'm');
    assert_int_equal(buf[FX_PAGE], 0);
    assert_int_equal(fx_dma(fx, 0, buf, sizeof(buf), true), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(fx_dma(fx, 0, buf, sizeof(buf), true), 0);
    assert_int_equal(fx_stats(fx).dma_faults, 0);
    assert_int_equal(fx_unmap(fx, 0, 2 * FX_PAGE, 0), 2 * FX_PAGE);
    munmap(memory, 2 * FX_PAGE);
    close(fd);
}

static void private_memory(void **state)
{
    struct fixture *fx = *state;
    char *memory = mmap(NULL, FX_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, 8, "p", 1), 0);
    assert_int_equal(memory[8], 'p');
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(memory[8], 'p'); /* is where it was */
    munmap(memory, FX_PAGE);
}

static void pins_are_given_back(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), byte = 0;

    /* More often than there are second mappings to be had at once. */
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
        assert_int_equal(fx_unmap(fx, 0, FX_PAGE, 0), FX_PAGE);
    }
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    memory[0] = 'm';
    munmap(memory, FX_PAGE);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    assert_int_equal(byte, 'm');
}

static int map_vaddr(struct fixture *fx, uint64_t iova, const void *addr, uint64_t size)
{
    return fx_map(fx, iova, addr, size, VFIO_DMA_MAP_FLAG_VADDR);
}

static void vaddr_update(void **state)
{
    struct fixture *fx = *state;
    int fd, second;
    char *memory = fx_memory(FX_PAGE, &fd), *moved, byte = 0, other[16];

    assert_int_equal(sim_add_device(fx->sim, "edu", other, sizeof(other)), 0);
    moved = mmap(NULL, FX_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_int_equal(map_vaddr(fx, 0, memory, FX_PAGE), -ENOENT);
    assert_int_equal(fx_map_rw(fx, 0, memory, FX_PAGE), 0);
    assert_int_equal(map_vaddr(fx, 0, memory, FX_PAGE), -EINVAL); /* is valid */
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), FX_PAGE);
    assert_int_equal(fx_unmap(fx, 0, FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), -EINVAL);
    munmap(memory, FX_PAGE);
    /* What is mapped goes on; but no group may join. */
    assert_int_equal(fx_dma_put(fx, 0, "v", 1), 0);
    second = fx_open(fx, "/dev/vfio/8");
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), -EBUSY);
    assert_int_equal(map_vaddr(fx, 0, moved, 2 * FX_PAGE), -EINVAL);
    assert_int_equal(map_vaddr(fx, 0, moved, FX_PAGE), 0);
    assert_int_equal(fx_ioctl(fx, second, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    host_close(fx->host, &second);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    assert_int_equal(byte, 'v');
    munmap(moved, FX_PAGE);
    close(fd);
}

static void vaddr_update_of_all(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);
    const uint32_t all = VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL;

    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(fx_map_rw(fx, i << 20, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 1 << 20, FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), FX_PAGE);
    assert_int_equal(fx_unmap(fx, 0, 0, all), -EINVAL);
    assert_int_equal(map_vaddr(fx, 1 << 20, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 1 << 20, 1 << 20, VFIO_DMA_UNMAP_FLAG_VADDR), FX_PAGE);
    assert_int_equal(map_vaddr(fx, 1 << 20, memory, FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, 0, 0, all), 5 * FX_PAGE);
    for (uint64_t i = 0; i < 5; i++)
        assert_int_equal(map_vaddr(fx, i << 20, memory, FX_PAGE), 0);
    munmap(memory, FX_PAGE);
}

static void vaddr_update_of_a_part(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(3 * FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, FX_PAGE, memory, 3 * FX_PAGE), 0);
    assert_int_equal(fx_unmap(fx, FX_PAGE, FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), -EINVAL);
    assert_int_equal(fx_unmap(fx, 2 * FX_PAGE, 2 * FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), -EINVAL);
    assert_int_equal(fx_unmap(fx, 0, 4 * FX_PAGE, VFIO_DMA_UNMAP_FLAG_VADDR), 3 * FX_PAGE);
    munmap(memory, 3 * FX_PAGE);
}

static void full_table(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL), byte = 'd';
    const uint64_t entries = 65535;

    /* In an order that makes a tree without balance a list. */
    for (uint64_t i = 0; i < entries; i++)
        assert_int_equal(fx_map_rw(fx, i * 2 * FX_PAGE, memory, FX_PAGE), 0);
    assert_int_equal(fx_map_rw(fx, entries * 2 * FX_PAGE, memory, FX_PAGE), -ENOSPC);
    for (uint64_t i = 0; i < entries; i++)
        assert_int_equal(fx_dma(fx, i * 2 * FX_PAGE, &byte, 1, true), 0);
    assert_int_equal(fx_dma(fx, FX_PAGE, &byte, 1, true), -EFAULT);
    for (uint64_t i = 0; i < entries; i += 2)
        assert_int_equal(fx_unmap(fx, i * 2 * FX_PAGE, FX_PAGE, 0), FX_PAGE);
    assert_int_equal(fx_unmap(fx, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), entries / 2 * FX_PAGE);
    munmap(memory, FX_PAGE);
}

struct racer {
    struct fixture *fx;
    char *memory;
    uint64_t base;
    unsigned good, bad;
};

static void *map_and_unmap(void *arg)
{
    struct racer *racer = arg;

    for (uint64_t i = 0; i < 300; i++) {
        int ret = fx_map_rw(racer->fx, racer->base, racer->memory, FX_PAGE);
        int64_t unmapped = fx_unmap(racer->fx, racer->base, FX_PAGE, 0);

        racer->bad += ret || unmapped != FX_PAGE;
    }
    return NULL;
}

static void *transfer(void *arg)
{
    struct racer *racer = arg;
    char buf[64];

    for (unsigned i = 0; i < 1000; i++) {
        int ret = fx_dma(racer->fx, racer->base, buf, sizeof(buf), i % 2);

        racer->good += !ret;
        racer->bad += ret && ret != -EFAULT;
    }
    return NULL;
}

static void map_unmap_and_dma_at_once(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);
    struct racer racers[] = {
        {fx, memory, 0       },
        {fx, memory, 0x100000},
        {fx, memory, 0       },
        {fx, memory, 0x200000},
    };
    pthread_t threads[4];

    assert_int_equal(fx_map_rw(fx, 0x200000, memory, FX_PAGE), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < 2 ? map_and_unmap : transfer, &racers[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(racers[i].bad, 0);
    assert_int_equal(racers[3].good, 1000);
    assert_int_equal(fx_stats(fx).mappings, 1);
    munmap(memory, FX_PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(info_without_room_for_capabilities, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(info_with_capabilities, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(malformed_maps, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(maps_stay_within_the_apertures, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(overlaps, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unmap_rules, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unmap_of_several, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(unmap_all, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(version_1_unmaps_otherwise, setup_v1, fx_teardown),
        cmocka_unit_test_setup_teardown(entry_limit, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(memlock_limit, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(memory_that_cannot_be_pinned, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(transfers_both_ways, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(transfers_over_several_mappings, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(rights, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(pins_survive_munmap, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(truncated_memory_is_harmless, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(private_memory, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(pins_are_given_back, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vaddr_update, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vaddr_update_of_all, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(vaddr_update_of_a_part, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(full_table, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(map_unmap_and_dma_at_once, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
