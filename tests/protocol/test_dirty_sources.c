/*
 * The log of what a device writes, over each source that the IOMMU interface has: the same tests,
 * whose lines name the source.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bridge/uapi_compat.h"
#include "client-example/vfuc.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "tests/protocol/raw.h"
#include "tests/unit/log_capture.h"

enum {
    GET = VFIO_USER_DEVICE_FEATURE_GET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,
    REPORT = VFIO_USER_FEATURE_DMA_LOGGING_REPORT,

    BASE = 0x40000000, /* of what is mapped: where pages of all sizes begin */
    PAGES = 1024,
    SIZE = PAGES * PAGE,
    WORD = 64 * PAGE,
    ROUNDS = 400,
};

typedef struct vfio_user_feature_dma_logging_range Range;

/* Where the machine lets it come from, and what it tells. */
struct source {
    const char *name;
    const char *log;    /* that the daemon names it by */
    bool device, iommu; /* these are there */
    bool policy;        /* the operator allows the guess */
    bool pinned_only;   /* type1 is told of what is written */
    uint64_t iommu_page;
    uint64_t device_page; /* of the device's log; 0: any */
    unsigned grain;       /* pages that are told together; 0: all that is mapped, always */
    bool (*there)(void);  /* on this interface */
};

static bool anywhere(void)
{
    return true;
}

static const struct source sources[] = {
    {"device log",            "its own log",    true,  true,  false, false, 0,          0,         1,   anywhere          },
    {"device log, 64K pages", "its own log",    true,  true,  false, false, 0,          16 * PAGE, 16,  anywhere          },
    {"HWPT",                  "HWPT",           false, true,  false, false, 0,          0,         1,   harness_is_iommufd},
    {"HWPT, 2M entries",      "HWPT",           false, true,  false, false, 512 * PAGE, 0,         512, harness_is_iommufd},
    {"type1",                 "type1",          false, true,  false, false, 0,          0,         0,   harness_is_type1  },
    {"type1, pins alone",     "type1",          false, true,  false, true,  0,          0,         1,   harness_is_type1  },
    {"policy",                "--dirty-policy", false, false, true,  false, 0,          0,         0,   anywhere          },
};

/* A server whose only source is this one. */
struct scene {
    const struct source *source;
    struct harness *h;
    struct vfuc *c;
};

static struct scene scene;

static void device_writes(uint64_t page, uint64_t n)
{
    cleanup_free_ char *bytes = calloc(n, PAGE);

    sim_device_dma(scene.h->machine.sim, scene.h->bdf, BASE + page * PAGE, bytes, n * PAGE, true);
}

static void map(uint64_t page, uint64_t n, uint32_t rights)
{
    cleanup_close_ int fd = raw_memfd(n * PAGE);

    assert_int_equal(vfuc_dma_map(scene.c, BASE + page * PAGE, n * PAGE, rights, fd, 0), 0);
}

static void unmap(uint64_t page, uint64_t n)
{
    assert_int_equal(vfuc_dma_unmap(scene.c, BASE + page * PAGE, n * PAGE), 0);
}

static int try_start(uint64_t page, uint64_t n)
{
    const Range range = {BASE + page * PAGE, n * PAGE};
    uint64_t page_size = PAGE;

    return vfuc_dma_log_start(scene.c, &range, 1, &page_size);
}

static void start(uint64_t page, uint64_t n)
{
    assert_int_equal(try_start(page, n), 0);
}

/* The first word of a report of pages. */
static uint64_t report(uint64_t page, uint64_t n, unsigned shift)
{
    uint64_t words[PAGES / 64];

    assert_int_equal(
        vfuc_dma_log_report(scene.c, BASE + page * PAGE, n * PAGE, (uint64_t)PAGE << shift, words),
        0);
    return words[0];
}

/* What a report of a word tells, if exactly these pages were written and those are mapped. */
static uint64_t told(uint64_t written, uint64_t mapped)
{
    const struct source *s = scene.source;
    uint64_t bits = 0;

    if (!s->grain)
        return mapped;
    for (unsigned i = 0; i < 64; i += MIN(s->grain, 64u)) {
        uint64_t mask = s->grain >= 64 ? UINT64_MAX : (UINT64_C(1) << s->grain) - 1;

        if (written >> i & mask)
            bits |= mask << i;
    }
    return bits;
}

