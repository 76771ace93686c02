/*
 * vfuc mtty: drives the kernel's sample mtty, a mediated device: a serial port (16550) whose output
 * is its input, in BAR 0. It interrupts when a byte has come in, which a client makes by sending
 * one.
 */
#include <errno.h>
#include <linux/serial_reg.h>
#include <linux/vfio.h>
#include <stddef.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"

enum {
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    NONE_UNMASK = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_UNMASK,

    MTTY = 0x32534348, /* vendor and device */
};

static int write_uart(struct vfuc *c, uint64_t reg, uint8_t value)
{
    int ret = vfuc_region_write(c, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, sizeof(value));

    return ret ? cmd_fail(ret, "writing register %u of the port", (unsigned)reg) : CMD_OK;
}

static int expect_uart(struct vfuc *c, uint64_t reg, uint8_t mask, uint8_t value)
{
    uint8_t got = 0;
    int ret = vfuc_region_read(c, VFIO_PCI_BAR0_REGION_INDEX, reg, &got, sizeof(got));

    if (ret)
        return cmd_fail(ret, "reading register %u of the port", (unsigned)reg);
    if ((got & mask) != value)
        return cmd_fail(0, "register %u of the port reads 0x%x, not 0x%x", (unsigned)reg,
                        got & mask, value);
    return CMD_OK;
}

static int expect_fired(int event, const char *what)
{
    int ret = event_wait(event, EVENT_TIMEOUT_MS);

    return ret == 1 ? CMD_OK : cmd_fail(ret ? ret : -ETIMEDOUT, "%s: waiting for the event", what);
}

static int check_identity(struct vfuc *c)
{
    struct vfio_user_device_info info;
    uint32_t id = 0;
    int ret = vfuc_device_info(c, &info);

    if (!ret)
        ret = vfuc_region_read(c, VFIO_PCI_CONFIG_REGION_INDEX, 0, &id, sizeof(id));
    if (ret)
        return cmd_fail(ret, "identity");
    if (!(info.flags & VFIO_USER_DEVICE_FLAGS_PCI) || id != MTTY)
        return cmd_fail(0, "identity: flags 0x%x, vendor and device 0x%08x", info.flags, id);
    return cmd_ok("identity: a PCI device, 4348:3253");
}

static int check_registers(struct vfuc *c)
{
    int ret = write_uart(c, UART_SCR, 0xa5);

    if (!ret)
        ret = expect_uart(c, UART_SCR, 0xff, 0xa5);
    if (!ret)
        ret = write_uart(c, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
    if (!ret)
        ret = expect_uart(c, UART_LSR, UART_LSR_DR, 0);
    if (!ret)
        ret = write_uart(c, UART_TX, 'v');
    if (!ret)
        ret = expect_uart(c, UART_LSR, UART_LSR_DR, UART_LSR_DR);
    if (!ret)
        ret = expect_uart(c, UART_RX, 0xff, 'v');
    if (!ret)
        ret = expect_uart(c, UART_LSR, UART_LSR_DR, 0);
    return ret ? ret : cmd_ok("registers: a byte that is sent comes in");
}

/* Sends a byte, which is then to be read. */
static int raise(struct vfuc *c)
{
    return write_uart(c, UART_TX, '!');
}

static int acknowledge(struct vfuc *c)
{
    return expect_uart(c, UART_RX, 0xff, '!');
}

/* It is signalled once, until it is unmasked. */
static int check_intx(struct vfuc *c, int event)
{
    int ret = raise(c);

    if (!ret)
        ret = expect_fired(event, "INTx");
    if (!ret)
        ret = acknowledge(c);
    if (!ret)
        ret = raise(c);
    if (!ret && event_wait(event, 0))
        ret = cmd_fail(0, "INTx: an event while it is masked");
    if (!ret)
        ret = acknowledge(c);
    if (!ret && vfuc_set_irqs(c, INTX, NONE_UNMASK, 0, 1, NULL, NULL))
        ret = cmd_fail(0, "INTx: unmasking it");
    if (!ret)
        ret = raise(c);
    if (!ret)
        ret = expect_fired(event, "INTx after it was unmasked");
    if (!ret)
        ret = acknowledge(c);
    return ret ? ret : cmd_ok("INTx: signalled, masked by that, signalled again when unmasked");
}

static int check_msi(struct vfuc *c, int event)
{
    int ret = CMD_OK;

    for (int i = 0; !ret && i < 3; i++) {
        ret = raise(c);
        if (!ret)
            ret = expect_fired(event, "MSI");
        if (!ret)
            ret = acknowledge(c);
    }
    return ret ? ret : cmd_ok("MSI: signalled each time");
}

static int check_irq(struct vfuc *c, uint32_t index, int (*check)(struct vfuc *c, int event))
{
    cleanup_close_ int event = event_create();
    int ret = event < 0 ? event : vfuc_set_irqs(c, index, EVENTFD_TRIGGER, 0, 1, &event, NULL);

    if (ret)
        return cmd_fail(ret, "enabling interrupt index %u", index);
    ret = write_uart(c, UART_IER, UART_IER_RDI);
    if (!ret)
        ret = check(c, event);
    if (ret)
        return ret;
    ret = vfuc_irq_disable(c, index);
    return ret ? cmd_fail(ret, "disabling interrupt index %u", index) : CMD_OK;
}

static int check_reset(struct vfuc *c)
{
    int ret = vfuc_reset(c);

    return ret ? cmd_fail(ret, "reset") : cmd_ok("reset: done");
}

int cmd_mtty(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    int ret;

    (void)argv;
    if (argc)
        return cmd_usage("mtty: no arguments");
    ret = cmd_connect(target, &c);
    if (!ret)
        ret = check_identity(c);
    if (!ret)
        ret = check_registers(c);
    if (!ret)
        ret = check_irq(c, INTX, check_intx);
    if (!ret)
        ret = check_irq(c, MSI, check_msi);
    return ret ? ret : check_reset(c);
}
