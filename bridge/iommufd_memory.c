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
#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

struct piece_key {
    uint64_t dev, ino, offset, size;
    uint64_t writable; /* the kernel holds memory for reading, or for writing too */
};

struct iommufd_piece {
    struct piece_key key; /* first: what the tree compares */
    TAILQ_HEAD(, iommufd_place) places;
    void *address; /* where it is mapped in this process, if the kernel wants that; or NULL */

    bool stashed;
    uint64_t stash_iova;
    TAILQ_ENTRY(iommufd_piece) kept; /* stashed, and nobody has it mapped */
};

struct iommufd_memory {
    struct iommufd_context *context;
    pthread_mutex_t lock; /* for all below */
    void *pieces;         /* by key: a tree of <search.h> */
    bool no_map_file;     /* found out at the first mapping */

    bool has_stash, no_stash; /* made; could not be made */
    uint32_t stash, stash_hwpt;
    TAILQ_HEAD(, iommufd_piece) kept; /* the longest unused first */
    unsigned n_kept;
    uint64_t kept_bytes, keep_bytes; /* and how many they may be */
};

enum {
    /* Some kernels need a mapping in this process for each, of which it has some 65,000. */
    MAX_KEPT = 1024,
};

int iommufd_memory_create(struct iommufd_context *context, struct iommufd_memory **out)
{
    struct iommufd_memory *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return -ENOMEM;
    memory->context = context;
    pthread_mutex_init(&memory->lock, NULL);
    TAILQ_INIT(&memory->kept);
    *out = memory;
    return 0;
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

static void enter_kept(struct iommufd_memory *memory, struct iommufd_piece *piece)
{
    TAILQ_INSERT_TAIL(&memory->kept, piece, kept);
    memory->n_kept++;
    memory->kept_bytes += piece->key.size;
}

static void leave_kept(struct iommufd_memory *memory, struct iommufd_piece *piece)
{
    TAILQ_REMOVE(&memory->kept, piece, kept);
    memory->n_kept--;
    memory->kept_bytes -= piece->key.size;
}

/* Takes it out of the stash. */
static void drop_kept(struct iommufd_memory *memory, struct iommufd_piece *piece)
{
    struct iommufd_range range = {
        .ioas = memory->stash,
        .iova = piece->stash_iova,
        .size = piece->key.size,
    };
    int ret = iommufd_context_unmap(memory->context, &range);

    if (ret)
        log_peer_warning("0x%" PRIx64 " bytes of client memory stay pinned in the stash: %s",
                         piece->key.size, strerror(-ret));
    leave_kept(memory, piece);
    free_piece(memory, piece);
}

static void keep_at_most(struct iommufd_memory *memory, uint64_t bytes)
{
    while (memory->kept_bytes > bytes || memory->n_kept > MAX_KEPT)
        drop_kept(memory, TAILQ_FIRST(&memory->kept));
}

void iommufd_memory_keep(struct iommufd_memory *memory, uint64_t bytes)
{
    pthread_mutex_lock(&memory->lock);
    if (bytes > memory->keep_bytes)
        memory->keep_bytes = bytes;
    pthread_mutex_unlock(&memory->lock);
}

void iommufd_memory_forget(struct iommufd_memory *memory)
{
    pthread_mutex_lock(&memory->lock);
    keep_at_most(memory, 0);
    pthread_mutex_unlock(&memory->lock);
}

void iommufd_memory_destroy(struct iommufd_memory *memory)
{
    if (!memory)
        return;
    keep_at_most(memory, 0);
    assert(!memory->pieces);
    if (memory->has_stash) {
        iommufd_context_free_object(memory->context, memory->stash_hwpt);
        iommufd_context_free_object(memory->context, memory->stash);
    }
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

static int create_stash(struct iommufd_memory *memory, uint32_t dev_id)
{
    struct iommufd_context *context = memory->context;
    int ret;

    if (memory->has_stash || memory->no_stash)
        return memory->no_stash ? -EOPNOTSUPP : 0;
    ret = iommufd_context_alloc_ioas(context, &memory->stash);
    if (!ret) {
        ret = iommufd_context_alloc_hwpt(context, dev_id, memory->stash, &memory->stash_hwpt);
        if (ret)
            iommufd_context_free_object(context, memory->stash);
    }
    if (ret)
        log_peer_warning("client memory can't be kept pinned (--stable-memory): no page table "
                         "without a device: %s",
                         strerror(-ret));
    memory->has_stash = !ret;
    memory->no_stash = ret;
    return ret;
}

/* Failing to is no error: the memory is mapped, and will be pinned anew the next time. */
static void stash_piece(struct iommufd_memory *memory, struct iommufd_piece *piece,
                        const struct iommufd_range *range, uint32_t dev_id)
{
    int ret;

    if (piece->stashed || piece->key.size > memory->keep_bytes || create_stash(memory, dev_id))
        return;
    ret = iommufd_context_copy_anywhere(memory->context, memory->stash, &piece->stash_iova, range);
    if (ret)
        log_peer_warning("0x%" PRIx64 " bytes of client memory can't be kept pinned: %s",
                         piece->key.size, strerror(-ret));
    piece->stashed = !ret;
}

static int map_file(struct iommufd_memory *memory, struct iommufd_piece *piece,
                    const struct iommufd_range *range, int fd)
{
    uint64_t offset = piece->key.offset;
    int ret = memory->no_map_file ? -ENOTTY
                                  : iommufd_context_map_file(memory->context, range, fd, offset);

    if (ret != -ENOTTY)
        return ret;
    if (!memory->no_map_file)
        log_peer_info("this kernel has no IOAS_MAP_FILE: client memory is mapped into the daemon");
    memory->no_map_file = true;
    ret = iommu_mmap_client_file(iommufd_context_host(memory->context), &piece->address,
                                 range->size, range->prot, fd, offset);
    return ret ? ret : iommufd_context_map_address(memory->context, range, piece->address);
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
    ret = map_file(memory, piece, range, fd);
    if (ret)
        free_piece(memory, piece);
    else
        *out = piece;
    return ret;
}

/* What is kept counts against the limit on locked memory as what is mapped does. */
static int map_new_or_forget(struct iommufd_memory *memory, const struct piece_key *key,
                             const struct iommufd_range *range, int fd, struct iommufd_piece **out)
{
    int ret = map_new(memory, key, range, fd, out);

    if (ret != -ENOMEM || !memory->n_kept)
        return ret;
    keep_at_most(memory, 0);
    return map_new(memory, key, range, fd, out);
}

static int copy_piece(struct iommufd_memory *memory, const struct iommufd_piece *piece,
                      const struct iommufd_range *range)
{
    const struct iommufd_place *place = TAILQ_FIRST(&piece->places);

    return piece->stashed
               ? iommufd_context_copy(memory->context, range, memory->stash, piece->stash_iova)
               : iommufd_context_copy(memory->context, range, place->ioas, place->iova);
}

static void enter_place(struct iommufd_memory *memory, struct iommufd_piece *piece,
                        struct iommufd_place *place, const struct iommufd_range *range)
{
    if (TAILQ_EMPTY(&piece->places) && piece->stashed)
        leave_kept(memory, piece);
    place->piece = piece;
    place->ioas = range->ioas;
    place->iova = range->iova;
    TAILQ_INSERT_TAIL(&piece->places, place, link);
}

static int map_locked(struct iommufd_memory *memory, struct iommufd_place *place,
                      const struct iommufd_range *range, uint32_t dev_id,
                      const struct piece_key *key, int fd)
{
    struct iommufd_piece *piece = find_piece(memory, key);
    int ret;

    /* Who did not ask for stable memory gets what the file has now. */
    if (piece && TAILQ_EMPTY(&piece->places) && !(range->prot & IOMMU_STABLE)) {
        drop_kept(memory, piece);
        piece = NULL;
    }
    ret = piece ? copy_piece(memory, piece, range)
                : map_new_or_forget(memory, key, range, fd, &piece);
    if (ret)
        return ret;
    enter_place(memory, piece, place, range);
    if (range->prot & IOMMU_STABLE)
        stash_piece(memory, piece, range, dev_id);
    return 0;
}

int iommufd_memory_map(struct iommufd_memory *memory, struct iommufd_place *place,
                       const struct iommufd_range *range, uint32_t dev_id, int fd, uint64_t offset)
{
    struct piece_key key = {
        .offset = offset,
        .size = range->size,
        .writable = !!(range->prot & IOMMU_WRITE),
    };
    struct stat st;
    int ret;

    if (fstat(fd, &st) < 0)
        return -errno;
    key.dev = st.st_dev;
    key.ino = st.st_ino;
    pthread_mutex_lock(&memory->lock);
    ret = map_locked(memory, place, range, dev_id, &key, fd);
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

static void drop_places(struct iommufd_memory *memory, struct iommufd_place *places, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct iommufd_piece *piece = places[i].piece;

        TAILQ_REMOVE(&piece->places, &places[i], link);
        if (!TAILQ_EMPTY(&piece->places))
            continue;
        if (piece->stashed)
            enter_kept(memory, piece);
        else
            free_piece(memory, piece);
    }
    keep_at_most(memory, memory->keep_bytes);
}

int iommufd_memory_unmap(struct iommufd_memory *memory, const struct iommufd_range *range,
                         struct iommufd_place *places, size_t n)
{
    int ret;

    pthread_mutex_lock(&memory->lock);
    ret = iommufd_context_unmap(memory->context, range);
    if (!ret)
        drop_places(memory, places, n);
    pthread_mutex_unlock(&memory->lock);
    return ret;
}

void iommufd_memory_abandon(struct iommufd_memory *memory, struct iommufd_place *places, size_t n)
{
    pthread_mutex_lock(&memory->lock);
    drop_places(memory, places, n);
    pthread_mutex_unlock(&memory->lock);
}
