#include "tests/bench/served.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/sim/sim.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/export.h"
#include "server/machine.h"
#include "server/worker.h"
#include "tests/bench/report.h"
#include "tests/bench/workload.h"

static void on_finished(void *arg)
{
    sem_post(arg);
}

/* The first device of a simulated machine. */
static int set_state_size(struct machine *machine, size_t size)
{
    const struct sim_migration_setup setup = {.flags = SIM_MIGRATION_ALL, .ballast = size};

    return sim_set_migration(machine->sim, "0000:00:01.0", &setup);
}

static int serve(struct export *e)
{
    struct worker *worker;
    sem_t finished;
    int ret;

    sem_init(&finished, 0, 0);
    ret = worker_start(&worker, e, on_finished, &finished);
    if (!ret) {
        while (sem_wait(&finished) < 0)
            ;
        worker_stop(worker);
    }
    sem_destroy(&finished);
    return ret;
}

struct writer {
    struct sim *sim;
    int control;
};

static void *write_pages(void *arg)
{
    const struct writer *w = arg;

    report_serve_writes(w->sim, w->control);
    return NULL;
}

/* With the device at work beside it, until its client is gone too. */
static int serve_writing(struct export *e, struct sim *sim, const struct served *served)
{
    struct writer writer = {sim, served->control};
    pthread_t thread;
    int ret;

    if (!served->writes)
        return serve(e);
    close(served->others_end);
    ret = -pthread_create(&thread, NULL, write_pages, &writer);
    if (ret)
        return ret;
    ret = serve(e);
    pthread_join(thread, NULL);
    return ret;
}

int served_run(int sock, const void *arg)
{
    const struct served *served = arg;
    const struct export_config config = {
        .device = "sim:edu",
        .fd = sock,
        .stable_memory = served->stable_memory,
    };
    const struct config settings = {
        .busy_poll_us = served->busy_poll_us,
        .iommu = served->type1 ? CONFIG_IOMMU_TYPE1 : CONFIG_IOMMU_AUTO,
    };
    struct machine machine = {0};
    struct export *e = NULL;
    int ret = export_create(&e, &config, &settings, &machine);

    if (!ret)
        ret = set_state_size(&machine, served->state);
    if (!ret)
        ret = export_listen(e);
    if (!ret)
        ret = serve_writing(e, machine.sim, served);
    export_destroy(e);
    machine_destroy(&machine);
    return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Without version data the defaults hold, and the answer has none either. */
static struct exchange version_message(void)
{
    const struct vfio_user_version version = {.major = 0, .minor = 1};
    struct vfio_user_header hdr = codec_request_header(1, VFIO_USER_VERSION, sizeof(version), 0);
    struct exchange x = {
        .request_len = sizeof(hdr) + sizeof(version),
        .fd = -1,
        .reply_len = sizeof(hdr) + sizeof(version),
    };

    memcpy(x.request, &hdr, sizeof(hdr));
    memcpy(x.request + sizeof(hdr), &version, sizeof(version));
    return x;
}

int served_begin_session(int sock)
{
    const struct exchange version = version_message();
    const struct exchange enable = workload_enable_memory();
    int ret = exchange_ask(sock, &version);

    return ret ? ret : exchange_ask(sock, &enable);
}