static void prepare(void)
{
    const struct source *s = scene.source;
    struct sim *sim;

    scene.h = harness_new();
    sim = scene.h->machine.sim;
    scene.h->settings.guess_dirty = s->policy;
    scene.h->settings.dirty_source = s->policy ? CONFIG_DIRTY_NONE : CONFIG_DIRTY_AUTO;
    sim_set_dirty_tracking(sim, s->iommu);
    sim_set_pinned_only(sim, s->pinned_only);
    sim_set_iommu_page(sim, s->iommu_page);
}

static void begin(void)
{
    const struct source *s = scene.source;

    prepare();
    harness_start(scene.h);
    assert_int_equal(sim_set_dma_log(scene.h->machine.sim, scene.h->bdf, s->device, s->device_page),
                     0);
    scene.c = harness_client(scene.h);
}

static void end(void)
{
    vfuc_close(scene.c);
    harness_await_idle(scene.h);
    harness_stop(scene.h);
}

static int setup(void **state)
{
    scene = (struct scene){.source = *state};
    begin();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end();
    return 0;
}

/* Told once each write; nothing of before the start. */
static void once(void **state)
{
    (void)state;
    map(0, PAGES, DMA_RW);
    device_writes(1, 1);
    start(0, PAGES);
    assert_true(report(0, 64, 0) == told(0, UINT64_MAX));
    device_writes(3, 1);
    device_writes(5, 2);
    assert_true(report(0, 64, 0) == told(0x68, UINT64_MAX));
    assert_true(report(0, 64, 0) == told(0, UINT64_MAX));
    device_writes(0, 1);
    assert_int_equal(vfuc_dma_log_stop(scene.c), 0);
    start(0, PAGES);
    assert_true(report(0, 64, 0) == told(0, UINT64_MAX));
    assert_int_equal(try_start(0, PAGES), -EINVAL); /* it is on */
}

/* Mappings apart from each other and side by side: no bit between or beyond them, or of memory that
 * the device may not write. */
static void holes(void **state)
{
    /* A device's log knows nothing of rights. */
    const uint64_t writable = 0x303f, written = scene.source->device ? writable : 0xf03f;

    (void)state;
    map(0, 4, DMA_RW);
    map(4, 2, DMA_RW);
    map(12, 2, DMA_RW);
    map(14, 2, VFIO_USER_DMA_MAP_READ);
    start(0, 20);
    for (unsigned i = 0; i < 16; i++) {
        if (written >> i & 1)
            device_writes(i, 1);
    }
    if (scene.source->grain <= 1)
        assert_true(report(0, 20, 0) == writable);
    else
        assert_int_equal(report(0, 20, 0) & writable, writable);
    assert_int_equal(report(6, 2, 0), scene.source->device_page ? report(6, 2, 0) : 0);
    assert_int_equal(report(100, 64, 0), 0);
}

/* No ranges: all there is, and what is mapped later. */
static void no_ranges(void **state)
{
    uint64_t page_size = PAGE;

    (void)state;
    map(0, 512, DMA_RW);
    assert_int_equal(vfuc_dma_log_start(scene.c, NULL, 0, &page_size), 0);
    map(512, 512, DMA_RW);
    device_writes(1, 1);
    device_writes(515, 1);
    assert_true(report(0, 64, 0) == told(2, UINT64_MAX));
    assert_true(report(512, 64, 0) == told(8, UINT64_MAX));
}

