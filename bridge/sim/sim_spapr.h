/*
 * A SPAPR TCE IOMMU, v1 or v2: the windows of one container.
 *
 * A window is a part of the bus's addresses with a table of translations (TCEs), one for each of
 * its pages. v1 has the one that the platform made at boot; v2 begins with one like it, and windows
 * can be removed and created. Where one begins is the platform's choice: at 0 or at 2^59.
 */
#pragma once

#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bridge/sim/sim_driver.h"

struct sim_memory;
struct sim_registration;

enum {
    SIM_SPAPR_WINDOWS = 2,
    SIM_SPAPR_LEVELS = 5,
    SIM_SPAPR_DEFAULT_SHIFT = 12,
};
#define SIM_SPAPR_DMA32_SIZE UINT64_C(0x80000000)
#define SIM_SPAPR_PGSIZES    UINT64_C(0x1011000)

struct sim_window {
    uint64_t start, size; /* size 0: there is none */
    uint32_t page_shift;
    uint64_t table_size; /* counted as locked memory */
};

struct sim_spapr {
    struct sim_driver driver; /* its domain is changed with the lock held */
    bool v2;
    _Atomic unsigned groups;

    pthread_mutex_t lock; /* for the block below */
    bool released;
    bool enabled;
    bool default_pending; /* the first window is made when it is needed */
    pid_t mm;             /* whose memory it maps, from the first call on that says so; 0: none */
    struct sim_window windows[SIM_SPAPR_WINDOWS];
    struct sim_registration *registered;
};

/* One reference; NULL without memory. */
struct sim_driver *sim_spapr_create(struct sim *sim, bool v2);

int sim_spapr_check_extension(const struct sim *sim, unsigned long extension);

/*
 * With the lock held (sim_tce.c).
 */

/* -ENOSPC, -EINVAL, -ENOMEM. *window: the new one. */
int sim_tce_create_window(struct sim_spapr *s, uint32_t page_shift, uint64_t size, uint32_t levels,
                          struct sim_window **window);
int sim_tce_create_default_window(struct sim_spapr *s);
void sim_tce_remove_window(struct sim_spapr *s, struct sim_window *window);
/* NULL: the address is in none. */
struct sim_window *sim_tce_find_window(struct sim_spapr *s, uint64_t iova);

/*
 * The range is of whole pages of one window. map: what was there before gives way; on -EINVAL (not
 * registered), -EFAULT or -ENOMEM it is gone up to where it failed (v1: all of it).
 */
int sim_tce_map(struct sim_spapr *s, const struct sim_window *window, uint64_t iova, uint64_t size,
                uint64_t vaddr, uint32_t prot);
/* -ENOMEM if a translation would have to be cut in two. */
int sim_tce_clear(struct sim_spapr *s, uint64_t iova, uint64_t size);
