/* What the extension has of migration: PRECOPY_INFO, and the states without DMA to other devices.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/uapi_compat.h"
#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    STOP = VFIO_DEVICE_STATE_STOP,
    RUNNING = VFIO_DEVICE_STATE_RUNNING,
    STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
    RUNNING_P2P = VFIO_DEVICE_STATE_RUNNING_P2P,
    PRE_COPY = UAPI_VFIO_STATE_PRE_COPY,
    PRE_COPY_P2P = UAPI_VFIO_STATE_PRE_COPY_P2P,
};

static const uint8_t zeros[64];

#define MSG_PRECOPY_INFO(...) MSG_(VFIO_USERD_PRECOPY_INFO, vfio_userd_precopy_info, __VA_ARGS__)

/* In every state but pre-copy. */
static const struct request_case cases[] = {
    CASE("argsz 24", EINVAL, MSG_PRECOPY_INFO(.argsz = 24)),
    CASE("argsz 23", EINVAL, MSG_PRECOPY_INFO(.argsz = 23)),
    CASE("argsz 0", EINVAL, MSG_PRECOPY_INFO(.argsz = 0)),
    CASE("a flag", EINVAL, MSG_PRECOPY_INFO(.argsz = 24, .flags = 1)),
    CASE("cut off", EINVAL, .command = VFIO_USERD_PRECOPY_INFO, .payload = zeros, .len = 23),
    CASE("a byte more", E2BIG, MSG_PRECOPY_INFO(.argsz = 24), .data = zeros, .data_len = 1),
};

static void refusals(void **state)
{
    cleanup_close_ int sock = raw_extended_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const struct request_case with_fd = CASE("a descriptor", EINVAL, MSG_PRECOPY_INFO(.argsz = 24));

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, &with_fd, 1, &fd, 1);
    raw_send(sock, MSG(MSG_PRECOPY_INFO(.argsz = 24), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_assert_in_step(sock);
}

static void go(struct vfuc *c, uint32_t to)
{
    uint32_t now;

    assert_int_equal(vfuc_set_migration_state(c, to), 0);
    assert_int_equal(vfuc_migration_state(c, &now), 0);
    assert_int_equal(now, to);
}

/* What was told is what there is to read; and there is more when the device has changed. */
static void precopy(void **state)
{
    struct vfuc *c = harness_client(*state);
    struct vfio_userd_precopy_info info;
    cleanup_free_ uint8_t *data = NULL;
    size_t size;

    assert_int_equal(vfuc_precopy_info(c, &info), -EINVAL);
    go(c, PRE_COPY);
    assert_int_equal(vfuc_precopy_info(c, &info), 0);
    assert_int_equal(info.argsz, sizeof(info));
    assert_int_equal(info.flags, 0);
    assert_true(info.initial_bytes > 0);
    size = info.initial_bytes + info.dirty_bytes;
    data = calloc(1, size + 1);
    assert_int_equal(vfuc_migration_read(c, data, (uint32_t)size + 1), size);
    assert_int_equal(vfuc_precopy_info(c, &info), 0);
    assert_int_equal(info.initial_bytes + info.dirty_bytes, 0);

    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0x12345678), 0);
    assert_int_equal(vfuc_precopy_info(c, &info), 0);
    assert_true(info.dirty_bytes > 0);
    assert_int_equal(vfuc_migration_read(c, data, 1), 1);

    go(c, STOP_COPY);
    assert_int_equal(vfuc_precopy_info(c, &info), -EINVAL);
    go(c, RUNNING);
    assert_int_equal(vfuc_precopy_info(c, &info), -EINVAL);
    vfuc_close(c);
}

static void kernel_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    struct vfio_userd_precopy_info info;

    go(c, PRE_COPY);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, UAPI_VFIO_MIG_GET_PRECOPY_INFO, 1, ENOMEM);
    assert_int_equal(vfuc_precopy_info(c, &info), -ENOMEM);
    assert_int_equal(vfuc_precopy_info(c, &info), 0);
    vfuc_close(c);
}

static void no_migration(void **state)
{
    struct harness *h = *state;
    struct vfio_userd_precopy_info info;
    struct vfuc *c;

    assert_int_equal(sim_set_migration(h->machine.sim, h->bdf, &(struct sim_migration_setup){0}),
                     0);
    c = harness_client(h);
    assert_int_equal(vfuc_precopy_info(c, &info), -ENOTTY);
    vfuc_close(c);
}

static void peer_to_peer_states(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    uint64_t flags;

    assert_int_equal(vfuc_migration_flags(c, &flags), 0);
    assert_int_equal(flags, SIM_MIGRATION_ALL);
    go(c, RUNNING_P2P);
    go(c, RUNNING);
    go(c, PRE_COPY);
    go(c, PRE_COPY_P2P);
    go(c, STOP_COPY);
    go(c, RUNNING_P2P);
    go(c, STOP);
    go(c, RUNNING);
    assert_int_equal(vfuc_set_migration_state(c, PRE_COPY_P2P + 1), -EINVAL);
    assert_int_equal(vfuc_set_migration_state(c, VFIO_DEVICE_STATE_ERROR), -EINVAL);
    vfuc_close(c);

    /* A driver that has none: the kernel says so. */
    harness_await_idle(h);
    assert_int_equal(
        sim_set_migration(h->machine.sim, h->bdf,
                          &(struct sim_migration_setup){.flags = VFIO_MIGRATION_STOP_COPY}),
        0);
    c = harness_client(h);
    assert_int_equal(vfuc_migration_flags(c, &flags), 0);
    assert_int_equal(flags, VFIO_MIGRATION_STOP_COPY);
    assert_int_equal(vfuc_set_migration_state(c, RUNNING_P2P), -EINVAL);
    vfuc_close(c);
}

static const struct CMUnitTest tests[] = {
    harness_test(refusals),
    harness_test(precopy),
    harness_test(kernel_fails),
    harness_test(no_migration),
    harness_test(peer_to_peer_states),
};

HARNESS_MAIN(tests)
