/*
 * The simulated machine's inside, for the files of bridge/sim.
 *
 * Locks, outermost first:
 *
 *     context->lock      one call at a time on an iommufd context, pinning included: its objects
 *                        and which device is attached to which.
 *     iommu->lock        one call at a time on a container's IOMMU, pinning included.
 *     sim->lock          the machine's structure: which devices and groups there are, which group
 *                        is in which container, who has what open. Held by control calls, never
 *                        while memory is pinned.
 *     device->lock       registers, configuration space and interrupts of one device. All that a
 *                        read or write of a device takes.
 *     device->dma.lock   held while the device transfers: whoever has taken it to clear bus
 *                        mastering knows that no transfer is under way.
 *     domain->lock       the translations themselves.
 *
 * The file table's lock, those of the BARs' mappings and of registered memory and the fault plan's
 * are leaves.
 *
 * A transfer that goes to another device's BAR takes that device's lock last, against this order:
 * so it only tries, and gives the others up when it fails (sim_peer.h).
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bridge/host.h"
#include "bridge/sim/sim.h"
#include "bridge/sim/sim_file.h"
#include "bridge/sim/sim_vma.h"

enum {
    SIM_PAGE = 4096,
    SIM_MAX_POLL = 8, /* descriptors in one poll */
};

struct sim_device;
struct sim_group;
struct sim_memory;
struct sim_model;

struct sim_fault {
    pthread_mutex_t lock;
    _Atomic bool armed; /* read without the lock to keep the usual case cheap */
    enum sim_call call;
    unsigned long request;
    unsigned left;
    int err;
    bool spent;
};

/* The thread that waits for eventfds which clients signal. */
struct sim_irqfd {
    pthread_t thread;
    int epoll;
    int stop;
};

struct sim_counters {
    _Atomic unsigned mappings, resets, ioctls;
    _Atomic unsigned pins; /* that have a mapping of their own */
    _Atomic unsigned pins_made;
    _Atomic uint64_t pinned_bytes, locked_bytes;
    _Atomic uint64_t dma_faults, peer_faults, dma_reads, dma_writes, dma_to_host;
};

struct sim_open_error;

struct sim {
    struct host host; /* first: the host is the machine */
    struct sim_file_table files;
    struct sim_vmas vmas;
    struct sim_fault fault;
    struct sim_irqfd irqfd;
    struct sim_counters count;
    int proc_fds; /* /proc/self/fd */

    pthread_mutex_t lock; /* for the block below */
    struct sim_device *devices, **devices_end;
    struct sim_group *groups;
    struct sim_open_error *open_errors;
    unsigned added;
    uint32_t next_memory, next_port; /* addresses for BARs */

    pthread_mutex_t memory_lock; /* for the list, and what is mapped and used of it */
    struct sim_memory *registered;

    _Atomic enum sim_iommu_model iommu;
    _Atomic bool eeh;
    _Atomic uint64_t memlock;
    _Atomic unsigned entry_limit, vector_limit;
    _Atomic bool dynamic_msix, coherent, noiommu_mode, rawio;
    _Atomic bool dirty_tracking, pinned_only;
    _Atomic uint64_t iommu_page;
    _Atomic enum sim_iommufd iommufd;
    _Atomic int dma_buf_error;
    _Atomic bool dma_buf_mmap;
};

/* The ops of a machine's host. */
extern const struct host_ops sim_host_ops;

static inline struct sim *sim_of_host(struct host *host)
{
    return (struct sim *)host;
}

/* Adds a device of a model that is not in the machine's own table. As sim_add_device(). */
int sim_add_model(struct sim *sim, const struct sim_model *model, char *bdf, size_t size);

/* NULL: no such address. With sim->lock held. */
struct sim_device *sim_find_device(struct sim *sim, const char *bdf);

/* As sim_find_device(), and keeps sim->lock for the caller unless it is NULL. */
struct sim_device *sim_lock_device(struct sim *sim, const char *bdf);

/* The errno that opening the path shall fail with, or 0. */
int sim_open_error(struct sim *sim, const char *path);
void sim_forget_open_errors(struct sim *sim);

/* Starts a thread that receives no signals: those are the process's own threads' business. */
int sim_start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg);

/* copy_from_user and copy_to_user. */
static inline int sim_copy_in(void *to, const void *user, size_t len)
{
    if (!user)
        return -EFAULT;
    memcpy(to, user, len);
    return 0;
}

static inline int sim_copy_out(void *user, const void *from, size_t len)
{
    if (!user)
        return -EFAULT;
    memcpy(user, from, len);
    return 0;
}
