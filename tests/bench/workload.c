#include "tests/bench/workload.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/codec.h"
#include "proto/wire.h"

enum {
    HEADER = sizeof(struct vfio_user_header),
    MAP_IOVA = 0x100000,
    /* edu's registers: a read of the first has no effect, and neither has a write of the second. */
    EDU_ID = 0x0,
    EDU_LIVENESS = 0x4,
};

static void append(struct exchange *x, const void *data, size_t len)
{
    assert(x->request_len + len <= sizeof(x->request));
    memcpy(x->request + x->request_len, data, len);
    x->request_len += len;
}

static struct exchange message(uint16_t command, size_t payload, uint32_t flags, size_t reply)
{
    struct vfio_user_header hdr = codec_request_header(1, command, (uint32_t)payload, flags);
    struct exchange x = {.fd = -1,
                         .reply_len = flags & VFIO_USER_FLAG_NO_REPLY ? 0 : HEADER + reply};

    append(&x, &hdr, sizeof(hdr));
    return x;
}

static struct exchange read_message(uint32_t region, uint64_t offset, uint32_t count)
{
    const struct vfio_user_region_access body = {
        .offset = offset, .region = region, .count = count};
    struct exchange x = message(VFIO_USER_REGION_READ, sizeof(body), 0, sizeof(body) + count);

    append(&x, &body, sizeof(body));
    return x;
}

static struct exchange write_message(uint32_t region, uint64_t offset, uint32_t value,
                                     uint32_t count, uint32_t flags)
{
    const struct vfio_user_region_access body = {
        .offset = offset, .region = region, .count = count};
    struct exchange x = message(VFIO_USER_REGION_WRITE, sizeof(body) + count, flags, sizeof(body));

    append(&x, &body, sizeof(body));
    append(&x, &value, count);
    return x;
}

struct exchange workload_map(uint64_t iova, uint64_t size, int fd, uint64_t offset)
{
    const struct vfio_user_dma_map body = {
        .argsz = sizeof(body),
        .flags = VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE,
        .offset = offset,
        .address = iova,
        .size = size,
    };
    struct exchange x = message(VFIO_USER_DMA_MAP, sizeof(body), 0, 0);

    append(&x, &body, sizeof(body));
    x.fd = fd;
    return x;
}

struct exchange workload_unmap(uint64_t iova, uint64_t size)
{
    const struct vfio_user_dma_unmap body = {
        .argsz = sizeof(body),
        .address = iova,
        .size = size,
    };
    struct exchange x = message(VFIO_USER_DMA_UNMAP, sizeof(body), 0, sizeof(body));

    append(&x, &body, sizeof(body));
    return x;
}

static bool make_read_4(struct workload *w)
{
    w->first = read_message(VFIO_PCI_BAR0_REGION_INDEX, EDU_ID, 4);
    return true;
}

static bool make_read_4096(struct workload *w)
{
    w->first = read_message(VFIO_PCI_BAR0_REGION_INDEX, 4096, 4096);
    return true;
}

static bool make_write_4(struct workload *w)
{
    w->first = write_message(VFIO_PCI_BAR0_REGION_INDEX, EDU_LIVENESS, 1, 4, 0);
    return true;
}

/* The last of a batch is answered, after all before it, as the server keeps their order. */
static bool make_write_4_no_reply(struct workload *w)
{
    w->first =
        write_message(VFIO_PCI_BAR0_REGION_INDEX, EDU_LIVENESS, 1, 4, VFIO_USER_FLAG_NO_REPLY);
    w->other = write_message(VFIO_PCI_BAR0_REGION_INDEX, EDU_LIVENESS, 1, 4, 0);
    return true;
}

static bool make_dma(struct workload *w)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, WORKLOAD_PAGE) < 0) {
        fprintf(stderr, "bench: memory to map: %s\n", strerror(errno));
        fd_close(&fd);
        return false;
    }
    w->first = workload_map(MAP_IOVA, WORKLOAD_PAGE, fd, 0);
    w->other = workload_unmap(MAP_IOVA, WORKLOAD_PAGE);
    return true;
}

/* clang-format off */
static const struct {
    struct workload shape;
    bool (*make)(struct workload *w);
} table[WORKLOADS] = {
    {{"region_read_4",            WORKLOAD_FIRST,       WORKLOAD_TIME_FIRST, 1},  make_read_4},
    {{"region_read_4096",         WORKLOAD_FIRST,       WORKLOAD_TIME_FIRST, 1},  make_read_4096},
    {{"region_write_4",           WORKLOAD_FIRST,       WORKLOAD_TIME_FIRST, 1},  make_write_4},
    {{"region_write_4_no_reply",  WORKLOAD_OTHER_LAST,  WORKLOAD_TIME_BATCH, 1},  make_write_4_no_reply},
    {{"region_write_4_window_32", WORKLOAD_FIRST,       WORKLOAD_TIME_BATCH, 32}, make_write_4},
    {{"dma_map",                  WORKLOAD_ALTERNATING, WORKLOAD_TIME_FIRST, 1},  make_dma},
    {{"dma_unmap",                WORKLOAD_ALTERNATING, WORKLOAD_TIME_OTHER, 1},  make_dma},
};
/* clang-format on */

bool workload_make(unsigned i, struct workload *w)
{
    *w = table[i].shape;
    w->first.fd = -1;
    return table[i].make(w);
}

void workload_free(struct workload *w)
{
    fd_close(&w->first.fd);
}

const char *workload_name(unsigned i)
{
    return table[i].shape.name;
}

const struct exchange *workload_message(const struct workload *w, unsigned i)
{
    bool other = w->order == WORKLOAD_ALTERNATING
                     ? i % 2
                     : w->order == WORKLOAD_OTHER_LAST && i == WORKLOAD_BATCH - 1;

    return other ? &w->other : &w->first;
}

struct exchange workload_enable_memory(void)
{
    return write_message(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, PCI_COMMAND_MEMORY, 2, 0);
}
