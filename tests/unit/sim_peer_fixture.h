/*
 * A second device in the machine of a fixture, as a fixture of its own: the target of the first
 * one's DMA. Its descriptors are closed by peer_close().
 */
#pragma once

#include <pthread.h>

#include "tests/unit/sim_fixture.h"

/* Where the first device has the other one's BAR. */
#define PEER_IOVA UINT64_C(0x8000000)

static inline void peer_add(struct fixture *fx, const struct sim_model *model, struct fixture *peer)
{
    char link[128];

    *peer = (struct fixture){
        .sim = fx->sim,
        .host = fx->host,
        .container = -1,
        .group = -1,
        .device = -1,
    };
    assert_int_equal(sim_add_model(fx->sim, model, peer->bdf, sizeof(peer->bdf)), 0);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", peer->bdf);
    assert_true(host_readlink(fx->host, link, link, sizeof(link)) > 0);
    snprintf(peer->group_path, sizeof(peer->group_path), "/dev/vfio%s", strrchr(link, '/'));
}

/* In the container of the first device, which is open. */
static inline void peer_open(struct fixture *fx, struct fixture *peer)
{
    peer->group = fx_open(fx, peer->group_path);
    assert_true(peer->group >= 0);
    assert_int_equal(fx_ioctl(fx, peer->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    peer->device = fx_get_device(peer, peer->bdf);
    assert_true(peer->device >= 0);
}

static inline void peer_close(struct fixture *peer)
{
    host_close(peer->host, &peer->device);
    host_close(peer->host, &peer->group);
}

/* The BAR from offset on; -errno. */
static inline int peer_mmap(struct fixture *peer, unsigned bar, uint64_t offset, size_t len,
                            int prot, void **addr)
{
    return host_mmap(peer->host, addr, len, prot, MAP_SHARED, peer->device,
                     fx_offset(peer, bar, offset));
}

/* The device's lock. */
static inline pthread_mutex_t *peer_mutex(struct fixture *peer)
{
    struct sim_device *dev = sim_lock_device(peer->sim, peer->bdf);

    assert_non_null(dev);
    pthread_mutex_unlock(&peer->sim->lock);
    return sim_device_mutex(dev);
}

static inline void peer_set_decode(struct fixture *peer, bool on)
{
    uint32_t command = fx_config_get(peer, PCI_COMMAND, 2) & ~(uint32_t)PCI_COMMAND_MEMORY;

    fx_config_set(peer, PCI_COMMAND, command | (on ? PCI_COMMAND_MEMORY : 0), 2);
}

/*
 * Two devices that do DMA to each other's BAR 0 while their drivers write to their registers: each
 * holds what the other waits for, if the machine has its locks wrong.
 */
struct peer_load {
    struct fixture *device;
    uint64_t iova; /* the other's BAR; 0: no DMA */
};

static inline void *peer_load(void *arg)
{
    const struct peer_load *load = arg;
    uint32_t value;

    for (int i = 0; i < 2000; i++) {
        if (load->iova)
            fx_dma(load->device, load->iova, &value, sizeof(value), i % 2);
        else
            fx_set_bus_master(load->device, i % 2);
    }
    return NULL;
}

static inline void peer_cross_fire(struct fixture *a, uint64_t to_b, struct fixture *b,
                                   uint64_t to_a)
{
    struct peer_load loads[] = {
        {a, to_b},
        {b, to_a},
        {a, 0   },
        {b, 0   },
    };
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, peer_load, &loads[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}
