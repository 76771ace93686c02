/*
 * "Fail the Nth call, for every N." A scenario runs again and again, each time on a new simulated
 * machine whose Nth call fails, until there is no Nth call any more. After each run nothing may be
 * left: no descriptor, no group or container, no DMA entry, no pinned page, and no mapping of the
 * client's memory.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/host.h"
#include "bridge/sim/sim.h"

struct fault_machine {
    struct sim *sim;
    struct host *host; /* for the code under test */
    int err;           /* that calls fail with */
    bool happened;     /* before it healed */
};

typedef void (*fault_scenario)(struct fault_machine *m);

/* One call fails; returns the number of calls that were failed in their turn. */
unsigned fault_each_call(fault_scenario scenario, int err);

/*
 * The Nth call and all after it fail, as of a kernel or a device that is gone for good. Only calls
 * on m->host do.
 */
unsigned fault_each_end(fault_scenario scenario, int err);

/* True once a call has failed: before, no failure has an excuse, nor after fault_heal(). */
bool fault_happened(const struct fault_machine *m);

/*
 * A program's argument, the IOMMU interface that it runs over: with "spapr" and "spapr-v1" the
 * machines are POWER ones, and true is returned.
 */
bool fault_select_machine(const char *interface);

/* From now on no call fails. */
void fault_heal(struct fault_machine *m);

/* An anonymous file, the caller's, by whose name a mapping of it is found after the run. */
int fault_client_memory(size_t size);

/* A test's teardown: says in which run it failed. */
int fault_teardown(void **state);
#define fault_test(f) cmocka_unit_test_teardown(f, fault_teardown)

/* The errnos that each scenario is run with. */
#define FAULT_ERRNOS                                                                               \
    {                                                                                              \
        EIO, ENOMEM, EBUSY, EINVAL, EAGAIN                                                         \
    }
