/*
 * Translations are kept as ranges, as MAP_DMA makes them, and cut where the kernel would change
 * single TCEs. Where it differs: the kernel exchanges a TCE, this takes the old translation away
 * before the new one comes; and pages of a window that are larger than the processor's are refused
 * for all memory, the kernel takes them for huge pages.
 */
#include <stdlib.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_memory.h"
#include "bridge/sim/sim_spapr.h"
#include "proto/base/arith.h"

#define SECOND_WINDOW (UINT64_C(1) << 59)

struct piece {
    struct sim_translation t; /* first: the domain's entry is the piece */
    struct sim_memory *memory;
    struct piece *next; /* until it is in the domain */
};

static unsigned log2_of(uint64_t value)
{
    return 63 - (unsigned)__builtin_clzll(value);
}

static uint64_t at_least(uint64_t value, uint64_t least)
{
    return value < least ? least : value;
}

/* Of all levels together, and twice: the kernel remembers the process's addresses too. */
static uint64_t table_size(uint32_t page_shift, uint64_t size, uint32_t levels)
{
    uint64_t bytes = 0, table, level;
    unsigned entries_shift;

    if (!levels || levels > SIM_SPAPR_LEVELS || !is_pow2(size) || size < 1ull << page_shift)
        return 0;
    entries_shift = log2_of(size) - page_shift;
    table = at_least(UINT64_C(8) << entries_shift, SIM_PAGE);
    level = at_least(UINT64_C(8) << (entries_shift + levels - 1) / levels, SIM_PAGE);
    if ((log2_of(level) - 3) * levels + page_shift >= 55)
        return 0;
    for (; levels; levels--) {
        bytes += (table + level - 1) / level * level;
        table = at_least(table / level * 8, level);
    }
    return 2 * bytes;
}

int sim_tce_create_window(struct sim_spapr *s, uint32_t page_shift, uint64_t size, uint32_t levels,
                          struct sim_window **window)
{
    unsigned n = 0;
    uint64_t table;
    int ret;

    while (n < SIM_SPAPR_WINDOWS && s->windows[n].size)
        n++;
    if (n == SIM_SPAPR_WINDOWS)
        return -ENOSPC;
    if (page_shift >= 64 || !(SIM_SPAPR_PGSIZES >> page_shift & 1))
        return -EINVAL;
    table = table_size(page_shift, size, levels);
    if (!table)
        return -EINVAL;
    ret = sim_lock_memory(s->driver.sim, table);
    if (ret)
        return ret;
    s->windows[n] = (struct sim_window){
        .start = n ? SECOND_WINDOW : 0,
        .size = size,
        .page_shift = page_shift,
        .table_size = table,
    };
    *window = &s->windows[n];
    return 0;
}

int sim_tce_create_default_window(struct sim_spapr *s)
{
    struct sim_window *window;
    int ret;

    if (!s->default_pending)
        return 0;
    ret = sim_tce_create_window(s, SIM_SPAPR_DEFAULT_SHIFT, SIM_SPAPR_DMA32_SIZE, 1, &window);
    if (!ret)
        s->default_pending = false;
    return ret;
}

struct sim_window *sim_tce_find_window(struct sim_spapr *s, uint64_t iova)
{
    for (unsigned i = 0; i < SIM_SPAPR_WINDOWS; i++) {
        struct sim_window *window = &s->windows[i];

        if (iova >= window->start && iova - window->start < window->size)
            return window;
    }
    return NULL;
}

static struct piece *find(const struct sim_spapr *s, uint64_t first, uint64_t last)
{
    return (struct piece *)sim_domain_find(&s->driver.domain, first, last);
}

static uint64_t size_of(const struct piece *p)
{
    return p->t.last - p->t.first + 1;
}

static void free_piece(struct sim_spapr *s, struct piece *p)
{
    sim_memory_unmap(s->driver.sim, p->memory, size_of(p));
    free(p);
}

static void drop(struct sim_spapr *s, struct piece *p)
{
    sim_domain_remove(&s->driver.domain, &p->t);
    free_piece(s, p);
}

static void cut(struct sim_spapr *s, struct piece *p, uint64_t first, uint64_t last)
{
    uint64_t before = size_of(p);

    sim_domain_cut(&s->driver.domain, &p->t, first, last);
    sim_memory_unmap(s->driver.sim, p->memory, before - size_of(p));
}

