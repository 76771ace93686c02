#include "bridge/iommufd_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/sim/sim.h"
#include "bridge/sysfs.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/unit/fake_host.h"
#include "tests/unit/log_capture.h"

enum {
    PAGE = 4096,
    FILE_PAGES = 2048,
    DEVICES = 2,
    IOVA = 0x100000,
    READ = IOMMU_READ,
    RW = IOMMU_READ | IOMMU_WRITE,
    STABLE = RW | IOMMU_STABLE,
    MAX_KEPT = 1024,
};

static struct log_capture capture;

static int client_file(void)
{
    int fd = memfd_create("client", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)FILE_PAGES * PAGE), 0);
    return fd;
}

/* On the simulated kernel, with IOAS_MAP_FILE and without: two IOASes with a device each. */

struct machine {
    struct sim *sim;
    struct host *host;
    struct iommufd_context *context;
    struct iommufd_memory *memory;
    struct sysfs_device where[DEVICES];
    int devices[DEVICES];
    uint32_t dev_ids[DEVICES], ioas[DEVICES];
    unsigned long map_request; /* the kernel's, for memory that is new to it */
    int fd;                    /* the client's */
    int fds;
};

static void add_device(struct machine *m, unsigned i)
{
    struct uapi_vfio_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .iommufd = iommufd_context_fd(m->context),
    };
    struct uapi_vfio_attach_pt attach = {.argsz = sizeof(attach)};
    char bdf[16], path[64];

    assert_int_equal(sim_add_device(m->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sysfs_find_device(m->host, bdf, &m->where[i]), 0);
    snprintf(path, sizeof(path), "/dev/vfio/devices/%s", m->where[i].cdev);
    m->devices[i] = host_open(m->host, path, O_RDWR);
    assert_true(m->devices[i] >= 0);
    assert_int_equal(host_ioctl(m->host, m->devices[i], UAPI_VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
    m->dev_ids[i] = bind.out_devid;
    assert_int_equal(iommufd_context_alloc_ioas(m->context, &m->ioas[i]), 0);
    attach.pt_id = m->ioas[i];
    assert_int_equal(
        host_ioctl(m->host, m->devices[i], UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), 0);
}

static int boot(void **state, enum sim_iommufd iommufd)
{
    static struct machine m;

    m = (struct machine){.sim = sim_create()};
    assert_non_null(m.sim);
    m.host = sim_host(m.sim);
    m.fds = fd_count_open();
    m.fd = client_file();
    sim_set_iommufd(m.sim, iommufd);
    m.map_request = iommufd == SIM_IOMMUFD_MAP ? UAPI_IOMMU_IOAS_MAP : UAPI_IOMMU_IOAS_MAP_FILE;
    assert_int_equal(iommufd_context_create(m.host, &m.context), 0);
    m.memory = iommufd_context_memory(m.context);
    for (unsigned i = 0; i < DEVICES; i++)
        add_device(&m, i);
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

static struct sim_stats stats_of(const struct machine *m)
{
    struct sim_stats stats;

    sim_get_stats(m->sim, &stats);
    return stats;
}

static unsigned count_views(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned n = 0;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        n += strstr(line, "/memfd:client") != NULL;
    fclose(maps);
    return n;
}

static int halt(void **state)
{
    struct machine *m = *state;

    log_capture_drop(&capture);
    for (unsigned i = 0; i < DEVICES; i++) {
        host_close(m->host, &m->devices[i]);
        iommufd_context_free_object(m->context, m->ioas[i]);
    }
    iommufd_context_destroy(m->context);
    assert_int_equal(stats_of(m).devices + stats_of(m).contexts + stats_of(m).mappings, 0);
    assert_int_equal(stats_of(m).pinned_bytes, 0);
    assert_int_equal(count_views(), 0);
    fd_close(&m->fd);
    assert_int_equal(fd_count_open(), m->fds);
    sim_destroy(m->sim);
    return 0;
}

static struct iommufd_places list_of(struct iommufd_place *place)
{
    struct iommufd_places places = SLIST_HEAD_INITIALIZER(places);

    SLIST_INSERT_HEAD(&places, place, next);
    return places;
}

/* In units of pages; at: of the IOAS, behind IOVA. */
static int map(struct machine *m, unsigned i, unsigned at, unsigned offset, unsigned pages,
               uint32_t prot, struct iommufd_place *place)
{
    const struct iommufd_range range = {
        .ioas = m->ioas[i],
        .prot = prot,
        .iova = IOVA + (uint64_t)at * PAGE,
        .size = (uint64_t)pages * PAGE,
    };

    return iommufd_memory_map(m->memory, place, &range, m->dev_ids[i], m->fd,
                              (uint64_t)offset * PAGE);
}

static int unmap(struct machine *m, unsigned i, unsigned at, unsigned pages,
                 struct iommufd_place *place)
{
    const struct iommufd_range range = {
        .ioas = m->ioas[i],
        .iova = IOVA + (uint64_t)at * PAGE,
        .size = (uint64_t)pages * PAGE,
    };

    struct iommufd_places places = list_of(place);

    return iommufd_memory_unmap(m->memory, &range, &places);
}

/* Maps and unmaps it, in the first IOAS. */
static void use(struct machine *m, unsigned offset, unsigned pages, uint32_t prot)
{
    struct iommufd_place place;

    assert_int_equal(map(m, 0, offset, offset, pages, prot, &place), 0);
    assert_int_equal(unmap(m, 0, offset, pages, &place), 0);
}

/* How many pins that makes. */
static unsigned pins_of_use(struct machine *m, unsigned offset, unsigned pages, uint32_t prot)
{
    unsigned before = stats_of(m).pins;

    use(m, offset, pages, prot);
    return stats_of(m).pins - before;
}

static void assert_pinned(const struct machine *m, unsigned pages, unsigned pins)
{
    assert_int_equal(stats_of(m).pinned_bytes, (uint64_t)pages * PAGE);
    assert_int_equal(stats_of(m).pins, pins);
}

/* The device's read and write go to the file's page; or to nothing. */
static void assert_reaches(const struct machine *m, unsigned i, unsigned at, unsigned offset)
{
    static uint32_t n;
    uint32_t word = ++n, seen = 0;
    uint64_t iova = IOVA + (uint64_t)at * PAGE;

    assert_int_equal(sim_device_dma(m->sim, m->where[i].name, iova, &word, 4, true), 0);
    assert_int_equal(pread(m->fd, &seen, 4, (off_t)offset * PAGE), 4);
    assert_int_equal(seen, word);
    word = ++n;
    assert_int_equal(pwrite(m->fd, &word, 4, (off_t)offset * PAGE), 4);
    assert_int_equal(sim_device_dma(m->sim, m->where[i].name, iova, &seen, 4, false), 0);
    assert_int_equal(seen, word);
}

static void assert_reaches_not(const struct machine *m, unsigned i, unsigned at)
{
    uint32_t word;

    assert_int_equal(
        sim_device_dma(m->sim, m->where[i].name, IOVA + (uint64_t)at * PAGE, &word, 4, false),
        -EFAULT);
}

/* Pinned once, for as long as one of them has it, whichever mapped it first. */
static void second_ioas(void **state)
{
    struct machine *m = *state;
    struct iommufd_place places[DEVICES];

    for (unsigned first = 0; first < DEVICES; first++) {
        unsigned second = !first;

        assert_int_equal(map(m, first, 0, 3, 4, RW, &places[first]), 0);
        assert_pinned(m, 4, first + 1);
        assert_reaches_not(m, second, 8);
        assert_int_equal(map(m, second, 8, 3, 4, RW, &places[second]), 0);
        assert_pinned(m, 4, first + 1);
        assert_int_equal(stats_of(m).mappings, 2);
        assert_reaches(m, first, 1, 4);
        assert_reaches(m, second, 9, 4);

        assert_int_equal(unmap(m, first, 0, 4, &places[first]), 0);
        assert_reaches_not(m, first, 1);
        assert_reaches(m, second, 9, 4);
        assert_pinned(m, 4, first + 1);
        assert_int_equal(unmap(m, second, 8, 4, &places[second]), 0);
        assert_reaches_not(m, second, 9);
        assert_pinned(m, 0, first + 1);
    }
}

static void twice_in_one_ioas(void **state)
{
    struct machine *m = *state;
    struct iommufd_place places[3];

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(map(m, 0, i * 8, 0, 4, RW, &places[i]), 0);
    assert_pinned(m, 4, 1);
    assert_int_equal(unmap(m, 0, 0, 4, &places[0]), 0);
    assert_reaches_not(m, 0, 0);
    assert_reaches(m, 0, 8, 0);
    assert_int_equal(unmap(m, 0, 16, 4, &places[2]), 0);
    assert_int_equal(map(m, 0, 0, 0, 4, RW, &places[0]), 0);
    assert_int_equal(unmap(m, 0, 8, 4, &places[1]), 0);
    assert_reaches(m, 0, 3, 3);
    assert_pinned(m, 4, 1);
    assert_int_equal(unmap(m, 0, 0, 4, &places[0]), 0);
}

/* Other files, offsets and sizes are other pieces, and so is memory that was taken for reading. */
static void other_pieces(void **state)
{
    struct machine *m = *state;
    cleanup_close_ int other = client_file();
    const struct {
        unsigned offset, pages;
        uint32_t prot;
        bool other_file;
    } pieces[] = {
        {0, 2, RW,   false},
        {1, 2, RW,   false},
        {0, 1, RW,   false},
        {0, 2, READ, false},
        {0, 2, RW,   true },
    };
    struct iommufd_place places[ARRAY_SIZE(pieces)];
    int own = m->fd;

    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
        m->fd = pieces[i].other_file ? other : own;
        assert_int_equal(
            map(m, i & 1, i * 4, pieces[i].offset, pieces[i].pages, pieces[i].prot, &places[i]), 0);
        assert_int_equal(stats_of(m).pins, i + 1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++)
        assert_int_equal(unmap(m, i & 1, i * 4, pieces[i].pages, &places[i]), 0);
    m->fd = own;
}

/* Each mapping has its own rights, whatever the one that it is copied from has. */
static void rights(void **state)
{
    struct machine *m = *state;
    struct iommufd_place places[4];
    uint32_t word = 0;

    assert_int_equal(map(m, 0, 0, 0, 1, IOMMU_WRITE, &places[0]), 0);
    assert_int_equal(map(m, 1, 0, 0, 1, RW, &places[1]), 0);
    assert_int_equal(map(m, 0, 4, 0, 1, READ, &places[2]), 0);
    assert_int_equal(map(m, 1, 4, 0, 1, READ, &places[3]), 0);
    assert_pinned(m, 2, 2);
    assert_reaches(m, 1, 0, 0);
    assert_reaches_not(m, 0, 0); /* a read */
    assert_int_equal(sim_device_dma(m->sim, m->where[0].name, IOVA, &word, 4, true), 0);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(sim_device_dma(m->sim, m->where[i].name, IOVA + 4 * PAGE, &word, 4, true),
                         -EFAULT);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(unmap(m, i & 1, i / 2 * 4, 1, &places[i]), 0);
}

/* The file is known whichever descriptor it comes by, and after all of them were closed. */
static void other_descriptor(void **state)
{
    struct machine *m = *state;
    struct iommufd_place places[DEVICES];
    char path[32];
    int again;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
    again = open(path, O_RDWR | O_CLOEXEC);
    assert_true(again >= 0);
    assert_int_equal(map(m, 0, 0, 0, 2, RW, &places[0]), 0);
    fd_close(&m->fd);
    m->fd = again;
    assert_int_equal(map(m, 1, 0, 0, 2, RW, &places[1]), 0);
    assert_pinned(m, 2, 1);
    assert_reaches(m, 0, 0, 0);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(unmap(m, i, 0, 2, &places[i]), 0);
}

/*
 * The stash.
 */

static void stays_pinned(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(map(m, i & 1, 0, 0, 4, STABLE, &place), 0);
        assert_reaches(m, i & 1, 2, 2);
        assert_int_equal(unmap(m, i & 1, 0, 4, &place), 0);
        assert_reaches_not(m, i & 1, 2);
        assert_pinned(m, 4, 1);
    }
    iommufd_memory_forget(m->memory);
    assert_pinned(m, 0, 1);
    assert_int_equal(count_views(), 0);
}

/* Maps and unmaps it in as many pieces as it has. Returns how many. */
static unsigned use_in_pieces(struct machine *m, unsigned offset, unsigned pages, uint32_t prot)
{
    struct iommufd_place places[8];
    unsigned n = 0;

    for (unsigned done = 0, piece; done < pages; done += piece) {
        assert_true(n < ARRAY_SIZE(places));
        assert_int_equal(map(m, 0, done, offset + done, pages - done, prot, &places[n]), 0);
        piece = (unsigned)(places[n].size / PAGE);
        for (unsigned i = 0; i < piece; i++)
            assert_reaches(m, 0, done + i, offset + done + i);
        assert_int_equal(unmap(m, 0, done, piece, &places[n++]), 0);
    }
    return n;
}

/* What has been pinned is not pinned again however the client cuts its memory. */
static void cut_otherwise(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, 16 * PAGE);
    assert_int_equal(use_in_pieces(m, 4, 4, STABLE), 1);
    assert_pinned(m, 4, 1);
    assert_int_equal(use_in_pieces(m, 5, 2, STABLE), 1);
    use(m, 4, 1, IOMMU_READ | IOMMU_STABLE);
    assert_pinned(m, 4, 1);
    assert_int_equal(use_in_pieces(m, 6, 4, STABLE), 2); /* behind it */
    assert_pinned(m, 6, 2);
    assert_int_equal(use_in_pieces(m, 2, 3, STABLE), 2); /* before it */
    assert_pinned(m, 8, 3);
    assert_int_equal(use_in_pieces(m, 0, 12, STABLE), 5); /* all around */
    assert_pinned(m, 12, 5);
    assert_int_equal(use_in_pieces(m, 0, 12, STABLE), 5);
    assert_pinned(m, 12, 5);
    iommufd_memory_forget(m->memory);
    assert_pinned(m, 0, 5);
}

/* A descriptor that may only be read has no part in what others may write. */
static void cut_by_a_reader(void **state)
{
    struct machine *m = *state;
    const int writer = m->fd;
    struct iommufd_place place;
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", writer);
    iommufd_memory_keep(m->memory, 16 * PAGE);
    assert_int_equal(pins_of_use(m, 0, 4, STABLE), 1);
    m->fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(m->fd >= 0);
    assert_int_equal(map(m, 0, 0, 0, 4, IOMMU_READ | IOMMU_STABLE, &place), 0);
    assert_pinned(m, 8, 2);
    assert_int_equal(unmap(m, 0, 0, 4, &place), 0);
    fd_close(&m->fd);
    m->fd = writer;
}

/* What is mapped is not forgotten; it goes when it is unmapped and forgotten again. */
static void forget_what_is_mapped(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    assert_int_equal(map(m, 0, 0, 0, 4, STABLE, &place), 0);
    iommufd_memory_forget(m->memory);
    assert_reaches(m, 0, 0, 0);
    assert_int_equal(unmap(m, 0, 0, 4, &place), 0);
    assert_pinned(m, 4, 1);
    iommufd_memory_forget(m->memory);
    assert_pinned(m, 0, 1);
}

/* Nothing is kept for who has not asked, or may keep nothing. */
static void not_asked_for(void **state)
{
    struct machine *m = *state;

    use(m, 0, 2, STABLE);
    assert_pinned(m, 0, 1);
    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 2, RW);
    assert_pinned(m, 0, 2);
}

