/*
 * The bridge over a kernel that fails: a device is opened, mapped for, interrupted, reset, and
 * closed. After each step what the device can reach is what the address space says, and a step that
 * failed succeeds when it is made again. In the end the next user of the device has all of it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "bridge/address_space.h"
#include "bridge/config_space.h"
#include "bridge/device.h"
#include "bridge/dirty.h"
#include "bridge/irq.h"
#include "bridge/irq_relay.h"
#include "bridge/migration.h"
#include "bridge/region.h"
#include "bridge/reset.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "tests/fault/fault.h"
#include "tests/unit/own_address_space.h"

enum {
    PAGE = 4096,
    MAPS = 3,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
    EVENTFD_TRIGGER = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
    NONE_TRIGGER = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
};

/* The last map has no file behind it. */
static const struct {
    uint64_t iova, pages;
    uint32_t prot;
} maps[MAPS] = {
    {0x10000, 4, IOMMU_READ | IOMMU_WRITE},
    {0x40000, 1, IOMMU_READ              },
    {0x80000, 1, IOMMU_READ | IOMMU_WRITE},
};

static enum iommu_kind kind = IOMMU_TYPE1;

struct use {
    struct fault_machine *m;
    char bdf[13];
    int memory, event, own;
    struct address_space *as;
    struct device *dev;
    bool mapped[MAPS];
    bool logging, written; /* the first map */
};

static int create(struct use *u)
{
    return own_address_space(u->m->host, kind, &u->as);
}

static int open_device(struct use *u)
{
    struct sysfs_device where;
    int ret = sysfs_find_device(u->m->host, u->bdf, &where);

    return ret ? ret : device_open(&u->dev, u->m->host, u->as, &where);
}

static int read_vendor(struct use *u)
{
    uint16_t vendor = 0;
    int ret = region_read(u->dev, CONFIG, PCI_VENDOR_ID, &vendor, sizeof(vendor));

    if (!ret)
        assert_int_equal(vendor, 0x1234);
    return ret;
}

static int enable(struct use *u)
{
    const uint16_t command = PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY;

    return region_write(u->dev, CONFIG, PCI_COMMAND, &command, sizeof(command));
}

static int map(struct use *u, unsigned i)
{
    int fd = i == MAPS - 1 ? -1 : u->memory;
    int ret = address_space_map(u->as, maps[i].iova, maps[i].pages * PAGE, maps[i].prot, fd, 0);

    u->mapped[i] = !ret;
    return ret;
}

static int map_first(struct use *u)
{
    return map(u, 0);
}

static int map_second(struct use *u)
{
    return map(u, 1);
}

static int map_third(struct use *u)
{
    return map(u, 2);
}

static int unmap_first(struct use *u)
{
    int ret = address_space_unmap(u->as, maps[0].iova, maps[0].pages * PAGE);

    u->mapped[0] = u->mapped[0] && ret;
    return ret;
}

static int unmap_all(struct use *u)
{
    struct address_space_stats stats;
    int ret = address_space_unmap_all(u->as);

    /* What failed is still there: it is the one that the count tells of. */
    address_space_get_stats(u->as, &stats);
    for (unsigned i = 0; i < MAPS; i++)
        u->mapped[i] = u->mapped[i] && stats.backed_bytes == maps[i].pages * PAGE;
    return ret;
}

static int give_eventfd(struct use *u, uint32_t index)
{
    int fd = dup(u->event);
    struct irq_request req = {
        .index = index, .flags = EVENTFD_TRIGGER, .count = 1, .eventfds = &fd};
    int ret = irq_set(u->dev, &req);

    assert_int_equal(fd >= 0, ret != 0); /* taken, or left to the caller */
    fd_close(&fd);
    return ret;
}

static int enable_intx(struct use *u)
{
    return give_eventfd(u, INTX);
}

static int change_intx(struct use *u)
{
    return give_eventfd(u, INTX);
}

static int enable_msi(struct use *u)
{
    return give_eventfd(u, MSI);
}

static int request(struct use *u, uint32_t index, uint32_t count)
{
    struct irq_request req = {.index = index, .flags = NONE_TRIGGER, .count = count};

    return irq_set(u->dev, &req);
}

static int raise_interrupt(struct use *u, uint32_t index)
{
    uint64_t counter;
    int ret = request(u, index, 1);

    if (!ret)
        assert_int_equal(read(u->event, &counter, sizeof(counter)), sizeof(counter));
    return ret;
}

static int raise_intx(struct use *u)
{
    return raise_interrupt(u, INTX);
}

static int raise_msi(struct use *u)
{
    return raise_interrupt(u, MSI);
}

static int disable_intx(struct use *u)
{
    return request(u, INTX, 0);
}

static int disable_all(struct use *u)
{
    return irq_disable_all(u->dev);
}

