/*
 * Interrupts of the edu device on eventfds.
 *
 * INTx is a level: it stays raised until the device is told that it was served. VFIO masks it
 * when it fires, so that it comes once, and again after an unmask if the level is still there.
 * MSI is an edge: it fires for each raise and needs no unmask.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "client-example/cmd.h"
#include "client-example/edu.h"
#include "client-example/edu_bench.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"

enum {
    BIT_A = 0x1,
    BIT_B = 0x2,
    ALL_BITS = BIT_A | BIT_B,
};

static int raise_bits(struct edu_bench *b, uint32_t bits)
{
    int ret = edu_write(b->c, EDU_REG_IRQ_RAISE, bits);

    return ret ? cmd_fail(ret, "raising interrupt 0x%x", bits) : CMD_OK;
}

static int acknowledge(struct edu_bench *b, uint32_t bits)
{
    int ret = edu_write(b->c, EDU_REG_IRQ_ACK, bits);

    return ret ? cmd_fail(ret, "acknowledging interrupt 0x%x", bits) : CMD_OK;
}

static int expect_fired(int fd, const char *what)
{
    int ret = event_wait(fd, EVENT_TIMEOUT_MS);

    return ret == 1 ? CMD_OK : cmd_fail(ret ? ret : -ETIMEDOUT, "%s: waiting for the event", what);
}

static int expect_quiet(int fd, const char *what)
{
    int ret = event_wait(fd, EVENT_QUIET_MS);

    return ret ? cmd_fail(ret < 0 ? ret : 0, "%s: an event that must not come", what) : CMD_OK;
}

static int expect_status(struct edu_bench *b, uint32_t bits, const char *what)
{
    uint32_t status;
    int ret = edu_read(b->c, EDU_REG_IRQ_STATUS, &status);

    if (ret)
        return cmd_fail(ret, "%s: reading the interrupt status", what);
    if (status != bits)
        return cmd_fail(0, "%s: the interrupt status is 0x%x, not 0x%x", what, status, bits);
    return CMD_OK;
}

/* fd: -1 to take the eventfd of the action away. */
static int assign(struct edu_bench *b, uint32_t index, uint32_t action, int fd)
{
    int ret = vfuc_set_irqs(b->c, index, VFIO_USER_IRQ_SET_DATA_EVENTFD | action, 0, 1,
                            fd < 0 ? NULL : &fd, NULL);

    return ret ? cmd_fail(ret, "%s an eventfd of irq index %u", fd < 0 ? "taking away" : "setting",
                          index)
               : CMD_OK;
}

static int unmask(struct edu_bench *b)
{
    int ret = vfuc_set_irqs(b->c, VFIO_PCI_INTX_IRQ_INDEX,
                            VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_UNMASK, 0, 1,
                            NULL, NULL);

    return ret ? cmd_fail(ret, "unmasking INTx") : CMD_OK;
}

static int disable(struct edu_bench *b, uint32_t index)
{
    int ret = vfuc_irq_disable(b->c, index);

    return ret ? cmd_fail(ret, "disabling irq index %u", index) : CMD_OK;
}

static int signal_event(int fd)
{
    int ret = event_signal(fd);

    return ret ? cmd_error(ret, "signalling an eventfd") : CMD_OK;
}

static int count_vectors(struct edu_bench *b, uint32_t index, uint32_t *count)
{
    struct vfio_user_irq_info info = {0};
    int ret = 0;

    if (index < b->info.num_irqs)
        ret = vfuc_irq_info(b->c, index, &info);
    *count = info.count;
    return ret ? cmd_fail(ret, "asking for irq index %u", index) : CMD_OK;
}

/* Each of these starts and ends with the level low and INTx unmasked. */

static int check_intx_level(struct edu_bench *b, int fired)
{
    if (raise_bits(b, BIT_A) || expect_fired(fired, "INTx raised") ||
        expect_status(b, BIT_A, "INTx raised"))
        return CMD_FAILED;
    cmd_ok("INTx: raised, the eventfd fired");
    if (raise_bits(b, BIT_B) || expect_quiet(fired, "INTx masked"))
        return CMD_FAILED;
    cmd_ok("INTx: masked itself, no second event before an unmask");
    if (unmask(b) || expect_fired(fired, "INTx unmasked while raised"))
        return CMD_FAILED;
    cmd_ok("INTx: unmasked by message while raised, the eventfd fired again");
    if (acknowledge(b, ALL_BITS) || unmask(b) || expect_quiet(fired, "INTx acknowledged") ||
        expect_status(b, 0, "INTx acknowledged"))
        return CMD_FAILED;
    return cmd_ok("INTx: acknowledged and unmasked, quiet");
}