/* Only the ranges that were asked for. */
static void some_ranges(void **state)
{
    const Range ranges[] = {
        {BASE + 2 * PAGE,   2 * PAGE  },
        {BASE + 600 * PAGE, 100 * PAGE}
    };
    uint64_t page_size = PAGE, first;

    (void)state;
    map(0, PAGES, DMA_RW);
    assert_int_equal(vfuc_dma_log_start(scene.c, ranges, ARRAY_SIZE(ranges), &page_size), 0);
    device_writes(0, PAGES);
    first = report(0, 64, 0);
    assert_int_equal(first & 0xc, 0xc);
    if (!scene.source->device_page)
        assert_int_equal(first, 0xc);
    assert_int_equal(report(0, 64, 0) & 0xc, scene.source->grain ? 0 : 0xc);
    assert_true(report(610, 64, 0) == UINT64_MAX);
}

/* In larger pages than the source has, and in parts of those that it has. */
static void page_sizes(void **state)
{
    (void)state;
    map(0, PAGES, DMA_RW);
    start(0, PAGES);
    device_writes(9, 1);
    device_writes(130, 1);
    assert_int_equal(report(0, 256, 6), scene.source->grain && scene.source->grain < 512 ? 5 : 15);
    device_writes(600, 1);
    assert_int_equal(report(600, 1, 9), 1);
    device_writes(600, 1);
    assert_int_equal(report(598, 1, 0) | report(600, 1, 0), 1);
    device_writes(601, 1);
    assert_int_equal(report(0, PAGES, 20), 1); /* a page larger than the range */
}

/* A reply that the client does not take costs no bit. */
static void capacity(void **state)
{
    static const struct vfio_user_feature_dma_logging_report args = {BASE, WORD, PAGE};
    const int sock = vfuc_socket(scene.c);

    (void)state;
    map(0, PAGES, DMA_RW);
    start(0, PAGES);
    device_writes(7, 1);
    raw_refused(sock,
                MSG(MSG_FEATURE(.argsz = 39, .flags = GET | REPORT), .data = &args,
                    .data_len = sizeof(args)),
                EINVAL);
    raw_call(sock,
             MSG(MSG_FEATURE(.argsz = 40, .flags = PROBE | GET | REPORT), .data = &args,
                 .data_len = sizeof(args)),
             NULL);
    assert_true(report(0, 64, 0) == told(0x80, UINT64_MAX));
}

/* What is unmapped can still be asked for, once; also if other memory is there by then. */
static void unmapped(void **state)
{
    (void)state;
    map(0, 512, DMA_RW);
    map(512, 512, DMA_RW);
    start(0, PAGES);
    device_writes(3, 1);
    device_writes(515, 1);
    unmap(0, 512);
    assert_int_equal(vfuc_dma_unmap_all(scene.c), 0);
    assert_true(report(0, 64, 0) == told(8, UINT64_MAX));
    assert_int_equal(report(0, 64, 0), 0);
    map(512, 512, DMA_RW);
    assert_true(report(512, 64, 0) == told(8, UINT64_MAX));
    assert_true(report(512, 64, 0) == told(0, UINT64_MAX));
}

static int unmap_dirty(uint64_t page, uint64_t n, uint64_t *bits)
{
    uint64_t words[PAGES / 64] = {0};
    int ret = vfuc_dma_unmap_dirty(scene.c, BASE + page * PAGE, n * PAGE, PAGE, words);

    *bits = words[0];
    return ret;
}

