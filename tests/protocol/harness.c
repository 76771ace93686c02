#include "tests/protocol/harness.h"

#include <errno.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bridge/config_policy.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"

static const struct backend {
    const char *name;
    enum config_iommu iommu;
    enum sim_iommufd kernel;
    enum sim_iommu_model machine;
} backends[] = {
    {"type1",       CONFIG_IOMMU_TYPE1,   SIM_IOMMUFD_MAP_FILE, SIM_IOMMU_TYPE1   },
    {"iommufd",     CONFIG_IOMMU_IOMMUFD, SIM_IOMMUFD_MAP_FILE, SIM_IOMMU_TYPE1   },
    {"iommufd-map", CONFIG_IOMMU_IOMMUFD, SIM_IOMMUFD_MAP,      SIM_IOMMU_TYPE1   },
    {"spapr",       CONFIG_IOMMU_SPAPR,   SIM_IOMMUFD_NONE,     SIM_IOMMU_SPAPR_V2},
};

static const struct backend *backend = &backends[0];

bool harness_is_type1(void)
{
    return backend->iommu == CONFIG_IOMMU_TYPE1;
}

bool harness_is_iommufd(void)
{
    return backend->iommu == CONFIG_IOMMU_IOMMUFD;
}

bool harness_is_spapr(void)
{
    return backend->iommu == CONFIG_IOMMU_SPAPR;
}

bool harness_has_map_file(void)
{
    return backend->iommu == CONFIG_IOMMU_IOMMUFD && backend->kernel == SIM_IOMMUFD_MAP_FILE;
}

bool harness_use_backend(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
        if (!strcmp(name, backends[i].name)) {
            backend = &backends[i];
            return true;
        }
    }
    return false;
}

bool harness_select_backend(int argc, char **argv)
{
    return argc < 2 || harness_use_backend(argv[1]);
}

int64_t harness_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void harness_pause(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    nanosleep(&moment, NULL);
}

struct sim_stats harness_stats(const struct harness *h)
{
    struct sim_stats stats;

    sim_get_stats(h->machine.sim, &stats);
    return stats;
}

struct sim_device_state harness_device(const struct harness *h)
{
    struct sim_device_state state;

    assert_int_equal(sim_get_device_state(h->machine.sim, h->bdf, &state), 0);
    return state;
}

void harness_await(const struct harness *h, bool (*condition)(const struct harness *h),
                   const char *what)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;

    while (!condition(h)) {
        if (harness_now_ms() > deadline)
            fail_msg("did not come in %d seconds: %s", HARNESS_SECONDS, what);
        harness_pause();
    }
}

static bool is_idle(const struct harness *h)
{
    struct sim_stats stats = harness_stats(h);
    struct sim_device_state device = harness_device(h);

    return stats.devices == 1 && !stats.mappings && !stats.pinned_bytes && !stats.streams &&
           !device.bus_master && !device.dma_running && !device.intx_eventfd &&
           !device.msi_eventfds && !device.logging && !device.doorbells &&
           device.migration == VFIO_DEVICE_STATE_RUNNING;
}

void harness_await_idle(const struct harness *h)
{
    harness_await(h, is_idle, "the device is as an unused one");
}

void harness_await_fds(int count)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;

    while (fd_count_open() != count) {
        if (harness_now_ms() > deadline)
            fail_msg("%d descriptors are open, not %d", fd_count_open(), count);
        harness_pause();
    }
}

/* A worker whose export has a listener is never finished before it is stopped. */
static void on_finished(void *arg)
{
    (void)arg;
    abort();
}

struct harness *harness_new(void)
{
    struct harness *h = calloc(1, sizeof(*h));

    assert_non_null(h);
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_WARNING);
    h->fds_before = fd_count_open();
    strcpy(h->directory, "/tmp/vfio-userd-test-XXXXXX");
    assert_non_null(mkdtemp(h->directory));
    snprintf(h->path, sizeof(h->path), "%s/sock", h->directory);
    strcpy(h->bdf, "0000:00:01.0"); /* the first of a simulated machine */
    h->settings = (struct config){
        .log_level = LOG_WARNING,
        .socket_mode = 0600,
        .iommu = backend->iommu,
    };
    h->export_config = (struct export_config){
        .device = "sim:edu",
        .socket_path = h->path,
        .fd = -1,
        .config_denied = CONFIG_DENIED_BY_DEFAULT,
    };
    h->machine.sim = sim_create();
    assert_non_null(h->machine.sim);
    sim_set_iommufd(h->machine.sim, backend->kernel);
    sim_set_iommu(h->machine.sim, backend->machine);
    return h;
}

