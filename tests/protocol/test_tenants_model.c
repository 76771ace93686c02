/*
 * Two users, four devices, against a model: sessions begin and end at random, map and unmap at
 * random, and calls of the kernel fail. Two devices are in one IOMMU group. Each user has files of
 * its own. The model is an array of mappings for each device and a copy of the files. It tells each
 * answer, how much the kernel maps and pins and by how many iommufds, and which bytes each device
 * reaches: those that its group's sessions have mapped, and never the other user's.
 *
 * TENANTS_MODEL_SEED repeats a run, whose seed is printed; TENANTS_MODEL_STEPS is the number of
 * steps. Only root can be two users.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "tests/protocol/child.h"
#include "tests/protocol/random.h"
#include "tests/protocol/raw.h"

enum {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    DEFAULT_STEPS = 10000,
#else
    DEFAULT_STEPS = 100000,
#endif
    STEPS_BETWEEN_SWEEPS = 64,
    DEVICES = 4,
    GROUPS = 3,
    USERS = 2,
    NOBODY = 65534,
    FILES = 4, /* half of them are the first user's */
    FILE_PAGES = 12,
    FIRST_PAGE = 0x100, /* of the addresses that are mapped */
    PAGES = 24,
    MAX_PAGES = 4, /* of one mapping */
};

static const unsigned group_of[DEVICES] = {0, 0, 1, 2};
static const uid_t uids[USERS] = {0, NOBODY};

/* In units of pages. */
struct entry {
    unsigned first, pages, file, offset;
    uint32_t flags;
};

struct device {
    const char *path, *bdf;
    struct vfuc *session; /* NULL: none */
    unsigned user;
    struct entry entries[PAGES];
    unsigned count;
};

struct file {
    int fd;
    uint8_t *seen, *wanted;
};

struct model {
    struct harness *h;
    uint64_t seed;
    struct random random;
    unsigned step;
    struct device devices[DEVICES];
    struct file files[FILES];
};

#define CHECK(m, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed 0x%" PRIx64 ", step %u: not true: %s", (m)->seed, (m)->step,            \
                     #condition);                                                                  \
    } while (0)

static void expect(const struct model *m, const char *what, int is, int wanted)
{
    if (is != wanted)
        fail_msg("seed 0x%" PRIx64 ", step %u: %s is answered with \"%s\", not \"%s\"", m->seed,
                 m->step, what, strerror(-is), strerror(-wanted));
}

/*
 * What the sessions have mapped.
 */

static bool same_entry(const struct entry *a, const struct entry *b)
{
    return a->first == b->first && a->pages == b->pages && a->file == b->file &&
           a->offset == b->offset && a->flags == b->flags;
}

static bool same_piece(const struct entry *a, const struct entry *b)
{
    return a->pages == b->pages && a->file == b->file && a->offset == b->offset &&
           !((a->flags ^ b->flags) & VFIO_USER_DMA_MAP_WRITE);
}

static bool overlap(const struct entry *a, const struct entry *b)
{
    return a->first < b->first + b->pages && b->first < a->first + a->pages;
}

static unsigned number_of(const struct model *m, const struct device *d)
{
    return (unsigned)(d - m->devices);
}

static bool are_in_one_group(const struct model *m, const struct device *a, const struct device *b)
{
    return group_of[number_of(m, a)] == group_of[number_of(m, b)];
}

/* How many devices of the group have mapped just this. */
static unsigned count_users(const struct model *m, const struct device *d, const struct entry *e)
{
    unsigned n = 0;

    for (const struct device *o = m->devices; o < m->devices + DEVICES; o++) {
        for (unsigned i = 0; are_in_one_group(m, d, o) && i < o->count; i++)
            n += same_entry(&o->entries[i], e);
    }
    return n;
}

/* Files tell users apart. */
static bool is_piece_known(const struct model *m, const struct entry *e)
{
    for (const struct device *o = m->devices; o < m->devices + DEVICES; o++) {
        for (unsigned i = 0; i < o->count; i++) {
            if (same_piece(&o->entries[i], e))
                return true;
        }
    }
    return false;
}

