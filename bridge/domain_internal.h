/* The inside of a domain, for the files of bridge/ that it is made of. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "bridge/domain.h"
#include "bridge/map_table.h"

struct domain_mapping {
    struct map_entry at;
    uint32_t prot;
    struct memory_file file;       /* its descriptor is not kept */
    const struct iommu_peer *peer; /* instead of a file: only its address is kept */
    unsigned users;                /* 0: abandoned */
    void *cookie;                  /* the backend's */
};

struct domain {
    struct iommu_context *context;
    _Atomic unsigned refs;

    pthread_mutex_t lock; /* for all below */
    struct iommu *iommu;
    struct map_table table;
    TAILQ_HEAD(, tracker) trackers; /* the IOMMU tracks while there is any */
    uint64_t *scratch;              /* theirs, IOMMU_DIRTY_SCRATCH bytes */
};

/* A user of the mapping less, which is unmapped if it was the last one. With the domain's lock. */
void domain_drop_mapping(struct domain *domain, struct domain_mapping *mapping);
