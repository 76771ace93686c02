/* DEVICE_RESET, DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    GET = VFIO_USER_DEVICE_FEATURE_GET,
    SET = VFIO_USER_DEVICE_FEATURE_SET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,
    /* The kernel's, since headers that the build may not have. */
    BUS_MASTER = 10,
    DMA_BUF = 11,
    ZPCI_ERROR = 13,
};

static const uint8_t zeros[LIMIT_DATA_XFER];

#define FEATURE(a, f) MSG_FEATURE(.argsz = (a), .flags = (f))
#define DATA(n)       .data = zeros, .data_len = (n)

/* A device that has no feature of the protocol: ENOTTY is the kernel's answer then. */
static const struct request_case features[] = {
    CASE("probe migration", ENOTTY, FEATURE(8, PROBE | VFIO_USER_FEATURE_MIGRATION)),
    CASE("probe to get and set", ENOTTY,
         FEATURE(8, PROBE | GET | SET | VFIO_USER_FEATURE_MIGRATION)),
    CASE("get migration", ENOTTY, FEATURE(16, GET | VFIO_USER_FEATURE_MIGRATION)),
    CASE("get the device's state", ENOTTY, FEATURE(16, GET | VFIO_USER_FEATURE_MIG_DEVICE_STATE)),
    CASE("set the device's state", ENOTTY, FEATURE(16, SET | VFIO_USER_FEATURE_MIG_DEVICE_STATE),
         DATA(8)),
    CASE("set a state without data", ENOTTY, FEATURE(8, SET | VFIO_USER_FEATURE_MIG_DEVICE_STATE)),
    CASE("start logging", ENOTTY, FEATURE(40, SET | VFIO_USER_FEATURE_DMA_LOGGING_START), DATA(32)),
    CASE("stop logging", ENOTTY, FEATURE(8, SET | VFIO_USER_FEATURE_DMA_LOGGING_STOP)),
    CASE("report", ENOTTY, FEATURE(UINT32_MAX, GET | VFIO_USER_FEATURE_DMA_LOGGING_REPORT),
         DATA(24)),
    CASE("feature 0, a secret of the kernel's", ENOTTY, FEATURE(24, SET | 0), DATA(16)),
    CASE("a bus master of CDX", ENOTTY, FEATURE(12, SET | BUS_MASTER), DATA(4)),
    CASE("a BAR as a dma-buf", ENOTTY, FEATURE(40, GET | DMA_BUF), DATA(32)),
    CASE("an error of s390's", ENOTTY, FEATURE(16, GET | ZPCI_ERROR)),
    CASE("feature 65535", ENOTTY, FEATURE(8, PROBE | 0xffff)),
    CASE("no method", EINVAL, FEATURE(8, VFIO_USER_FEATURE_MIGRATION)),
    CASE("get and set", EINVAL, FEATURE(8, GET | SET | VFIO_USER_FEATURE_MIGRATION)),
    CASE("an unknown flag", EINVAL, FEATURE(8, PROBE | 0x80000)),
    CASE("all flags", EINVAL, FEATURE(8, UINT32_MAX)),
    CASE("argsz 7", EINVAL, FEATURE(7, PROBE | VFIO_USER_FEATURE_MIGRATION)),
    CASE("argsz 0", EINVAL, FEATURE(0, PROBE | VFIO_USER_FEATURE_MIGRATION)),
    CASE("cut off", EINVAL, .command = VFIO_USER_DEVICE_FEATURE, .payload = zeros, .len = 7),
    CASE("the longest data", ENOTTY, FEATURE(8, SET | 6), DATA(LIMIT_FEATURE_DATA)),
    CASE("too much data", E2BIG, FEATURE(8, SET | 6), DATA(LIMIT_FEATURE_DATA + 1)),
};

/* The device is in no state that has a data stream. */
static const struct request_case migration[] = {
    CASE("read", EINVAL, MSG_MIG_READ(.argsz = 8, .size = 4096)),
    CASE("read nothing", EINVAL, MSG_MIG_READ(.argsz = 8, .size = 0)),
    CASE("read 2^32-1", EINVAL, MSG_MIG_READ(.argsz = UINT32_MAX, .size = UINT32_MAX)),
    CASE("read with argsz 0", EINVAL, MSG_MIG_READ(.argsz = 0, .size = 1)),
    CASE("read with data", E2BIG, MSG_MIG_READ(.argsz = 8, .size = 1), DATA(1)),
    CASE("read cut off", EINVAL, .command = VFIO_USER_MIG_DATA_READ, .payload = zeros, .len = 7),
    CASE("write", EINVAL, MSG_MIG_WRITE(.argsz = 16, .size = 8), DATA(8)),
    CASE("write a whole transfer", EINVAL, MSG_MIG_WRITE(.argsz = 8, .size = LIMIT_DATA_XFER),
         DATA(LIMIT_DATA_XFER)),
    CASE("write less than size", EINVAL, MSG_MIG_WRITE(.argsz = 8, .size = 8), DATA(4)),
    CASE("write more than size", EINVAL, MSG_MIG_WRITE(.argsz = 8, .size = 4), DATA(8)),
    CASE("write 2^32-1", EINVAL, MSG_MIG_WRITE(.argsz = 8, .size = UINT32_MAX), DATA(8)),
    CASE("write cut off", EINVAL, .command = VFIO_USER_MIG_DATA_WRITE, .payload = zeros, .len = 7),
};