/* An unmap that tells what was written. One that is refused does and forgets nothing. */
static void unmap_with_bitmap(void **state)
{
    const struct vfio_user_bitmap bitmap = {PAGE, 64};
    const struct raw_message unmap_512 = {
        MSG_DMA_UNMAP(.argsz = 103, .flags = VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP, .address = BASE,
                      .size = 512 * PAGE),
        .data = &bitmap,
        .data_len = sizeof(bitmap),
    };
    struct raw_message quiet = unmap_512;
    uint64_t bits;

    (void)state;
    map(0, 512, DMA_RW);
    map(512, 512, DMA_RW);
    assert_int_equal(unmap_dirty(0, 512, &bits), -EINVAL); /* it is off */
    start(0, PAGES);
    device_writes(3, 1);
    device_writes(515, 1);
    raw_refused(vfuc_socket(scene.c), &unmap_512, EINVAL); /* argsz */
    assert_int_equal(unmap_dirty(0, 511, &bits), -EINVAL);
    assert_int_equal(unmap_dirty(1, 512, &bits), -ENOENT);
    assert_int_equal(unmap_dirty(0, 512, &bits), 0);
    assert_true(bits == told(8, UINT64_MAX));
    assert_int_equal(unmap_dirty(0, 512, &bits), -ENOENT);
    assert_int_equal(report(0, 64, 0), 0);
    assert_true(report(512, 64, 0) == told(8, UINT64_MAX));

    /* Without a reply it is a plain one. */
    map(0, 512, DMA_RW);
    device_writes(5, 1);
    quiet.flags = VFIO_USER_FLAG_NO_REPLY;
    quiet.payload = &(const struct vfio_user_dma_unmap){104, VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP,
                                                        BASE, 512 * PAGE};
    raw_send(vfuc_socket(scene.c), &quiet, NULL, 0);
    assert_true(report(0, 64, 0) == told(0x20, UINT64_MAX));
    assert_int_equal(unmap_dirty(0, 512, &bits), -ENOENT);
}

/* Of one that the kernel fails the bits are told by the next. */
static void unmap_fails(void **state)
{
    const unsigned long request =
        harness_is_iommufd() ? UAPI_IOMMU_IOAS_UNMAP : VFIO_IOMMU_UNMAP_DMA;
    uint64_t bits;
    int ret;

    (void)state;
    if (harness_is_spapr())
        return;
    map(0, 512, DMA_RW);
    start(0, 512);
    device_writes(3, 1);
    sim_fail_nth(scene.h->machine.sim, SIM_CALL_IOCTL, request, 1, EIO);
    ret = unmap_dirty(0, 512, &bits);
    assert_true(sim_fault_spent(scene.h->machine.sim));
    if (ret) {
        assert_int_equal(ret, -EIO);
        assert_int_equal(unmap_dirty(0, 512, &bits), 0);
    }
    assert_true(bits & 8);
    assert_int_equal(report(0, 64, 0), 0);
}

/* The daemon says once a session what the source is. */
static void log_names_it(void **state)
{
    struct log_capture capture;
    const char *at;

    (void)state;
    log_capture_start(&capture);
    log_set_level(LOG_INFO);
    map(0, 1, DMA_RW);
    for (int i = 0; i < 2; i++) {
        start(0, 1);
        assert_int_equal(vfuc_dma_log_stop(scene.c), 0);
    }
    log_set_level(LOG_WARNING);
    log_capture_end(&capture);
    at = strstr(capture.text, "dirty pages of");
    assert_non_null(at);
    assert_non_null(strstr(at, scene.source->log));
    assert_null(strstr(at + 1, "dirty pages of"));
}

/*
 * A device that writes, memory that comes and goes, reports of all kinds; and a model of what has
 * to be told (written since it was told last), and of what may be (with what a source tells
 * together with it).
 */
struct model {
    bool must[PAGES], may[PAGES];
    unsigned mapped[PAGES]; /* the number of the mapping that it is in; 0: none */
    struct {
        unsigned first, n;
    } maps[ROUNDS + 1];
};

static void model_map(struct model *m, unsigned id, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        if (m->mapped[i])
            return;
    }
    map(first, n, DMA_RW);
    m->maps[id].first = first;
    m->maps[id].n = n;
    for (unsigned i = first; i < first + n; i++)
        m->mapped[i] = id;
}

static void model_unmap(struct model *m, unsigned id)
{
    if (!id)
        return;
    unmap(m->maps[id].first, m->maps[id].n);
    for (unsigned i = m->maps[id].first; i < m->maps[id].first + m->maps[id].n; i++) {
        m->mapped[i] = 0;
        m->may[i] |= !scene.source->grain;
    }
}

/* An entry of the IOMMU's is no larger than its mapping, a page of the device's log is. */
static bool told_together(const struct model *m, unsigned a, unsigned b)
{
    unsigned grain = scene.source->grain;

    if (!grain || a / grain != b / grain)
        return false;
    return scene.source->device_page || m->mapped[a] == m->mapped[b];
}

