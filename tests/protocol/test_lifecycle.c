/* The end of a session, however it comes, and what the next client finds. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/child.h"
#include "tests/protocol/raw.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    ROUNDS = 1000,
    GROUP_FAULTS = 2,
    /* Behind it, bytes without a meaning go to the hardware as they are, and edu keeps them. */
    END_OF_CAPABILITIES = 0x4e,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

static const uint16_t command_on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

/* Uses everything a session has: memory, interrupts, registers, DMA under way. */
static void use_device(struct vfuc *c, int memory, int event)
{
    const struct edu_transfer t = {.to_ram = true, .iova = 0, .len = EDU_BUFFER_SIZE};

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command_on, 2), 0);
    assert_int_equal(vfuc_dma_map(c, 0, 4 * PAGE, DMA_RW, memory, 0), 0);
    assert_int_equal(vfuc_dma_map(c, 0xfffc0000, 0x40000, VFIO_USER_DMA_MAP_READ, -1, 0), 0);
    assert_int_equal(vfuc_set_irqs(c, VFIO_PCI_MSI_IRQ_INDEX, EVENTFD_TRIGGER, 0, 1, &event, NULL),
                     0);
    assert_int_equal(vfuc_set_irqs(c, VFIO_PCI_REQ_IRQ_INDEX, EVENTFD_TRIGGER, 0, 1, &event, NULL),
                     0);
    assert_int_equal(edu_dma_start(c, &t), 0);
}

/* Ways to leave. The socket is closed afterwards. */
static void leave_quietly(int sock)
{
    (void)sock;
}

static void leave_half_closed(int sock)
{
    shutdown(sock, SHUT_WR);
}

static void leave_both_halves_closed(int sock)
{
    shutdown(sock, SHUT_RDWR);
}

static void leave_inside_a_message(int sock)
{
    raw_send_bytes(sock, "\1\0\2\0\60\0\0\0", 8, NULL, 0);
}

static void leave_replies_unread(int sock)
{
    raw_send(sock, MSG(MSG_REGION_READ(.region = BAR0, .count = LIMIT_DATA_XFER)), NULL, 0);
    raw_send(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0);
}

static void leave_with_requests_under_way(int sock)
{
    for (uint64_t i = 0; i < 20; i++)
        raw_send(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = (i + 100) * PAGE, .size = PAGE)),
                 NULL, 0);
    raw_send(sock, MSG(MSG_RESET()), NULL, 0);
}

static void leave_a_broken_stream(int sock)
{
    static const struct vfio_user_header broken = {.msg_size = 1};

    raw_send_bytes(sock, &broken, sizeof(broken), NULL, 0);
}

static void (*const ways[])(int sock) = {
    leave_quietly,          leave_half_closed,    leave_both_halves_closed,
    leave_inside_a_message, leave_replies_unread, leave_with_requests_under_way,
    leave_a_broken_stream,
};

/* Makes the device busy without end. */
static void run_victim(void *arg, int ready)
{
    const struct edu_transfer t = {.to_ram = true, .iova = 0, .len = EDU_BUFFER_SIZE};
    struct vfuc *c = arg;

    for (unsigned i = 0;; i++) {
        if (edu_dma_start(c, &t))
            _exit(1);
        if (i == 2)
            child_ready(ready);
        if (edu_dma_wait(c))
            _exit(1);
    }
}

/* The session's only descriptors are the child's when it is killed. */
static void kill_client(struct vfuc *c)
{
    pid_t pid = child_start(run_victim, c);

    vfuc_close(c);
    child_kill(pid);
}

static void rounds(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();
    int open_before = fd_count_open();

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct vfuc *c = harness_client(h);

        use_device(c, memory, event);
        if (i % 10 == 9) {
            assert_int_equal(edu_dma_wait(c), 0);
            kill_client(c);
            continue;
        }
        ways[i % ARRAY_SIZE(ways)](vfuc_socket(c));
        vfuc_close(c);
    }
    harness_assert_serves(h);
    harness_await_fds(open_before);
}

static void killed_during_dma(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();

    for (int i = 0; i < 20; i++) {
        struct vfuc *c = harness_client(h);

        use_device(c, memory, event);
        assert_int_equal(edu_dma_wait(c), 0);
        kill_client(c);
        harness_await_idle(h);
        assert_true(harness_stats(h).dma_writes > 0);
    }
    assert_true(harness_stats(h).dma_faults == 0); /* it was stopped before the unmapping */
    harness_assert_serves(h);
}

