/*
 * A device that the host takes away, by unbinding its driver or by pulling it out, with a client
 * and without; and that comes back, in another group and with another file. Errors that AER
 * reports.
 *
 * The kernel's unbinding ends when the server has closed everything: that is waited for.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    ERR = VFIO_PCI_ERR_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    IOVA = 0x100000,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NEVER = 3600, /* seconds of grace, longer than any test */
};

static void start(void **state, const char *device, unsigned grace)
{
    struct harness *h = harness_new();

    h->export_config.device = device;
    h->settings.removal_grace = grace;
    harness_start(h);
    *state = h;
}

static int without_grace(void **state)
{
    start(state, "sim:edu", 0);
    return 0;
}

static int with_a_second(void **state)
{
    start(state, "sim:edu", 1);
    return 0;
}

static int with_long_grace(void **state)
{
    start(state, "sim:edu", NEVER);
    return 0;
}

static int with_express(void **state)
{
    start(state, "sim:testdev", NEVER);
    return 0;
}

static void request_removal(const struct harness *h)
{
    assert_int_equal(sim_request_removal(h->machine.sim, h->bdf), 0);
}

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf);
}

/*
 * The kernel asks again and again. It must: nobody hears it while the server opens the device anew
 * at the end of a session.
 */
static bool is_removed_or_asked_for(const struct harness *h)
{
    if (is_removed(h))
        return true;
    request_removal(h);
    return false;
}

/* Nothing of the device is held, and nothing for it. */
static void await_removal(const struct harness *h)
{
    struct sim_stats stats;

    harness_await(h, is_removed_or_asked_for, "the removal is over");
    stats = harness_stats(h);
    assert_int_equal(stats.devices, 0);
    assert_int_equal(stats.groups, 0);
    assert_int_equal(stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
}

static void assert_refused(const struct harness *h)
{
    struct vfuc *c;

    assert_int_equal(vfuc_open(&c, h->path, NULL), -ENODEV);
}

static void bring_back(const struct harness *h)
{
    assert_int_equal(sim_bring_back(h->machine.sim, h->bdf), 0);
}

static void assert_comes_back(const struct harness *h)
{
    assert_refused(h);
    bring_back(h);
    harness_assert_serves(h);
}

static int give(struct vfuc *c, uint32_t index, int event)
{
    return vfuc_set_irqs(c, index, EVENTFD_TRIGGER, 0, 1, &event, NULL);
}

/* A session with all that a client leaves behind. */
static struct vfuc *begin(const struct harness *h, int memory, int req)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct vfuc *c = harness_client(h);

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(vfuc_dma_map(c, IOVA, PAGE, DMA_RW, memory, 0), 0);
    assert_int_equal(give(c, MSI, req), 0);
    assert_int_equal(give(c, REQ, req), 0);
    return c;
}

static void assert_fires(int event)
{
    assert_int_equal(event_wait(event, HARNESS_SECONDS * 1000), 1);
}

static void without_client(void **state)
{
    struct harness *h = *state;

    request_removal(h);
    await_removal(h);
    assert_comes_back(h);
    request_removal(h); /* once more, of the device in its new place */
    await_removal(h);
    assert_comes_back(h);
}

/* The client is told, each time that the kernel asks, and goes by itself. */
static void client_that_leaves(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();
    struct vfuc *c = begin(h, memory, req);
    uint32_t value;

    for (int i = 0; i < 3; i++) {
        request_removal(h);
        assert_fires(req);
    }
    assert_false(is_removed(h));
    assert_int_equal(vfuc_region_read(c, BAR0, 0, &value, sizeof(value)), 0);
    assert_int_equal(value, 0x010000ed);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(harness_stats(h).mappings, 1);
    vfuc_close(c);
    await_removal(h);
    assert_comes_back(h);
}

/* What a bus and an IOMMU do without the device too; the rest is ENODEV. */
static void assert_lost(struct vfuc *c, int memory, int event)
{
    struct vfio_user_device_info info;
    struct vfio_user_irq_info irq;
    uint32_t value = 0;

    assert_int_equal(vfuc_region_read(c, CONFIG, 0, &value, sizeof(value)), 0);
    assert_int_equal(value, 0xffffffff);
    assert_int_equal(vfuc_region_write(c, BAR0, 4, &value, sizeof(value)), 0);
    assert_int_equal(vfuc_device_info(c, &info), -ENODEV);
    assert_int_equal(vfuc_irq_info(c, MSI, &irq), -ENODEV);
    assert_int_equal(give(c, MSI, event), -ENODEV);
    assert_int_equal(vfuc_irq_disable(c, MSI), -ENODEV);
    assert_int_equal(vfuc_reset(c), -ENODEV);
    assert_int_equal(vfuc_dma_map(c, 2 * IOVA, PAGE, DMA_RW, memory, 0), -ENODEV);
    assert_int_equal(vfuc_dma_unmap(c, IOVA, PAGE), 0);
    assert_int_equal(vfuc_dma_unmap_all(c), 0);
}

/* The client keeps its connection, without a device, also when that is somebody else's. */
static void client_that_stays(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();
    struct vfuc *c = begin(h, memory, req);
    int64_t asked = harness_now_ms();

    request_removal(h);
    assert_fires(req);
    await_removal(h);
    /* Half of it: the server's loop counts from when it woke up. */
    assert_true(harness_now_ms() - asked >= (int64_t)h->settings.removal_grace * 500);
    assert_lost(c, memory, req);
    assert_comes_back(h);
    assert_lost(c, memory, req);
    vfuc_close(c);
    harness_assert_serves(h);
}

