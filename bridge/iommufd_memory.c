/*
 * A file is known by its device and inode number, which are its own for as long as a piece of it
 * is mapped: the kernel holds the file, or this process a mapping of it.
 *
 * The lock is held while the kernel maps, so that the area that is copied stays. A piece is at most
 * IOMMU_MAP_CHUNK, which bounds how long the client's other devices wait.
 */
#include "bridge/iommufd_memory.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/iommufd_stash.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

struct piece_key {
    uint64_t dev, ino, offset, size;
    uint64_t writable; /* the kernel holds memory for reading, or for writing too */
};

struct iommufd_piece {
    struct piece_key key; /* first: what the tree compares */
    TAILQ_HEAD(, iommufd_place) places;
    void *address; /* where it is mapped in this process, if the kernel wants that; or NULL */
};

struct iommufd_memory {
    struct iommufd_context *context;
    pthread_mutex_t lock; /* for all below */
    void *pieces;         /* by key: a tree of <search.h> */
    struct iommufd_stash *stash;
    bool no_map_file; /* found out at the first mapping */
};

int iommufd_memory_create(struct iommufd_context *context, struct iommufd_memory **out)
{
    struct iommufd_memory *memory = calloc(1, sizeof(*memory));

    if (!memory || iommufd_stash_create(context, memory, &memory->stash)) {
        free(memory);
        return -ENOMEM;
    }
    memory->context = context;
    pthread_mutex_init(&memory->lock, NULL);
    *out = memory;
    return 0;
}

void iommufd_memory_destroy(struct iommufd_memory *memory)
{
    if (!memory)
        return;
    iommufd_stash_destroy(memory->stash);
    assert(!memory->pieces);
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

void iommufd_memory_keep(struct iommufd_memory *memory, uint64_t bytes)
{
    pthread_mutex_lock(&memory->lock);
    iommufd_stash_keep(memory->stash, bytes);
    pthread_mutex_unlock(&memory->lock);
}

void iommufd_memory_forget(struct iommufd_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    iommufd_stash_forget(memory->stash);
    pthread_mutex_unlock(&memory->lock);
}

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct piece_key));
}

static struct iommufd_piece *find_piece(struct iommufd_memory *memory, const struct piece_key *key)
{
    struct iommufd_piece **node = tfind(key, &memory->pieces, compare_keys);

    return node ? *node : NULL;
}

static void free_piece(struct iommufd_memory *memory, struct iommufd_piece *piece)
{
    assert(TAILQ_EMPTY(&piece->places));
    tdelete(piece, &memory->pieces, compare_keys);
    if (piece->address)
        host_munmap(iommufd_context_host(memory->context), piece->address, piece->key.size);
    free(piece);
}

static int map_address(struct iommufd_memory *memory, const struct iommufd_range *range,
                       uint64_t *iova, int fd, uint64_t offset, void **address)
{
    struct host *host = iommufd_context_host(memory->context);
    int ret = iommu_mmap_client_file(host, address, range->size, range->prot, fd, offset);

    if (ret)
        return ret;
    ret = iommufd_context_map_address(memory->context, range, iova, *address);
    if (ret) {
        host_munmap(host, *address, range->size);
        *address = NULL;
    }
    return ret;
}

int iommufd_memory_map_file(struct iommufd_memory *memory, const struct iommufd_range *range,
                            uint64_t *iova, int fd, uint64_t offset, void **address)
{
    int ret = memory->no_map_file
                  ? -ENOTTY
                  : iommufd_context_map_file(memory->context, range, iova, fd, offset);

    *address = NULL;
    if (ret != -ENOTTY)
        return ret;
    if (!memory->no_map_file)
        log_peer_info("this kernel has no IOAS_MAP_FILE: client memory is mapped into the daemon");
    memory->no_map_file = true;
    return map_address(memory, range, iova, fd, offset, address);
}

