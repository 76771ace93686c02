/* The extension: its negotiation, and HOT_RESET_INFO and HOT_RESET. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/commands.h"
#include "tests/protocol/raw.h"

enum {
    BUS = 1,
};

static const uint8_t zeros[64];

#define MSG_HOT_RESET_INFO(...)                                                                    \
    MSG_(VFIO_USERD_HOT_RESET_INFO, vfio_userd_hot_reset_info, __VA_ARGS__)
#define MSG_HOT_RESET(...) MSG_(VFIO_USERD_HOT_RESET, vfio_userd_hot_reset, __VA_ARGS__)

/* Whatever its size and descriptors, as any command that nobody knows. */
static void commands_are_unknown(int sock)
{
    size_t n;
    const struct command *table = command_table(&n);
    cleanup_close_ int fd = raw_memfd(PAGE);

    for (size_t i = 0; i < n; i++) {
        const struct request_case cases[] = {
            CASE("empty", ENOTTY, .command = table[i].id),
            CASE("as it should be", ENOTTY, .command = table[i].id, .payload = zeros,
                 .len = table[i].min_payload),
        };

        if (!table[i].extension)
            continue;
        raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
        raw_run_cases(sock, cases, ARRAY_SIZE(cases), &fd, 1);
    }
}

static void not_negotiated(void **state)
{
    cleanup_close_ int sock = raw_session(*state);

    commands_are_unknown(sock);
}

