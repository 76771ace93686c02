/*
 * An IOAS: areas of IO addresses with the memory behind them. It pins and translates only while it
 * has a domain, that is an HWPT; what is wrong with the memory comes out then.
 *
 * With the context's lock held.
 */
#pragma once

#include <stdint.h>
#include <sys/queue.h>

#include "bridge/sim/sim_domain.h"
#include "bridge/sim/sim_object.h"

struct sim_pages;
struct uapi_iova_range;

LIST_HEAD(sim_areas, sim_area);

struct sim_ioas {
    struct sim_object object;
    struct sim_domain domain;
    struct sim_areas areas;
    unsigned domains; /* HWPTs */
    unsigned devices; /* attached to any of them */
};

/* NULL without memory. */
struct sim_ioas *sim_ioas_create(struct sim *sim);
/* It has no domain any more. */
void sim_ioas_free(struct sim_ioas *ioas);

/*
 * Maps length bytes of the pages, which keep their caller's reference. flags: UAPI_IOAS_MAP_*;
 * without FIXED_IOVA, *iova is chosen. -EINVAL, -EOVERFLOW, -EEXIST, -ENOSPC: the range; -EPERM:
 * the memory was mapped first without the right to write; and as sim_pages_pin().
 */
int sim_ioas_map(struct sim_ioas *ioas, struct sim_pages *pages, uint64_t length, uint32_t flags,
                 uint64_t *iova);
/* Maps what the source has at [from, from + length) too. -ENOENT: not all of that is mapped. */
int sim_ioas_copy(struct sim_ioas *ioas, const struct sim_ioas *source, uint64_t from,
                  uint64_t length, uint32_t flags, uint64_t *iova);
/* -ENOENT: nothing is there, or an area is only in part; those below it are gone by then. */
int sim_ioas_unmap(struct sim_ioas *ioas, uint64_t first, uint64_t last, uint64_t *unmapped);

/* The ranges that can be mapped, ascending; ranges: room for SIM_DOMAIN_APERTURES. */
unsigned sim_ioas_ranges(const struct sim_ioas *ioas, struct uapi_iova_range *ranges);
uint64_t sim_ioas_alignment(const struct sim_ioas *ioas);

/* -EADDRINUSE: there are areas that the domain can't have; and as sim_pages_pin(). */
int sim_ioas_add_domain(struct sim_ioas *ioas);
void sim_ioas_remove_domain(struct sim_ioas *ioas);
/* Of the domain's devices. -EADDRINUSE: there are areas where the devices have their interrupts. */
int sim_ioas_add_devices(struct sim_ioas *ioas, unsigned count);
void sim_ioas_remove_devices(struct sim_ioas *ioas, unsigned count);
