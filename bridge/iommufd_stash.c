#include "bridge/iommufd_stash.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "bridge/iommu.h"
#include "bridge/iommufd_context.h"
#include "bridge/iommufd_memory.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

enum {
    /* Some kernels need a mapping in this process for each, of which it has some 65,000. */
    MAX_PIECES = 1024,
};

/* A range of a file. first and last: bytes, both within. */
struct span {
    dev_t dev;
    ino_t ino;
    bool writable; /* as the client's descriptor is, whatever a mapping of it asks for */
    uint64_t first, last;
};

struct stash_piece {
    struct span span; /* first: what the tree compares */
    uint64_t iova;
    void *address; /* where it is mapped in this process; NULL: nowhere */
    unsigned users;
    TAILQ_ENTRY(stash_piece) unused; /* without users */
};

struct iommufd_stash {
    struct iommufd_context *context;
    struct iommufd_memory *memory;
    bool made, impossible;
    uint32_t ioas, hwpt;
    void *pieces; /* disjoint, by file and offset: a tree of <search.h> */
    unsigned n;
    uint64_t bytes, limit;
    TAILQ_HEAD(, stash_piece) unused; /* the longest first */
};

int iommufd_stash_create(struct iommufd_context *context, struct iommufd_memory *memory,
                         struct iommufd_stash **out)
{
    struct iommufd_stash *stash = calloc(1, sizeof(*stash));

    if (!stash)
        return -ENOMEM;
    stash->context = context;
    stash->memory = memory;
    TAILQ_INIT(&stash->unused);
    *out = stash;
    return 0;
}

static int compare_files(const struct span *a, const struct span *b)
{
    if (a->dev != b->dev)
        return a->dev < b->dev ? -1 : 1;
    if (a->ino != b->ino)
        return a->ino < b->ino ? -1 : 1;
    return a->writable - b->writable;
}

/* Spans that share a byte are equal: in the tree there are no two such. */
static int compare(const void *left, const void *right)
{
    const struct span *a = left, *b = right;
    int files = compare_files(a, b);

    if (files)
        return files;
    return a->last < b->first ? -1 : a->first > b->last;
}

static struct stash_piece *find(struct iommufd_stash *stash, const struct span *span)
{
    struct stash_piece **node = tfind(span, &stash->pieces, compare);

    return node ? *node : NULL;
}

static uint64_t size_of(const struct stash_piece *piece)
{
    return piece->span.last - piece->span.first + 1;
}

static void free_piece(struct iommufd_stash *stash, struct stash_piece *piece)
{
    tdelete(piece, &stash->pieces, compare);
    stash->n--;
    stash->bytes -= size_of(piece);
    if (piece->address)
        host_munmap(iommufd_context_host(stash->context), piece->address, size_of(piece));
    free(piece);
}

static void give_up(struct iommufd_stash *stash, struct stash_piece *piece)
{
    struct iommufd_range range = {
        .ioas = stash->ioas,
        .iova = piece->iova,
        .size = size_of(piece),
    };
    int ret = iommufd_context_unmap(stash->context, &range);

    if (ret)
        log_peer_warning("0x%" PRIx64 " bytes of client memory stay pinned in the stash: %s",
                         range.size, strerror(-ret));
    TAILQ_REMOVE(&stash->unused, piece, unused);
    free_piece(stash, piece);
}

void iommufd_stash_keep(struct iommufd_stash *stash, uint64_t bytes)
{
    if (bytes > stash->limit)
        stash->limit = bytes;
}

bool iommufd_stash_forget(struct iommufd_stash *stash)
{
    bool any = !TAILQ_EMPTY(&stash->unused);

    while (!TAILQ_EMPTY(&stash->unused))
        give_up(stash, TAILQ_FIRST(&stash->unused));
    return any;
}

void iommufd_stash_destroy(struct iommufd_stash *stash)
{
    if (!stash)
        return;
    iommufd_stash_forget(stash);
    assert(!stash->pieces);
    if (stash->made) {
        iommufd_context_free_object(stash->context, stash->hwpt);
        iommufd_context_free_object(stash->context, stash->ioas);
    }
    free(stash);
}