/* The answer has the key if the proposal had. */
static void negotiated(void **state)
{
    static const struct {
        const char *proposal;
        bool agreed;
    } cases[] = {
        {"{\"capabilities\":{\"vfio_userd\":{\"extensions\":1}}}",    true },
        {"{\"capabilities\":{\"vfio_userd\":{\"extensions\":1000}}}", true },
        {"{\"capabilities\":{\"vfio_userd\":{}}}",                    false},
        {"{\"capabilities\":{}}",                                     false},
        {NULL,                                                        false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct reply r = {0};
        cleanup_close_ int sock = raw_session_with(*state, cases[i].proposal, &r);
        const char *text = (const char *)r.payload + sizeof(struct vfio_user_version);

        assert_int_equal(strstr(text, "\"vfio_userd\":{\"extensions\":1}") != NULL,
                         cases[i].agreed);
        if (!cases[i].agreed)
            commands_are_unknown(sock);
    }
}

static void refused_proposals(void **state)
{
    static const char *const proposals[] = {
        "{\"capabilities\":{\"vfio_userd\":1}}",
        "{\"capabilities\":{\"vfio_userd\":{\"extensions\":0}}}",
        "{\"capabilities\":{\"vfio_userd\":{\"extensions\":-1}}}",
        "{\"capabilities\":{\"vfio_userd\":{\"extensions\":true}}}",
    };

    for (size_t i = 0; i < ARRAY_SIZE(proposals); i++) {
        cleanup_close_ int sock = raw_connect(*state);
        struct reply r;

        raw_send_version(sock, 0, 1, proposals[i]);
        raw_receive(sock, &r);
        assert_int_equal(r.hdr.error, EINVAL);
    }
}

/* --- Hot reset --- */

/* Three devices, of which the first two are of one group, on a bus that can be reset. */
static int setup_bus(void **state)
{
    struct harness *h = harness_new();
    const char *bdfs[3];

    h->export_config.device = "sim:edu@one";
    bdfs[1] = harness_add_export(h, "sim:edu@one")->bdf;
    bdfs[2] = harness_add_export(h, "sim:edu@two")->bdf;
    harness_start(h);
    bdfs[0] = h->bdf;
    assert_int_equal(sim_set_bus(h->machine.sim, bdfs[0], BUS), 0);
    assert_int_equal(sim_set_bus(h->machine.sim, bdfs[1], BUS), 0);
    *state = h;
    return 0;
}

static const struct request_case hot_reset_cases[] = {
    CASE("info, argsz 15", EINVAL, MSG_HOT_RESET_INFO(.argsz = 15)),
    CASE("info, argsz 0", EINVAL, MSG_HOT_RESET_INFO(.argsz = 0)),
    CASE("info, a flag", EINVAL, MSG_HOT_RESET_INFO(.argsz = 16, .flags = 1)),
    CASE("info, all flags", EINVAL, MSG_HOT_RESET_INFO(.argsz = 16, .flags = UINT32_MAX)),
    CASE("info, cut off", EINVAL, .command = VFIO_USERD_HOT_RESET_INFO, .payload = zeros,
         .len = 15),
    CASE("info, a byte more", E2BIG, MSG_HOT_RESET_INFO(.argsz = 16), .data = zeros, .data_len = 1),
    CASE("info, argsz 2^32-1", 0, MSG_HOT_RESET_INFO(.argsz = UINT32_MAX)),
    CASE("info, 2^32-1 devices", 0, MSG_HOT_RESET_INFO(.argsz = 16, .count = UINT32_MAX)),
    CASE("reset, argsz 7", EINVAL, MSG_HOT_RESET(.argsz = 7)),
    CASE("reset, a flag", EINVAL, MSG_HOT_RESET(.argsz = 8, .flags = 1)),
    CASE("reset, empty", EINVAL, .command = VFIO_USERD_HOT_RESET),
    CASE("reset, a byte more", E2BIG, MSG_HOT_RESET(.argsz = 8), .data = zeros, .data_len = 1),
};

static void hot_reset_requests(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int sock = raw_extended_session(h);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const struct request_case with_fd[] = {
        CASE("info, a descriptor", EINVAL, MSG_HOT_RESET_INFO(.argsz = 16)),
        CASE("reset, a descriptor", EINVAL, MSG_HOT_RESET(.argsz = 8)),
    };
    unsigned resets = harness_stats(h).resets;
    struct reply r;

    raw_run_cases(sock, hot_reset_cases, ARRAY_SIZE(hot_reset_cases), NULL, 0);
    raw_run_cases(sock, with_fd, ARRAY_SIZE(with_fd), &fd, 1);
    raw_call(sock, MSG(MSG_HOT_RESET(.argsz = 8)), &r);
    assert_int_equal(r.len, 0);
    /* Both devices of the bus. */
    assert_int_equal(harness_stats(h).resets, resets + 2);
    raw_send(sock, MSG(MSG_HOT_RESET_INFO(.argsz = 16), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_send(sock, MSG(MSG_HOT_RESET(.argsz = 8), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_assert_in_step(sock);
    assert_int_equal(harness_stats(h).resets, resets + 4);
}

static unsigned own_id(struct vfuc *c, uint32_t count, uint32_t others)
{
    cleanup_free_ struct vfio_userd_hot_reset_info *info = NULL;
    unsigned id = 0;

    assert_int_equal(vfuc_hot_reset_info(c, &info), 0);
    assert_int_equal(info->count, count);
    assert_int_equal(info->others, others);
    for (uint32_t i = 0; i < count; i++) {
        const struct vfio_userd_hot_reset_device device = vfuc_hot_reset_device(info, i);

        if (device.flags & VFIO_USERD_HOT_RESET_SELF)
            id = device.id;
    }
    assert_int_not_equal(id, 0);
    return id;
}

/* A client learns which of its sessions a reset touches, and of the rest how many there are. */
static void hot_reset_info(void **state)
{
    struct harness *h = *state;
    struct vfuc *first = harness_client(h), *second;
    cleanup_free_ struct vfio_userd_hot_reset_info *info = NULL;
    unsigned ids[2];

    assert_true(vfuc_has_extensions(first));
    ids[0] = own_id(first, 1, 1);
    second = harness_client_at(h->more[0].path);
    assert_int_equal(own_id(first, 2, 0), ids[0]);
    ids[1] = own_id(second, 2, 0);
    assert_int_not_equal(ids[0], ids[1]);
    assert_int_equal(vfuc_hot_reset_info(first, &info), 0);
    for (uint32_t i = 0; i < 2; i++) {
        const unsigned id = vfuc_hot_reset_device(info, i).id;

        assert_true(id == ids[0] || id == ids[1]);
    }
    vfuc_close(second);
    vfuc_close(first);
}

/* Though the device could be reset on its own. */
static void hot_reset(void **state)
{
    struct harness *h = *state;
    const uint16_t command = PCI_COMMAND_MEMORY;
    struct vfuc *c = harness_client(h);
    uint32_t value;

    assert_int_equal(edu_write(c, EDU_REG_STATUS, EDU_STATUS_IRQ), 0);
    assert_int_equal(vfuc_hot_reset(c), 0);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(edu_read(c, EDU_REG_STATUS, &value), 0);
    assert_int_equal(value, 0);
    vfuc_close(c);
}

static void no_hot_reset(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client_at(h->more[1].path);
    struct vfio_userd_hot_reset_info *info;

    assert_int_equal(vfuc_hot_reset_info(c, &info), -ENOTTY);
    assert_null(info);
    assert_int_equal(vfuc_hot_reset(c), -ENOTTY);
    assert_int_equal(vfuc_reset(c), 0);
    vfuc_close(c);
}

/* The kernel's answer is the client's. */
static void hot_reset_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);
    struct vfio_userd_hot_reset_info *info;

    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, 1, ENOMEM);
    assert_int_equal(vfuc_hot_reset_info(c, &info), -ENOMEM);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_DEVICE_PCI_HOT_RESET, 1, EIO);
    assert_int_equal(vfuc_hot_reset(c), -EIO);
    assert_int_equal(vfuc_hot_reset(c), 0);
    vfuc_close(c);
}

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf);
}

static void take_away(const struct harness *h)
{
    assert_int_equal(sim_request_removal(h->machine.sim, h->bdf), 0);
    harness_await(h, is_removed, "the removal is over");
}

/* A device that is not there any more: what was agreed on goes on. */
static void without_device(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int extended = raw_extended_session(h);
    cleanup_close_ int plain = -1;

    take_away(h);
    raw_refused(extended, MSG(MSG_HOT_RESET_INFO(.argsz = 16)), ENODEV);
    assert_int_equal(sim_bring_back(h->machine.sim, h->bdf), 0);
    harness_assert_serves(h);
    plain = raw_session(h);
    take_away(h);
    raw_refused(plain, MSG(MSG_HOT_RESET_INFO(.argsz = 16)), ENOTTY);
    raw_refused(extended, MSG(MSG_HOT_RESET_INFO(.argsz = 16)), ENODEV);
}

#define bus_test(f) cmocka_unit_test_setup_teardown(f, setup_bus, harness_teardown)

static const struct CMUnitTest tests[] = {
    harness_test(not_negotiated), harness_test(negotiated),     harness_test(refused_proposals),
    harness_test(without_device), bus_test(hot_reset_requests), bus_test(hot_reset_info),
    bus_test(hot_reset),          bus_test(no_hot_reset),       bus_test(hot_reset_fails),
};

HARNESS_MAIN(tests)
