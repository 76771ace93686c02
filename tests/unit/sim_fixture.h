/*
 * A simulated machine with one device, and the calls that the tests of bridge/sim make of it.
 * Teardown asserts that nothing leaked.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/host.h"
#include "bridge/sim/sim.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_model.h"
#include "proto/base/fd.h"

#define FX_PAGE 4096u

struct fixture {
    struct sim *sim;
    struct host *host;
    char bdf[16];
    char group_path[32];
    int container, group, device;
    int fds; /* of the process, before anything was opened */
};

static inline int fx_setup_model(void **state, const struct sim_model *model)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    char link[128];

    fx->sim = sim_create();
    assert_non_null(fx->sim);
    fx->host = sim_host(fx->sim);
    fx->container = fx->group = fx->device = -1;
    if (model)
        assert_int_equal(sim_add_model(fx->sim, model, fx->bdf, sizeof(fx->bdf)), 0);
    else
        assert_int_equal(sim_add_device(fx->sim, "edu", fx->bdf, sizeof(fx->bdf)), 0);
    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", fx->bdf);
    assert_true(host_readlink(fx->host, link, link, sizeof(link)) > 0);
    snprintf(fx->group_path, sizeof(fx->group_path), "/dev/vfio%s", strrchr(link, '/'));
    fx->fds = fd_count_open();
    *state = fx;
    return 0;
}

static inline int fx_setup(void **state)
{
    return fx_setup_model(state, NULL);
}

static inline int fx_ioctl(struct fixture *fx, int fd, unsigned long request, void *arg)
{
    return host_ioctl(fx->host, fd, request, arg);
}

static inline int fx_ioctl_value(struct fixture *fx, int fd, unsigned long request, uintptr_t value)
{
    return host_ioctl(fx->host, fd, request, (void *)value);
}

static inline int fx_open(struct fixture *fx, const char *path)
{
    return host_open(fx->host, path, O_RDWR);
}

/* The container with its IOMMU and the group in it. */
static inline void fx_open_group(struct fixture *fx, uintptr_t model)
{
    fx->container = fx_open(fx, "/dev/vfio/vfio");
    assert_true(fx->container >= 0);
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_SET_CONTAINER, &fx->container), 0);
    assert_int_equal(fx_ioctl_value(fx, fx->container, VFIO_SET_IOMMU, model), 0);
}

static inline int fx_get_device(struct fixture *fx, const char *name)
{
    char copy[64];

    snprintf(copy, sizeof(copy), "%s", name);
    return fx_ioctl(fx, fx->group, VFIO_GROUP_GET_DEVICE_FD, copy);
}

static inline void fx_open_device(struct fixture *fx)
{
    fx_open_group(fx, VFIO_TYPE1v2_IOMMU);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_true(fx->device >= 0);
}

static inline int fx_setup_open(void **state)
{
    fx_setup(state);
    fx_open_device(*state);
    return 0;
}

static inline void fx_close_all(struct fixture *fx)
{
    host_close(fx->host, &fx->device);
    host_close(fx->host, &fx->group);
    host_close(fx->host, &fx->container);
}

static inline struct sim_stats fx_stats(struct fixture *fx)
{
    struct sim_stats stats;

    sim_get_stats(fx->sim, &stats);
    return stats;
}

static inline struct sim_device_state fx_state(struct fixture *fx)
{
    struct sim_device_state state;

    assert_int_equal(sim_get_device_state(fx->sim, fx->bdf, &state), 0);
    return state;
}