static void model_write(struct model *m, unsigned first, unsigned n)
{
    device_writes(first, n);
    for (unsigned i = first; i < first + n; i++) {
        m->must[i] |= m->mapped[i];
        /* A device's log knows nothing of mappings. */
        for (unsigned k = 0; (scene.source->device || m->mapped[i]) && k < PAGES; k++)
            m->may[k] |= told_together(m, i, k);
    }
}

static void model_report(struct model *m, unsigned first, unsigned n, unsigned shift,
                         const char *where)
{
    uint64_t words[PAGES / 64];

    assert_int_equal(vfuc_dma_log_report(scene.c, BASE + (uint64_t)first * PAGE, (uint64_t)n * PAGE,
                                         (uint64_t)PAGE << shift, words),
                     0);
    for (unsigned bit = 0; bit < (((n - 1) >> shift) / 64 + 1) * 64; bit++) {
        bool must = false, may = false, is = words[bit / 64] >> bit % 64 & 1;

        for (unsigned i = bit << shift; i < MIN(n, (bit + 1) << shift); i++) {
            must |= m->must[first + i];
            may |= m->may[first + i] || (!scene.source->grain && m->mapped[first + i]);
        }
        if ((must && !is) || (is && !must && !may))
            fail_msg("%s: bit %u of pages of %u from %u on is %d", where, bit, 1u << shift, first,
                     is);
    }
    memset(m->must + first, false, n);
    /* A page of the log's, or an entry, may have been told in part. */
    if (scene.source->grain <= 1)
        memset(m->may + first, false, n);
}

static void model(void **state)
{
    unsigned seed = (unsigned)time(NULL);
    cleanup_free_ struct model *m = calloc(1, sizeof(*m));
    char where[128];

    (void)state;
    printf("%s: seed %u\n", scene.source->name, seed);
    model_map(m, 1, 0, 300);
    start(0, PAGES);
    for (unsigned round = 2; round <= ROUNDS; round++) {
        unsigned first = (unsigned)rand_r(&seed) % PAGES;
        unsigned n = 1 + (unsigned)rand_r(&seed) % MIN(PAGES - first, round % 3 ? 40u : PAGES);

        snprintf(where, sizeof(where), "%s, round %u", scene.source->name, round);
        switch (rand_r(&seed) % 8) {
        case 0:
        case 1:
            model_map(m, round, first, n);
            break;
        case 2:
            model_unmap(m, m->mapped[first]);
            break;
        case 3:
        case 4:
        case 5:
            model_write(m, first, MIN(n, 3u));
            break;
        default:
            model_report(m, first, n, (unsigned)rand_r(&seed) % 9, where);
        }
    }
    model_report(m, 0, PAGES, 0, "the last report");
}

/*
 * Any call of the kernel's fails, of all that belong to the log: a start that works logs, and what
 * was written is told all the same; the next user has a device that works.
 */
static bool run_with_fault(unsigned n, int err)
{
    struct sim *sim = scene.h->machine.sim;
    bool spent, stuck = false;
    int ret;

    map(0, 4, DMA_RW);
    map(8, 4, DMA_RW);
    sim_fail_nth(sim, SIM_CALL_IOCTL, 0, n, err);
    ret = try_start(0, 16);
    if (!ret) {
        uint64_t words = 0, again = 0;

        device_writes(1, 1);
        device_writes(9, 1);
        ret = vfuc_dma_log_report(scene.c, BASE, 8 * PAGE, PAGE, &words);
        if (ret)
            words = report(0, 8, 0);
        assert_true(words & 2);
        /* SPAPR's has more calls, which fault_bridge fails. */
        if (!harness_is_spapr() && vfuc_dma_unmap(scene.c, BASE + 8 * PAGE, 4 * PAGE))
            unmap(8, 4);
        if (vfuc_dma_log_report(scene.c, BASE + 8 * PAGE, 8 * PAGE, PAGE, &again))
            again = report(8, 8, 0);
        assert_true(again & 2);
        /* The device's log goes on then, until the session ends. */
        stuck = vfuc_dma_log_stop(scene.c);
    }
    spent = sim_fault_spent(sim);
    sim_fail_nth(sim, SIM_CALL_ANY, 0, 0, 0);
    ret = try_start(0, 16);
    assert_true(!ret || stuck);
    assert_int_equal(vfuc_dma_log_stop(scene.c), 0);
    vfuc_close(scene.c);
    harness_await_idle(scene.h);
    scene.c = harness_client(scene.h);
    return spent;
}

