/*
 * The daemon over a kernel that fails: an export is created, a client comes and uses the device,
 * leaves, and the next one comes. A failing call is an error for the operator at the creation, an
 * error reply or none for a client, never the end of its session; and the client after that has
 * full service.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/config_policy.h"
#include "client-example/edu.h"
#include "client-example/event.h"
#include "client-example/vfuc.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/base/log.h"
#include "server/export.h"
#include "server/machine.h"
#include "server/worker.h"
#include "tests/fault/fault.h"

enum {
    PAGE = 4096,
    RAM = 0x100000,
    RAM_SIZE = 4 * PAGE,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
    EDID = VFIO_PCI_NUM_REGIONS, /* of sim:mdev */
    EDU_ID = 0x010000ed,
    BEHIND_CAPABILITIES = 0xf0,
    DMA_RW = VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_TRIGGER = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_UNMASK = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_UNMASK,
};

static enum config_iommu iommu = CONFIG_IOMMU_TYPE1;
static char directory[] = "/tmp/fault-export-XXXXXX";
static char path[64];

struct server {
    struct machine machine;
    struct export_config config;
    struct config settings;
    struct export *export;
    struct worker *worker;
};

struct client {
    struct fault_machine *m;
    struct vfuc *c;
    int memory, event;
};

static void never_finished(void *arg)
{
    (void)arg;
    abort();
}

/* The simulated kernel is the fault machine's. */
static void free_machine(struct server *s)
{
    s->machine.sim = NULL;
    machine_destroy(&s->machine);
}

static int start_export(struct server *s, struct fault_machine *m,
                        const struct export_config *config)
{
    int ret;

    *s = (struct server){
        .machine.sim = m->sim,
        .config = *config,
        .settings = {.socket_mode = 0600, .iommu = iommu},
    };
    ret = export_create(&s->export, &s->config, &s->settings, &s->machine);
    if (ret) {
        free_machine(s);
        return ret;
    }
    assert_int_equal(export_listen(s->export), 0);
    assert_int_equal(worker_start(&s->worker, s->export, never_finished, NULL), 0);
    return 0;
}

static int start(struct server *s, struct fault_machine *m)
{
    const struct export_config config = {
        .device = "sim:edu",
        .socket_path = path,
        .fd = -1,
        .doorbells[0] = {.region = 0, .width = 4, .offset = EDU_REG_LIVENESS, .data = 1},
        .n_doorbells = 1,
        .config_denied = CONFIG_DENIED_BY_DEFAULT,
    };

    return start_export(s, m, &config);
}

static void stop(struct server *s)
{
    worker_stop(s->worker);
    export_destroy(s->export);
    free_machine(s);
}

/* An error must have an excuse, and be the server's answer: the session goes on after it. */
static bool succeeded(const struct client *u, const char *what, int ret)
{
    if (!ret)
        return true;
    if (!fault_happened(u->m))
        fail_msg("%s fails by itself: %s", what, strerror(-ret));
    if (ret == -ECONNRESET || ret == -EPIPE || ret == -EPROTO || ret == -ETIMEDOUT)
        fail_msg("%s ends the session: %s", what, strerror(-ret));
    return false;
}

static void ask_infos(const struct client *u)
{
    struct vfio_user_device_info info;
    struct vfio_user_irq_info irq;

    succeeded(u, "device info", vfuc_device_info(u->c, &info));
    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
        struct vfio_user_region_info *region = NULL;
        int fd = -1;

        succeeded(u, "region info", vfuc_region_info(u->c, i, &region, &fd));
        assert_int_equal(fd, -1);
        free(region);
    }
    for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++)
        succeeded(u, "irq info", vfuc_irq_info(u->c, i, &irq));
}

/* Memory decode and bus mastering; true if the device answers then. */
static bool enable(const struct client *u)
{
    const uint16_t command = PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY;
    uint32_t id = 0;

    succeeded(u, "enabling",
              vfuc_region_write(u->c, CONFIG, PCI_COMMAND, &command, sizeof(command)));
    return succeeded(u, "reading the id", edu_read(u->c, EDU_REG_ID, &id)) && id == EDU_ID;
}

static bool map_memory(const struct client *u)
{
    succeeded(u, "unbacked map", vfuc_dma_map(u->c, 0xf0000000, PAGE, DMA_RW, -1, 0));
    return succeeded(u, "map", vfuc_dma_map(u->c, RAM, RAM_SIZE, DMA_RW, u->memory, 0));
}

/* There and back through the device's buffer. */
static void transfer(const struct client *u)
{
    const struct edu_transfer there = {.iova = RAM, .len = 16};
    const struct edu_transfer back = {.iova = RAM + PAGE, .len = 16, .to_ram = true};
    char out[16] = "fifteen letters", in[16] = "";
    int ret;

    assert_int_equal(pwrite(u->memory, out, sizeof(out), 0), sizeof(out));
    ret = edu_dma(u->c, &there);
    if (!ret)
        ret = edu_dma(u->c, &back);
    if (!succeeded(u, "transfer", ret) || fault_happened(u->m))
        return;
    assert_int_equal(pread(u->memory, in, sizeof(in), PAGE), sizeof(in));
    assert_memory_equal(in, out, sizeof(in));
}

