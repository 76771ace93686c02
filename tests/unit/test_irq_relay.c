#include "bridge/irq_relay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#include "bridge/irq.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"

enum {
    ERR = VFIO_PCI_ERR_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,

    NONE = VFIO_IRQ_SET_DATA_NONE,
    BOOL = VFIO_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_IRQ_SET_ACTION_MASK,
    TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER,

    /* What the device's owner has; the script does not look at what they are. */
    OWN_ERR = 1000,
    OWN_REQ,
};

static struct fake_machine m;
static struct fake_device express;
static int fds_before;

static int setup(void **state)
{
    (void)state;
    fds_before = fd_count_open();
    express = fake_pci;
    express.irqs[ERR] = (struct fake_irq){VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 1, 0};
    fake_machine_open(&m, &express);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    assert_int_equal(fd_count_open(), fds_before);
    return 0;
}

static void expect_set(uint32_t index, uint32_t flags, const int *fd, int ret)
{
    uint8_t bytes[sizeof(struct vfio_irq_set) + sizeof(*fd)];
    const size_t size = fd ? sizeof(*fd) : 0;
    const struct vfio_irq_set set = {(uint32_t)(sizeof(set) + size), flags, index, 0, 1};

    memcpy(bytes, &set, sizeof(set));
    if (fd)
        memcpy(bytes + sizeof(set), fd, size);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_SET_IRQS,
                .in = bytes, .in_len = sizeof(set) + size, .ret = ret);
}

static void expect_fd(uint32_t index, int fd, int ret)
{
    expect_set(index, EVENTFD | TRIGGER, &fd, ret);
}

/* The client's for a moment, with a signal or without. */
static void expect_loan(uint32_t index, int fd, bool signalled, int own)
{
    expect_fd(index, fd, 0);
    if (signalled)
        expect_set(index, NONE | TRIGGER, NULL, 0);
    expect_fd(index, own, 0);
}

static void watch(void)
{
    expect_fd(ERR, OWN_ERR, 0);
    expect_fd(REQ, OWN_REQ, 0);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), 0);
}

static int request(uint32_t index, uint32_t flags, uint32_t count, const uint8_t *bools, int *fds)
{
    struct irq_request req = {
        .index = index, .flags = flags, .count = count, .bools = bools, .eventfds = fds};

    return irq_set(m.dev, &req);
}

/* A client's eventfd that the device has. */
static int give(uint32_t index, int own)
{
    int fd = eventfd(0, EFD_CLOEXEC), kept = fd;

    assert_true(fd >= 0);
    expect_loan(index, fd, false, own);
    assert_int_equal(request(index, EVENTFD | TRIGGER, 1, NULL, &fd), 0);
    assert_int_equal(fd, -1);
    return kept;
}

static void test_watch(void **state)
{
    (void)state;
    watch();
    expect_fd(ERR, OWN_ERR, 0);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, -1), 0);
}

static void test_watch_without_err(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    expect_fd(REQ, OWN_REQ, 0);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), 0);
    fake_machine_close(&m);
}

static void test_watch_fails(void **state)
{
    (void)state;
    expect_fd(ERR, OWN_ERR, -EIO);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), -EIO);
    expect_fd(ERR, OWN_ERR, 0);
    expect_fd(REQ, OWN_REQ, -EIO);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), -EIO);
}

/* The client's is gone with the opening, the owner's come back. */
static void test_reopen(void **state)
{
    (void)state;
    watch();
    give(REQ, OWN_REQ);
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, &express);
    expect_fd(ERR, OWN_ERR, 0);
    expect_fd(REQ, OWN_REQ, 0);
    assert_int_equal(device_reopen(m.dev), 0);
    irq_relay_request(m.dev);
    assert_int_equal(fd_count_open(), fds_before);
}

static void test_send(void **state)
{
    int err, req;

    (void)state;
    watch();
    irq_relay_error(m.dev);
    irq_relay_request(m.dev);
    err = give(ERR, OWN_ERR);
    req = give(REQ, OWN_REQ);
    expect_loan(ERR, err, true, OWN_ERR);
    irq_relay_error(m.dev);
    expect_loan(REQ, req, true, OWN_REQ);
    irq_relay_request(m.dev);
}

/* Whatever fails, the owner's is put back. */
static void test_send_fails(void **state)
{
    int req;

    (void)state;
    watch();
    req = give(REQ, OWN_REQ);
    expect_fd(REQ, req, -EIO);
    irq_relay_request(m.dev);
    expect_fd(REQ, req, 0);
    expect_set(REQ, NONE | TRIGGER, NULL, -EIO);
    expect_fd(REQ, OWN_REQ, 0);
    irq_relay_request(m.dev);
    expect_fd(REQ, req, 0);
    expect_set(REQ, NONE | TRIGGER, NULL, 0);
    expect_fd(REQ, OWN_REQ, -EIO);
    irq_relay_request(m.dev);
}