/* Bounded by the largest that was asked for; the longest unused goes first. */
static void bound(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    iommufd_memory_keep(m->memory, 2 * PAGE);
    use(m, 0, 2, STABLE);
    use(m, 10, 2, STABLE);
    assert_pinned(m, 4, 2);
    assert_int_equal(pins_of_use(m, 0, 2, STABLE), 0); /* 10 is the longest unused now */
    use(m, 20, 2, STABLE);
    assert_pinned(m, 4, 3);
    assert_int_equal(pins_of_use(m, 0, 2, STABLE), 0);
    assert_int_equal(pins_of_use(m, 10, 2, STABLE), 1);
    assert_pinned(m, 4, 4);
}

/* It would push all others out, and itself. */
static void too_large_to_keep(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 4, STABLE);
    use(m, 10, 5, STABLE);
    assert_pinned(m, 4, 2);
    assert_int_equal(pins_of_use(m, 0, 4, STABLE), 0);
}

static void bound_of_number(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, (uint64_t)FILE_PAGES * PAGE);
    for (unsigned i = 0; i < MAX_KEPT + 8; i++)
        use(m, i, 1, STABLE);
    assert_int_equal(stats_of(m).pinned_bytes, MAX_KEPT * PAGE);
    assert_int_equal(pins_of_use(m, MAX_KEPT, 1, STABLE), 0);
    assert_int_equal(pins_of_use(m, 0, 1, STABLE), 1);
}