static void faults(void **state)
{
    static const int errnos[] = {EIO, ENOMEM, EINVAL, ENOTTY};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
        unsigned n = 1;

        while (run_with_fault(n, errnos[i]))
            n++;
    }
}

/*
 * Two devices of a group, whose IOMMU has one record for both, and whose sessions share mappings:
 * what one of them is told of is told to the other as well, from the other's start on.
 */
static void two_sessions(void **state)
{
    const struct source *s = scene.source;
    struct harness_export *more;
    struct vfuc *a, *b;
    int fd;

    (void)state;
    if (s->device)
        return;
    end();
    prepare();
    scene.h->export_config.device = "sim:edu@one";
    more = harness_add_export(scene.h, "sim:edu@one");
    scene.h->settings.dirty_source = s->policy ? CONFIG_DIRTY_NONE : CONFIG_DIRTY_IOMMU;
    harness_start(scene.h);
    a = scene.c = harness_client(scene.h);
    b = harness_client_at(more->path);
    fd = raw_memfd(SIZE);
    assert_int_equal(vfuc_dma_map(a, BASE, 512 * PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(vfuc_dma_map(b, BASE, 512 * PAGE, DMA_RW, fd, 0), 0);
    close(fd);
    start(0, 512);
    device_writes(1, 1);
    scene.c = b;
    start(0, 512);
    device_writes(3, 1);
    assert_true(report(0, 64, 0) == told(8, UINT64_MAX));
    assert_true(report(0, 64, 0) == told(0, UINT64_MAX));
    scene.c = a;
    assert_true(report(0, 64, 0) == told(10, UINT64_MAX));
    assert_true(report(0, 64, 0) == told(0, UINT64_MAX));

    /* It stays mapped for the other. */
    device_writes(5, 1);
    unmap(0, 512);
    scene.c = b;
    device_writes(6, 1);
    scene.c = a;
    assert_true(report(0, 64, 0) == told(0x20, UINT64_MAX));
    assert_int_equal(report(0, 64, 0), 0);
    assert_int_equal(vfuc_dma_log_stop(a), 0);
    scene.c = b;
    device_writes(7, 1);
    assert_true(report(0, 64, 0) == told(0xe0, UINT64_MAX));
    unmap(0, 512);
    vfuc_close(a);
    vfuc_close(b);
    harness_stop(scene.h);
    begin();
}

/* clang-format off */
static const struct {
    const char *name;
    CMUnitTestFunction run;
} cases[] = {
    {"once", once},
    {"holes", holes},
    {"no ranges", no_ranges},
    {"some ranges", some_ranges},
    {"page sizes", page_sizes},
    {"capacity of the reply", capacity},
    {"unmapped meanwhile", unmapped},
    {"unmap with bitmap", unmap_with_bitmap},
    {"unmap fails", unmap_fails},
    {"the log names it", log_names_it},
    {"model", model},
    {"faults", faults},
    {"two sessions", two_sessions},
};
/* clang-format on */

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[ARRAY_SIZE(sources) * ARRAY_SIZE(cases)];
    static char names[ARRAY_SIZE(tests)][64];
    size_t n = 0;

    if (!harness_select_backend(argc, argv))
        return 2;
    for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(cases) && sources[i].there(); k++, n++) {
            snprintf(names[n], sizeof(names[n]), "%s: %s", sources[i].name, cases[k].name);
            tests[n] = (struct CMUnitTest){names[n], cases[k].run, setup, teardown,
                                           (void *)(uintptr_t)&sources[i]};
        }
    }
    return _cmocka_run_group_tests("dirty pages", tests, n, NULL, NULL);
}
