#include "bridge/domain.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/sim/sim.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"

enum {
    PAGE = 4096,
    FILE_SIZE = 64 * PAGE,
    IOVA = 0x100000,
    VADDR = 0x40000000,
    READ = IOMMU_READ,
    RW = IOMMU_READ | IOMMU_WRITE,
};

static int client_file(void)
{
    int fd = memfd_create("client", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
    return fd;
}

static int map(struct domain *domain, uint64_t iova, uint64_t size, uint32_t prot, int fd,
               uint64_t offset, struct domain_mapping **out)
{
    struct memory_file file;

    assert_int_equal(memory_file_check(fd, offset, size, prot & IOMMU_WRITE, &file), 0);
    return domain_map(domain, iova, size, prot, &file, out);
}

/* By a scripted host: what is called, and what is not. */

static struct fake_host *f;
static struct domain *domain;
static struct log_capture capture;
static int memory, other;

static int setup(void **state)
{
    struct iommu_context *context;

    (void)state;
    memory = client_file();
    other = client_file();
    f = fake_host_new();
    fake_expect_container(f);
    assert_int_equal(iommu_context_create(fake_host_base(f), IOMMU_TYPE1, &context), 0);
    assert_int_equal(domain_create(context, &domain), 0);
    assert_ptr_equal(domain_context(domain), context);
    iommu_context_unref(context);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    domain_unref(domain);
    fake_host_free(f);
    fd_close(&memory);
    fd_close(&other);
    return 0;
}

static void expect_map(uint64_t iova, uint64_t size, uint32_t flags, int ret)
{
    const struct vfio_iommu_type1_dma_map request = {sizeof(request), flags, VADDR + iova, iova,
                                                     size};

    FAKE_EXPECT(f, .kind = FAKE_MMAP, .value = VADDR + iova, .len = size);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA,
                .in = &request, .in_len = sizeof(request), .ret = ret);
}

static void expect_unmap(uint64_t iova, uint64_t size, int ret)
{
    const struct vfio_iommu_type1_dma_unmap request = {
        .argsz = sizeof(request), .iova = iova, .size = size};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_UNMAP_DMA,
                .in = &request, .in_len = sizeof(request), .ret = ret);
}

static void expect_map_rw(void)
{
    expect_map(IOVA, PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, 0);
}

static int map_page(uint32_t prot, struct domain_mapping **out)
{
    return map(domain, IOVA, PAGE, prot, memory, 0, out);
}

/* The kernel is asked once, by whichever descriptor of the file, and told when the last has gone.
 */
static void same_mapping_twice(void **state)
{
    cleanup_close_ int again = dup(memory);
    struct domain_mapping *first, *second;

    (void)state;
    for (unsigned leaves = 0; leaves < 2; leaves++) {
        expect_map_rw();
        assert_int_equal(map_page(RW, &first), 0);
        assert_int_equal(map(domain, IOVA, PAGE, RW, again, 0, &second), 0);
        assert_int_equal(domain_unmap(domain, leaves ? first : second), 0);
        fake_assert_done(f);
        expect_unmap(IOVA, PAGE, 0);
        assert_int_equal(domain_unmap(domain, leaves ? second : first), 0);
        fake_assert_done(f);
        assert_int_equal(fake_mapping_count(f), 0);
    }
}

/* Whether it may stay pinned is the export's option, not the client's request. */
static void stable_is_the_same(void **state)
{
    struct domain_mapping *first, *second;

    (void)state;
    expect_map_rw();
    assert_int_equal(map_page(RW | IOMMU_STABLE, &first), 0);
    assert_int_equal(map_page(RW, &second), 0);
    assert_int_equal(domain_unmap(domain, first), 0);
    expect_unmap(IOVA, PAGE, 0);
    assert_int_equal(domain_unmap(domain, second), 0);
}