/*
 * The client has given pages back. A kernel's stash has the old ones, which is what STABLE takes
 * into account; who did not ask for that gets what the file has now. (In the simulated kernel a pin
 * follows the file; that it was made anew is what can be seen there.)
 */
static void pages_given_back(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 4, STABLE);
    assert_int_equal(
        fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)4 * PAGE), 0);
    assert_int_equal(pins_of_use(m, 0, 4, STABLE), 0);
    assert_int_equal(map(m, 0, 0, 0, 4, RW, &place), 0);
    assert_pinned(m, 8, 2);
    assert_reaches(m, 0, 2, 2);
    assert_int_equal(unmap(m, 0, 0, 4, &place), 0);
    assert_pinned(m, 4, 2);
}

/* The limit on locked memory is for what the client maps, not for what it might. */
static void gives_way(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    sim_set_memlock(m->sim, 4 * PAGE);
    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 2, STABLE);
    use(m, 4, 2, STABLE);
    assert_pinned(m, 4, 2);
    assert_int_equal(map(m, 0, 0, 10, 3, RW, &place), 0);
    assert_pinned(m, 3, 3);
    assert_reaches(m, 0, 0, 10);
    assert_int_equal(unmap(m, 0, 0, 3, &place), 0);
    assert_int_equal(map(m, 0, 0, 0, 5, STABLE, &place), -ENOMEM);
    assert_pinned(m, 0, 3);
}

