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

/* The runs of a word, of which bit 0 stands for the page at an address; up to the end of all. */
static void set_runs(struct dirty_bitmap *b, uint64_t word, uint64_t at, uint64_t page_size,
                     uint64_t last)
{
    while (word) {
        unsigned start = (unsigned)__builtin_ctzll(word), run;

        word >>= start;
        run = word == UINT64_MAX ? WORD_BITS : (unsigned)__builtin_ctzll(~word);
        at += start * page_size;
        dirty_bitmap_set(b, at, at + MIN(run * page_size - 1, last - at));
        at += run * page_size;
        word = run == WORD_BITS ? 0 : word >> run;
    }
}

/* Bitmaps are long and mostly zero: so it goes by words, and by bits only where it must. */
void dirty_bitmap_merge(struct dirty_bitmap *b, const struct dirty_bitmap *from, uint64_t first,
                        uint64_t last)
{
    const uint64_t page_size = from->page_size, span = page_size * WORD_BITS;
    const bool aligned = b->page_size == page_size && !((from->first - b->first) % span);
    uint64_t bit, end;

    first = MAX(first, from->first);
    first = MAX(first, b->first);
    last = MIN(last, from->last);
    last = MIN(last, b->last);
    if (first > last)
        return;
    bit = (first - from->first) / page_size;
    end = last_bit(from->first, last, page_size);
    for (uint64_t i = bit / WORD_BITS; i <= end / WORD_BITS; i++) {
        uint64_t word = from->words[i];

        if (!word)
            continue;
        if (i == bit / WORD_BITS)
            word &= UINT64_MAX << bit % WORD_BITS;
        if (i == end / WORD_BITS)
            word &= UINT64_MAX >> (WORD_BITS - 1 - end % WORD_BITS);
        if (aligned)
            b->words[(from->first + i * span - b->first) / span] |= word;
        else
            set_runs(b, word, from->first + i * span, page_size, from->last);
    }
}
