/*
 * A table of DMA mappings: disjoint ranges of I/O virtual addresses, found, entered and removed
 * in O(log n). It knows no kernel, and of a mapping only where it is: an entry is the first member
 * of what its user knows more of it.
 *
 * A treap: a binary search tree by address whose shape is that of a random insertion order. The
 * priorities come from a generator seeded by the kernel, so no client can choose addresses that
 * make the tree deep.
 *
 * Entries are allocated and freed by the caller. Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct map_entry {
    uint64_t iova;
    uint64_t size; /* bytes, not 0; iova + size - 1 does not pass 2^64 */

    struct map_entry *left, *right; /* the table's own */
    uint32_t priority;
};

struct map_table {
    struct map_entry *root;
    size_t count;
    uint64_t random;
};

void map_table_init(struct map_table *table);

/* -EEXIST if the range shares a byte with an entry. */
int map_table_insert(struct map_table *table, struct map_entry *entry);

/* The entry that begins at iova, or NULL. */
struct map_entry *map_table_find(const struct map_table *table, uint64_t iova);

/* The entry with the lowest address at or above iova, or NULL. */
struct map_entry *map_table_next(const struct map_table *table, uint64_t iova);

/* The entry that has iova, or else the next one above it, or NULL. */
struct map_entry *map_table_from(const struct map_table *table, uint64_t iova);

/* Takes an entry out; it must be in the table. */
void map_table_remove(struct map_table *table, struct map_entry *entry);