/*
 * Calls of the kernel that fail.
 */

static const char *log_of_use(struct machine *m, unsigned long failing)
{
    log_capture_start(&capture);
    if (failing)
        sim_fail_nth(m->sim, SIM_CALL_IOCTL, failing, 1, EOPNOTSUPP);
    use(m, 0, 2, STABLE);
    return log_capture_end(&capture);
}

/* Said once: it will not be tried again. */
static void no_stash(void **state)
{
    struct machine *m = *state;
    const unsigned mappings = stats_of(m).mappings;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    assert_non_null(strstr(log_of_use(m, UAPI_IOMMU_HWPT_ALLOC), "can't be kept pinned"));
    assert_true(sim_fault_spent(m->sim));
    assert_pinned(m, 0, 1);
    assert_int_equal(stats_of(m).mappings, mappings);
    assert_string_equal(log_of_use(m, 0), "");
    assert_pinned(m, 0, 2);
}

static void no_ioas_for_the_stash(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    assert_non_null(strstr(log_of_use(m, UAPI_IOMMU_IOAS_ALLOC), "can't be kept pinned"));
    assert_pinned(m, 0, 1);
}

static void not_mapped_into_the_stash(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 1, RW);
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, m->map_request, 1, EIO);
    assert_int_equal(map(m, 0, 0, 0, 2, STABLE, &place), -EIO);
    assert_pinned(m, 0, 1);
    assert_int_equal(count_views(), 0);
    assert_int_equal(pins_of_use(m, 0, 2, STABLE), 1);
    assert_pinned(m, 2, 2);
}