static void assert_interrupted(const struct client *u)
{
    if (fault_happened(u->m))
        event_wait(u->event, 0); /* it may have come, or not */
    else
        assert_int_equal(event_wait(u->event, EVENT_TIMEOUT_MS), 1);
}

/* EINVAL is also a kernel's word for an index that the device has not got. */
static bool lacks_interrupt(const struct client *u, uint32_t index)
{
    struct vfio_user_irq_info info = {0};

    return succeeded(u, "irq info", vfuc_irq_info(u->c, index, &info)) && !info.count &&
           u->m->err == EINVAL;
}

static void use_interrupt(const struct client *u, uint32_t index)
{
    int ret;

    if (lacks_interrupt(u, index))
        return;
    ret = vfuc_set_irqs(u->c, index, EVENTFD_TRIGGER, 0, 1, &u->event, NULL);
    if (succeeded(u, "eventfd", ret) &&
        succeeded(u, "trigger", vfuc_set_irqs(u->c, index, NONE_TRIGGER, 0, 1, NULL, NULL)))
        assert_interrupted(u);
    if (succeeded(u, "raise", edu_write(u->c, EDU_REG_IRQ_RAISE, 1)))
        assert_interrupted(u);
    succeeded(u, "acknowledge", edu_write(u->c, EDU_REG_IRQ_ACK, 1));
    if (index == INTX)
        succeeded(u, "unmask", vfuc_set_irqs(u->c, index, NONE_UNMASK, 0, 1, NULL, NULL));
    succeeded(u, "disable", vfuc_irq_disable(u->c, index));
}

/* What is written comes back inverted. */
static void use_doorbell(const struct client *u)
{
    int64_t deadline = event_now_ms() + EVENT_TIMEOUT_MS;
    struct vfuc_io_fds io;
    uint32_t value = 0;

    if (succeeded(u, "doorbells", vfuc_region_io_fds(u->c, 0, &io)) && io.count == 1) {
        assert_int_equal(event_signal(io.fds.fd[0]), 0);
        while (!fault_happened(u->m) && value != ~1u && event_now_ms() < deadline)
            succeeded(u, "register", edu_read(u->c, EDU_REG_LIVENESS, &value));
        assert_true(fault_happened(u->m) || value == ~1u);
    }
    vfuc_io_fds_free(&io);
}

/* What a client does in its session; it leaves with an interrupt and a mapping in use. */
static void use_device(const struct client *u)
{
    const uint8_t value = 0;

    ask_infos(u);
    /* Behind the header: what is allowed has to be found out. */
    succeeded(u, "config write",
              vfuc_region_write(u->c, CONFIG, BEHIND_CAPABILITIES, &value, sizeof(value)));
    if (enable(u) && map_memory(u)) {
        transfer(u);
        use_doorbell(u);
        use_interrupt(u, INTX);
        use_interrupt(u, MSI);
        succeeded(u, "unmap", vfuc_dma_unmap(u->c, RAM, RAM_SIZE));
    }
    succeeded(u, "reset", vfuc_reset(u->c));
    succeeded(u, "unmap all", vfuc_dma_unmap_all(u->c));
    succeeded(u, "last map", vfuc_dma_map(u->c, RAM, RAM_SIZE, DMA_RW, u->memory, 0));
    if (!lacks_interrupt(u, INTX))
        succeeded(u, "last eventfd",
                  vfuc_set_irqs(u->c, INTX, EVENTFD_TRIGGER, 0, 1, &u->event, NULL));
    enable(u);
}

/* Connects; waits for the session before to end. One fault is no reason to refuse anybody. */
static void begin(struct client *u, struct fault_machine *m)
{
    int64_t deadline = event_now_ms() + EVENT_TIMEOUT_MS;
    int ret;

    *u = (struct client){.m = m, .memory = fault_client_memory(RAM_SIZE), .event = event_create()};
    assert_true(u->event >= 0);
    while ((ret = vfuc_open(&u->c, path, NULL)) == -EBUSY && event_now_ms() < deadline)
        event_pause();
    if (ret)
        fail_msg("no session: %s", strerror(-ret));
}

static void leave(struct client *u)
{
    vfuc_close(u->c);
    fd_close(&u->memory);
    fd_close(&u->event);
}

/* The excuse for its failures is a fault in its own time, not in that of a client before it. */
static void client(struct fault_machine *m)
{
    struct client u;

    begin(&u, m);
    if (fault_happened(m))
        fault_heal(m);
    use_device(&u);
    leave(&u);
}

/*
 * The second client has its session when the first one's has been ended, and a fault of that end
 * does not touch it. So with the third one, which has no faults of its own either.
 */
