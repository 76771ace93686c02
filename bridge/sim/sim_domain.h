/*
 * An IOMMU domain: the translations that the addresses of the devices in it go through. A
 * container's IOMMU and an IOAS keep theirs in one.
 *
 * The lock is taken inside. Whoever changes translations holds a lock of its own around that, under
 * which it may search.
 */
#pragma once

#include <linux/vfio.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/sim/sim_track.h"

struct sim;
struct sim_peer;
struct sim_pin;

enum {
    SIM_DOMAIN_READ = 1 << 0,
    SIM_DOMAIN_WRITE = 1 << 1,
};

/* What it can translate. The window between is where x86 writes message-signalled interrupts. */
enum {
    SIM_DOMAIN_APERTURES = 2,
};
extern const struct vfio_iova_range sim_domain_apertures[SIM_DOMAIN_APERTURES];

/* What is there is the pin's or else the peer's, from offset on. Embedded in what its owner knows
 * of it. */
struct sim_translation {
    uint64_t first, last;
    uint32_t prot;
    const struct sim_pin *pin;
    const struct sim_peer *peer;
    uint64_t offset;
};

struct sim_domain {
    struct sim *sim;
    pthread_rwlock_t lock;
    void *tree;
    struct sim_track track;
};

void sim_domain_init(struct sim_domain *domain, struct sim *sim);
/* No translation is left. */
void sim_domain_destroy(struct sim_domain *domain);

/* One that shares a byte with the range, or NULL. */
struct sim_translation *sim_domain_find(const struct sim_domain *domain, uint64_t first,
                                        uint64_t last);
/* It overlaps with none that is there. -ENOMEM. */
int sim_domain_insert(struct sim_domain *domain, struct sim_translation *t);
/* Leaves that part of a translation which is within the range. */
void sim_domain_cut(struct sim_domain *domain, struct sim_translation *t, uint64_t first,
                    uint64_t last);
void sim_domain_remove(struct sim_domain *domain, struct sim_translation *t);

/*
 * A device's access, from *done bytes of it on, to which what was done is added. -EFAULT if there
 * is no translation for some page of it, or not with that right; such pages read as zeros, writes
 * to them are lost, each counts as one fault. -EIO: a piece of it went to a BAR that nobody
 * decoded, with the same effect. These are in *error, and all was done; -EAGAIN: the device that
 * the next piece goes to is busy.
 */
int sim_domain_copy(struct sim_domain *domain, uint64_t iova, void *buf, size_t len, bool write,
                    size_t *done, int *error);
