#include "bridge/sim/sim_vma.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_info.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_peer.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct sim_vma {
    LIST_ENTRY(sim_vma) link;
    struct sim_file *file;
    uintptr_t addr;
    size_t len;
    int prot;
    struct sim_peer bar; /* what is mapped */
};

void sim_vmas_init(struct sim_vmas *vmas)
{
    pthread_mutex_init(&vmas->lock, NULL);
    LIST_INIT(&vmas->list);
}

void sim_vmas_destroy(struct sim_vmas *vmas)
{
    assert(LIST_EMPTY(&vmas->list));
    pthread_mutex_destroy(&vmas->lock);
}

static size_t round_to_pages(size_t len)
{
    return (len + SIM_PAGE - 1) & ~(size_t)(SIM_PAGE - 1);
}

static int check(struct sim_device *dev, size_t len, int flags, off_t offset, struct sim_peer *bar)
{
    uint64_t start, index = sim_info_region_at(dev, (uint64_t)offset, &start);
    const struct sim_model_bar *model;

    if (!len || !is_aligned(start, SIM_PAGE) || (flags & MAP_TYPE) == MAP_PRIVATE ||
        index >= SIM_MODEL_BARS)
        return -EINVAL;
    model = &dev->model->bars[index];
    if (model->flags & PCI_BASE_ADDRESS_SPACE_IO ||
        !range_within(start, round_to_pages(len), round_to_pages(model->size)) ||
        (start < model->hole + model->hole_size && model->hole < start + len))
        return -EINVAL;
    *bar = (struct sim_peer){
        .dev = dev,
        .bar = (unsigned)index,
        .start = start,
    };
    return 0;
}

/* Memory is mapped once more where it is; registers only take their place among the addresses. */
static int map(const struct sim_peer *bar, void **addr, size_t len, int prot)
{
    char *ram = bar->dev->ram[bar->bar];
    void *p = ram ? mremap(ram + bar->start, 0, len, MREMAP_MAYMOVE)
                  : mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -ENOMEM;
    if (ram && mprotect(p, len, prot) < 0) {
        munmap(p, len);
        return -ENOMEM;
    }
    *addr = p;
    return 0;
}

int sim_vma_map(struct sim_file *file, struct sim_device *dev, void **addr, size_t len, int prot,
                int flags, off_t offset)
{
    cleanup_free_ struct sim_vma *vma = calloc(1, sizeof(*vma));
    struct sim_vmas *vmas = &file->sim->vmas;
    int ret;

    if (!vma)
        return -ENOMEM;
    ret = check(dev, len, flags, offset, &vma->bar);
    if (ret)
        return ret;
    vma->len = round_to_pages(len);
    ret = map(&vma->bar, addr, vma->len, prot);
    if (ret)
        return ret;
    vma->addr = (uintptr_t)*addr;
    vma->prot = prot;
    vma->file = sim_file_ref(file);
    pthread_mutex_lock(&vmas->lock);
    LIST_INSERT_HEAD(&vmas->list, vma, link);
    pthread_mutex_unlock(&vmas->lock);
    vma = NULL; /* in the list */
    return 0;
}

/* One that shares a byte with the range. With the lock held. */
static struct sim_vma *find(const struct sim_vmas *vmas, uint64_t addr, uint64_t len)
{
    struct sim_vma *vma;

    LIST_FOREACH(vma, &vmas->list, link)
    {
        if (addr < vma->addr + vma->len && vma->addr < addr + len)
            return vma;
    }
    return NULL;
}

int sim_vma_unmap(struct sim *sim, void *addr, size_t len)
{
    struct sim_vma *vma;
    int ret = 0;

    pthread_mutex_lock(&sim->vmas.lock);
    vma = find(&sim->vmas, (uintptr_t)addr, len);
    if (!vma)
        ret = -ENOENT;
    else if (vma->addr != (uintptr_t)addr || vma->len != round_to_pages(len))
        ret = -EINVAL;
    else
        LIST_REMOVE(vma, link);
    pthread_mutex_unlock(&sim->vmas.lock);
    if (ret)
        return ret;
    munmap(addr, vma->len);
    sim_file_put(vma->file);
    free(vma);
    return 0;
}

bool sim_vma_find(struct sim *sim, uint64_t vaddr, uint64_t size, bool write, struct sim_peer *peer)
{
    const struct sim_vma *vma;

    *peer = (struct sim_peer){0};
    pthread_mutex_lock(&sim->vmas.lock);
    vma = find(&sim->vmas, vaddr, size);
    if (vma && vma->prot & (write ? PROT_WRITE : PROT_READ | PROT_WRITE) &&
        range_within(vaddr - vma->addr, size, vma->len)) {
        *peer = vma->bar;
        peer->start += vaddr - vma->addr;
    }
    pthread_mutex_unlock(&sim->vmas.lock);
    return vma;
}

unsigned sim_vma_count(struct sim *sim)
{
    const struct sim_vma *vma;
    unsigned count = 0;

    pthread_mutex_lock(&sim->vmas.lock);
    LIST_FOREACH(vma, &sim->vmas.list, link)
    {
        count++;
    }
    pthread_mutex_unlock(&sim->vmas.lock);
    return count;
}
