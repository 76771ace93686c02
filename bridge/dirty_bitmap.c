#include "bridge/dirty_bitmap.h"

#include "proto/base/arith.h"

enum {
    WORD_BITS = 64,
};

/* The number of the last bit. */
static uint64_t last_bit(uint64_t first, uint64_t last, uint64_t page_size)
{
    return (last - first) / page_size;
}

uint64_t dirty_bitmap_size(uint64_t first, uint64_t last, uint64_t page_size)
{
    return (last_bit(first, last, page_size) / WORD_BITS + 1) * sizeof(uint64_t);
}

void dirty_bitmap_set(struct dirty_bitmap *b, uint64_t first, uint64_t last)
{
    uint64_t n, end;

    if (first > b->last || last < b->first)
        return;
    n = (MAX(first, b->first) - b->first) / b->page_size;
    end = last_bit(b->first, MIN(last, b->last), b->page_size);
    for (; n % WORD_BITS && n <= end; n++)
        b->words[n / WORD_BITS] |= UINT64_C(1) << n % WORD_BITS;
    for (; n <= end && end - n >= WORD_BITS - 1; n += WORD_BITS)
        b->words[n / WORD_BITS] = UINT64_MAX;
    for (; n <= end; n++)
        b->words[n / WORD_BITS] |= UINT64_C(1) << n % WORD_BITS;
}

/* The first bit of that value from n on, or end. */
static uint64_t find(const struct dirty_bitmap *b, uint64_t n, uint64_t end, bool value)
{
    while (n < end) {
        uint64_t word = b->words[n / WORD_BITS] ^ (value ? 0 : UINT64_MAX);

        word >>= n % WORD_BITS;
        if (word)
            return MIN(n + (uint64_t)__builtin_ctzll(word), end);
        n += WORD_BITS - n % WORD_BITS;
    }
    return end;
}

bool dirty_bitmap_next(const struct dirty_bitmap *b, uint64_t *n, uint64_t *first, uint64_t *last)
{
    const uint64_t end = last_bit(b->first, b->last, b->page_size) + 1;
    uint64_t start = find(b, *n, end, true);

    if (start == end)
        return false;
    *n = find(b, start, end, false);
    *first = b->first + start * b->page_size;
    *last = *n == end ? b->last : b->first + (*n * b->page_size - 1);
    return true;
}