/* What the hardware does after the client has left can't reach the client's memory. */
static void memory_is_out_of_reach(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();
    struct vfuc *c = harness_client(h);
    uint32_t word = 0xdeadbeef;

    use_device(c, memory, event);
    vfuc_close(c);
    harness_await_idle(h);
    assert_int_not_equal(sim_device_dma(h->machine.sim, h->bdf, PAGE, &word, 4, true), 0);

    /* Nor through the next one's session. */
    c = harness_client(h);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command_on, 2), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, PAGE, &word, 4, true), -EFAULT);
    assert_int_equal(pread(memory, &word, sizeof(word), PAGE), sizeof(word));
    assert_int_equal(word, 0);
    vfuc_close(c);
}

static void read_config(struct vfuc *c, uint8_t config[256])
{
    assert_int_equal(vfuc_region_read(c, CONFIG, 0, config, 256), 0);
}

/* Registers, config space, interrupts and mappings are those of a device just opened. */
static void nothing_is_left_behind(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();
    const uint32_t bar = 0xe0000000, mark = 0x12345678;
    uint8_t before[256], after[256], junk[64];
    struct vfuc *c = harness_client(h);
    uint32_t value;

    read_config(c, before);
    use_device(c, memory, event);
    assert_int_equal(edu_dma_wait(c), 0);
    assert_int_equal(edu_write(c, EDU_REG_LIVENESS, mark), 0);
    assert_int_equal(edu_write(c, EDU_REG_STATUS, EDU_STATUS_IRQ), 0);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_BASE_ADDRESS_0, &bar, sizeof(bar)), 0);
    memset(junk, 0xff, sizeof(junk));
    for (uint32_t at = PCI_STATUS; at < END_OF_CAPABILITIES; at += 2)
        vfuc_region_write(c, CONFIG, at, junk, 2);
    read_config(c, after);
    assert_memory_not_equal(before, after, sizeof(before));
    vfuc_close(c);

    c = harness_client(h);
    read_config(c, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_int_equal(vfuc_dma_unmap(c, 0, 4 * PAGE), -ENOENT);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command_on, 2), 0);
    assert_int_equal(edu_read(c, EDU_REG_LIVENESS, &value), 0);
    assert_int_not_equal(value, ~mark);
    assert_int_equal(edu_read(c, EDU_REG_STATUS, &value), 0);
    assert_int_equal(value, 0);

    /* Its eventfd is not signalled any more, by nothing that happens to the device. */
    event_wait(event, 0);
    assert_int_equal(edu_write(c, EDU_REG_IRQ_RAISE, 1), 0);
    assert_int_equal(vfuc_set_irqs(c, VFIO_PCI_MSI_IRQ_INDEX,
                                   VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
                                   0, 1, NULL, NULL),
                     -EINVAL);
    assert_int_equal(vfuc_set_irqs(c, VFIO_PCI_REQ_IRQ_INDEX,
                                   VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
                                   0, 1, NULL, NULL),
                     -EINVAL);
    assert_int_equal(event_wait(event, 0), 0);
    vfuc_close(c);
}

/* A session's DEVICE_RESET and its end both work after the other. */
static void reset_and_leave(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();

    for (int i = 0; i < 10; i++) {
        struct vfuc *c = harness_client(h);

        use_device(c, memory, event);
        assert_int_equal(vfuc_reset(c), 0);
        vfuc_close(c);
    }
    harness_assert_serves(h);
}

/* The server ends in the middle of all that; teardown asserts that nothing is left. */
static void stopped_with_clients(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();
    int silent, sock;
    struct vfuc *c;
    char byte;

    (void)state;
    harness_start(h);
    c = harness_client(h);
    use_device(c, memory, event);
    sock = vfuc_socket(c);
    silent = raw_connect(h);
    h->fds_before += 4; /* memory, event, and this side of the two connections */
    harness_stop(h);
    assert_int_equal(recv(sock, &byte, 1, 0), 0);
    assert_int_equal(recv(silent, &byte, 1, 0), 0);
    vfuc_close(c);
    fd_close(&silent);
}

/* Steps of the teardown that fail: closing it all and opening it again makes up for them. */
static void steps_fail(void **state)
{
    static const struct {
        enum sim_call call;
        unsigned long request;
        int err;
    } faults[] = {
        {SIM_CALL_IOCTL,  VFIO_IOMMU_UNMAP_DMA,     EIO},
        {SIM_CALL_IOCTL,  VFIO_GROUP_GET_DEVICE_FD, EIO},
        {SIM_CALL_IOCTL,  VFIO_DEVICE_SET_IRQS,     EIO},
        {SIM_CALL_IOCTL,  VFIO_DEVICE_RESET,        EIO},
        {SIM_CALL_PREAD,  0,                        EIO},
        {SIM_CALL_PWRITE, 0,                        EIO},
    };
    struct harness *h = *state;
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();

    for (size_t i = harness_is_iommufd() ? GROUP_FAULTS : 0; i < ARRAY_SIZE(faults); i++) {
        struct vfuc *c = harness_client(h);

        use_device(c, memory, event);
        assert_int_equal(edu_dma_wait(c), 0);
        sim_fail_nth(h->machine.sim, faults[i].call, faults[i].request, 1, faults[i].err);
        vfuc_close(c);
        harness_assert_serves(h);
        assert_true(sim_fault_spent(h->machine.sim));
    }
}