/* It stays as long as the iommufd, in which nobody knows of it any more. */
static void not_unmapped_from_the_stash(void **state)
{
    struct machine *m = *state;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 2, STABLE);
    log_capture_start(&capture);
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, UAPI_IOMMU_IOAS_UNMAP, 1, EIO);
    iommufd_memory_forget(m->memory);
    assert_non_null(strstr(log_capture_end(&capture), "stay pinned in the stash"));
    assert_pinned(m, 2, 1);
    assert_int_equal(pins_of_use(m, 0, 2, RW), 1);
}

static void not_mapped(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    sim_fail_nth(m->sim, SIM_CALL_IOCTL, 0, 1, EIO);
    assert_int_equal(map(m, 0, 0, 0, 2, RW, &place), -EIO);
    assert_pinned(m, 0, 0);
    assert_int_equal(count_views(), 0);
    assert_int_equal(pins_of_use(m, 0, 2, RW), 1);
}

/* Who has it keeps it; who wants it is told. */
static void not_copied(void **state)
{
    struct machine *m = *state;
    struct iommufd_place places[DEVICES];

    assert_int_equal(map(m, 0, 0, 0, 2, RW, &places[0]), 0);
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, UAPI_IOMMU_IOAS_COPY, 1, EIO);
    assert_int_equal(map(m, 1, 0, 0, 2, RW, &places[1]), -EIO);
    assert_reaches(m, 0, 0, 0);
    assert_reaches_not(m, 1, 0);
    assert_int_equal(map(m, 1, 0, 0, 2, RW, &places[1]), 0);
    assert_pinned(m, 2, 1);
    for (unsigned i = 0; i < DEVICES; i++)
        assert_int_equal(unmap(m, i, 0, 2, &places[i]), 0);
}