static int reset(struct use *u)
{
    int ret = reset_device(u->dev);

    return ret ? ret : irq_rearm(u->dev);
}

static int stop_dma(struct use *u)
{
    return config_space_stop_dma(u->dev);
}

static int stop_decode(struct use *u)
{
    return config_space_stop_decode(u->dev);
}

/* By the IOMMU, if it still can: it is guessed at least. */
static int start_log(struct use *u)
{
    uint64_t page_size = PAGE;
    int ret = dirty_start(u->dev, DIRTY_IOMMU | DIRTY_GUESS, NULL, 0, &page_size);

    u->logging = !ret;
    return ret;
}

static void write_first(struct use *u)
{
    char byte = 0;

    if (u->logging && u->mapped[0])
        u->written |= !sim_device_dma(u->m->sim, u->bdf, maps[0].iova, &byte, sizeof(byte), true);
}

/* Whatever the kernel does, what was written is told: now, and after an unmap. */
static int report(struct use *u)
{
    uint64_t bits = 0;
    int ret =
        u->logging ? dirty_report(u->dev, maps[0].iova, maps[0].pages * PAGE, PAGE, &bits) : 0;

    assert_true(ret || !u->written || bits & 1);
    u->written &= !!ret;
    return ret;
}

static int report_written(struct use *u)
{
    write_first(u);
    return report(u);
}

static int unmap_written(struct use *u)
{
    if (!u->mapped[0])
        return 0;
    write_first(u);
    dirty_keep(u->dev, maps[0].iova, maps[0].iova + maps[0].pages * PAGE - 1);
    return unmap_first(u);
}

static int stop_log(struct use *u)
{
    u->logging = u->written = false;
    return dirty_stop(u->dev);
}

static int watch(struct use *u)
{
    return irq_relay_watch(u->dev, u->own, u->own);
}

static int enable_req(struct use *u)
{
    return give_eventfd(u, REQ);
}

static int raise_req(struct use *u)
{
    return raise_interrupt(u, REQ);
}

static int disable_req(struct use *u)
{
    return request(u, REQ, 0);
}

/* Where it is after a change that failed is the kernel's to know. */
static int pre_copy(struct use *u)
{
    int ret = migration_set_state(u->dev, VFIO_DEVICE_STATE_RUNNING);

    return ret ? ret : migration_set_state(u->dev, UAPI_VFIO_STATE_PRE_COPY);
}

static int precopy_info(struct use *u)
{
    struct migration_precopy info;
    int ret = migration_get_precopy(u->dev, &info);

    if (!ret)
        assert_true(info.initial_bytes > 0);
    return ret;
}

static int reopen(struct use *u)
{
    return device_reopen(u->dev);
}

#define STEP(f)                                                                                    \
    {                                                                                              \
#f, f                                                                                      \
    }

static const struct {
    const char *name;
    int (*run)(struct use *u);
} steps[] = {
    STEP(create),       STEP(open_device),    STEP(read_vendor),   STEP(enable),
    STEP(map_first),    STEP(map_second),     STEP(map_third),     STEP(enable_intx),
    STEP(raise_intx),   STEP(change_intx),    STEP(raise_intx),    STEP(disable_intx),
    STEP(enable_msi),   STEP(raise_msi),      STEP(reset),         STEP(raise_msi),
    STEP(start_log),    STEP(report_written), STEP(unmap_written), STEP(report),
    STEP(stop_log),     STEP(map_first),      STEP(unmap_first),   STEP(map_first),
    STEP(enable),       STEP(stop_dma),       STEP(watch),         STEP(enable_req),
    STEP(raise_req),    STEP(disable_req),    STEP(disable_all),   STEP(pre_copy),
    STEP(precopy_info), STEP(reset),          STEP(stop_decode),   STEP(unmap_all),
    STEP(reopen),       STEP(read_vendor),    STEP(map_second),    STEP(enable_intx),
};

enum { FIRST_WITH_DEVICE = 2 };

/* In the place of libc's: nobody else holds the lock that a refused reset waits for. */
int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest);

int __wrap_nanosleep(const struct timespec *duration, struct timespec *rest)
{
    (void)duration;
    (void)rest;
    return 0;
}

/* Whether the device reaches memory at an address, by its own DMA. */
static bool reaches(struct use *u, uint64_t iova, bool write)
{
    char byte = 0;
    int ret = sim_device_dma(u->m->sim, u->bdf, iova, &byte, sizeof(byte), write);

    assert_true(!ret || ret == -EFAULT);
    return !ret;
}

