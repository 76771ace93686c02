#include "client-example/guest_memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct guest_memory {
    int fd;
    uint8_t *base;
    size_t size;
};

int guest_memory_create(struct guest_memory **out, size_t size)
{
    cleanup_free_ struct guest_memory *memory = calloc(1, sizeof(*memory));
    cleanup_close_ int fd = memfd_create("vfuc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *base;

    if (!memory)
        return -ENOMEM;
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        return -errno;
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return -errno;
    *memory = (struct guest_memory){.fd = steal_fd(&fd), .base = base, .size = size};
    *out = steal_ptr(memory);
    return 0;
}

void guest_memory_free(struct guest_memory *memory)
{
    if (!memory)
        return;
    munmap(memory->base, memory->size);
    fd_close(&memory->fd);
    free(memory);
}

void *guest_memory_at(const struct guest_memory *memory, size_t offset, size_t len)
{
    assert(range_within(offset, len, memory->size));
    return memory->base + offset;
}

int guest_memory_map(const struct guest_memory *memory, struct vfuc *c, uint64_t iova,
                     size_t offset, size_t len)
{
    assert(range_within(offset, len, memory->size));
    return vfuc_dma_map(c, iova, len, VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE, memory->fd,
                        offset);
}
