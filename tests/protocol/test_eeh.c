/* EEH_OP of the extension: a device that its platform has cut off is brought back by its client. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

static const uint8_t zeros[64];

#define MSG_EEH(...) MSG_(VFIO_USERD_EEH_OP, vfio_userd_eeh_op, __VA_ARGS__)

static const struct request_case malformed[] = {
    CASE("argsz 15", EINVAL, MSG_EEH(15, 0, VFIO_EEH_PE_GET_STATE)),
    CASE("argsz 0", EINVAL, MSG_EEH(0, 0, VFIO_EEH_PE_GET_STATE)),
    CASE("a flag", EINVAL, MSG_EEH(16, 1, VFIO_EEH_PE_GET_STATE)),
    CASE("cut off", EINVAL, .command = VFIO_USERD_EEH_OP, .payload = zeros, .len = 12),
    CASE("a byte more", E2BIG, MSG_EEH(16), .data = zeros, .data_len = 1),
};

/* With EEH, and without. */
static const struct {
    struct raw_message msg;
    int with, without;
} operations[] = {
    {{MSG_EEH(16, 0, VFIO_EEH_PE_GET_STATE)},         0,      ENOTTY},
    {{MSG_EEH(UINT32_MAX, 0, VFIO_EEH_PE_GET_STATE)}, 0,      ENOTTY},
    {{MSG_EEH(16, 0, VFIO_EEH_PE_ENABLE)},            0,      ENOTTY},
    {{MSG_EEH(16, 0, VFIO_EEH_PE_DISABLE)},           EPERM,  ENOTTY},
    {{MSG_EEH(16, 0, VFIO_EEH_PE_INJECT_ERR)},        EPERM,  ENOTTY},
    {{MSG_EEH(16, 0, VFIO_EEH_PE_INJECT_ERR + 1)},    EINVAL, ENOTTY},
    {{MSG_EEH(16, 0, VFIO_EEH_PE_CONFIGURE)},         0,      ENOTTY},
    {{MSG_EEH(16, 0, UINT32_MAX)},                    EINVAL, ENOTTY},
};

static void requests(void **state)
{
    cleanup_close_ int sock = raw_extended_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const struct request_case with_fd =
        CASE("a descriptor", EINVAL, MSG_EEH(16, 0, VFIO_EEH_PE_GET_STATE));

    raw_run_cases(sock, malformed, ARRAY_SIZE(malformed), NULL, 0);
    raw_run_cases(sock, &with_fd, 1, &fd, 1);
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        const struct request_case t = {
            .name = "an operation",
            .msg = operations[i].msg,
            .err = harness_is_spapr() ? operations[i].with : operations[i].without,
        };

        raw_run_cases(sock, &t, 1, NULL, 0);
    }
    raw_send(sock, MSG(MSG_EEH(16, 0, VFIO_EEH_PE_GET_STATE), .flags = VFIO_USER_FLAG_NO_REPLY),
             NULL, 0);
    raw_assert_in_step(sock);
}

static uint32_t state_of(struct vfuc *c)
{
    uint32_t value = UINT32_MAX;

    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_GET_STATE, &value), 0);
    return value;
}

/* As a guest's kernel does: look, reset, configure. The session goes on all the while. */
static void recovery(void **state)
{
    const uint16_t command = PCI_COMMAND_MEMORY;
    struct harness *h = *state;
    struct vfuc *c;
    uint32_t value;

    if (!harness_is_spapr())
        skip();
    c = harness_client(h);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, 0xff00ff00), 0);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(sim_freeze_pe(h->machine.sim, h->bdf), 0);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_STOPPED);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, UINT32_MAX);

    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_UNFREEZE_IO, NULL), 0);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_STOPPED_DMA);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, 0x00ff00ff);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_RESET_HOT, NULL), 0);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_RESET);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_RESET_DEACTIVATE, NULL), 0);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_CONFIGURE, NULL), 0);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_NORMAL);
    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_equal(value, 0);
    vfuc_close(c);
}

static void kernel_fails(void **state)
{
    struct harness *h = *state;
    struct vfuc *c;

    if (!harness_is_spapr())
        skip();
    c = harness_client(h);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_EEH_PE_OP, 1, ENODEV);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_GET_STATE, NULL), -ENODEV);
    sim_fail_nth(h->machine.sim, SIM_CALL_IOCTL, VFIO_EEH_PE_OP, 1, EIO);
    assert_int_equal(vfuc_eeh(c, VFIO_EEH_PE_RESET_HOT, NULL), -EIO);
    assert_int_equal(state_of(c), VFIO_EEH_PE_STATE_NORMAL);
    vfuc_close(c);
}

static const struct CMUnitTest tests[] = {
    harness_test(requests),
    harness_test(recovery),
    harness_test(kernel_fails),
};

HARNESS_MAIN(tests)