/* Enters a piece and maps it for the first time. */
static int map_new(struct iommufd_memory *memory, const struct piece_key *key,
                   const struct iommufd_range *range, int fd, struct iommufd_piece **out)
{
    struct iommufd_piece *piece = calloc(1, sizeof(*piece));
    int ret;

    if (!piece)
        return -ENOMEM;
    piece->key = *key;
    TAILQ_INIT(&piece->places);
    if (!tsearch(piece, &memory->pieces, compare_keys)) {
        free(piece);
        return -ENOMEM;
    }
    ret = iommufd_memory_map_file(memory, range, NULL, fd, key->offset, &piece->address);
    /* What the stash has, and nobody has mapped, counts against the limit on locked memory too. */
    if (ret == -ENOMEM && iommufd_stash_forget(memory->stash))
        ret = iommufd_memory_map_file(memory, range, NULL, fd, key->offset, &piece->address);
    if (ret)
        free_piece(memory, piece);
    else
        *out = piece;
    return ret;
}

static int copy_piece(struct iommufd_memory *memory, const struct iommufd_piece *piece,
                      const struct iommufd_range *range)
{
    const struct iommufd_place *place = TAILQ_FIRST(&piece->places);

    return iommufd_context_copy(memory->context, range, place->ioas, place->iova);
}

static int map_piece(struct iommufd_memory *memory, struct iommufd_place *place,
                     const struct iommufd_range *range, int fd, uint64_t offset)
{
    struct piece_key key = {
        .offset = offset,
        .size = range->size,
        .writable = !!(range->prot & IOMMU_WRITE),
    };
    struct iommufd_piece *piece;
    struct stat st;
    int ret;

    if (fstat(fd, &st) < 0)
        return -errno;
    key.dev = st.st_dev;
    key.ino = st.st_ino;
    piece = find_piece(memory, &key);
    ret = piece ? copy_piece(memory, piece, range) : map_new(memory, &key, range, fd, &piece);
    if (ret)
        return ret;
    *place = (struct iommufd_place){
        .size = range->size,
        .piece = piece,
        .ioas = range->ioas,
        .iova = range->iova,
    };
    TAILQ_INSERT_TAIL(&piece->places, place, link);
    return 0;
}

static int map_stashed(struct iommufd_memory *memory, struct iommufd_place *place,
                       const struct iommufd_range *range, uint32_t dev_id, int fd, uint64_t offset)
{
    *place = (struct iommufd_place){0};
    return iommufd_stash_map(memory->stash, range, dev_id, fd, offset, &place->size,
                             &place->stashed);
}

int iommufd_memory_map(struct iommufd_memory *memory, struct iommufd_place *place,
                       const struct iommufd_range *range, uint32_t dev_id, int fd, uint64_t offset)
{
    struct iommufd_range part = *range;
    int ret = -EOPNOTSUPP;

    part.size = MIN(range->size, (uint64_t)IOMMU_MAP_CHUNK);
    pthread_mutex_lock(&memory->lock);
    if (range->prot & IOMMU_STABLE)
        ret = map_stashed(memory, place, &part, dev_id, fd, offset);
    if (ret == -EOPNOTSUPP)
        ret = map_piece(memory, place, &part, fd, offset);
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

static void drop_place(struct iommufd_memory *memory, struct iommufd_place *place)
{
    struct iommufd_piece *piece = place->piece;

    if (place->stashed) {
        iommufd_stash_put(memory->stash, place->stashed);
        return;
    }
    TAILQ_REMOVE(&piece->places, place, link);
    if (TAILQ_EMPTY(&piece->places))
        free_piece(memory, piece);
}

static void drop_places(struct iommufd_memory *memory, struct iommufd_places *places)
{
    struct iommufd_place *place;

    SLIST_FOREACH(place, places, next)
    {
        drop_place(memory, place);
    }
}

int iommufd_memory_unmap(struct iommufd_memory *memory, const struct iommufd_range *range,
                         struct iommufd_places *places)
{
    int ret;

    pthread_mutex_lock(&memory->lock);
    ret = iommufd_context_unmap(memory->context, range);
    if (!ret)
        drop_places(memory, places);
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

void iommufd_memory_abandon(struct iommufd_memory *memory, struct iommufd_places *places)
{
    pthread_mutex_lock(&memory->lock);
    drop_places(memory, places);
    pthread_mutex_unlock(&memory->lock);
}