/* 0, or what answers a map of the device. joins: nothing is asked of the kernel for it. */
static int expected_map(const struct model *m, const struct device *d, const struct entry *e,
                        bool *joins)
{
    *joins = count_users(m, d, e);
    if (e->offset + e->pages > FILE_PAGES)
        return -EINVAL;
    for (const struct device *o = m->devices; o < m->devices + DEVICES; o++) {
        for (unsigned i = 0; are_in_one_group(m, d, o) && i < o->count; i++) {
            if (overlap(&o->entries[i], e) && (o == d || !same_entry(&o->entries[i], e)))
                return -EEXIST;
        }
    }
    return 0;
}

/* The user that has the group of a device; USERS: nobody. */
static unsigned group_user(const struct model *m, const struct device *d)
{
    for (const struct device *o = m->devices; o < m->devices + DEVICES; o++) {
        if (o->session && are_in_one_group(m, d, o))
            return o->user;
    }
    return USERS;
}

/*
 * The kernel's part.
 */

static uint8_t *translate(const struct model *m, const struct device *d, uint64_t iova, bool write)
{
    const uint32_t access = write ? VFIO_USER_DMA_MAP_WRITE : VFIO_USER_DMA_MAP_READ;
    uint64_t page = iova / PAGE - FIRST_PAGE;

    for (const struct device *o = m->devices; o < m->devices + DEVICES; o++) {
        for (unsigned i = 0; are_in_one_group(m, d, o) && i < o->count; i++) {
            const struct entry *e = &o->entries[i];

            if (page >= e->first && page < e->first + e->pages)
                return e->flags & access ? m->files[e->file].wanted +
                                               (e->offset + page - e->first) * PAGE + iova % PAGE
                                         : NULL;
        }
    }
    return NULL;
}

static void transfer(struct model *m, const struct device *d, unsigned page, bool write)
{
    uint64_t iova = (uint64_t)(FIRST_PAGE + page) * PAGE + random_below(&m->random, PAGE / 8) * 8;
    uint8_t *at = translate(m, d, iova, write);
    uint64_t value = (uint64_t)random_below(&m->random, UINT32_MAX) << 32 | m->step, buf = value;
    int ret = sim_device_dma(m->h->machine.sim, d->bdf, iova, &buf, sizeof(buf), write);

    CHECK(m, ret == (at ? 0 : -EFAULT));
    if (at && write)
        memcpy(at, &value, sizeof(value));
    else if (at)
        CHECK(m, !memcmp(at, &buf, sizeof(buf)));
}

/* All that each device may reach, and the whole of the files. */
static void sweep(struct model *m)
{
    for (const struct device *d = m->devices; d < m->devices + DEVICES; d++) {
        for (unsigned page = 0; page < PAGES; page++) {
            transfer(m, d, page, true);
            transfer(m, d, page, false);
        }
    }
    for (unsigned i = 0; i < FILES; i++)
        CHECK(m, !memcmp(m->files[i].seen, m->files[i].wanted, (size_t)FILE_PAGES * PAGE));
}

/* Whether an entry before this one stands for the same mapping, or the same pin. */
static bool came_before(const struct model *m, const struct device *d, const struct entry *e,
                        bool as_pin)
{
    for (const struct device *o = m->devices; o <= d; o++) {
        for (unsigned i = 0; i < o->count && &o->entries[i] != e; i++) {
            if (as_pin && harness_is_iommufd()
                    ? same_piece(&o->entries[i], e)
                    : are_in_one_group(m, d, o) && same_entry(&o->entries[i], e))
                return true;
        }
    }
    return false;
}

/* One for each user that is there, and one for each group that nobody has. */
static unsigned expected_contexts(const struct model *m)
{
    bool present[USERS + 1] = {false};
    unsigned n = 0;

    for (unsigned i = 0; i < DEVICES; i++) {
        unsigned user = group_user(m, &m->devices[i]);

        n += user == USERS && (!i || group_of[i] != group_of[i - 1]);
        present[user] = true;
    }
    for (unsigned i = 0; i < USERS; i++)
        n += present[i];
    return n;
}

static void check_counts(const struct model *m)
{
    struct sim_stats stats = harness_stats(m->h);
    unsigned mappings = 0;
    uint64_t pinned = 0;

    for (const struct device *d = m->devices; d < m->devices + DEVICES; d++) {
        for (unsigned i = 0; i < d->count; i++) {
            const struct entry *e = &d->entries[i];

            mappings += !came_before(m, d, e, false);
            pinned += came_before(m, d, e, true) ? 0 : (uint64_t)e->pages * PAGE;
        }
    }
    CHECK(m, stats.mappings == mappings);
    CHECK(m, stats.pinned_bytes == pinned);
    if (!harness_is_iommufd())
        CHECK(m, stats.containers == GROUPS);
    else
        CHECK(m, stats.contexts == expected_contexts(m));
}

