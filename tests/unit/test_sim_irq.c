#include "tests/unit/sim_probe.h"

#include <pthread.h>

enum {
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
    ERR = VFIO_PCI_ERR_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,

    NONE = VFIO_IRQ_SET_DATA_NONE,
    BOOL = VFIO_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER,
};

static int set(struct fixture *fx, uint32_t flags, uint32_t index, uint32_t start, uint32_t count)
{
    return fx_set_irqs(fx, flags, index, start, count, NULL, 0);
}

static int set_bool(struct fixture *fx, uint32_t action, uint32_t index, uint8_t value)
{
    return fx_set_irqs(fx, BOOL | action, index, 0, 1, &value, 1);
}

static int set_fds(struct fixture *fx, uint32_t action, uint32_t index, uint32_t start,
                   uint32_t count, const int *fds)
{
    return fx_set_irqs(fx, EVENTFD | action, index, start, count, fds, count * sizeof(*fds));
}

static int set_fd(struct fixture *fx, uint32_t action, uint32_t index, int fd)
{
    return set_fds(fx, action, index, 0, 1, &fd);
}

static void malformed_requests(void **state)
{
    struct fixture *fx = *state;
    struct vfio_irq_set small = {.argsz = sizeof(small) - 1, .flags = NONE | TRIGGER};
    int fds[2] = {-1, -1};

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_SET_IRQS, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_SET_IRQS, &small), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, VFIO_PCI_NUM_IRQS, 0, 0), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, UINT32_MAX, 0, 0), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER | 1 << 6, INTX, 0, 1), -EINVAL);
    assert_int_equal(set(fx, TRIGGER, INTX, 0, 1), -EINVAL);
    assert_int_equal(set(fx, NONE | BOOL | TRIGGER, INTX, 0, 1), -EINVAL);
    assert_int_equal(set(fx, NONE, INTX, 0, 1), -ENOTTY);
    assert_int_equal(set(fx, NONE | MASK | UNMASK, INTX, 0, 1), -ENOTTY);
    /* Ranges that overflow. */
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 1, UINT32_MAX - 1), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, UINT32_MAX, 1), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 8, 0), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 7, 2), -EINVAL);
    /* Less data than vectors. */
    assert_int_equal(fx_set_irqs(fx, EVENTFD | TRIGGER, MSIX, 0, 2, fds, 7), -EINVAL);
    assert_int_equal(fx_set_irqs(fx, BOOL | TRIGGER, MSIX, 0, 2, fds, 1), -EINVAL);
}

static void disabling_what_is_off(void **state)
{
    struct fixture *fx = *state;

    for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++)
        assert_int_equal(fx_disable_irq(fx, i), -EINVAL);
}

static void an_index_the_device_lacks(void **state)
{
    struct fixture *fx = *state;

    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 0, 0), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, ERR, 0, 0), -EINVAL);
    assert_int_equal(set(fx, NONE | TRIGGER, ERR, 0, 1), -EINVAL);
}

static void kinds_of_descriptors(void **state)
{
    static const struct {
        uint32_t index, action;
    } takers[] = {
        {INTX, TRIGGER},
        {MSI,  TRIGGER},
        {MSIX, TRIGGER},
        {ERR,  TRIGGER},
        {REQ,  TRIGGER}
    };
    struct fixture *fx = *state;
    int memfd = memfd_create("x", MFD_CLOEXEC), pipes[2];

    assert_int_equal(pipe(pipes), 0);
    for (size_t i = 0; i < sizeof(takers) / sizeof(takers[0]); i++) {
        assert_int_equal(set_fd(fx, takers[i].action, takers[i].index, memfd), -EINVAL);
        assert_int_equal(set_fd(fx, takers[i].action, takers[i].index, pipes[1]), -EINVAL);
        assert_int_equal(set_fd(fx, takers[i].action, takers[i].index, fx->device), -EINVAL);
        assert_int_equal(set_fd(fx, takers[i].action, takers[i].index, 9999), -EBADF);
    }
    assert_false(fx_state(fx).intx_eventfd);
    close(memfd);
    close(pipes[0]);
    close(pipes[1]);
}