static inline int fx_teardown(void **state)
{
    struct fixture *fx = *state;
    struct sim_stats stats;

    fx_close_all(fx);
    stats = fx_stats(fx);
    assert_int_equal(stats.containers + stats.groups + stats.devices + stats.contexts, 0);
    assert_int_equal(stats.dmabufs + stats.bar_mappings + stats.streams, 0);
    assert_int_equal(stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(fd_count_open(), fx->fds);
    sim_destroy(fx->sim);
    free(fx);
    return 0;
}

static inline off_t fx_offset(struct fixture *fx, unsigned region, uint64_t offset)
{
    struct vfio_region_info info = {.argsz = sizeof(info), .index = region};

    /* Of a region that the kernel does not tell of: the place where it would be. */
    if (host_ioctl(fx->host, fx->device, VFIO_DEVICE_GET_REGION_INFO, &info))
        return (off_t)((uint64_t)region << 40 | offset);
    return (off_t)(info.offset | offset);
}

static inline ssize_t fx_read(struct fixture *fx, unsigned region, uint64_t offset, void *buf,
                              size_t len)
{
    return host_pread(fx->host, fx->device, buf, len, fx_offset(fx, region, offset));
}

static inline ssize_t fx_write(struct fixture *fx, unsigned region, uint64_t offset,
                               const void *buf, size_t len)
{
    return host_pwrite(fx->host, fx->device, buf, len, fx_offset(fx, region, offset));
}

static inline uint64_t fx_get(struct fixture *fx, unsigned region, uint64_t offset, size_t width)
{
    uint64_t value = 0;

    assert_int_equal(fx_read(fx, region, offset, &value, width), width);
    return value;
}

static inline void fx_set(struct fixture *fx, unsigned region, uint64_t offset, uint64_t value,
                          size_t width)
{
    assert_int_equal(fx_write(fx, region, offset, &value, width), width);
}

static inline uint32_t fx_bar_get(struct fixture *fx, uint64_t offset)
{
    return (uint32_t)fx_get(fx, VFIO_PCI_BAR0_REGION_INDEX, offset, 4);
}

static inline void fx_bar_set(struct fixture *fx, uint64_t offset, uint64_t value)
{
    fx_set(fx, VFIO_PCI_BAR0_REGION_INDEX, offset, value, 4);
}

static inline uint32_t fx_config_get(struct fixture *fx, unsigned offset, size_t width)
{
    return (uint32_t)fx_get(fx, VFIO_PCI_CONFIG_REGION_INDEX, offset, width);
}

static inline void fx_config_set(struct fixture *fx, unsigned offset, uint64_t value, size_t width)
{
    fx_set(fx, VFIO_PCI_CONFIG_REGION_INDEX, offset, value, width);
}

static inline void fx_set_bus_master(struct fixture *fx, bool on)
{
    uint32_t command = fx_config_get(fx, PCI_COMMAND, 2) & ~(uint32_t)PCI_COMMAND_MASTER;

    fx_config_set(fx, PCI_COMMAND, command | (on ? PCI_COMMAND_MASTER : 0), 2);
}

static inline int fx_set_irqs(struct fixture *fx, uint32_t flags, uint32_t index, uint32_t start,
                              uint32_t count, const void *data, size_t size)
{
    struct vfio_irq_set *set = calloc(1, sizeof(*set) + size);
    int ret;

    set->argsz = (uint32_t)(sizeof(*set) + size);
    set->flags = flags;
    set->index = index;
    set->start = start;
    set->count = count;
    if (size)
        memcpy(set->data, data, size);
    ret = fx_ioctl(fx, fx->device, VFIO_DEVICE_SET_IRQS, set);
    free(set);
    return ret;
}

/* One trigger eventfd for vector 0. */
static inline int fx_set_trigger(struct fixture *fx, uint32_t index, int fd)
{
    return fx_set_irqs(fx, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 1,
                       &fd, sizeof(fd));
}

static inline int fx_disable_irq(struct fixture *fx, uint32_t index)
{
    return fx_set_irqs(fx, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 0, NULL,
                       0);
}

static inline int fx_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

/* The counter, which is 0 afterwards. */
static inline uint64_t fx_events(int fd)
{
    uint64_t count = 0;

    if (read(fd, &count, sizeof(count)) < 0)
        assert_int_equal(errno, EAGAIN);
    return count;
}

/* Waits for as long as the test's time limit lets it. */
static inline uint64_t fx_wait_event(int fd)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&poller, 1, -1), 1);
    return fx_events(fd);
}

/* Shared memory of a file, as the bridge maps it. */
static inline char *fx_memory(size_t size, int *fd)
{
    int memfd = memfd_create("test", MFD_CLOEXEC);
    void *addr;

    assert_true(memfd >= 0);
    assert_int_equal(ftruncate(memfd, (off_t)size), 0);
    addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    assert_ptr_not_equal(addr, MAP_FAILED);
    if (fd)
        *fd = memfd;
    else
        close(memfd);
    return addr;
}

static inline int fx_map(struct fixture *fx, uint64_t iova, const void *addr, uint64_t size,
                         uint32_t flags)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = flags,
        .vaddr = (uintptr_t)addr,
        .iova = iova,
        .size = size,
    };

    return fx_ioctl(fx, fx->container, VFIO_IOMMU_MAP_DMA, &map);
}

static inline int fx_map_rw(struct fixture *fx, uint64_t iova, const void *addr, uint64_t size)
{
    return fx_map(fx, iova, addr, size, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
}

/* The bytes that the kernel says it unmapped, or -errno. */
static inline int64_t fx_unmap(struct fixture *fx, uint64_t iova, uint64_t size, uint32_t flags)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .flags = flags,
        .iova = iova,
        .size = size,
    };
    int ret = fx_ioctl(fx, fx->container, VFIO_IOMMU_UNMAP_DMA, &unmap);

    if (ret)
        assert_int_equal(unmap.size, size);
    return ret ? ret : (int64_t)unmap.size;
}

static inline int fx_dma(struct fixture *fx, uint64_t iova, void *buf, size_t len, bool write)
{
    return sim_device_dma(fx->sim, fx->bdf, iova, buf, len, write);
}

static inline int fx_dma_put(struct fixture *fx, uint64_t iova, const char *text, size_t len)
{
    char copy[64];

    memcpy(copy, text, len);
    return fx_dma(fx, iova, copy, len, true);
}