static void test_loopback(void **state)
{
    int req;

    (void)state;
    watch();
    assert_int_equal(request(REQ, NONE | TRIGGER, 1, NULL, NULL), -EINVAL);
    assert_int_equal(request(REQ, BOOL | TRIGGER, 1, (uint8_t[]){1}, NULL), 0);
    req = give(REQ, OWN_REQ);
    expect_loan(REQ, req, true, OWN_REQ);
    assert_int_equal(request(REQ, NONE | TRIGGER, 1, NULL, NULL), 0);
    expect_loan(REQ, req, true, OWN_REQ);
    assert_int_equal(request(REQ, BOOL | TRIGGER, 1, (uint8_t[]){1}, NULL), 0);
    assert_int_equal(request(REQ, BOOL | TRIGGER, 1, (uint8_t[]){0}, NULL), 0);
    /* Taken away, and switched off: the kernel hears of neither. */
    assert_int_equal(request(REQ, EVENTFD | TRIGGER, 1, NULL, (int[]){-1}), 0);
    assert_int_equal(request(REQ, NONE | TRIGGER, 1, NULL, NULL), -EINVAL);
    give(REQ, OWN_REQ);
    assert_int_equal(request(REQ, NONE | TRIGGER, 0, NULL, NULL), 0);
    assert_int_equal(request(REQ, NONE | TRIGGER, 1, NULL, NULL), -EINVAL);
    assert_int_equal(fd_count_open(), fds_before);
}

static void test_refused(void **state)
{
    static const struct {
        uint32_t flags, count;
        int ret;
    } cases[] = {
        {NONE | MASK,       1, -ENOTTY},
        {EVENTFD | MASK,    1, -ENOTTY},
        {EVENTFD | TRIGGER, 0, -EINVAL},
        {BOOL | TRIGGER,    0, -EINVAL},
        {NONE | TRIGGER,    2, -EINVAL},
    };

    (void)state;
    watch();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(request(ERR, cases[i].flags, cases[i].count, NULL, NULL), cases[i].ret);
        assert_int_equal(request(REQ, cases[i].flags, cases[i].count, NULL, NULL), cases[i].ret);
    }
}

/* The one of before stays, and so does the owner's. */
static void test_no_eventfd(void **state)
{
    int wrong = fcntl(1, F_DUPFD_CLOEXEC, 0), kept = wrong, req;

    (void)state;
    watch();
    req = give(REQ, OWN_REQ);
    expect_fd(REQ, wrong, -EINVAL);
    assert_int_equal(request(REQ, EVENTFD | TRIGGER, 1, NULL, &wrong), -EINVAL);
    assert_int_equal(wrong, kept);
    fd_close(&wrong);
    expect_loan(REQ, req, true, OWN_REQ);
    irq_relay_request(m.dev);
}

/* A channel tells by another index, and nothing of errors. */
static void test_channel(void **state)
{
    static const struct fake_device channel = {
        .flags = VFIO_DEVICE_FLAGS_CCW,
        .num_regions = VFIO_CCW_NUM_REGIONS,
        .num_irqs = VFIO_CCW_NUM_IRQS,
        .irqs = {{VFIO_IRQ_INFO_EVENTFD, 1, 0},
                 {VFIO_IRQ_INFO_EVENTFD, 1, 0},
                 {VFIO_IRQ_INFO_EVENTFD, 1, 0}},
    };

    (void)state;
    fake_machine_open(&m, &channel);
    expect_fd(VFIO_CCW_REQ_IRQ_INDEX, OWN_REQ, 0);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), 0);
    irq_relay_error(m.dev);
    irq_relay_request(m.dev); /* of no client's interest */
    fake_machine_close(&m);
}

/* A platform device's indexes are its interrupts, each of them the client's. */
static void test_platform(void **state)
{
    static const struct fake_device platform = {
        .flags = VFIO_DEVICE_FLAGS_PLATFORM,
        .num_irqs = 5,
        .irqs = {[ERR] = {VFIO_IRQ_INFO_EVENTFD, 1, 0}, [REQ] = {VFIO_IRQ_INFO_EVENTFD, 1, 0}},
    };
    int fd = eventfd(0, EFD_CLOEXEC);

    (void)state;
    fake_machine_open(&m, &platform);
    assert_int_equal(irq_relay_watch(m.dev, OWN_ERR, OWN_REQ), 0);
    expect_fd(REQ, fd, 0);
    assert_int_equal(request(REQ, EVENTFD | TRIGGER, 1, NULL, &fd), 0);
    irq_relay_request(m.dev);
    fake_machine_close(&m);
}

#define relay_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channel), cmocka_unit_test(test_platform),
        relay_test(test_watch),         cmocka_unit_test(test_watch_without_err),
        relay_test(test_watch_fails),   relay_test(test_reopen),
        relay_test(test_send),          relay_test(test_send_fails),
        relay_test(test_loopback),      relay_test(test_refused),
        relay_test(test_no_eventfd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
