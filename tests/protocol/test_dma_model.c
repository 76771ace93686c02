/*
 * DMA_MAP and DMA_UNMAP against a model: random requests, of which many collide, are refused or
 * fail in the kernel. The model is a plain array of mappings and a copy of the clients' memory. It
 * tells each answer, how much the kernel maps and pins, and which bytes the device reaches.
 *
 * DMA_MODEL_SEED repeats a run, whose seed is printed; DMA_MODEL_STEPS is the number of requests.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "tests/protocol/random.h"
#include "tests/protocol/raw.h"

enum {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    DEFAULT_STEPS = 10000,
#else
    DEFAULT_STEPS = 100000,
#endif
    STEPS_BETWEEN_SWEEPS = 64,
    MAX_TRANSFER = 3 * PAGE,
    LARGE_UNIT = 64 * PAGE,
    SMALL_FILE = 96 * PAGE,
    LARGE_FILE = 10 * LARGE_UNIT,
    MAX_UNITS = 8, /* of one mapping */
};

enum {
    AREAS = 5,
    RANGES = 2,
};

/* Where requests go, and what the simulated IOMMU translates there. */
struct platform {
    struct area {
        unsigned weight;
        unsigned units; /* of which mappings are */
        uint64_t first;
        uint64_t unit;
    } areas[AREAS];
    struct range {
        uint64_t first, last;
    } translated[RANGES];
    bool pins_for_writing;
};

static const struct platform pc = {
    .areas = {{80, 64, 0x100000, PAGE},
              {8, 8, 0x40000000, LARGE_UNIT},
              {4, 4, 0xfedfe000, PAGE},          /* its upper half is the interrupts' */
              {4, 8, 0xffffffffc000, PAGE},      /* its upper half is not translated */
              {4, 4, 0xffffffffffffc000, PAGE}}, /* not translated */
    .translated = {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}},
};

/* The second window is larger than what is told of it here. */
static const struct platform power = {
    .areas = {{80, 64, 0x100000, PAGE},
              {8, 8, 0x40000000, LARGE_UNIT},
              {4, 4, 0x7fffe000, PAGE},          /* its upper half is the bus's */
              {4, 8, 0x7ffffffffffc000, PAGE},   /* its upper half is in the second window */
              {4, 4, 0xffffffffffffc000, PAGE}}, /* not translated */
    .translated = {{0, 0x7fffffff}, {0x800000000000000, 0x8000000ffffffff}},
    .pins_for_writing = true,
};

enum {
    MAX_ENTRIES = 64 + 8 + 4 + 8 + 4,
};

/* A client's file: what is in it, as the client sees it, and what must be in it. */
struct memory {
    int fd;
    ino_t ino;
    bool read_only;
    uint64_t size, unit;
    uint8_t *seen, *wanted;
};

enum {
    FILES = 3,
    READ_ONLY = FILES, /* the first file again */
    MEMORIES,
};

struct entry {
    uint64_t first, last;
    uint32_t flags;
    const struct memory *memory; /* NULL: unbacked */
    uint64_t offset;
};

struct model {
    const struct harness *h;
    const struct platform *platform;
    int sock;
    uint64_t seed;
    struct random random;
    unsigned step;
    unsigned long map_request, unmap_request;
    struct memory memories[MEMORIES];
    unsigned views; /* of the files in this process, without any mapping */
    struct entry entries[MAX_ENTRIES];
    unsigned count;
};

#define CHECK(m, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed 0x%" PRIx64 ", step %u: not true: %s", (m)->seed, (m)->step,            \
                     #condition);                                                                  \
    } while (0)

static const struct area *random_area(struct model *m)
{
    uint64_t at = random_below(&m->random, 100);
    const struct area *a = m->platform->areas;

    while (at >= a->weight)
        at -= a++->weight;
    return a;
}

static struct range random_range(struct model *m, const struct area *a)
{
    uint64_t skipped = random_below(&m->random, a->units);
    uint64_t units = 1 + random_below(&m->random, MIN(a->units - skipped, (uint64_t)MAX_UNITS));
    uint64_t first = a->first + skipped * a->unit;

    return (struct range){first, first + (units * a->unit - 1)};
}

/*
 * The kernel's part: what it maps, and what the device reaches by it.
 */

static uint8_t *translate(const struct model *m, uint64_t iova, bool write)
{
    const uint32_t access = write ? VFIO_USER_DMA_MAP_WRITE : VFIO_USER_DMA_MAP_READ;

    for (unsigned i = 0; i < m->count; i++) {
        const struct entry *e = &m->entries[i];

        if (iova >= e->first && iova <= e->last)
            return e->memory && e->flags & access ? e->memory->wanted + e->offset + iova - e->first
                                                  : NULL;
    }
    return NULL;
}

