#include "bridge/sim/sim_memory.h"

#include <assert.h>
#include <stdlib.h>

#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_peer.h"
#include "proto/base/arith.h"

static void free_memory(struct sim *sim, struct sim_memory *memory)
{
    sim_unpin(sim, &memory->pin);
    free(memory);
}

static void unlink_memory(struct sim *sim, struct sim_memory *memory)
{
    struct sim_memory **link = &sim->registered;

    while (*link != memory)
        link = &(*link)->next;
    *link = memory->next;
}

struct sim_memory *sim_memory_get(struct sim *sim, uint64_t vaddr, uint64_t size)
{
    struct sim_memory *memory;

    pthread_mutex_lock(&sim->memory_lock);
    memory = sim->registered;
    while (memory && (memory->vaddr != vaddr || memory->size != size))
        memory = memory->next;
    if (memory)
        memory->used++;
    pthread_mutex_unlock(&sim->memory_lock);
    return memory;
}

/* With the lock held. */
static int link_memory(struct sim *sim, struct sim_memory *memory)
{
    for (const struct sim_memory *other = sim->registered; other; other = other->next) {
        if (other->vaddr < memory->vaddr + memory->size &&
            memory->vaddr < other->vaddr + other->size)
            return -EINVAL;
    }
    memory->next = sim->registered;
    sim->registered = memory;
    return 0;
}

/* The kernel does not pin BARs here, mapped or not. */
static int pin(struct sim *sim, struct sim_memory *memory, bool write)
{
    struct sim_peer bar;

    if (sim_vma_find(sim, memory->vaddr, memory->size, write, &bar))
        return -EFAULT;
    return memory->used ? sim_pin(sim, &memory->pin, memory->vaddr, memory->size, write)
                        : sim_pin_uncounted(sim, &memory->pin, memory->vaddr, memory->size, write);
}

static struct sim_memory *create(uint64_t vaddr, uint64_t size)
{
    struct sim_memory *memory = calloc(1, sizeof(*memory));

    if (memory) {
        memory->vaddr = vaddr;
        memory->size = size;
    }
    return memory;
}

int sim_memory_register(struct sim *sim, uint64_t vaddr, uint64_t size, struct sim_memory **out)
{
    struct sim_memory *memory = size ? create(vaddr, size) : NULL;
    int ret;

    if (!memory)
        return -ENOMEM;
    memory->used = 1;
    ret = pin(sim, memory, true);
    if (ret) {
        free(memory);
        return ret;
    }
    pthread_mutex_lock(&sim->memory_lock);
    ret = link_memory(sim, memory);
    pthread_mutex_unlock(&sim->memory_lock);
    if (ret)
        free_memory(sim, memory);
    else
        *out = memory;
    return ret;
}

int sim_memory_put(struct sim *sim, struct sim_memory *memory)
{
    int ret = 0;

    pthread_mutex_lock(&sim->memory_lock);
    if (memory->used == 1 && memory->mapped)
        ret = -EBUSY;
    else if (--memory->used == 0)
        unlink_memory(sim, memory);
    else
        memory = NULL;
    pthread_mutex_unlock(&sim->memory_lock);
    if (!ret && memory)
        free_memory(sim, memory);
    return ret;
}

struct sim_memory *sim_memory_map(struct sim *sim, uint64_t vaddr, uint64_t size, uint64_t page,
                                  uint64_t *mapped)
{
    struct sim_memory *memory;

    pthread_mutex_lock(&sim->memory_lock);
    memory = sim->registered;
    while (memory &&
           !(vaddr >= memory->vaddr && range_within(vaddr - memory->vaddr, page, memory->size)))
        memory = memory->next;
    if (memory) {
        uint64_t left = memory->size - (vaddr - memory->vaddr);

        *mapped = MIN(size, left - left % page);
        memory->mapped += *mapped;
    }
    pthread_mutex_unlock(&sim->memory_lock);
    return memory;
}

int sim_memory_pin(struct sim *sim, uint64_t vaddr, uint64_t size, bool write,
                   struct sim_memory **out)
{
    struct sim_memory *memory = create(vaddr, size);
    int ret = memory ? pin(sim, memory, write) : -ENOMEM;

    if (ret) {
        free(memory);
        return ret;
    }
    memory->mapped = size;
    *out = memory;
    return 0;
}

void sim_memory_unmap(struct sim *sim, struct sim_memory *memory, uint64_t size)
{
    bool last;

    pthread_mutex_lock(&sim->memory_lock);
    memory->mapped -= size;
    last = !memory->mapped && !memory->used;
    pthread_mutex_unlock(&sim->memory_lock);
    if (last)
        free_memory(sim, memory);
}

void sim_memory_forget(struct sim *sim)
{
    while (sim->registered) {
        struct sim_memory *memory = sim->registered;

        assert(!memory->mapped);
        sim->registered = memory->next;
        free_memory(sim, memory);
    }
}