static void not_copied_from_the_stash(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;

    iommufd_memory_keep(m->memory, 4 * PAGE);
    use(m, 0, 2, STABLE);
    sim_fail_nth(m->sim, SIM_CALL_IOCTL, UAPI_IOMMU_IOAS_COPY, 1, EIO);
    assert_int_equal(map(m, 0, 0, 0, 2, STABLE, &place), -EIO);
    assert_pinned(m, 2, 1);
    assert_int_equal(pins_of_use(m, 0, 2, STABLE), 0);
}

/* Abandoned: the kernel has it as long as the IOAS, and others may copy what is there. */
static void not_unmapped(void **state)
{
    struct machine *m = *state;
    struct iommufd_places places;
    struct iommufd_place place;

    assert_int_equal(map(m, 0, 0, 0, 2, RW, &place), 0);
    for (unsigned i = 0; i < 2; i++) {
        sim_fail_nth(m->sim, SIM_CALL_IOCTL, UAPI_IOMMU_IOAS_UNMAP, 1, EIO);
        assert_int_equal(unmap(m, 0, 0, 2, &place), -EIO);
        assert_reaches(m, 0, 0, 0);
    }
    assert_int_equal(pins_of_use(m, 8, 2, RW), 1);
    places = list_of(&place);
    iommufd_memory_abandon(m->memory, &places);
    assert_pinned(m, 2, 2);
}

static void bad_descriptor(void **state)
{
    struct machine *m = *state;
    struct iommufd_place place;
    int own = m->fd;

    m->fd = -1;
    assert_int_equal(map(m, 0, 0, 0, 2, RW, &place), -EBADF);
    m->fd = own;
}

/* Two workers, each for its device, with memory that both have. */
struct load {
    struct machine *m;
    unsigned i, failures;
};

static void *map_and_unmap(void *arg)
{
    struct load *l = arg;

    for (unsigned round = 0; round < 2000; round++) {
        unsigned offset = round % 3 * 4;
        uint32_t prot = round & 1 ? RW : STABLE;
        struct iommufd_place place;

        if (map(l->m, l->i, 0, offset, 4, prot, &place) || unmap(l->m, l->i, 0, 4, &place))
            l->failures++;
        if (round % 16 == 0)
            iommufd_memory_forget(l->m->memory);
    }
    return NULL;
}

static void workers_at_once(void **state)
{
    struct machine *m = *state;
    struct load loads[DEVICES];
    pthread_t threads[DEVICES];

    iommufd_memory_keep(m->memory, 8 * PAGE);
    for (unsigned i = 0; i < DEVICES; i++) {
        loads[i] = (struct load){.m = m, .i = i};
        assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, &loads[i]), 0);
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(loads[i].failures, 0);
    }
    assert_true(stats_of(m).pinned_bytes <= 8 * PAGE);
}

/* By a scripted host: each call with its arguments. */

enum {
    CONTEXT = FAKE_FD,
    IOAS = 5,
    OTHER_IOAS,
    STASH,
    STASH_HWPT,
    DEV_ID,
    SIZE = 4 * PAGE,
    OFFSET = 0x3000,
    STASH_IOVA = 0x7000,
    VADDR = 0x40000000,
    RIGHTS = UAPI_IOAS_MAP_READABLE | UAPI_IOAS_MAP_WRITEABLE,
};

