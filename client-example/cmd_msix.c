/*
 * vfuc msix: gives the vectors of MSI-X their eventfds as clients do, in chunks, out of order and
 * with gaps, and takes some away. After each step every vector is triggered by loopback: exactly
 * its own eventfd must fire, if it has one. The kernel has signalled it when the message is
 * answered.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"

enum {
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
    MOST_VECTORS = 2048,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_TRIGGER = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
};

struct vectors {
    struct vfuc *c;
    uint32_t count;
    int *events; /* one for each vector */
    bool *given; /* to the server */
};

static void vectors_close(struct vectors *v)
{
    for (uint32_t i = 0; v->events && i < v->count; i++)
        fd_close(&v->events[i]);
    free(v->events);
    free(v->given);
    vfuc_close(v->c);
}

static int create_events(struct vectors *v)
{
    v->events = calloc(v->count, sizeof(*v->events));
    v->given = calloc(v->count, sizeof(*v->given));
    if (!v->events || !v->given)
        return cmd_error(-ENOMEM, "MSI-X");
    for (uint32_t i = 0; i < v->count; i++)
        v->events[i] = -1;
    for (uint32_t i = 0; i < v->count; i++) {
        v->events[i] = event_create();
        if (v->events[i] < 0)
            return cmd_error(v->events[i], "an eventfd");
    }
    return CMD_OK;
}

static int set(struct vectors *v, uint32_t start, uint32_t count, bool give)
{
    int ret = vfuc_set_irqs(v->c, MSIX, EVENTFD_TRIGGER, start, count,
                            give ? v->events + start : NULL, NULL);

    if (ret)
        return cmd_fail(ret, "MSI-X: %s vectors %u to %u", give ? "giving" : "taking", start,
                        start + count - 1);
    for (uint32_t i = start; i < start + count; i++)
        v->given[i] = give;
    return CMD_OK;
}

/* A set that was made anew to grow has had its vectors signalled once. */
static int drain(struct vectors *v)
{
    for (uint32_t i = 0; i < v->count; i++) {
        int ret = event_wait(v->events[i], 0);

        if (ret < 0)
            return cmd_error(ret, "an eventfd");
    }
    return CMD_OK;
}

static int check_vector(struct vectors *v, uint32_t vector)
{
    int ret = vfuc_set_irqs(v->c, MSIX, NONE_TRIGGER, vector, 1, NULL, NULL);

    if (ret)
        return cmd_fail(ret, "MSI-X: triggering vector %u", vector);
    for (uint32_t i = 0; i < v->count; i++) {
        int fired = event_wait(v->events[i], 0);

        if (fired < 0)
            return cmd_error(fired, "an eventfd");
        if (fired != (i == vector && v->given[i]))
            return cmd_fail(0, "MSI-X: vector %u was triggered, and the eventfd of %u %s", vector,
                            i, fired ? "fired" : "did not fire");
    }
    return CMD_OK;
}

static int check_all(struct vectors *v, const char *step)
{
    unsigned given = 0;

    if (drain(v))
        return CMD_FAILED;
    for (uint32_t i = 0; i < v->count; i++) {
        if (check_vector(v, i))
            return CMD_FAILED;
        given += v->given[i];
    }
    return cmd_ok("MSI-X: %s: %u of %u vectors fire, each its own eventfd alone", step, given,
                  v->count);
}

/* QEMU begins with one vector that has no eventfd. */
static int enable_in_chunks(struct vectors *v)
{
    uint32_t last = v->count - 1;

    if (set(v, 0, 1, false) || set(v, last, 1, true) || check_all(v, "the last one alone") ||
        set(v, 1, 1, true) || check_all(v, "one with a gap before and behind") ||
        set(v, 2, last - 2, true) || check_all(v, "a chunk more") || set(v, 0, 1, true))
        return CMD_FAILED;
    return check_all(v, "all");
}

static int take_some_away(struct vectors *v)
{
    uint32_t middle = v->count / 2;

    if (set(v, middle, 1, false) || check_all(v, "one taken away") || set(v, 0, 2, false) ||
        check_all(v, "the first two taken away") || set(v, middle, 1, true))
        return CMD_FAILED;
    return check_all(v, "one given again");
}

static int reset(struct vectors *v)
{
    int ret = vfuc_reset(v->c);

    if (ret)
        return cmd_fail(ret, "reset");
    return check_all(v, "after a reset");
}

static int disable(struct vectors *v)
{
    int ret = vfuc_irq_disable(v->c, MSIX);

    if (ret)
        return cmd_fail(ret, "MSI-X: disabling");
    ret = vfuc_set_irqs(v->c, MSIX, NONE_TRIGGER, 1, 1, NULL, NULL);
    if (ret != -EINVAL)
        return cmd_fail(0, "MSI-X: a trigger while it is off: %d", ret);
    return cmd_ok("MSI-X: disabled, and nothing can be triggered");
}

int cmd_msix(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(vectors_close) struct vectors v = {0};
    struct vfio_user_device_info device;
    struct vfio_user_irq_info info;
    int ret;

    (void)argv;
    if (argc)
        return cmd_usage("msix: no arguments");
    ret = cmd_connect(target, &v.c);
    if (ret)
        return ret;
    ret = vfuc_device_info(v.c, &device);
    if (!ret)
        ret = vfuc_irq_info(v.c, MSIX, &info);
    if (ret)
        return cmd_fail(ret, "asking for MSI-X");
    if (info.count < 4 || info.count > MOST_VECTORS)
        return cmd_fail(0, "MSI-X: the device offers %u vectors, and 4 are needed", info.count);
    v.count = info.count;
    cmd_ok("MSI-X: %u vectors, of a set that %s", info.count,
           info.flags & VFIO_IRQ_INFO_NORESIZE ? "can't grow" : "may grow");
    if (create_events(&v) || enable_in_chunks(&v) || take_some_away(&v))
        return CMD_FAILED;
    if (device.flags & VFIO_USER_DEVICE_FLAGS_RESET && reset(&v))
        return CMD_FAILED;
    return disable(&v);
}