static int check_intx_resample(struct edu_bench *b, int fired, int resample)
{
    if (assign(b, VFIO_PCI_INTX_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_UNMASK, resample) ||
        raise_bits(b, BIT_A) || expect_fired(fired, "INTx before the resample") ||
        acknowledge(b, BIT_A) || signal_event(resample) || raise_bits(b, BIT_B) ||
        expect_fired(fired, "INTx unmasked through the resample eventfd"))
        return CMD_FAILED;
    cmd_ok("INTx: acknowledged, unmasked through a resample eventfd, fired again");
    if (assign(b, VFIO_PCI_INTX_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_UNMASK, -1) ||
        signal_event(resample) || expect_quiet(fired, "INTx without resample eventfd") ||
        unmask(b) || expect_fired(fired, "INTx unmasked by message instead") ||
        acknowledge(b, BIT_B) || unmask(b))
        return CMD_FAILED;
    return cmd_ok("INTx: the resample eventfd was taken away and unmasks no more");
}

/* The level is left high and masked: nobody would serve it once the eventfd is gone. */
static int check_intx_deassign(struct edu_bench *b, int fired)
{
    if (raise_bits(b, BIT_A) || expect_fired(fired, "INTx before it is taken away") ||
        assign(b, VFIO_PCI_INTX_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_TRIGGER, -1) ||
        raise_bits(b, BIT_B) || expect_quiet(fired, "INTx without eventfd") ||
        acknowledge(b, ALL_BITS) || disable(b, VFIO_PCI_INTX_IRQ_INDEX))
        return CMD_FAILED;
    return cmd_ok("INTx: the eventfd was taken away and fires no more");
}

int edu_check_intx(struct edu_bench *b)
{
    cleanup_close_ int fired = event_create();
    cleanup_close_ int resample = event_create();
    uint32_t count;
    int ret;

    if (fired < 0 || resample < 0)
        return cmd_error(fired < 0 ? fired : resample, "creating an eventfd");
    if (count_vectors(b, VFIO_PCI_INTX_IRQ_INDEX, &count))
        return CMD_FAILED;
    if (!count)
        return cmd_skip("INTx: the device offers none");
    ret = cmd_update_command(b->c, 0, PCI_COMMAND_INTX_DISABLE);
    if (ret)
        return cmd_fail(ret, "letting INTx through in the COMMAND register");
    return assign(b, VFIO_PCI_INTX_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_TRIGGER, fired) ||
           check_intx_level(b, fired) || check_intx_resample(b, fired, resample) ||
           check_intx_deassign(b, fired);
}

static int check_msi_raise(struct edu_bench *b, int fired)
{
    if (raise_bits(b, BIT_A) || expect_fired(fired, "MSI raised") || raise_bits(b, BIT_B) ||
        expect_fired(fired, "MSI raised again") || expect_status(b, ALL_BITS, "MSI raised") ||
        acknowledge(b, ALL_BITS) || expect_quiet(fired, "MSI acknowledged"))
        return CMD_FAILED;
    return cmd_ok("MSI: raised twice, the eventfd fired each time");
}

static int check_msi_completions(struct edu_bench *b, int fired)
{
    const struct edu_transfer t = {.irq = true, .iova = EDU_BENCH_IOVA, .len = 64};
    uint32_t result = 0;
    int ret = edu_factorial(b->c, 6, true, &result);

    if (ret || result != 720)
        return cmd_fail(ret, "factorial of 6 with an interrupt (result %u)", result);
    if (expect_fired(fired, "factorial") || expect_status(b, EDU_IRQ_FACTORIAL, "factorial") ||
        acknowledge(b, EDU_IRQ_FACTORIAL))
        return CMD_FAILED;
    cmd_ok("factorial 6! = 720, its completion interrupt came");
    ret = edu_write(b->c, EDU_REG_STATUS, 0);
    if (!ret)
        ret = edu_dma(b->c, &t);
    if (ret)
        return cmd_fail(ret, "DMA with an interrupt");
    if (expect_fired(fired, "DMA") || expect_status(b, EDU_IRQ_DMA, "DMA") ||
        acknowledge(b, EDU_IRQ_DMA))
        return CMD_FAILED;
    return cmd_ok("DMA: its completion interrupt 0x%x came", EDU_IRQ_DMA);
}

static int check_msi_deassign(struct edu_bench *b, int fired)
{
    if (assign(b, VFIO_PCI_MSI_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_TRIGGER, -1) ||
        raise_bits(b, BIT_A) || expect_quiet(fired, "MSI without eventfd") ||
        acknowledge(b, BIT_A) || disable(b, VFIO_PCI_MSI_IRQ_INDEX))
        return CMD_FAILED;
    return cmd_ok("MSI: the eventfd was taken away and fires no more");
}

int edu_check_msi(struct edu_bench *b)
{
    cleanup_close_ int fired = event_create();
    uint32_t count;

    if (fired < 0)
        return cmd_error(fired, "creating an eventfd");
    if (count_vectors(b, VFIO_PCI_MSI_IRQ_INDEX, &count))
        return CMD_FAILED;
    if (!count)
        return cmd_skip("MSI: the device offers none");
    return assign(b, VFIO_PCI_MSI_IRQ_INDEX, VFIO_USER_IRQ_SET_ACTION_TRIGGER, fired) ||
           check_msi_raise(b, fired) || check_msi_completions(b, fired) ||
           check_msi_deassign(b, fired);
}