static void freeze_in_session(struct harness *h)
{
    cleanup_close_ int memory = raw_memfd(4 * PAGE);
    cleanup_close_ int event = event_create();
    struct vfuc *c = harness_client(h);
    uint32_t id;

    use_device(c, memory, event);
    assert_int_equal(edu_dma_wait(c), 0);
    assert_int_equal(sim_freeze_pe(h->machine.sim, h->bdf), 0);
    assert_int_equal(edu_read(c, EDU_REG_ID, &id), 0);
    assert_true(id == UINT32_MAX);
    vfuc_close(c);
    harness_assert_serves(h);
}

/* The machine has cut the device off: no register says any more that its DMA is stopped. */
static void device_is_frozen(void **state)
{
    if (!harness_is_spapr())
        skip();
    freeze_in_session(*state);
}

/* The device can't be brought back: whoever comes is told, and it is tried again each time. */
static void device_gone_for_a_while(void **state)
{
    struct harness *h = *state;
    struct sim *sim = h->machine.sim;
    struct vfuc *c;

    if (harness_is_iommufd())
        return;
    c = harness_client(h);
    sim_fail_nth(sim, SIM_CALL_IOCTL, VFIO_GROUP_GET_DEVICE_FD, 1, EIO);
    assert_int_equal(sim_set_open_error(sim, "/dev/vfio/vfio", ENODEV), 0);
    vfuc_close(c);
    for (int i = 0; i < 3; i++) {
        cleanup_close_ int sock = -1;
        struct reply r;

        do { /* until the session before has ended */
            fd_close(&sock);
            sock = raw_connect(h);
            raw_send_version(sock, 0, 1, "{}");
            raw_receive(sock, &r);
        } while (r.hdr.error == EBUSY);
        assert_int_equal(r.hdr.error, ENODEV);
        raw_expect_end(sock);
    }
    assert_int_equal(sim_set_open_error(sim, "/dev/vfio/vfio", 0), 0);
    harness_assert_serves(h);
}

/* The errno that answers VERSION to a user without rights; in a child, by system calls alone. */
static int ask_as_nobody(const struct harness *h)
{
    enum { NOBODY = 65534 };
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const struct vfio_user_header hdr = {.command = VFIO_USER_VERSION, .msg_size = 20};
    const uint8_t version[4] = {0};
    struct vfio_user_header reply = {.error = 255};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (!pid) {
        int sock = socket(AF_UNIX, SOCK_STREAM, 0);

        memcpy(addr.sun_path, h->path, sizeof(h->path));
        if (syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) ||
            connect(sock, (const struct sockaddr *)&addr, sizeof(addr)) ||
            write(sock, &hdr, sizeof(hdr)) < 0 || write(sock, version, sizeof(version)) < 0 ||
            recv(sock, &reply, sizeof(reply), MSG_WAITALL) != sizeof(reply))
            _exit(254);
        _exit((int)reply.error);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int ask_as_nobody_when_free(const struct harness *h)
{
    int err;

    while ((err = ask_as_nobody(h)) == EBUSY)
        harness_pause();
    return err;
}

/* The device may hold what its last user put there: that user may have it back, nobody else. */
static void quarantine(void **state)
{
    struct harness *h;

    (void)state;
    if (geteuid())
        skip();
    h = harness_new();
    h->settings.socket_mode = 0666;
    assert_int_equal(chmod(h->directory, 0755), 0);
    harness_start(h);
    assert_int_equal(ask_as_nobody_when_free(h), 0);

    /* It shows when the device is opened again: the session after the next one ends without. */
    sim_set_no_reset(h->machine.sim, h->bdf);
    harness_assert_serves(h);
    harness_assert_serves(h);
    assert_int_equal(ask_as_nobody_when_free(h), EACCES);
    harness_assert_serves(h);
    assert_int_equal(ask_as_nobody_when_free(h), EACCES);
    harness_stop(h);
}

static const struct CMUnitTest tests[] = {
    harness_test(rounds),
    harness_test(killed_during_dma),
    harness_test(memory_is_out_of_reach),
    harness_test(nothing_is_left_behind),
    harness_test(reset_and_leave),
    cmocka_unit_test(stopped_with_clients),
    harness_test(steps_fail),
    harness_test(device_is_frozen),
    harness_test(device_gone_for_a_while),
    cmocka_unit_test(quarantine),
};

HARNESS_MAIN(tests)