static struct fake_host *f;
static struct iommufd_context *context;
static int file;

static int setup(void **state)
{
    (void)state;
    f = fake_host_new();
    file = client_file();
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/iommu", .ret = CONTEXT);
    assert_int_equal(iommufd_context_create(fake_host_base(f), &context), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    iommufd_context_destroy(context);
    fake_host_free(f);
    fd_close(&file);
    return 0;
}

static void expect(unsigned long request, const void *in, const void *out, size_t len, int ret)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = CONTEXT, .request = request, .in = in, .in_len = len,
                .out = out, .out_len = out ? len : 0, .ret = ret);
}

static void expect_map_file(int ret)
{
    const struct uapi_ioas_map_file in = {
        .size = sizeof(in),
        .flags = UAPI_IOAS_MAP_FIXED_IOVA | RIGHTS,
        .ioas_id = IOAS,
        .fd = file,
        .start = OFFSET,
        .length = SIZE,
        .iova = IOVA,
    };

    expect(UAPI_IOMMU_IOAS_MAP_FILE, &in, NULL, sizeof(in), ret);
}

static void expect_copy(uint32_t to, uint32_t from, uint64_t from_iova)
{
    const struct uapi_ioas_copy in = {
        .size = sizeof(in),
        .flags = UAPI_IOAS_MAP_FIXED_IOVA | RIGHTS,
        .dst_ioas_id = to,
        .src_ioas_id = from,
        .length = SIZE,
        .dst_iova = IOVA,
        .src_iova = from_iova,
    };

    expect(UAPI_IOMMU_IOAS_COPY, &in, NULL, sizeof(in), 0);
}

static void expect_stash(void)
{
    const struct uapi_ioas_alloc ioas = {.size = sizeof(ioas)};
    const struct uapi_ioas_alloc new_ioas = {.size = sizeof(ioas), .out_ioas_id = STASH};
    const struct uapi_hwpt_alloc hwpt = {.size = sizeof(hwpt), .dev_id = DEV_ID, .pt_id = STASH};
    struct uapi_hwpt_alloc new_hwpt = hwpt;

    new_hwpt.out_hwpt_id = STASH_HWPT;
    expect(UAPI_IOMMU_IOAS_ALLOC, &ioas, &new_ioas, sizeof(ioas), 0);
    expect(UAPI_IOMMU_HWPT_ALLOC, &hwpt, &new_hwpt, sizeof(hwpt), 0);
}

/* The kernel chooses the address. */
static void expect_map_file_into_stash(int ret)
{
    const struct uapi_ioas_map_file in = {
        .size = sizeof(in),
        .flags = RIGHTS,
        .ioas_id = STASH,
        .fd = file,
        .start = OFFSET,
        .length = SIZE,
    };
    struct uapi_ioas_map_file out = in;

    out.iova = STASH_IOVA;
    expect(UAPI_IOMMU_IOAS_MAP_FILE, &in, &out, sizeof(in), ret);
}

static void expect_map_address_into_stash(void)
{
    const struct uapi_ioas_map in = {
        .size = sizeof(in),
        .flags = RIGHTS,
        .ioas_id = STASH,
        .user_va = VADDR,
        .length = SIZE,
    };
    struct uapi_ioas_map out = in;

    out.iova = STASH_IOVA;
    FAKE_EXPECT(f, .kind = FAKE_MMAP, .fd = file, .offset = OFFSET, .len = SIZE,
                .prot = PROT_READ | PROT_WRITE, .value = VADDR);
    expect(UAPI_IOMMU_IOAS_MAP, &in, &out, sizeof(in), 0);
}

static void expect_unmap(uint32_t ioas, uint64_t iova)
{
    const struct uapi_ioas_unmap in = {
        .size = sizeof(in), .ioas_id = ioas, .iova = iova, .length = SIZE};

    expect(UAPI_IOMMU_IOAS_UNMAP, &in, NULL, sizeof(in), 0);
}

static void expect_destroy(uint32_t id)
{
    const struct uapi_iommu_destroy in = {.size = sizeof(in), .id = id};

    expect(UAPI_IOMMU_DESTROY, &in, NULL, sizeof(in), 0);
}