static void intx_masks_itself(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_true(fx_state(fx).intx_eventfd);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(fx_config_get(fx, PCI_STATUS, 2), PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT);
    probe_set_intx(false);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 0);

    /* Unmasked while the line is up: told again, and masked again. */
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(set_bool(fx, UNMASK, INTX, 0), 0);
    assert_int_equal(fx_events(fd), 0);
    assert_int_equal(set_bool(fx, UNMASK, INTX, 1), 0);
    assert_int_equal(fx_events(fd), 1);
    probe_set_intx(false);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 0);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void intx_masked_by_the_client(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(set(fx, NONE | MASK, INTX, 0, 1), -EINVAL);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), -EINVAL);
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_int_equal(set_fd(fx, MASK, INTX, fd), -ENOTTY);
    assert_int_equal(set(fx, NONE | MASK, INTX, 0, 0), -EINVAL);
    assert_int_equal(set_bool(fx, MASK, INTX, 0), 0);
    assert_int_equal(set(fx, NONE | MASK, INTX, 0, 1), 0);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 0);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void intx_asserted_before_it_is_enabled(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), other = fx_eventfd();

    probe_set_intx(true);
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_int_equal(fx_events(fd), 1);
    /* Another eventfd leaves it masked. */
    assert_int_equal(set_fd(fx, TRIGGER, INTX, other), 0);
    assert_int_equal(fx_events(other), 0);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 0);
    assert_int_equal(fx_events(other), 1);
    /* Without eventfd, the index stays on. */
    assert_int_equal(set_fd(fx, TRIGGER, INTX, -1), 0);
    assert_false(fx_state(fx).intx_eventfd);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_disable_irq(fx, INTX), 0);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), -EINVAL);
    close(fd);
    close(other);
}

static void intx_disable_bit(void **state)
{
    struct fixture *fx = *state;
    uint32_t command = fx_config_get(fx, PCI_COMMAND, 2);
    int fd = fx_eventfd();

    fx_config_set(fx, PCI_COMMAND, command | PCI_COMMAND_INTX_DISABLE, 2);
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 0);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 0);
    fx_config_set(fx, PCI_COMMAND, command, 2);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void intx_loopback(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(set(fx, NONE | TRIGGER, INTX, 0, 1), -EINVAL);
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, INTX, 0, 1), 0);
    assert_int_equal(set_bool(fx, TRIGGER, INTX, 0), 0);
    assert_int_equal(set_bool(fx, TRIGGER, INTX, 1), 0);
    assert_int_equal(fx_events(fd), 2);
    /* It does not mask. */
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void unmask_by_eventfd(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), unmask = fx_eventfd(), other = fx_eventfd();

    assert_int_equal(set_fd(fx, UNMASK, INTX, unmask), -EINVAL); /* INTx is off */
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_int_equal(set_fd(fx, UNMASK, INTX, fx->device), -EINVAL);
    assert_int_equal(set_fd(fx, UNMASK, INTX, 9999), -EBADF);
    assert_int_equal(set_fd(fx, UNMASK, INTX, unmask), 0);
    assert_int_equal(set_fd(fx, UNMASK, INTX, other), -EBUSY);
    assert_int_equal(fd_count_open(), fx->fds + 3 + 3 + 2); /* and two duplicates */

    for (int i = 0; i < 3; i++) {
        probe_set_intx(true);
        assert_int_equal(fx_wait_event(fd), 1);
        /* Still up: told again. */
        assert_int_equal(eventfd_write(unmask, 1), 0);
        assert_int_equal(fx_wait_event(fd), 1);
        assert_int_equal(fx_events(unmask), 0); /* the kernel took it */
        probe_set_intx(false);
        assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
        assert_int_equal(fx_events(fd), 0);
    }

    assert_int_equal(set_fd(fx, UNMASK, INTX, -1), 0);
    assert_int_equal(set_fd(fx, UNMASK, INTX, -1), 0);
    assert_int_equal(eventfd_write(unmask, 1), 0);
    /* An event that is there already counts. */
    probe_set_intx(true);
    assert_int_equal(fx_wait_event(fd), 1);
    assert_int_equal(set_fd(fx, UNMASK, INTX, unmask), 0);
    assert_int_equal(fx_wait_event(fd), 1);
    assert_int_equal(fx_disable_irq(fx, INTX), 0);
    assert_int_equal(fd_count_open(), fx->fds + 3 + 3);
    close(fd);
    close(unmask);
    close(other);
}