/* Pages that the IOMMU stops are skipped, and read as zeros. */
static int expected_transfer(const struct model *m, uint64_t iova, uint8_t *buf, size_t len,
                             bool write)
{
    int ret = 0;

    for (size_t done = 0, piece; done < len; done += piece) {
        uint8_t *at = translate(m, iova + done, write);

        piece = MIN(len - done, PAGE - (iova + done) % PAGE);
        if (at && write)
            memcpy(at, buf + done, piece);
        else if (at)
            memcpy(buf + done, at, piece);
        else if (!write)
            memset(buf + done, 0, piece);
        ret = at ? ret : -EFAULT;
    }
    return ret;
}

static void transfer(struct model *m, uint64_t iova, size_t len, bool write)
{
    uint8_t expected[MAX_TRANSFER], buf[MAX_TRANSFER];
    int ret;

    memset(expected, (int)random_below(&m->random, 256), len);
    memcpy(buf, expected, len);
    ret = expected_transfer(m, iova, expected, len, write);
    CHECK(m, sim_device_dma(m->h->machine.sim, m->h->bdf, iova, buf, len, write) == ret);
    CHECK(m, !memcmp(buf, expected, len));
}

static void random_transfer(struct model *m)
{
    struct range r = random_range(m, random_area(m));
    uint64_t size = r.last - r.first + 1;
    uint64_t skipped = random_below(&m->random, size);
    uint64_t len = 1 + random_below(&m->random, MIN(size - skipped, (uint64_t)MAX_TRANSFER));

    transfer(m, r.first + skipped, len, random_below(&m->random, 2));
}

/*
 * iommufd pins once what is mapped more than once, in the same pieces and with the same right:
 * whether one of the first n entries is that.
 */
static bool is_pinned_already(const struct model *m, const struct entry *e, unsigned n)
{
    if (!harness_is_iommufd())
        return false;
    for (const struct entry *before = m->entries; before < m->entries + n; before++) {
        if (before->memory && before->memory->ino == e->memory->ino &&
            before->offset == e->offset && before->last - before->first == e->last - e->first &&
            !((before->flags ^ e->flags) & VFIO_USER_DMA_MAP_WRITE))
            return true;
    }
    return false;
}

static void check_counts(const struct model *m)
{
    struct sim_stats stats = harness_stats(m->h);
    unsigned mappings = 0;
    uint64_t pinned = 0;

    for (unsigned i = 0; i < m->count; i++) {
        const struct entry *e = &m->entries[i];

        mappings += e->memory != NULL;
        if (e->memory && !is_pinned_already(m, e, i))
            pinned += e->last - e->first + 1;
    }
    CHECK(m, stats.mappings == mappings);
    CHECK(m, stats.pinned_bytes == pinned);
}

/* Everywhere, and all memory. */
static void sweep(struct model *m)
{
    for (const struct area *a = m->platform->areas; a < m->platform->areas + AREAS; a++) {
        for (unsigned u = 0; u < a->units; u++) {
            uint64_t iova = a->first + u * a->unit;

            transfer(m, iova + random_below(&m->random, a->unit - 8), 8, true);
            transfer(m, iova + random_below(&m->random, a->unit - 8), 8, false);
        }
    }
    for (unsigned i = 0; i < FILES; i++)
        CHECK(m, !memcmp(m->memories[i].seen, m->memories[i].wanted, m->memories[i].size));
}

/*
 * The server's part: what it answers.
 */

static void expect_answer(struct model *m, const struct raw_message *msg, int fd, int err)
{
    size_t len = msg->command == VFIO_USER_DMA_UNMAP ? msg->len : 0;
    struct reply r;

    raw_send(m->sock, msg, &fd, fd >= 0);
    raw_receive(m->sock, &r);
    if (r.hdr.error != (uint32_t)err)
        fail_msg("seed 0x%" PRIx64 ", step %u: command %u is answered with \"%s\", not \"%s\"",
                 m->seed, m->step, msg->command, strerror((int)r.hdr.error), strerror(err));
    CHECK(m, r.hdr.command == msg->command && !r.nfds);
    CHECK(m, r.len == (err ? 0 : len));
    CHECK(m, !r.len || (msg->payload && !memcmp(r.payload, msg->payload, len)));
}

/* Once in so many times the nth of these requests will fail. The errno, or 0. */
static int plan_fault(struct model *m, unsigned times, unsigned long request, unsigned nth)
{
    int err = random_below(&m->random, 2) ? ENOMEM : EIO;

    if (random_below(&m->random, times))
        return 0;
    sim_fail_nth(m->h->machine.sim, SIM_CALL_IOCTL, request, nth, err);
    return err;
}

