/*
 * vfuc watch: has the device until the host wants it back, tells of the errors that it reports
 * meanwhile, and leaves then; or stays, to see it taken away.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"

enum {
    EVENTFD_TRIGGER = VFIO_USER_IRQ_SET_DATA_EVENTFD | VFIO_USER_IRQ_SET_ACTION_TRIGGER,
    LOOK_MS = 100,
};

/* A device that is not PCI Express has no ERR. */
static int watch_index(struct vfuc *c, uint32_t index, int event)
{
    struct vfio_user_irq_info info;
    int ret = vfuc_irq_info(c, index, &info);

    if (ret || !info.count)
        return ret;
    return vfuc_set_irqs(c, index, EVENTFD_TRIGGER, 0, 1, &event, NULL);
}

static int await_request(int req, int err)
{
    struct pollfd events[] = {
        {.fd = req, .events = POLLIN},
        {.fd = err, .events = POLLIN}
    };

    for (;;) {
        if (poll(events, 2, -1) < 0)
            return cmd_error(-errno, "watching the device");
        if (event_wait(err, 0) == 1) {
            printf("the device reports an error\n");
            fflush(stdout);
        }
        if (event_wait(req, 0) == 1)
            return cmd_ok("the host wants the device back");
    }
}

static int await_loss(struct vfuc *c)
{
    struct vfio_user_device_info info;
    int ret;

    fflush(stdout);
    while (!(ret = vfuc_device_info(c, &info)))
        poll(NULL, 0, LOOK_MS);
    if (ret != -ENODEV)
        return cmd_fail(ret, "the device was taken away, and the session broken");
    ret = vfuc_dma_unmap_all(c);
    if (ret)
        return cmd_fail(ret, "unmapping without the device");
    return cmd_ok("the device was taken away, the connection stays");
}

int cmd_watch(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_close_ int req = event_create();
    cleanup_close_ int err = event_create();
    bool stay = argc == 1 && !strcmp(argv[0], "--stay");
    int ret;

    if (argc && !stay)
        return cmd_usage("watch [--stay]");
    if (req < 0 || err < 0)
        return cmd_error(req < 0 ? req : err, "eventfd");
    if (cmd_connect(target, &c))
        return CMD_FAILED;
    ret = watch_index(c, VFIO_PCI_REQ_IRQ_INDEX, req);
    if (!ret)
        ret = watch_index(c, VFIO_PCI_ERR_IRQ_INDEX, err);
    if (ret)
        return cmd_error(ret, "watching the device");
    printf("watching\n");
    fflush(stdout);
    ret = await_request(req, err);
    return ret || !stay ? ret : await_loss(c);
}