static void one_type_at_a_time(void **state)
{
    static const uint32_t types[] = {INTX, MSI, MSIX};
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    for (int i = 0; i < 3; i++) {
        assert_int_equal(set_fd(fx, TRIGGER, types[i], fd), 0);
        for (int j = 0; j < 3; j++) {
            if (j == i)
                continue;
            assert_int_equal(set_fd(fx, TRIGGER, types[j], fd), -EINVAL);
            assert_int_equal(fx_disable_irq(fx, types[j]), -EINVAL);
        }
        assert_int_equal(set_fd(fx, TRIGGER, REQ, fd), 0);
        assert_int_equal(fx_disable_irq(fx, types[i]), 0);
        assert_int_equal(fx_disable_irq(fx, types[i]), -EINVAL);
    }
    close(fd);
}

static void messages_cannot_be_masked(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(set(fx, NONE | MASK, MSI, 0, 1), -ENOTTY);
    assert_int_equal(set(fx, NONE | UNMASK, MSIX, 0, 1), -ENOTTY);
    assert_int_equal(set_fd(fx, UNMASK, MSIX, fd), -ENOTTY);
    assert_int_equal(set(fx, NONE | MASK, REQ, 0, 1), -ENOTTY);
    assert_int_equal(set(fx, NONE | UNMASK, ERR, 0, 1), -ENOTTY);
    close(fd);
}

static void messages(void **state)
{
    struct fixture *fx = *state;
    int fds[4] = {fx_eventfd(), -1, fx_eventfd(), -1};

    fx_set_bus_master(fx, true);
    probe_notify(0);
    assert_int_equal(set_fds(fx, TRIGGER, MSI, 0, 4, fds), 0);
    assert_int_equal(fx_state(fx).msi_eventfds, 2);
    assert_false(fx_state(fx).intx_eventfd);
    for (unsigned i = 0; i < 6; i++)
        probe_notify(i);
    probe_notify(2);
    assert_int_equal(fx_events(fds[0]), 1);
    assert_int_equal(fx_events(fds[2]), 2);
    /* A message is a write by the device. */
    fx_set_bus_master(fx, false);
    probe_notify(0);
    assert_int_equal(fx_events(fds[0]), 0);
    fx_set_bus_master(fx, true);
    assert_int_equal(fx_disable_irq(fx, MSI), 0);
    probe_notify(0);
    assert_int_equal(fx_events(fds[0]), 0);
    close(fds[0]);
    close(fds[2]);
}

static void message_loopback(void **state)
{
    struct fixture *fx = *state;
    int fds[3] = {fx_eventfd(), -1, fx_eventfd()};
    const uint8_t bools[3] = {0, 1, 1};

    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 0, 1), -EINVAL);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 3, fds), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 0, 3), 0);
    assert_int_equal(fx_set_irqs(fx, BOOL | TRIGGER, MSIX, 0, 3, bools, 3), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 2, 1), 0);
    assert_int_equal(fx_events(fds[0]), 1);
    assert_int_equal(fx_events(fds[2]), 3);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 2, 2), -EINVAL); /* past the set */
    close(fds[0]);
    close(fds[2]);
}

static void the_set_does_not_grow(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), none = -1;

    /* The first enable decides: start and count together. */
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 2, 1, &fd), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 1, &fd), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 3, 1, &fd), -EINVAL);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 3, 1, &none), -EINVAL);
    assert_int_equal(fx_state(fx).msi_eventfds, 2);
    assert_int_equal(fx_disable_irq(fx, MSIX), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 3, 1, &fd), 0);
    assert_int_equal(fx_disable_irq(fx, MSIX), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 0, &fd), -ERANGE);
    close(fd);
}