static void other_mapping(void **state)
{
    const struct {
        uint64_t iova, size;
        uint32_t prot;
        int fd;
        uint64_t offset;
    } cases[] = {
        {IOVA,            4 * PAGE, READ, memory, 0   },
        {IOVA,            4 * PAGE, RW,   other,  0   },
        {IOVA,            4 * PAGE, RW,   memory, PAGE},
        {IOVA,            PAGE,     RW,   memory, 0   },
        {IOVA,            8 * PAGE, RW,   memory, 0   },
        {IOVA + PAGE,     PAGE,     RW,   memory, PAGE},
        {IOVA + 3 * PAGE, 4 * PAGE, RW,   memory, 0   },
        {IOVA - PAGE,     2 * PAGE, RW,   memory, 0   },
        {IOVA - PAGE,     8 * PAGE, RW,   memory, 0   },
    };
    struct domain_mapping *first, *none = NULL;

    (void)state;
    expect_map(IOVA, 4 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, 0);
    assert_int_equal(map(domain, IOVA, 4 * PAGE, RW, memory, 0, &first), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        log_capture_start(&capture);
        assert_int_equal(map(domain, cases[i].iova, cases[i].size, cases[i].prot, cases[i].fd,
                             cases[i].offset, &none),
                         -EEXIST);
        assert_non_null(
            strstr(log_capture_end(&capture), "another device of the IOMMU group has something"));
        assert_null(none);
    }
    expect_unmap(IOVA, 4 * PAGE, 0);
    assert_int_equal(domain_unmap(domain, first), 0);
}

/* Nothing is entered then: the next one asks the kernel again. */
static void map_error(void **state)
{
    struct domain_mapping *mapping = NULL;

    (void)state;
    expect_map(IOVA, PAGE, VFIO_DMA_MAP_FLAG_READ, -ENOMEM);
    assert_int_equal(map_page(READ, &mapping), -ENOMEM);
    assert_null(mapping);
    assert_int_equal(fake_mapping_count(f), 0);
    assert_false(domain_is_stray(domain));
    expect_map(IOVA, PAGE, VFIO_DMA_MAP_FLAG_READ, 0);
    assert_int_equal(map_page(READ, &mapping), 0);
    expect_unmap(IOVA, PAGE, 0);
    assert_int_equal(domain_unmap(domain, mapping), 0);
}

/* The mapping is as it was: it may be unmapped again, and joined. */
static void unmap_error(void **state)
{
    struct domain_mapping *first, *second;

    (void)state;
    expect_map_rw();
    assert_int_equal(map_page(RW, &first), 0);
    expect_unmap(IOVA, PAGE, -EIO);
    assert_int_equal(domain_unmap(domain, first), -EIO);
    assert_int_equal(fake_mapping_count(f), 1);
    assert_int_equal(map_page(RW, &second), 0);
    assert_int_equal(domain_unmap(domain, second), 0);
    assert_false(domain_is_stray(domain));
    expect_unmap(IOVA, PAGE, 0);
    assert_int_equal(domain_unmap(domain, first), 0);
}

/*
 * What could not be unmapped: the other device's mapping goes on. Without one the kernel may still
 * have the translation, so the range and the process's view of the memory stay.
 */
static void abandon(void **state)
{
    struct domain_mapping *first, *second, *none = NULL;

    (void)state;
    expect_map_rw();
    assert_int_equal(map_page(RW, &first), 0);
    assert_int_equal(map_page(RW, &second), 0);
    domain_abandon(domain, first);
    assert_false(domain_is_stray(domain));
    expect_unmap(IOVA, PAGE, -EIO);
    assert_int_equal(domain_unmap(domain, second), -EIO);
    domain_abandon(domain, second);
    assert_true(domain_is_stray(domain));
    assert_int_equal(map_page(RW, &none), -EEXIST);
    assert_int_equal(fake_mapping_count(f), 1); /* and none after teardown */
}