struct harness_export *harness_add_export(struct harness *h, const char *device)
{
    struct harness_export *e = &h->more[h->n_more++];
    char path[sizeof(e->path)]; /* GCC takes all of *h for what e->path may overlap */

    assert_true(h->n_more <= HARNESS_MORE);
    snprintf(path, sizeof(path), "%s/sock%u", h->directory, h->n_more);
    strcpy(e->path, path);
    snprintf(e->bdf, sizeof(e->bdf), "0000:00:%02x.0", 1 + h->n_more);
    e->config = (struct export_config){.device = device, .socket_path = e->path, .fd = -1};
    return e;
}

static void start_more(struct harness *h)
{
    for (unsigned i = 0; i < h->n_more; i++) {
        struct harness_export *e = &h->more[i];

        assert_int_equal(export_create(&e->export, &e->config, &h->settings, &h->machine), 0);
        assert_int_equal(export_listen(e->export), 0);
    }
    for (unsigned i = 0; i < h->n_more; i++)
        assert_int_equal(worker_start(&h->more[i].worker, h->more[i].export, on_finished, NULL), 0);
}

static void stop_more(struct harness *h)
{
    for (unsigned i = 0; i < h->n_more; i++)
        worker_stop(h->more[i].worker);
    for (unsigned i = 0; i < h->n_more; i++)
        export_destroy(h->more[i].export);
}

void harness_start(struct harness *h)
{
    assert_int_equal(export_create(&h->export, &h->export_config, &h->settings, &h->machine), 0);
    assert_int_equal(export_listen(h->export), 0);
    start_more(h);
    assert_int_equal(worker_start(&h->worker, h->export, on_finished, NULL), 0);
}

void harness_stop(struct harness *h)
{
    struct sim_stats stats;

    worker_stop(h->worker);
    stop_more(h);
    export_destroy(h->export);
    stats = harness_stats(h);
    assert_int_equal(stats.containers, 0);
    assert_int_equal(stats.groups, 0);
    assert_int_equal(stats.devices, 0);
    assert_int_equal(stats.contexts, 0);
    assert_int_equal(stats.mappings, 0);
    assert_true(stats.pinned_bytes == 0);
    machine_destroy(&h->machine);
    assert_int_equal(rmdir(h->directory), 0); /* the socket's file is gone too */
    assert_int_equal(fd_count_open(), h->fds_before);
    free(h);
}

int harness_setup(void **state)
{
    struct harness *h = harness_new();

    harness_start(h);
    *state = h;
    return 0;
}

int harness_setup_device_log(void **state)
{
    struct harness *h = harness_new();

    h->settings.dirty_source = CONFIG_DIRTY_DEVICE;
    harness_start(h);
    *state = h;
    return 0;
}

int harness_teardown(void **state)
{
    harness_stop(*state);
    return 0;
}

struct vfuc *harness_client(const struct harness *h)
{
    return harness_client_at(h->path);
}

static struct vfuc *open_client(const char *path, const struct version_caps *proposal)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    do {
        ret = vfuc_open(&c, path, proposal);
        if (!ret)
            return c;
        harness_pause();
    } while ((ret == -EBUSY || ret == -ENODEV) && harness_now_ms() < deadline);
    fail_msg("no session: %s", strerror(-ret));
    return NULL;
}

struct vfuc *harness_client_at(const char *path)
{
    return open_client(path, NULL);
}

struct vfuc *harness_plain_client(const struct harness *h)
{
    struct version_caps proposal = version_defaults();

    proposal.has_json = proposal.has_capabilities = true;
    proposal.has_max_data_xfer_size = proposal.has_migration = true;
    return open_client(h->path, &proposal);
}

void harness_assert_serves(const struct harness *h)
{
    struct vfuc *c = harness_client(h);
    uint16_t vendor = 0;

    assert_int_equal(vfuc_region_read(c, 7, 0, &vendor, sizeof(vendor)), 0);
    assert_int_equal(vendor, 0x1234);
    vfuc_close(c);
    harness_await_idle(h);
}
