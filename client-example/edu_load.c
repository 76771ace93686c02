#include "client-example/edu_load.h"

#include <errno.h>
#include <string.h>

/* The upper bits of a linear congruential generator. */
static uint32_t pick(struct edu_load *load, uint32_t below)
{
    load->seed = load->seed * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)load->seed * below >> 32);
}

static uint32_t pick_offset(struct edu_load *load)
{
    return pick(load, (uint32_t)load->size - EDU_BUFFER_SIZE + 1);
}

static int start_write(struct edu_load *load, struct vfuc *c)
{
    const struct edu_transfer t = {
        .to_ram = true,
        .iova = (uint32_t)load->iova + pick_offset(load),
        .len = 1 + pick(load, EDU_BUFFER_SIZE),
    };
    int ret = edu_dma_start(c, &t);

    load->last = ret ? (struct edu_transfer){0} : t;
    return ret;
}

int edu_load_step(struct edu_load *load, struct vfuc *c, const struct guest_memory *memory)
{
    uint32_t from = pick_offset(load);
    int ret = edu_dma_wait(c);

    load->last.len = 0;
    if (ret)
        return ret;
    memcpy(load->held, guest_memory_at(memory, from, EDU_BUFFER_SIZE), EDU_BUFFER_SIZE);
    ret = edu_dma(
        c, &(struct edu_transfer){.iova = (uint32_t)load->iova + from, .len = EDU_BUFFER_SIZE});
    return ret ? ret : start_write(load, c);
}

static int await_arrival(const struct edu_load *load, struct vfuc *c,
                         const struct guest_memory *memory)
{
    const struct edu_transfer *t = &load->last;
    int ret = edu_dma_wait(c);

    if (ret)
        return ret;
    return memcmp(guest_memory_at(memory, t->iova - load->iova, t->len), load->held, t->len) ? -EIO
                                                                                             : 0;
}

int edu_load_prove(struct edu_load *load, struct vfuc *c, const struct guest_memory *memory)
{
    int ret = load->last.len ? 0 : edu_load_step(load, c, memory);

    if (!ret)
        ret = await_arrival(load, c, memory);
    if (!ret)
        ret = start_write(load, c);
    return ret ? ret : await_arrival(load, c, memory);
}