static bool make(struct iommufd_stash *stash, uint32_t dev_id)
{
    struct iommufd_context *context = stash->context;
    int ret;

    if (stash->made || stash->impossible)
        return stash->made;
    ret = iommufd_context_alloc_ioas(context, &stash->ioas);
    if (!ret) {
        ret = iommufd_context_alloc_hwpt(context, dev_id, stash->ioas, 0, &stash->hwpt);
        if (ret)
            iommufd_context_free_object(context, stash->ioas);
    }
    if (ret)
        log_peer_warning("client memory can't be kept pinned (--stable-memory): no page table "
                         "without a device: %s",
                         strerror(-ret));
    stash->made = !ret;
    stash->impossible = ret;
    return stash->made;
}

/* What is seen of the file through this descriptor, from offset on. */
static int get_span(int fd, uint64_t offset, uint64_t size, struct span *span)
{
    int mode = fcntl(fd, F_GETFL), seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    if (mode < 0 || fstat(fd, &st) < 0)
        return -errno;
    *span = (struct span){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .writable = (mode & O_ACCMODE) == O_RDWR &&
                    !(seals > 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)),
        .first = offset,
        .last = offset + (size - 1),
    };
    return 0;
}

/* Cuts the span where the next piece begins. No piece has its first byte. */
static void cut_to_gap(struct iommufd_stash *stash, struct span *span)
{
    const struct stash_piece *there;

    while ((there = find(stash, span)))
        span->last = there->span.first - 1;
}

static bool make_room(struct iommufd_stash *stash, uint64_t size)
{
    while (stash->bytes + size > stash->limit || stash->n >= MAX_PIECES) {
        if (size > stash->limit || TAILQ_EMPTY(&stash->unused))
            return false;
        give_up(stash, TAILQ_FIRST(&stash->unused));
    }
    return true;
}

static int pin(struct iommufd_stash *stash, struct stash_piece *piece, int fd)
{
    struct iommufd_range range = {
        .ioas = stash->ioas,
        .prot = IOMMU_READ | (piece->span.writable ? IOMMU_WRITE : 0u),
        .size = size_of(piece),
    };

    return iommufd_memory_map_file(stash->memory, &range, &piece->iova, fd, piece->span.first,
                                   &piece->address);
}

/* A piece for the beginning of a span, which no piece has. */
static int add_piece(struct iommufd_stash *stash, const struct span *wanted, int fd,
                     struct stash_piece **out)
{
    cleanup_free_ struct stash_piece *piece = calloc(1, sizeof(*piece));
    int ret;

    if (!piece)
        return -ENOMEM;
    piece->span = *wanted;
    cut_to_gap(stash, &piece->span);
    if (!make_room(stash, size_of(piece)))
        return -EOPNOTSUPP;
    ret = pin(stash, piece, fd);
    /* What nobody has mapped counts against the limit on locked memory too. */
    if (ret == -ENOMEM && iommufd_stash_forget(stash))
        ret = pin(stash, piece, fd);
    if (ret)
        return ret;
    stash->n++;
    stash->bytes += size_of(piece);
    TAILQ_INSERT_TAIL(&stash->unused, piece, unused);
    if (!tsearch(piece, &stash->pieces, compare)) {
        give_up(stash, steal_ptr(piece));
        return -ENOMEM;
    }
    *out = steal_ptr(piece);
    return 0;
}

static int get_piece(struct iommufd_stash *stash, const struct span *span, int fd,
                     struct stash_piece **out)
{
    struct span at = *span;

    at.last = at.first;
    *out = find(stash, &at);
    return *out ? 0 : add_piece(stash, span, fd, out);
}

int iommufd_stash_map(struct iommufd_stash *stash, const struct iommufd_range *range,
                      uint32_t dev_id, int fd, uint64_t offset, uint64_t *size,
                      struct stash_piece **piece)
{
    struct iommufd_range part = *range;
    struct stash_piece *from;
    struct span span;
    int ret = get_span(fd, offset, range->size, &span);

    if (ret)
        return ret;
    if (!stash->limit || !make(stash, dev_id))
        return -EOPNOTSUPP;
    ret = get_piece(stash, &span, fd, &from);
    if (ret)
        return ret;
    part.size = MIN(range->size, from->span.last - offset + 1);
    ret = iommufd_context_copy(stash->context, &part, stash->ioas,
                               from->iova + (offset - from->span.first));
    if (ret)
        return ret;
    if (!from->users++)
        TAILQ_REMOVE(&stash->unused, from, unused);
    *size = part.size;
    *piece = from;
    return 0;
}

void iommufd_stash_put(struct iommufd_stash *stash, struct stash_piece *piece)
{
    if (!--piece->users)
        TAILQ_INSERT_TAIL(&stash->unused, piece, unused);
}