/* Its messages are still checked. */
static void nonsense_without_device(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    cleanup_close_ int memory = raw_memfd(PAGE);

    request_removal(h);
    await_removal(h);
    raw_refused(sock, MSG(.command = 999), ENOTTY);
    raw_refused(sock, MSG(MSG_DMA_UNMAP(.flags = ~0u, .size = PAGE)), EINVAL);
    raw_refused(sock, MSG(MSG_REGION_READ(.region = 7, .count = UINT32_MAX)), EINVAL);
    raw_send(sock, MSG(MSG_REGION_READ(.region = 7, .count = 4), .flags = VFIO_USER_FLAG_NO_REPLY),
             NULL, 0);
    raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .size = PAGE)), &memory, 1);
    raw_expect_error(sock, MSG(.command = VFIO_USER_DMA_MAP), ENODEV);
}

/* No interrupt of the session is left to fire, and none of the next one's goes to the old client.
 */
static void client_without_req(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();
    struct vfuc *c = begin(h, memory, req);

    assert_int_equal(vfuc_irq_disable(c, REQ), 0);
    request_removal(h);
    await_removal(h);
    assert_int_equal(event_wait(req, 0), 0);
    vfuc_close(c);
    assert_comes_back(h);
}

/* Nothing of the server may write to it. */
static void full_counter(void **state)
{
    const uint64_t full = UINT64_MAX - 1;
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    cleanup_close_ int blocking = eventfd(0, EFD_CLOEXEC);

    assert_int_equal(write(blocking, &full, sizeof(full)), sizeof(full));
    assert_int_equal(give(c, REQ, blocking), 0);
    request_removal(h);
    await_removal(h);
    vfuc_close(c);
    assert_comes_back(h);
}

/* A device that EEH has cut off looks as one that is pulled out: there only the kernel's word
 * counts.
 */
static bool has_eeh(const struct harness *h)
{
    return h->settings.iommu == CONFIG_IOMMU_SPAPR;
}

/* A client that uses it finds out: by an error of its own, without a word of the kernel. */
static void use_until_gone(struct harness *h)
{
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();
    struct vfuc *c = begin(h, memory, req);
    uint32_t value = 0;

    assert_int_equal(sim_surprise_removal(h->machine.sim, h->bdf), 0);
    assert_int_equal(vfuc_region_read(c, BAR0, 0, &value, sizeof(value)), 0);
    assert_int_equal(value, 0xffffffff);
    assert_true(vfuc_reset(c) < 0);
    assert_lost(c, memory, req);
    assert_int_equal(harness_stats(h).devices, 0);
    assert_int_equal(harness_stats(h).mappings, 0);
    request_removal(h);
    await_removal(h);
    assert_comes_back(h);
    vfuc_close(c);
}

/* There is nothing to leave in order. */
static void pull_out(struct harness *h)
{
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();
    struct vfuc *c = begin(h, memory, req);

    assert_int_equal(sim_surprise_removal(h->machine.sim, h->bdf), 0);
    request_removal(h);
    await_removal(h);
    assert_fires(req);
    assert_lost(c, memory, req);
    assert_comes_back(h);
    vfuc_close(c);
}

static void pulled_out_unnoticed(void **state)
{
    if (has_eeh(*state))
        skip();
    use_until_gone(*state);
}

static void pulled_out(void **state)
{
    if (has_eeh(*state))
        skip();
    pull_out(*state);
}

/* And the client leaves without having noticed. */
static void left_while_pulled_out(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();

    vfuc_close(begin(h, memory, req));
    assert_int_equal(sim_surprise_removal(h->machine.sim, h->bdf), 0);
    request_removal(h);
    await_removal(h);
    assert_comes_back(h);
}

/* A device that keeps its state is still kept from others, and not from its own client. */
static void without_reset(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int memory = raw_memfd(PAGE);
    cleanup_close_ int req = event_create();

    *state = h;
    h->export_config.device = "sim:edu";
    harness_start(h);
    request_removal(h);
    await_removal(h);
    sim_set_no_reset(h->machine.sim, h->bdf);
    bring_back(h);
    for (int i = 0; i < 3; i++) {
        vfuc_close(begin(h, memory, req));
        harness_await_idle(h);
        request_removal(h);
        await_removal(h);
        bring_back(h);
    }
    harness_assert_serves(h);
}

/* The client decides what to do about it. */
static void error(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    cleanup_close_ int err = event_create();
    uint32_t id = 0;

    assert_int_equal(sim_report_error(h->machine.sim, h->bdf), 0);
    assert_int_equal(give(c, ERR, err), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sim_report_error(h->machine.sim, h->bdf), 0);
        assert_fires(err);
    }
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(vfuc_region_read(c, CONFIG, 0, &id, sizeof(id)), 0);
    assert_int_equal(id, 0x7e571234);
    vfuc_close(c);
    harness_await_idle(h);
    event_wait(err, 0); /* the error from before the client's eventfd may have reached it late */
    assert_int_equal(sim_report_error(h->machine.sim, h->bdf), 0);
    assert_int_equal(event_wait(err, 0), 0);
    harness_assert_serves(h);
}

#define removal_test(f, setup) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)

static const struct CMUnitTest tests[] = {
    removal_test(without_client, with_long_grace),
    removal_test(client_that_leaves, with_long_grace),
    removal_test(client_that_stays, without_grace),
    {"client_that_stays (a second)", client_that_stays, with_a_second, harness_teardown, NULL},
    removal_test(nonsense_without_device, without_grace),
    removal_test(client_without_req, without_grace),
    removal_test(full_counter, without_grace),
    removal_test(pulled_out_unnoticed, with_long_grace),
    removal_test(pulled_out, with_long_grace),
    removal_test(left_while_pulled_out, with_long_grace),
    cmocka_unit_test_teardown(without_reset, harness_teardown),
    removal_test(error, with_express),
};

HARNESS_MAIN(tests)