/* Once in so many times the next of these requests will fail. The errno, or 0. */
static int plan_fault(struct model *m, unsigned long request)
{
    int err = random_below(&m->random, 2) ? ENOMEM : EIO;

    if (random_below(&m->random, 30))
        return 0;
    sim_fail_nth(m->h->machine.sim, SIM_CALL_IOCTL, request, 1, err);
    return -err;
}

static void end_fault(struct model *m, bool spent)
{
    CHECK(m, sim_fault_spent(m->h->machine.sim) == spent);
    sim_fail_nth(m->h->machine.sim, SIM_CALL_ANY, 0, 0, 0);
}

/*
 * The steps.
 */

static unsigned long map_request(bool piece_is_known)
{
    if (!harness_is_iommufd())
        return VFIO_IOMMU_MAP_DMA;
    if (piece_is_known)
        return UAPI_IOMMU_IOAS_COPY;
    return harness_has_map_file() ? UAPI_IOMMU_IOAS_MAP_FILE : UAPI_IOMMU_IOAS_MAP;
}

/* Often just what another device of the user has. */
static struct entry random_entry(struct model *m, const struct device *d)
{
    const struct device *other = &m->devices[random_below(&m->random, DEVICES)];
    struct entry e = {
        .first = random_below(&m->random, PAGES - MAX_PAGES + 1),
        .pages = 1 + random_below(&m->random, MAX_PAGES),
        .file = d->user * FILES / USERS + random_below(&m->random, FILES / USERS),
        .offset = random_below(&m->random, FILE_PAGES),
        .flags = 1 + random_below(&m->random, DMA_RW),
    };

    if (other != d && other->count && other->user == d->user && random_below(&m->random, 2)) {
        unsigned first = e.first;

        e = other->entries[random_below(&m->random, other->count)];
        e.first = random_below(&m->random, 3) ? e.first : first;
    }
    return e;
}

static void map(struct model *m, struct device *d)
{
    const struct entry e = random_entry(m, d);
    unsigned long request = map_request(random_below(&m->random, 2));
    int fault = plan_fault(m, request);
    bool joins;
    int ret = expected_map(m, d, &e, &joins);
    bool failing = !ret && !joins && request == map_request(is_piece_known(m, &e));

    if (failing && fault)
        ret = fault;
    expect(m, "DMA_MAP",
           vfuc_dma_map(d->session, (uint64_t)(FIRST_PAGE + e.first) * PAGE,
                        (uint64_t)e.pages * PAGE, e.flags, m->files[e.file].fd,
                        (uint64_t)e.offset * PAGE),
           ret);
    if (fault)
        end_fault(m, failing);
    if (!ret)
        d->entries[d->count++] = e;
}

static int unmap_pages(struct device *d, unsigned first, unsigned pages)
{
    return vfuc_dma_unmap(d->session, (uint64_t)(FIRST_PAGE + first) * PAGE,
                          (uint64_t)pages * PAGE);
}

static void unmap(struct model *m, struct device *d)
{
    struct entry *e = d->count ? &d->entries[random_below(&m->random, d->count)] : NULL;
    bool last;
    int fault;

    if (!e)
        return;
    last = count_users(m, d, e) == 1;
    fault = plan_fault(m, !harness_is_iommufd() ? VFIO_IOMMU_UNMAP_DMA : UAPI_IOMMU_IOAS_UNMAP);
    expect(m, "DMA_UNMAP", unmap_pages(d, e->first, e->pages), last ? fault : 0);
    if (fault)
        end_fault(m, last);
    if (!last || !fault)
        *e = d->entries[--d->count];
}

/* What other devices have mapped is not this one's to unmap. */
static void unmap_anywhere(struct model *m, struct device *d)
{
    unsigned first = random_below(&m->random, PAGES),
             pages = 1 + random_below(&m->random, MAX_PAGES);
    struct entry *found = NULL;

    for (unsigned i = 0; i < d->count; i++) {
        if (d->entries[i].first == first)
            found = &d->entries[i];
    }
    expect(m, "DMA_UNMAP", unmap_pages(d, first, pages),
           !found                  ? -ENOENT
           : found->pages == pages ? 0
                                   : -EINVAL);
    if (found && found->pages == pages)
        *found = d->entries[--d->count];
}

