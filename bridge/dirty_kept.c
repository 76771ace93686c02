#include "bridge/dirty_kept.h"

#include <stdlib.h>

#include "proto/base/arith.h"

enum {
    PAGE_SIZE = 4096, /* no dirty log of the kernel's has a smaller one */
    WORD_BITS = 64,
    BLOCK_WORDS = 512,
    BLOCK_SIZE = BLOCK_WORDS * WORD_BITS * PAGE_SIZE, /* bytes that a block stands for */
    MAX_RANGES = 4096,
    MAX_BLOCKS = 4096, /* 16 MiB for pages that are all over 512 GiB */
};

struct block {
    struct map_entry at;
    uint64_t words[BLOCK_WORDS];
};

int dirty_kept_init(struct dirty_kept *kept)
{
    map_table_init(&kept->blocks);
    return range_set_init(&kept->ranges, MAX_RANGES);
}

static struct block *next_block(struct dirty_kept *kept, uint64_t address)
{
    return (struct block *)map_table_from(&kept->blocks, address);
}

static void free_block(struct dirty_kept *kept, struct block *block)
{
    map_table_remove(&kept->blocks, &block->at);
    free(block);
}

void dirty_kept_free(struct dirty_kept *kept)
{
    struct block *block;

    while ((block = next_block(kept, 0)))
        free_block(kept, block);
    range_set_free(&kept->ranges);
}

static struct dirty_bitmap bitmap_of(struct block *block)
{
    return (struct dirty_bitmap){
        .first = block->at.iova,
        .last = block->at.iova + (BLOCK_SIZE - 1),
        .page_size = PAGE_SIZE,
        .words = block->words,
    };
}

/* NULL without memory, or with too many. */
static struct block *find_or_add(struct dirty_kept *kept, uint64_t address)
{
    uint64_t first = address & -(uint64_t)BLOCK_SIZE;
    struct block *block = (struct block *)map_table_find(&kept->blocks, first);

    if (block)
        return block;
    block = kept->blocks.count < MAX_BLOCKS ? calloc(1, sizeof(*block)) : NULL;
    if (!block)
        return NULL;
    block->at.iova = first;
    block->at.size = BLOCK_SIZE;
    map_table_insert(&kept->blocks, &block->at);
    return block;
}

/* Within one block. */
static void add_pages(struct dirty_kept *kept, uint64_t first, uint64_t last)
{
    struct block *block = find_or_add(kept, first);
    struct dirty_bitmap bitmap;

    if (block) {
        bitmap = bitmap_of(block);
        dirty_bitmap_set(&bitmap, first, last);
    } else {
        range_set_add(&kept->ranges, first, last);
    }
}

void dirty_kept_add(struct dirty_kept *kept, uint64_t first, uint64_t last)
{
    uint64_t end = first | (BLOCK_SIZE - 1);

    if (last - first >= BLOCK_SIZE) {
        range_set_add(&kept->ranges, first, last);
    } else if (last > end) {
        add_pages(kept, first, end);
        add_pages(kept, end + 1, last);
    } else {
        add_pages(kept, first, last);
    }
}

void dirty_kept_add_bitmap(struct dirty_kept *kept, const struct dirty_bitmap *from, uint64_t first,
                           uint64_t last)
{
    uint64_t low, high;

    for (uint64_t n = 0; dirty_bitmap_next(from, &n, &low, &high);) {
        if (low <= last && high >= first)
            dirty_kept_add(kept, MAX(low, first), MIN(high, last));
    }
}

static bool is_empty(const struct block *block)
{
    for (unsigned i = 0; i < BLOCK_WORDS; i++) {
        if (block->words[i])
            return false;
    }
    return true;
}

/* The whole pages of a range. */
static void clear(struct block *block, uint64_t first, uint64_t last)
{
    uint64_t n = (first - block->at.iova + (PAGE_SIZE - 1)) / PAGE_SIZE;
    uint64_t end = (last - block->at.iova + 1) / PAGE_SIZE;

    for (; n < end; n++)
        block->words[n / WORD_BITS] &= ~(UINT64_C(1) << n % WORD_BITS);
}

static void take_pages(struct dirty_kept *kept, struct block *block, uint64_t first, uint64_t last,
                       range_part *part, void *arg)
{
    const struct dirty_bitmap bitmap = bitmap_of(block);
    uint64_t n = first > bitmap.first ? (first - bitmap.first) / PAGE_SIZE : 0;
    uint64_t low, high;

    while (dirty_bitmap_next(&bitmap, &n, &low, &high) && low <= last) {
        low = MAX(low, first);
        high = MIN(high, last);
        part(arg, low, high);
        clear(block, low, high);
    }
    if (is_empty(block))
        free_block(kept, block);
}

void dirty_kept_take(struct dirty_kept *kept, uint64_t first, uint64_t last, range_part *part,
                     void *arg)
{
    struct block *block = next_block(kept, first);

    range_set_take(&kept->ranges, first, last, part, arg);
    while (block && block->at.iova <= last) {
        uint64_t end = block->at.iova + (BLOCK_SIZE - 1);

        take_pages(kept, block, first, last, part, arg);
        block = end >= last ? NULL : next_block(kept, end + 1);
    }
}