/* The kernel has mapped a part and does not take it back. */
static void stray_part(void **state)
{
    cleanup_close_ int large = client_file();
    const uint64_t chunk = IOMMU_MAP_CHUNK, size = chunk + PAGE;
    struct domain_mapping *none = NULL;

    (void)state;
    assert_int_equal(ftruncate(large, (off_t)size), 0);
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .value = VADDR, .len = size);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_IOMMU_MAP_DMA,
                .ret = -ENOMEM);
    expect_unmap(IOVA, chunk, -EIO);
    assert_int_equal(map(domain, IOVA, size, RW, large, 0, &none), -ENOMEM);
    assert_true(domain_is_stray(domain));
    assert_null(none);
}

/* On the simulated kernel: two devices of a group. */

struct machine {
    struct sim *sim;
    struct host *host;
    struct sysfs_device where[2];
    int devices[2];
    struct domain *domain;
    int fds;
};

static int boot(void **state, enum iommu_kind kind, enum sim_iommufd iommufd)
{
    static struct machine m;
    struct iommu_context *context;
    char bdf[2][16];

    m = (struct machine){
        .sim = sim_create(), .devices = {-1, -1}
    };
    assert_non_null(m.sim);
    m.host = sim_host(m.sim);
    m.fds = fd_count_open();
    sim_set_iommufd(m.sim, iommufd);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sim_add_device(m.sim, "edu", bdf[i], sizeof(bdf[i])), 0);
    assert_int_equal(sim_join_group(m.sim, bdf[1], bdf[0]), 0);
    assert_int_equal(iommu_context_create(m.host, kind, &context), 0);
    assert_int_equal(domain_create(context, &m.domain), 0);
    iommu_context_unref(context);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sysfs_find_device(m.host, bdf[i], &m.where[i]), 0);
        assert_int_equal(domain_open_device(m.domain, &m.where[i], &m.devices[i]), 0);
    }
    *state = &m;
    return 0;
}

static int boot_type1(void **state)
{
    return boot(state, IOMMU_TYPE1, SIM_IOMMUFD_NONE);
}

static int boot_map(void **state)
{
    return boot(state, IOMMU_IOMMUFD, SIM_IOMMUFD_MAP);
}

static int boot_map_file(void **state)
{
    return boot(state, IOMMU_IOMMUFD, SIM_IOMMUFD_MAP_FILE);
}