static void end_fault(struct model *m, bool spent)
{
    CHECK(m, sim_fault_spent(m->h->machine.sim) == spent);
    sim_fail_nth(m->h->machine.sim, SIM_CALL_ANY, 0, 0, 0);
}

static bool is_translated(const struct platform *platform, uint64_t first, uint64_t last)
{
    for (size_t i = 0; i < RANGES; i++) {
        if (first >= platform->translated[i].first && last <= platform->translated[i].last)
            return true;
    }
    return false;
}

/* Of what the server itself decides. */
static int expected_map(const struct model *m, const struct entry *new)
{
    const struct memory *memory = new->memory;

    if (memory && !is_translated(m->platform, new->first, new->last))
        return EINVAL;
    if (memory && memory->read_only &&
        (new->flags &VFIO_USER_DMA_MAP_WRITE || m->platform->pins_for_writing))
        return EACCES;
    if (memory && !range_within(new->offset, new->last - new->first + 1, memory->size))
        return EINVAL;
    for (unsigned i = 0; i < m->count; i++) {
        if (new->first <= m->entries[i].last && m->entries[i].first <= new->last)
            return EEXIST;
    }
    return 0;
}

/* Also with offsets from which the range passes the end of the file. */
static struct entry random_entry(struct model *m)
{
    const struct area *a = random_area(m);
    struct range r = random_range(m, a);
    struct entry e = {.first = r.first, .last = r.last};
    const struct memory *memory = &m->memories[random_below(&m->random, MEMORIES)];

    if (a->unit == LARGE_UNIT)
        memory = &m->memories[FILES - 1];
    e.memory = random_below(&m->random, 5) ? memory : NULL;
    e.offset = random_below(&m->random, memory->size / memory->unit + 1) * memory->unit;
    e.flags = (uint32_t)(1 + random_below(&m->random, DMA_RW));
    return e;
}

static void map(struct model *m)
{
    const struct entry e = random_entry(m);
    bool copied = e.memory && is_pinned_already(m, &e, m->count);
    int fault = plan_fault(m, 50, copied ? UAPI_IOMMU_IOAS_COPY : m->map_request, 1);
    int err = expected_map(m, &e);
    bool by_kernel = !err && e.memory;

    if (by_kernel)
        err = fault;
    expect_answer(m,
                  MSG(MSG_DMA_MAP(.flags = e.flags, .offset = e.offset, .address = e.first,
                                  .size = e.last - e.first + 1)),
                  e.memory ? e.memory->fd : -1, err);
    if (fault)
        end_fault(m, by_kernel);
    if (!err) {
        CHECK(m, m->count < MAX_ENTRIES);
        m->entries[m->count++] = e;
    }
}

/* NULL: none begins there. */
static struct entry *find_entry(struct model *m, uint64_t first)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (m->entries[i].first == first)
            return &m->entries[i];
    }
    return NULL;
}

static void unmap_range(struct model *m, uint64_t first, uint64_t size)
{
    struct entry *e = find_entry(m, first);
    int fault = plan_fault(m, 50, m->unmap_request, 1);
    bool by_kernel = false;
    int err = ENOENT;

    if (!size || range_wraps(first, size) || (e && e->last - e->first != size - 1)) {
        err = EINVAL;
    } else if (e) {
        by_kernel = e->memory;
        err = by_kernel ? fault : 0;
    }
    expect_answer(m, MSG(MSG_DMA_UNMAP(.address = first, .size = size)), -1, err);
    if (fault)
        end_fault(m, by_kernel);
    if (!err)
        *e = m->entries[--m->count];
}

static void unmap_exactly(struct model *m)
{
    if (m->count) {
        const struct entry *e = &m->entries[random_below(&m->random, m->count)];

        unmap_range(m, e->first, e->last - e->first + 1);
    }
}

static void unmap_other_size(struct model *m)
{
    if (m->count) {
        const struct entry *e = &m->entries[random_below(&m->random, m->count)];

        unmap_range(m, e->first,
                    e->last - e->first + 1 + (random_below(&m->random, 2) ? PAGE : -PAGE));
    }
}

static void unmap_anywhere(struct model *m)
{
    struct range r = random_range(m, random_area(m));

    unmap_range(m, r.first, r.last - r.first + 1);
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return (x->first > y->first) - (x->first < y->first);
}

