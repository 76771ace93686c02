/*
 * The server under test: an export of a simulated device and its worker, in this process, on a
 * socket in a directory of its own. Its clients are raw.h's and the client library's.
 *
 * All functions fail the running test (cmocka) when something is not as it must be. Teardown in
 * the server follows a client's leaving at some later time: what depends on it is awaited.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bridge/sim/sim.h"
#include "client-example/vfuc.h"
#include "server/export.h"
#include "server/machine.h"
#include "server/worker.h"

enum {
    /* Until something that must come is given up: generous, as sanitizers and busy hosts are slow.
     */
    HARNESS_SECONDS = 120,
};

enum {
    HARNESS_MORE = 3,
};

/* An export beside the first one, on the same machine. */
struct harness_export {
    char path[64];
    char bdf[SIM_NAME_SIZE];
    struct export_config config;
    struct export *export;
    struct worker *worker;
};

struct harness {
    char directory[32];
    char path[64];
    char bdf[SIM_NAME_SIZE];
    struct config settings;
    struct export_config export_config;
    struct machine machine;
    struct export *export;
    struct worker *worker;
    struct harness_export more[HARNESS_MORE];
    unsigned n_more;
    int fds_before;
};

/* The fixture of a test: a started server, *state is its struct harness. */
int harness_setup(void **state);
/* Stops it, and asserts that it left nothing behind: no descriptor, no mapping, no file. */
int harness_teardown(void **state);

/* The same, of a server that takes the device's own log of its writes or none. */
int harness_setup_device_log(void **state);

#define harness_test(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)

/* The same for a test that sets the server up itself, between these two. */
struct harness *harness_new(void);
/* A further export, which harness_start starts: "sim:edu", "sim:edu@LABEL". */
struct harness_export *harness_add_export(struct harness *h, const char *device);
void harness_start(struct harness *h);
void harness_stop(struct harness *h);

struct sim_stats harness_stats(const struct harness *h);
struct sim_device_state harness_device(const struct harness *h);

/* Waits for the condition, and fails the test as "what" if it does not come. */
void harness_await(const struct harness *h, bool (*condition)(const struct harness *h),
                   const char *what);
/* Waits until the device is as an unused one: no mappings, no interrupts, no bus mastering,
 * no migration. */
void harness_await_idle(const struct harness *h);
/* Waits until this process has that many descriptors. */
void harness_await_fds(int count);

/* A session of the client library. One that is still being ended, and a device that is about to be
 * tried again, are waited for. */
struct vfuc *harness_client(const struct harness *h);
struct vfuc *harness_client_at(const char *path);
/* The same without the extension: what the specification has, and nothing else. */
struct vfuc *harness_plain_client(const struct harness *h);

/* Asserts that the server serves: a session that reads the device's vendor. */
void harness_assert_serves(const struct harness *h);

/* Milliseconds of a clock that only goes forward, and a moment's sleep between two looks. */
int64_t harness_now_ms(void);
void harness_pause(void);

/*
 * The program's argument: the IOMMU interface that the suite runs over, "type1" (the default),
 * "iommufd", "iommufd-map", a kernel without IOAS_MAP_FILE, or "spapr", a POWER machine. false:
 * there is no such one.
 */
bool harness_select_backend(int argc, char **argv);
/* The same by its name. */
bool harness_use_backend(const char *name);

/* For what is not the protocol's but the interface's: its limits, its calls to fail. */
bool harness_is_type1(void);
bool harness_has_map_file(void);
bool harness_is_iommufd(void);
bool harness_is_spapr(void);

#define HARNESS_MAIN(tests)                                                                        \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        if (!harness_select_backend(argc, argv))                                                   \
            return 2;                                                                              \
        return cmocka_run_group_tests(tests, NULL, NULL);                                          \
    }