/* The address space, the IOMMU and the test's own books say the same. */
static void check_memory(struct use *u)
{
    struct address_space_stats stats;
    struct sim_stats kernel;

    address_space_get_stats(u->as, &stats);
    sim_get_stats(u->m->sim, &kernel);
    assert_int_equal(kernel.mappings, stats.maps - stats.unbacked);
    assert_int_equal(kernel.pinned_bytes, stats.backed_bytes);
    if (!u->dev)
        return;
    for (unsigned i = 0; i < MAPS - 1; i++) {
        bool writable = maps[i].prot & IOMMU_WRITE;
        uint64_t last = maps[i].iova + maps[i].pages * PAGE - 1;

        assert_int_equal(reaches(u, maps[i].iova, false), u->mapped[i]);
        assert_int_equal(reaches(u, last, false), u->mapped[i]);
        assert_int_equal(reaches(u, last, true), u->mapped[i] && writable);
        assert_false(reaches(u, last + 1, false));
    }
    assert_false(reaches(u, maps[MAPS - 1].iova, false));
}

static void begin(struct use *u, struct fault_machine *m, const char *bdf)
{
    *u = (struct use){.m = m, .memory = fault_client_memory(4 * PAGE)};
    strcpy(u->bdf, bdf);
    u->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    u->own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(u->event >= 0 && u->own >= 0);
}

static void end(struct use *u)
{
    device_close(u->dev);
    address_space_destroy(u->as);
    fd_close(&u->memory);
    fd_close(&u->event);
    fd_close(&u->own);
}

/* A user whose kernel does not fail. */
static void use_all(struct fault_machine *m, const char *bdf)
{
    struct use u;

    begin(&u, m, bdf);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        int ret = steps[i].run(&u);

        if (ret)
            fail_msg("%s: %s", steps[i].name, strerror(-ret));
        check_memory(&u);
    }
    end(&u);
}

/*
 * EINVAL has a meaning of its own in two places, where a kernel would not give it without reason:
 * an index that does not exist, an interrupt that is off. What depends on them fails later.
 */
static bool is_taken_for_an_answer(const struct fault_machine *m)
{
    return m->err == EINVAL;
}

static bool is_opening(int (*step)(struct use *u))
{
    return step == create || step == open_device || step == reopen;
}

static void run_step(struct use *u, size_t i)
{
    bool before = fault_happened(u->m);
    int ret = steps[i].run(u);

    if (ret && !fault_happened(u->m))
        fail_msg("%s fails by itself: %s", steps[i].name, strerror(-ret));
    if (!ret || (before && is_taken_for_an_answer(u->m)))
        return;
    if (before)
        fail_msg("%s fails after the fault: %s", steps[i].name, strerror(-ret));
    if (ret != -u->m->err && !is_opening(steps[i].run))
        fail_msg("%s gives %s", steps[i].name, strerror(-ret));
    ret = steps[i].run(u);
    if (ret)
        fail_msg("%s fails once more: %s", steps[i].name, strerror(-ret));
}

static void one_fault(struct fault_machine *m)
{
    char bdf[13];
    struct use u;

    assert_int_equal(sim_add_device(m->sim, "edu", bdf, sizeof(bdf)), 0);
    begin(&u, m, bdf);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        run_step(&u, i);
        check_memory(&u);
    }
    end(&u);
    fault_heal(m);
    use_all(m, bdf);
}

/* Whatever fails, everything can be taken down; and a kernel that comes back finds nothing. */
static void faults_for_good(struct fault_machine *m)
{
    char bdf[13];
    struct use u;

    assert_int_equal(sim_add_device(m->sim, "edu", bdf, sizeof(bdf)), 0);
    begin(&u, m, bdf);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        int ret;

        if (i && (!u.as || (i >= FIRST_WITH_DEVICE && !u.dev)))
            break;
        ret = steps[i].run(&u);
        if (ret && !fault_happened(m))
            fail_msg("%s fails by itself: %s", steps[i].name, strerror(-ret));
    }
    end(&u);
    fault_heal(m);
    use_all(m, bdf);
}

static void run_errnos(unsigned (*run)(fault_scenario scenario, int err), fault_scenario scenario)
{
    static const int errnos[] = FAULT_ERRNOS;

    for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
        unsigned calls = run(scenario, errnos[i]);

        print_message("%s: %u calls\n", strerror(errnos[i]), calls);
        assert_true(calls > 2 * ARRAY_SIZE(steps));
    }
}

static void test_each_call(void **state)
{
    (void)state;
    run_errnos(fault_each_call, one_fault);
}

static void test_each_end(void **state)
{
    (void)state;
    run_errnos(fault_each_end, faults_for_good);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        fault_test(test_each_call),
        fault_test(test_each_end),
    };

    if (argc > 1 && !strcmp(argv[1], "iommufd"))
        kind = IOMMU_IOMMUFD;
    if (argc > 1 && fault_select_machine(argv[1]))
        kind = IOMMU_SPAPR;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