/* One that the kernel does not unmap stays, whatever becomes of the others. */
static void unmap_all(struct model *m)
{
    unsigned nth = 1 + (unsigned)random_below(&m->random, MAX_UNITS), backed = 0;
    int fault = plan_fault(m, 2, m->unmap_request, nth);
    struct entry stays = {0};

    qsort(m->entries, m->count, sizeof(m->entries[0]), compare_entries);
    for (unsigned i = 0; i < m->count; i++) {
        if (m->entries[i].memory && ++backed == nth)
            stays = m->entries[i];
    }
    expect_answer(m, MSG(MSG_DMA_UNMAP(.flags = VFIO_USER_DMA_UNMAP_ALL)), -1,
                  stays.memory ? fault : 0);
    m->count = 0;
    if (fault)
        end_fault(m, stays.memory);
    if (fault && stays.memory)
        m->entries[m->count++] = stays;
}

/* The device's alone: the memory stays. */
static void reset(struct model *m)
{
    expect_answer(m, MSG(MSG_RESET()), -1, 0);
}

/* Views of the files in this process. */
static unsigned count_views(void)
{
    FILE *f = fopen("/proc/self/maps", "re");
    unsigned n = 0;
    char line[512];

    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        n += strstr(line, "/memfd:test") != NULL;
    fclose(f);
    return n;
}

/* In the new session the end of the old one is over. */
static void reconnect(struct model *m)
{
    fd_close(&m->sock);
    harness_await_idle(m->h);
    m->count = 0;
    m->sock = raw_session(m->h);
    CHECK(m, count_views() == m->views);
    sweep(m);
}

static const struct action {
    unsigned per_mille;
    void (*run)(struct model *m);
} actions[] = {
    {500, map             },
    {290, unmap_exactly   },
    {100, unmap_other_size},
    {92,  unmap_anywhere  },
    {10,  unmap_all       },
    {5,   reset           },
    {3,   reconnect       },
};

static void step(struct model *m)
{
    uint64_t at = random_below(&m->random, 1000);
    const struct action *a = actions;

    while (at >= a->per_mille)
        at -= a++->per_mille;
    a->run(m);
    check_counts(m);
    for (unsigned i = 0; i < 4; i++)
        random_transfer(m);
    if (m->step % STEPS_BETWEEN_SWEEPS == 0)
        sweep(m);
}

static void open_memories(struct model *m)
{
    struct stat st;
    char path[32];

    for (unsigned i = 0; i < FILES; i++) {
        struct memory *memory = &m->memories[i];

        memory->unit = PAGE;
        memory->size = i == FILES - 1 ? LARGE_FILE : SMALL_FILE;
        memory->fd = raw_memfd(memory->size);
        assert_int_equal(fstat(memory->fd, &st), 0);
        memory->ino = st.st_ino;
        memory->seen = mmap(NULL, memory->size, PROT_READ, MAP_SHARED, memory->fd, 0);
        assert_true(memory->seen != MAP_FAILED);
        memory->wanted = calloc(1, memory->size);
        assert_non_null(memory->wanted);
    }
    m->memories[READ_ONLY] = m->memories[0];
    m->memories[READ_ONLY].read_only = true;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", m->memories[0].fd);
    m->memories[READ_ONLY].fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(m->memories[READ_ONLY].fd >= 0);
    m->views = count_views();
}

static void close_memories(struct model *m)
{
    for (unsigned i = 0; i < FILES; i++) {
        munmap(m->memories[i].seen, m->memories[i].size);
        free(m->memories[i].wanted);
    }
    for (unsigned i = 0; i < MEMORIES; i++)
        fd_close(&m->memories[i].fd);
}

static void run(const struct harness *h, unsigned long map_request, unsigned long unmap_request)
{
    const uint64_t steps = random_setting("DMA_MODEL_STEPS", DEFAULT_STEPS);
    static struct model m;
    struct random random;

    random = random_start("DMA_MODEL_SEED");
    m = (struct model){
        .h = h,
        .platform = harness_is_spapr() ? &power : &pc,
        .seed = random.state,
        .random = random,
        .map_request = map_request,
        .unmap_request = unmap_request,
    };
    open_memories(&m);
    m.sock = raw_session(h);
    for (m.step = 1; m.step <= steps; m.step++)
        step(&m);
    reconnect(&m);
    fd_close(&m.sock);
    close_memories(&m);
    harness_await_idle(h);
}

static void random_requests(void **state)
{
    if (harness_is_iommufd())
        run(*state, harness_has_map_file() ? UAPI_IOMMU_IOAS_MAP_FILE : UAPI_IOMMU_IOAS_MAP,
            UAPI_IOMMU_IOAS_UNMAP);
    else
        run(*state, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA);
}

static void memory_is_not_taken_or_given_back(void **state)
{
    if (harness_is_spapr())
        run(*state, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY);
    else
        skip();
}

static const struct CMUnitTest tests[] = {
    harness_test(random_requests),
    harness_test(memory_is_not_taken_or_given_back),
};

HARNESS_MAIN(tests)