static void map_scripted(uint32_t ioas, uint32_t prot, struct iommufd_place *place)
{
    const struct iommufd_range range = {.ioas = ioas, .prot = prot, .iova = IOVA, .size = SIZE};

    assert_int_equal(
        iommufd_memory_map(iommufd_context_memory(context), place, &range, DEV_ID, file, OFFSET),
        0);
    fake_assert_done(f);
}

static void unmap_scripted(uint32_t ioas, struct iommufd_place *place)
{
    const struct iommufd_range range = {.ioas = ioas, .iova = IOVA, .size = SIZE};
    struct iommufd_places places = list_of(place);

    expect_unmap(ioas, IOVA);
    assert_int_equal(iommufd_memory_unmap(iommufd_context_memory(context), &range, &places), 0);
}

static void calls_of_a_copy(void **state)
{
    struct iommufd_place first, second;

    (void)state;
    expect_map_file(0);
    map_scripted(IOAS, RW, &first);
    expect_copy(OTHER_IOAS, IOAS, IOVA);
    map_scripted(OTHER_IOAS, RW, &second);
    unmap_scripted(IOAS, &first);
    expect_copy(IOAS, OTHER_IOAS, IOVA);
    map_scripted(IOAS, RW, &first);
    unmap_scripted(OTHER_IOAS, &second);
    unmap_scripted(IOAS, &first);
}

static void calls_of_the_stash(void **state)
{
    struct iommufd_memory *memory = iommufd_context_memory(context);
    struct iommufd_place place;

    (void)state;
    iommufd_memory_keep(memory, SIZE);
    expect_stash();
    expect_map_file_into_stash(0);
    expect_copy(IOAS, STASH, STASH_IOVA);
    map_scripted(IOAS, STABLE, &place);
    unmap_scripted(IOAS, &place);
    expect_copy(IOAS, STASH, STASH_IOVA);
    map_scripted(IOAS, STABLE, &place);
    unmap_scripted(IOAS, &place);
    expect_unmap(STASH, STASH_IOVA);
    iommufd_memory_forget(memory);
    expect_destroy(STASH_HWPT);
    expect_destroy(STASH);
}

/* What is kept is mapped in this process, if that is how the kernel knows it. */
static void calls_by_address(void **state)
{
    struct iommufd_memory *memory = iommufd_context_memory(context);
    struct iommufd_place place;

    (void)state;
    iommufd_memory_keep(memory, SIZE);
    expect_stash();
    expect_map_file_into_stash(-ENOTTY);
    expect_map_address_into_stash();
    expect_copy(IOAS, STASH, STASH_IOVA);
    map_scripted(IOAS, STABLE, &place);
    unmap_scripted(IOAS, &place);
    assert_int_equal(fake_mapping_count(f), 1);
    expect_unmap(STASH, STASH_IOVA);
    iommufd_memory_forget(memory);
    assert_int_equal(fake_mapping_count(f), 0);
    expect_destroy(STASH_HWPT);
    expect_destroy(STASH);
}

#define scripted(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
#define on_both(t)                                                                                 \
    {#t " (IOAS_MAP)", t, boot_map, halt, NULL},                                                   \
    {                                                                                              \
#t " (IOAS_MAP_FILE)", t, boot_map_file, halt, NULL                                        \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_both(second_ioas),
        on_both(twice_in_one_ioas),
        on_both(other_pieces),
        on_both(rights),
        on_both(other_descriptor),
        on_both(stays_pinned),
        on_both(cut_otherwise),
        on_both(cut_by_a_reader),
        on_both(forget_what_is_mapped),
        on_both(not_asked_for),
        on_both(bound),
        on_both(too_large_to_keep),
        on_both(bound_of_number),
        on_both(pages_given_back),
        on_both(gives_way),
        on_both(no_stash),
        on_both(no_ioas_for_the_stash),
        on_both(not_mapped_into_the_stash),
        on_both(not_unmapped_from_the_stash),
        on_both(not_mapped),
        on_both(not_copied),
        on_both(not_copied_from_the_stash),
        on_both(not_unmapped),
        on_both(bad_descriptor),
        on_both(workers_at_once),
        scripted(calls_of_a_copy),
        scripted(calls_of_the_stash),
        scripted(calls_by_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