static void one_vector_of_many_is_taken_away(void **state)
{
    struct fixture *fx = *state;
    int fds[3] = {fx_eventfd(), fx_eventfd(), fx_eventfd()}, none = -1;

    fx_set_bus_master(fx, true);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 3, fds), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 1, 1, &none), 0);
    for (unsigned i = 0; i < 3; i++)
        probe_notify(i);
    assert_int_equal(fx_events(fds[0]), 1);
    assert_int_equal(fx_events(fds[1]), 0);
    assert_int_equal(fx_events(fds[2]), 1);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void a_block_that_fails_is_unwound(void **state)
{
    struct fixture *fx = *state;
    int good[4] = {fx_eventfd(), fx_eventfd(), fx_eventfd(), fx_eventfd()};
    int bad[3] = {good[0], fx->device, good[0]};

    /* On an index that was off: it stays off. */
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 3, bad), -EINVAL);
    assert_int_equal(fx_disable_irq(fx, MSIX), -EINVAL);
    /* On one that is on: what was looked at is without, the rest is as before. */
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 4, good), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 3, bad), -EINVAL);
    assert_int_equal(fx_state(fx).msi_eventfds, 2);
    fx_set_bus_master(fx, true);
    for (unsigned i = 0; i < 4; i++)
        probe_notify(i);
    assert_int_equal(fx_events(good[0]) + fx_events(good[1]), 0);
    assert_int_equal(fx_events(good[2]) + fx_events(good[3]), 2);
    for (int i = 0; i < 4; i++)
        close(good[i]);
}

static void fewer_vectors_than_asked(void **state)
{
    struct fixture *fx = *state;
    int fds[8] = {-1, -1, -1, -1, -1, -1, -1, -1};

    sim_set_vector_limit(fx->sim, 3);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 8, fds), 3);
    assert_int_equal(fx_disable_irq(fx, MSIX), -EINVAL);
    assert_int_equal(set_fds(fx, TRIGGER, MSI, 0, 4, fds), 3);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 3, fds), 0);
    assert_int_equal(fx_disable_irq(fx, MSIX), 0);
    sim_set_vector_limit(fx->sim, 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 1, fds), -ENOSPC);
}

/* Newer kernels: a set of MSI-X reaches to the last vector, and each is had when it is wanted. */
static void dynamic_msix(void **state)
{
    struct fixture *fx = *state;
    struct vfio_irq_info info = {.argsz = sizeof(info), .index = MSIX};
    int fd = fx_eventfd(), none = -1;

    sim_set_dynamic_msix(fx->sim, true);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_IRQ_INFO_EVENTFD);
    info.index = MSI;
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE);

    sim_set_vector_limit(fx->sim, 6);
    fx_set_bus_master(fx, true);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 1, &none), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, MSIX, 0, 8), 0);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 5, 1, &fd), 0);
    probe_notify(5);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 6, 1, &fd), -ENOSPC);
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 6, 1, &none), 0);
    probe_notify(5);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(fx_disable_irq(fx, MSIX), 0);
    close(fd);
}

static void err_and_req(void **state)
{
    static const uint32_t both[] = {ERR, REQ};
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    for (int i = 0; i < 2; i++) {
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 0, 1), -EINVAL);
        assert_int_equal(set_bool(fx, TRIGGER, both[i], 1), 0); /* nobody hears it */
        assert_int_equal(set_fd(fx, TRIGGER, both[i], fd), 0);
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 0, 1), 0);
        assert_int_equal(set_bool(fx, TRIGGER, both[i], 1), 0);
        assert_int_equal(set_bool(fx, TRIGGER, both[i], 0), 0);
        assert_int_equal(fx_events(fd), 2);
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 0, 2), -EINVAL);
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 1, 0), -EINVAL);
        assert_int_equal(set(fx, EVENTFD | TRIGGER, both[i], 0, 0), -EINVAL);
        assert_int_equal(set(fx, BOOL | TRIGGER, both[i], 0, 0), -EINVAL);
        assert_int_equal(set_fd(fx, TRIGGER, both[i], -2), 0); /* leaves it */
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 0, 1), 0);
        assert_int_equal(set_fd(fx, TRIGGER, both[i], -1), 0);
        assert_int_equal(set(fx, NONE | TRIGGER, both[i], 0, 1), -EINVAL);
        assert_int_equal(set_fd(fx, TRIGGER, both[i], fd), 0);
        assert_int_equal(fx_disable_irq(fx, both[i]), 0);
        assert_int_equal(fx_disable_irq(fx, both[i]), -EINVAL);
        assert_int_equal(fx_events(fd), 1);
    }
    close(fd);
}

