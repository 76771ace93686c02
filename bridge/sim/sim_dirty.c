/*
 * Pages are bits in blocks, which are made when a page of theirs is written first: what is watched
 * may be the whole address space.
 */
#include "bridge/sim/sim_dirty.h"

#include <search.h>
#include <stdlib.h>

enum {
    WORD_BITS = 64,
    BLOCK_WORDS = 512,
    BLOCK_BITS = BLOCK_WORDS * WORD_BITS,
};

struct block {
    uint64_t index; /* of its first page, in blocks */
    uint64_t words[BLOCK_WORDS];
};

static int compare(const void *a, const void *b)
{
    const struct block *x = a, *y = b;

    return (x->index > y->index) - (x->index < y->index);
}

/* NULL without memory. */
static struct block *find_or_add(struct sim_dirty *dirty, uint64_t index)
{
    const struct block key = {.index = index};
    struct block *const *node = tfind(&key, &dirty->blocks, compare);
    struct block *block;

    if (node)
        return *node;
    block = calloc(1, sizeof(*block));
    if (!block)
        return NULL;
    block->index = index;
    if (!tsearch(block, &dirty->blocks, compare)) {
        free(block);
        return NULL;
    }
    return block;
}

void sim_dirty_add(struct sim_dirty *dirty, uint64_t first, uint64_t last)
{
    for (uint64_t n = first; n <= last; n++) {
        struct block *block = find_or_add(dirty, n / BLOCK_BITS);

        if (block)
            block->words[n % BLOCK_BITS / WORD_BITS] |= UINT64_C(1) << n % WORD_BITS;
        else
            dirty->lost = true;
    }
}

void sim_dirty_forget(struct sim_dirty *dirty)
{
    tdestroy(dirty->blocks, free);
    *dirty = (struct sim_dirty){0};
}

struct walk {
    uint64_t first, last;
    bool clear;
    sim_dirty_page *tell;
    void *arg;
};

static void visit_word(const struct walk *walk, uint64_t first, uint64_t *word)
{
    for (uint64_t left = *word; left; left &= left - 1) {
        uint64_t page = first + (uint64_t)__builtin_ctzll(left);

        if (page < walk->first || page > walk->last)
            continue;
        walk->tell(walk->arg, page);
        if (walk->clear)
            *word &= ~(left & -left);
    }
}

static void visit_block(const void *node, VISIT visit, void *arg)
{
    struct block *block = *(struct block *const *)node;
    const struct walk *walk = arg;
    uint64_t first = block->index * BLOCK_BITS;

    if ((visit != postorder && visit != leaf) || first > walk->last ||
        first + BLOCK_BITS <= walk->first)
        return;
    for (unsigned i = 0; i < BLOCK_WORDS; i++) {
        if (block->words[i])
            visit_word(walk, first + (uint64_t)i * WORD_BITS, &block->words[i]);
    }
}

void sim_dirty_each(struct sim_dirty *dirty, uint64_t first, uint64_t last, bool clear,
                    sim_dirty_page *tell, void *arg)
{
    struct walk walk = {first, last, clear, tell, arg};

    if (!dirty->lost) {
        twalk_r(dirty->blocks, visit_block, &walk);
        return;
    }
    for (uint64_t page = first; page <= last; page++)
        tell(arg, page);
}

void sim_bitmap_set(const struct sim_bitmap *bitmap, uint64_t first, uint64_t last)
{
    uint64_t *words = (uint64_t *)(uintptr_t)bitmap->address;

    for (uint64_t n = (first - bitmap->iova) / bitmap->page_size;
         n <= (last - bitmap->iova) / bitmap->page_size; n++)
        words[n / WORD_BITS] |= UINT64_C(1) << n % WORD_BITS;
}