static void unmap_all(struct model *m, struct device *d)
{
    expect(m, "DMA_UNMAP", vfuc_dma_unmap_all(d->session), 0);
    d->count = 0;
}

static void begin(struct model *m, struct device *d)
{
    unsigned user = random_below(&m->random, USERS), group = group_user(m, d);
    int sock = child_connect(d->path, uids[user]);
    struct vfuc *c;
    int wanted = d->session ? -EBUSY : group != USERS && group != user ? -EACCES : 0;

    CHECK(m, sock >= 0);
    expect(m, "VERSION", vfuc_open_fd(&c, sock, NULL), wanted);
    if (wanted)
        return;
    d->session = c;
    d->user = user;
}

/* The server closes its side when the session has ended. */
static void end(struct model *m, struct device *d)
{
    (void)m;
    shutdown(vfuc_socket(d->session), SHUT_WR);
    raw_expect_end(vfuc_socket(d->session));
    vfuc_close(d->session);
    d->session = NULL;
    d->count = 0;
}

static const struct action {
    unsigned per_mille;
    bool of_any_device; /* else of one with a session */
    void (*run)(struct model *m, struct device *d);
} actions[] = {
    {480, false, map           },
    {370, false, unmap         },
    {110, false, unmap_anywhere},
    {10,  false, unmap_all     },
    {20,  true,  begin         },
    {10,  false, end           },
};

static void step(struct model *m)
{
    struct device *d = &m->devices[random_below(&m->random, DEVICES)];
    unsigned at = random_below(&m->random, 1000);
    const struct action *a = actions;

    while (at >= a->per_mille)
        at -= a++->per_mille;
    if (d->session || a->of_any_device)
        a->run(m, d);
    check_counts(m);
    for (unsigned i = 0; i < DEVICES; i++)
        transfer(m, &m->devices[i], random_below(&m->random, PAGES), random_below(&m->random, 2));
    if (m->step % STEPS_BETWEEN_SWEEPS == 0)
        sweep(m);
}

static void start(struct model *m)
{
    struct harness *h = harness_new();

    h->settings.socket_mode = 0666;
    assert_int_equal(chmod(h->directory, 0755), 0);
    h->export_config.device = "sim:edu@one";
    m->devices[0] = (struct device){.path = h->path, .bdf = h->bdf};
    for (unsigned i = 1; i < DEVICES; i++) {
        struct harness_export *e = harness_add_export(h, i == 1 ? "sim:edu@one" : "sim:edu");

        m->devices[i] = (struct device){.path = e->path, .bdf = e->bdf};
    }
    harness_start(h);
    m->h = h;
}

static void open_files(struct model *m)
{
    const size_t size = (size_t)FILE_PAGES * PAGE;

    for (unsigned i = 0; i < FILES; i++) {
        m->files[i].fd = raw_memfd(size);
        m->files[i].seen = mmap(NULL, size, PROT_READ, MAP_SHARED, m->files[i].fd, 0);
        assert_true(m->files[i].seen != MAP_FAILED);
        m->files[i].wanted = calloc(1, size);
        assert_non_null(m->files[i].wanted);
    }
}

static void close_files(struct model *m)
{
    for (unsigned i = 0; i < FILES; i++) {
        munmap(m->files[i].seen, (size_t)FILE_PAGES * PAGE);
        free(m->files[i].wanted);
        fd_close(&m->files[i].fd);
    }
}

static void random_requests(void **state)
{
    const uint64_t steps = random_setting("TENANTS_MODEL_STEPS", DEFAULT_STEPS);
    static struct model m;
    struct random random;

    (void)state;
    if (geteuid())
        skip();
    random = random_start("TENANTS_MODEL_SEED");
    m = (struct model){.seed = random.state, .random = random};
    start(&m);
    open_files(&m);
    for (m.step = 1; m.step <= steps; m.step++)
        step(&m);
    for (unsigned i = 0; i < DEVICES; i++) {
        if (m.devices[i].session)
            end(&m, &m.devices[i]);
    }
    check_counts(&m);
    sweep(&m);
    close_files(&m);
    harness_stop(m.h);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(random_requests),
};

HARNESS_MAIN(tests)