static void sessions(struct fault_machine *m)
{
    struct server s;

    if (start(&s, m)) {
        assert_true(fault_happened(m));
        assert_int_equal(access(path, F_OK), -1);
        fault_heal(m);
        assert_int_equal(start(&s, m), 0);
    }
    client(m);
    client(m);
    fault_heal(m);
    client(m);
    stop(&s);
}

/* The daemon ends while a client is there. */
static void stop_in_a_session(struct fault_machine *m)
{
    struct server s;
    struct client u;

    if (start(&s, m)) {
        assert_true(fault_happened(m));
        return;
    }
    begin(&u, m);
    use_device(&u);
    stop(&s);
    leave(&u);
}

/* The kernel asks again and again, as it may have been heard by nobody. */
static void await_removal(const struct fault_machine *m, const char *bdf)
{
    int64_t deadline = event_now_ms() + EVENT_TIMEOUT_MS;

    while (!sim_removal_is_done(m->sim, bdf)) {
        assert_int_equal(sim_request_removal(m->sim, bdf), 0);
        if (event_now_ms() > deadline)
            fail_msg("the removal does not end");
        event_pause();
    }
}

/* The host takes the device from a client, whose connection stays, and gives it back. */
static void removal(struct fault_machine *m)
{
    static const char bdf[] = "0000:00:01.0"; /* the first of a simulated machine */
    struct server s;
    struct client u;

    if (start(&s, m)) {
        assert_true(fault_happened(m));
        return;
    }
    begin(&u, m);
    use_device(&u);
    if (!lacks_interrupt(&u, REQ)) {
        await_removal(m, bdf);
        assert_int_equal(vfuc_reset(u.c), -ENODEV);
        fault_heal(m);
        assert_int_equal(sim_bring_back(m->sim, bdf), 0);
        client(m);
    }
    leave(&u);
    stop(&s);
}

/* Likewise of a region. */
static bool lacks_region(const struct client *u, uint32_t index)
{
    struct vfio_user_region_info *region = NULL;
    bool lacks;

    lacks = succeeded(u, "region info", vfuc_region_info(u->c, index, &region, &(int){-1})) &&
            !region->size && u->m->err == EINVAL;
    free(region);
    return lacks;
}

/* A mediated device is looked up, reset and described in calls of its own. */
static void use_mediated(struct fault_machine *m)
{
    const uint32_t size = 128;
    struct client u;
    uint32_t id = 0;

    begin(&u, m);
    if (fault_happened(m))
        fault_heal(m);
    ask_infos(&u);
    succeeded(&u, "register", vfuc_region_read(u.c, 0, 0, &id, sizeof(id)));
    if (!lacks_region(&u, EDID))
        succeeded(&u, "size of an EDID",
                  vfuc_region_write(u.c, EDID, offsetof(struct vfio_region_gfx_edid, edid_size),
                                    &size, sizeof(size)));
    succeeded(&u, "map", vfuc_dma_map(u.c, RAM, RAM_SIZE, DMA_RW, u.memory, 0));
    if (!lacks_interrupt(&u, INTX))
        succeeded(&u, "eventfd", vfuc_set_irqs(u.c, INTX, EVENTFD_TRIGGER, 0, 1, &u.event, NULL));
    succeeded(&u, "reset", vfuc_reset(u.c));
    leave(&u);
}

static void mediated(struct fault_machine *m)
{
    const struct export_config config = {.device = "sim:mdev", .socket_path = path, .fd = -1};
    struct server s;

    if (start_export(&s, m, &config)) {
        assert_true(fault_happened(m));
        fault_heal(m);
        assert_int_equal(start_export(&s, m, &config), 0);
    }
    use_mediated(m);
    use_mediated(m);
    fault_heal(m);
    use_mediated(m);
    stop(&s);
}

static void run_errnos(fault_scenario scenario)
{
    static const int errnos[] = FAULT_ERRNOS;

    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
        unsigned calls = fault_each_call(scenario, errnos[i]);

        print_message("%s: %u calls\n", strerror(errnos[i]), calls);
        assert_true(calls > 50);
    }
}

static void test_sessions(void **state)
{
    (void)state;
    run_errnos(sessions);
}

static void test_removal(void **state)
{
    (void)state;
    run_errnos(removal);
}

static void test_mediated(void **state)
{
    (void)state;
    if (iommu != CONFIG_IOMMU_SPAPR) /* which has none */
        run_errnos(mediated);
}

static void test_stop_in_a_session(void **state)
{
    (void)state;
    run_errnos(stop_in_a_session);
}

static int group_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_ERROR);
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/sock", directory);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return rmdir(directory);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        fault_test(test_sessions),
        fault_test(test_stop_in_a_session),
        fault_test(test_removal),
        fault_test(test_mediated),
    };

    if (argc > 1 && !strcmp(argv[1], "iommufd"))
        iommu = CONFIG_IOMMU_IOMMUFD;
    if (argc > 1 && fault_select_machine(argv[1]))
        iommu = CONFIG_IOMMU_SPAPR;
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