static void closing_takes_all_eventfds_back(void **state)
{
    struct fixture *fx = *state;
    int fds[8];

    for (int i = 0; i < 8; i++)
        fds[i] = fx_eventfd();
    assert_int_equal(set_fds(fx, TRIGGER, MSIX, 0, 8, fds), 0);
    assert_int_equal(set_fd(fx, TRIGGER, REQ, fds[0]), 0);
    assert_int_equal(set_fd(fx, TRIGGER, ERR, fds[0]), 0);
    host_close(fx->host, &fx->device);
    assert_int_equal(fd_count_open(), fx->fds + 2 + 8);
    assert_int_equal(fx_state(fx).msi_eventfds, 0);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_int_equal(fx_disable_irq(fx, MSIX), -EINVAL);
    assert_int_equal(set_fd(fx, TRIGGER, INTX, fds[0]), 0);
    assert_int_equal(set_fd(fx, UNMASK, INTX, fds[1]), 0);
    host_close(fx->host, &fx->device);
    assert_int_equal(fd_count_open(), fx->fds + 2 + 8);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
}

static void reset_keeps_the_eventfds(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    fx_set_bus_master(fx, true);
    assert_int_equal(set_fd(fx, TRIGGER, MSI, fd), 0);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    probe_notify(0);
    assert_int_equal(fx_events(fd), 1);
    close(fd);
}

static void reset_lowers_the_line(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd();

    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    probe_set_intx(true);
    assert_int_equal(fx_events(fd), 1);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_config_get(fx, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
    assert_int_equal(set(fx, NONE | UNMASK, INTX, 0, 1), 0);
    assert_int_equal(fx_events(fd), 0);
    close(fd);
}

static void a_full_counter_blocks_nobody(void **state)
{
    struct fixture *fx = *state;
    int fd = eventfd(0, EFD_CLOEXEC); /* blocking */
    uint64_t count;

    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
    assert_int_equal(set(fx, NONE | TRIGGER, INTX, 0, 1), 0);
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_true(count == UINT64_MAX - 1);
    assert_int_equal(set(fx, NONE | TRIGGER, INTX, 0, 1), 0);
    assert_int_equal(eventfd_read(fd, &count), 0);
    assert_int_equal(count, 1);
    close(fd);
}

static void the_clients_own_descriptor_may_go(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), kept = dup(fd);

    assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
    close(fd);
    probe_set_intx(true);
    assert_int_equal(fx_events(kept), 1);
    close(kept);
}

static void *unmask_again_and_again(void *arg)
{
    for (int i = 0; i < 500; i++)
        eventfd_write(*(int *)arg, 1);
    return NULL;
}

static void unmask_races_with_disabling(void **state)
{
    struct fixture *fx = *state;
    int fd = fx_eventfd(), unmask = fx_eventfd();
    pthread_t thread;

    probe_set_intx(true);
    assert_int_equal(pthread_create(&thread, NULL, unmask_again_and_again, &unmask), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(set_fd(fx, TRIGGER, INTX, fd), 0);
        assert_int_equal(set_fd(fx, UNMASK, INTX, unmask), 0);
        assert_int_equal(fx_disable_irq(fx, INTX), 0);
    }
    pthread_join(thread, NULL);
    assert_true(fx_events(fd) >= 200);
    close(fd);
    close(unmask);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, probe_setup, fx_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(malformed_requests),
        TEST(disabling_what_is_off),
        cmocka_unit_test_setup_teardown(an_index_the_device_lacks, fx_setup_open, fx_teardown),
        TEST(kinds_of_descriptors),
        TEST(intx_masks_itself),
        TEST(intx_masked_by_the_client),
        TEST(intx_asserted_before_it_is_enabled),
        TEST(intx_disable_bit),
        TEST(intx_loopback),
        TEST(unmask_by_eventfd),
        TEST(one_type_at_a_time),
        TEST(messages_cannot_be_masked),
        TEST(messages),
        TEST(message_loopback),
        TEST(the_set_does_not_grow),
        TEST(one_vector_of_many_is_taken_away),
        TEST(a_block_that_fails_is_unwound),
        TEST(fewer_vectors_than_asked),
        TEST(dynamic_msix),
        TEST(err_and_req),
        TEST(closing_takes_all_eventfds_back),
        TEST(reset_keeps_the_eventfds),
        TEST(reset_lowers_the_line),
        TEST(a_full_counter_blocks_nobody),
        TEST(the_clients_own_descriptor_may_go),
        TEST(unmask_races_with_disabling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