static void take_features(struct harness *h)
{
    assert_int_equal(sim_set_migration(h->machine.sim, h->bdf, &(struct sim_migration_setup){0}),
                     0);
    assert_int_equal(sim_set_dma_log(h->machine.sim, h->bdf, false, 0), 0);
}

static void refusals(void **state)
{
    cleanup_close_ int sock = raw_session(*state);

    take_features(*state);
    raw_run_cases(sock, features, ARRAY_SIZE(features), NULL, 0);
    raw_run_cases(sock, migration, ARRAY_SIZE(migration), NULL, 0);
}

static void descriptors_are_refused(void **state)
{
    const struct request_case cases[] = {
        CASE("a feature", EINVAL, FEATURE(8, PROBE | VFIO_USER_FEATURE_MIGRATION)),
        CASE("MIG_DATA_READ", EINVAL, MSG_MIG_READ(.argsz = 8, .size = 1)),
        CASE("MIG_DATA_WRITE", EINVAL, MSG_MIG_WRITE(.argsz = 8, .size = 0)),
        CASE("RESET", EINVAL, MSG_RESET()),
    };
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), &fd, 1);
}

/* Only the ones that change something may go without a reply. */
static void without_reply(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    unsigned resets = harness_stats(h).resets;

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        struct raw_message m = features[i].msg;

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(sock, &m, NULL, 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(migration); i++) {
        struct raw_message m = migration[i].msg;

        m.flags = VFIO_USER_FLAG_NO_REPLY;
        raw_send(sock, &m, NULL, 0);
    }
    raw_send(sock, MSG(MSG_RESET(), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_assert_in_step(sock);
    assert_int_equal(harness_stats(h).resets, resets + 1);
}

static void reset_with_payload(void **state)
{
    const struct request_case t =
        CASE("a payload", E2BIG, .command = VFIO_USER_DEVICE_RESET, .payload = zeros, .len = 1);
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, &t, 1, NULL, 0);
}

/* Registers are as at power on, the header alone is the reply, and DMA does not come back on. */
static void reset(void **state)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    unsigned resets = harness_stats(h).resets;
    uint32_t value;
    struct reply r;

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_true(harness_device(h).bus_master);
    assert_int_equal(edu_write(c, EDU_REG_STATUS, EDU_STATUS_IRQ), 0);
    raw_call(vfuc_socket(c), MSG(MSG_RESET()), &r);
    assert_int_equal(r.len, 0);
    assert_int_equal(harness_stats(h).resets, resets + 1);
    assert_false(harness_device(h).bus_master);

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(edu_read(c, EDU_REG_STATUS, &value), 0);
    assert_int_equal(value, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(vfuc_reset(c), 0);
    vfuc_close(c);
}

/* The mappings are the client's and stay. */
static void reset_keeps_mappings(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(PAGE);
    struct vfuc *c = harness_client(h);

    assert_int_equal(vfuc_dma_map(c, 0, PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(harness_stats(h).mappings, 1);
    assert_int_equal(vfuc_dma_unmap(c, 0, PAGE), 0);
    vfuc_close(c);
}

static void reset_during_dma(void **state)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    const struct edu_transfer t = {.to_ram = true, .iova = 0, .len = EDU_BUFFER_SIZE};
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(EDU_BUFFER_SIZE);
    struct vfuc *c = harness_client(h);

    assert_int_equal(vfuc_dma_map(c, 0, EDU_BUFFER_SIZE, DMA_RW, fd, 0), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
        assert_int_equal(edu_dma_start(c, &t), 0);
        assert_int_equal(vfuc_reset(c), 0);
        assert_false(harness_device(h).dma_running);
        assert_false(harness_device(h).bus_master);
    }
    vfuc_close(c);
    harness_assert_serves(h);
}

/* A reset that fails is the client's to know of. */
static void reset_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);

    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_RESET, 1, EIO);
    assert_int_equal(vfuc_reset(c), -EIO);
    assert_int_equal(vfuc_reset(c), 0);
    vfuc_close(c);
}

static void no_reset(void **state)
{
    struct harness *h = *state;
    struct vfio_user_device_info info;
    struct vfuc *c = harness_client(h);

    /* It shows when the device is opened again, which is after this session. */
    sim_set_no_reset(h->machine.sim, h->bdf);
    vfuc_close(c);
    c = harness_client(h);
    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_PCI);
    assert_int_equal(vfuc_reset(c), -ENOTTY);
    raw_assert_in_step(vfuc_socket(c));
    vfuc_close(c);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(refusals, harness_setup_device_log, harness_teardown),
    harness_test(descriptors_are_refused),
    harness_test(without_reply),
    harness_test(reset_with_payload),
    harness_test(reset),
    harness_test(reset_keeps_mappings),
    harness_test(reset_during_dma),
    harness_test(reset_fails),
    harness_test(no_reset),
};

HARNESS_MAIN(tests)