static int halt(void **state)
{
    struct machine *m = *state;
    struct sim_stats stats;

    for (int i = 0; i < 2; i++)
        host_close(m->host, &m->devices[i]);
    domain_unref(m->domain);
    sim_get_stats(m->sim, &stats);
    assert_int_equal(
        stats.devices + stats.contexts + stats.containers + stats.groups + stats.mappings, 0);
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

/* What each device writes is in the file. */
static void assert_both_reach(const struct machine *m, uint64_t iova, int fd, off_t offset)
{
    for (int i = 0; i < 2; i++) {
        uint32_t word = 0xabcd0000 + (uint32_t)i, seen = 0;

        assert_int_equal(sim_device_dma(m->sim, m->where[i].name, iova, &word, 4, true), 0);
        assert_int_equal(pread(fd, &seen, 4, offset), 4);
        assert_int_equal(seen, word);
    }
}

static void assert_none_reaches(const struct machine *m, uint64_t iova)
{
    uint32_t word;

    for (int i = 0; i < 2; i++)
        assert_int_equal(sim_device_dma(m->sim, m->where[i].name, iova, &word, 4, false), -EFAULT);
}

static void devices_of_a_group(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int fd = client_file();
    struct domain_mapping *first, *second, *none;

    assert_int_equal(map(m->domain, IOVA, 4 * PAGE, RW, fd, PAGE, &first), 0);
    assert_int_equal(map(m->domain, IOVA, 4 * PAGE, RW, fd, PAGE, &second), 0);
    assert_int_equal(map(m->domain, IOVA, 4 * PAGE, READ, fd, PAGE, &none), -EEXIST);
    assert_int_equal(stats_of(m).mappings, 1);
    assert_int_equal(stats_of(m).pinned_bytes, 4 * PAGE);
    assert_both_reach(m, IOVA, fd, PAGE);
    assert_int_equal(domain_unmap(m->domain, first), 0);
    assert_both_reach(m, IOVA, fd, PAGE);
    assert_int_equal(domain_unmap(m->domain, second), 0);
    assert_none_reaches(m, IOVA);
    assert_int_equal(stats_of(m).pinned_bytes, 0);
}

/* Also when the device that mapped first is opened again. */
static void device_is_reopened(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int fd = client_file();
    struct domain_mapping *mapping;

    assert_int_equal(map(m->domain, IOVA, PAGE, RW, fd, 0, &mapping), 0);
    for (int i = 0; i < 2; i++) {
        host_close(m->host, &m->devices[i]);
        assert_int_equal(domain_open_device(m->domain, &m->where[i], &m->devices[i]), 0);
        assert_both_reach(m, IOVA, fd, 0);
    }
    assert_int_equal(domain_unmap(m->domain, mapping), 0);
}

/*
 * A kernel that maps by address pins anew what was abandoned, when all devices of the group are
 * opened again: it must find the client's memory there, not what has come to its place.
 */
static void abandoned_memory_stays(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int fd = client_file();
    struct domain_mapping *mapping;

    assert_int_equal(map(m->domain, IOVA, PAGE, RW, fd, 0, &mapping), 0);
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, 0, 1, EIO);
    assert_int_equal(domain_unmap(m->domain, mapping), -EIO);
    domain_abandon(m->domain, mapping);
    for (int i = 0; i < 2; i++)
        host_close(m->host, &m->devices[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(domain_open_device(m->domain, &m->where[i], &m->devices[i]), 0);
    assert_both_reach(m, IOVA, fd, 0);
}

/* Two workers, each for its device. */
struct load {
    struct domain *domain;
    struct memory_file shared, own;
    uint64_t own_iova;
    unsigned failures;
};

static void *map_and_unmap(void *arg)
{
    struct load *l = arg;
    struct domain_mapping *shared, *own;

    for (unsigned i = 0; i < 2000; i++) {
        if (domain_map(l->domain, IOVA, PAGE, RW, &l->shared, &shared) ||
            domain_map(l->domain, l->own_iova, PAGE, RW, &l->own, &own) ||
            domain_unmap(l->domain, shared) || domain_unmap(l->domain, own))
            l->failures++;
    }
    return NULL;
}

static void workers_at_once(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int fd = client_file();
    struct load loads[2];
    pthread_t threads[2];

    for (unsigned i = 0; i < 2; i++) {
        loads[i] = (struct load){.domain = m->domain, .own_iova = IOVA + (i + 1) * PAGE};
        assert_int_equal(memory_file_check(fd, 0, PAGE, true, &loads[i].shared), 0);
        assert_int_equal(memory_file_check(fd, (i + 1) * PAGE, PAGE, true, &loads[i].own), 0);
        assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, &loads[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(loads[i].failures, 0);
    }
    assert_int_equal(stats_of(m).mappings, 0);
}

#define scripted(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define on_sim(t, name, boot_with)                                                                 \
    {                                                                                              \
#t " (" name ")", t, boot_with, halt, NULL                                                 \
    }
#define on_all(t)                                                                                  \
    on_sim(t, "type1", boot_type1), on_sim(t, "IOAS_MAP", boot_map),                               \
        on_sim(t, "IOAS_MAP_FILE", boot_map_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scripted(same_mapping_twice), scripted(stable_is_the_same),
        scripted(other_mapping),      scripted(map_error),
        scripted(unmap_error),        scripted(abandon),
        scripted(stray_part),         on_all(devices_of_a_group),
        on_all(device_is_reopened),   on_all(abandoned_memory_stays),
        on_all(workers_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
