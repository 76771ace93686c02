#include "bridge/map_table.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>
#include <time.h>

void map_table_init(struct map_table *table)
{
    table->root = NULL;
    table->count = 0;
    if (getrandom(&table->random, sizeof(table->random), GRND_NONBLOCK) !=
        (ssize_t)sizeof(table->random))
        table->random = (uint64_t)time(NULL);
    table->random |= 1; /* the generator's only fixed point is 0 */
}

static uint32_t next_priority(struct map_table *table)
{
    uint64_t x = table->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    table->random = x;
    return (uint32_t)(x >> 32);
}

/* The entry with the highest address at or below iova. */
static struct map_entry *find_floor(const struct map_table *table, uint64_t iova)
{
    struct map_entry *best = NULL;

    for (struct map_entry *e = table->root; e;) {
        if (e->iova <= iova) {
            best = e;
            e = e->right;
        } else {
            e = e->left;
        }
    }
    return best;
}

struct map_entry *map_table_next(const struct map_table *table, uint64_t iova)
{
    struct map_entry *best = NULL;

    for (struct map_entry *e = table->root; e;) {
        if (e->iova >= iova) {
            best = e;
            e = e->left;
        } else {
            e = e->right;
        }
    }
    return best;
}

struct map_entry *map_table_find(const struct map_table *table, uint64_t iova)
{
    struct map_entry *e = find_floor(table, iova);

    return e && e->iova == iova ? e : NULL;
}

struct map_entry *map_table_from(const struct map_table *table, uint64_t iova)
{
    struct map_entry *e = find_floor(table, iova);

    return e && e->iova + (e->size - 1) >= iova ? e : map_table_next(table, iova);
}

/* Splits a tree into the entries below iova and those above. */
static void split(struct map_entry *tree, uint64_t iova, struct map_entry **low,
                  struct map_entry **high)
{
    while (tree) {
        if (tree->iova < iova) {
            *low = tree;
            low = &tree->right;
            tree = tree->right;
        } else {
            *high = tree;
            high = &tree->left;
            tree = tree->left;
        }
    }
    *low = NULL;
    *high = NULL;
}

int map_table_insert(struct map_table *table, struct map_entry *entry)
{
    uint64_t last = entry->iova + (entry->size - 1);
    struct map_entry *below = find_floor(table, last);
    struct map_entry **link = &table->root;

    if (below && below->iova + (below->size - 1) >= entry->iova)
        return -EEXIST;

    entry->priority = next_priority(table);
    while (*link && (*link)->priority >= entry->priority)
        link = entry->iova < (*link)->iova ? &(*link)->left : &(*link)->right;
    split(*link, entry->iova, &entry->left, &entry->right);
    *link = entry;
    table->count++;
    return 0;
}

/* Joins two trees of which every entry of low lies below every entry of high. */
static void join(struct map_entry **link, struct map_entry *low, struct map_entry *high)
{
    while (low && high) {
        if (low->priority >= high->priority) {
            *link = low;
            link = &low->right;
            low = low->right;
        } else {
            *link = high;
            link = &high->left;
            high = high->left;
        }
    }
    *link = low ? low : high;
}

void map_table_remove(struct map_table *table, struct map_entry *entry)
{
    struct map_entry **link = &table->root;

    while (*link != entry) {
        assert(*link);
        link = entry->iova < (*link)->iova ? &(*link)->left : &(*link)->right;
    }
    join(link, entry->left, entry->right);
    table->count--;
}