/* The piece is larger than the range at both ends. */
static int cut_middle(struct sim_spapr *s, struct piece *p, uint64_t first, uint64_t last)
{
    struct piece *behind = malloc(sizeof(*behind));
    int ret;

    if (!behind)
        return -ENOMEM;
    *behind = *p;
    behind->t.offset += last + 1 - p->t.first;
    behind->t.first = last + 1;
    sim_domain_cut(&s->driver.domain, &p->t, p->t.first, first - 1);
    ret = sim_domain_insert(&s->driver.domain, &behind->t);
    if (ret)
        free_piece(s, behind);
    sim_memory_unmap(s->driver.sim, p->memory, last - first + 1);
    return ret;
}

int sim_tce_clear(struct sim_spapr *s, uint64_t iova, uint64_t size)
{
    uint64_t last = iova + (size - 1);
    struct piece *p;
    int ret = 0;

    while (size && !ret && (p = find(s, iova, last))) {
        if (p->t.first < iova && p->t.last > last)
            ret = cut_middle(s, p, iova, last);
        else if (p->t.first < iova)
            cut(s, p, p->t.first, iova - 1);
        else if (p->t.last > last)
            cut(s, p, last + 1, p->t.last);
        else
            drop(s, p);
    }
    return ret;
}

static void clear_window(struct sim_spapr *s, const struct sim_window *window)
{
    struct piece *p;

    while ((p = find(s, window->start, window->start + (window->size - 1))))
        drop(s, p);
}

void sim_tce_remove_window(struct sim_spapr *s, struct sim_window *window)
{
    clear_window(s, window);
    sim_unlock_memory(s->driver.sim, window->table_size);
    *window = (struct sim_window){0};
}

/* What is being mapped. */
struct job {
    uint64_t iova, size, vaddr, page;
    uint32_t prot;
    uint64_t done; /* bytes that have a piece */
    struct piece *pieces;
};

static int add_piece(struct sim_spapr *s, struct job *job, struct sim_memory *memory, uint64_t len)
{
    struct piece *p = malloc(sizeof(*p));

    if (!p) {
        sim_memory_unmap(s->driver.sim, memory, len);
        return -ENOMEM;
    }
    *p = (struct piece){
        .t = {.first = job->iova + job->done,
              .last = job->iova + job->done + (len - 1),
              .prot = job->prot,
              .pin = &memory->pin,
              .offset = job->vaddr + job->done - memory->vaddr},
        .memory = memory,
        .next = job->pieces,
    };
    job->pieces = p;
    job->done += len;
    return 0;
}

/* A mapping may go over memory that was registered in parts. */
static int take_registered(struct sim_spapr *s, struct job *job)
{
    int ret = job->page > SIM_PAGE ? -EINVAL : 0;

    while (!ret && job->done < job->size) {
        uint64_t len;
        struct sim_memory *memory = sim_memory_map(s->driver.sim, job->vaddr + job->done,
                                                   job->size - job->done, job->page, &len);

        ret = memory ? add_piece(s, job, memory, len) : -EINVAL;
    }
    return ret;
}

static int take_pinned(struct sim_spapr *s, struct job *job)
{
    struct sim_memory *memory;
    int ret;

    if (!job->size)
        return 0;
    ret =
        sim_memory_pin(s->driver.sim, job->vaddr, job->size, job->prot & SIM_DOMAIN_WRITE, &memory);
    return ret ? ret : add_piece(s, job, memory, job->size);
}

/* What was there before has gone. */
static int finish(struct sim_spapr *s, struct job *job, int ret)
{
    for (struct piece *p; (p = job->pieces);) {
        job->pieces = p->next;
        if (!ret)
            ret = sim_domain_insert(&s->driver.domain, &p->t);
        if (ret)
            free_piece(s, p);
    }
    return ret;
}

int sim_tce_map(struct sim_spapr *s, const struct sim_window *window, uint64_t iova, uint64_t size,
                uint64_t vaddr, uint32_t prot)
{
    struct job job = {
        .iova = iova,
        .size = size,
        .vaddr = vaddr,
        .page = UINT64_C(1) << window->page_shift,
        .prot = prot,
    };
    int ret = s->v2 ? take_registered(s, &job) : take_pinned(s, &job);
    int cleared = sim_tce_clear(s, iova, s->v2 ? job.done : size);

    ret = finish(s, &job, ret ? ret : cleared);
    if (ret)
        sim_tce_clear(s, iova, job.done);
    return ret;
}
