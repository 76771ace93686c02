/*
 * Mappings of BARs in this process (VMAs), which MAP_DMA takes for what is behind them. Each keeps
 * the descriptor's file, and so the device, open.
 *
 * Lock: of its own, a leaf.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct sim;
struct sim_device;
struct sim_file;
struct sim_peer;
struct sim_vma;

LIST_HEAD(sim_vma_list, sim_vma);

struct sim_vmas {
    pthread_mutex_t lock;
    struct sim_vma_list list;
};

void sim_vmas_init(struct sim_vmas *vmas);
/* No BAR may be mapped. */
void sim_vmas_destroy(struct sim_vmas *vmas);

/*
 * mmap of a device's descriptor, at an offset of it. A BAR that is RAM is really there; what is
 * behind registers can't be, and so a touch raises SIGSEGV. -EINVAL: it is not of a memory BAR,
 * passes its last page, has a hole in it, is not aligned or private; -ENOMEM.
 */
int sim_vma_map(struct sim_file *file, struct sim_device *dev, void **addr, size_t len, int prot,
                int flags, off_t offset);

/*
 * munmap. 0; -ENOENT: no BAR is mapped there; -EINVAL: a part of such a mapping, or more than it,
 * which the kernel would allow.
 */
int sim_vma_unmap(struct sim *sim, void *addr, size_t len);

/*
 * What the range is mapped to, for a device that writes or only reads. False: no BAR is mapped
 * there, or anywhere in the range. *peer has no device if the range is not all in one mapping that
 * allows that.
 */
bool sim_vma_find(struct sim *sim, uint64_t vaddr, uint64_t size, bool write,
                  struct sim_peer *peer);

unsigned sim_vma_count(struct sim *sim);
