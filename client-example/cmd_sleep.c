/*
 * vfuc sleep: lets the device sleep as long as nobody uses it, and wakes it by using it. Whether it
 * has slept is the kernel's to say: it tells of the waking through an eventfd, and only if there
 * was one.
 */
#include <linux/pci_regs.h>
#include <stdio.h>
#include <unistd.h>

#include "client-example/cmd.h"
#include "client-example/event.h"
#include "proto/base/cleanup.h"

enum {
    SET = VFIO_USER_DEVICE_FEATURE_SET,
    PROBE = VFIO_USER_DEVICE_FEATURE_PROBE,
};

static int feature(struct vfuc *c, uint32_t flags, const int *event)
{
    struct {
        struct vfio_user_device_feature head;
        struct vfio_user_feature_low_power_wakeup wakeup;
    } request = {
        .head = {.argsz = sizeof(request.head), .flags = flags},
        .wakeup = {.wakeup_eventfd = -1                            },
    };

    size_t len;

    if (event)
        request.head.argsz = sizeof(request);
    len = request.head.argsz;
    return vfuc_call(c, VFIO_USER_DEVICE_FEATURE, &request, len, event, event ? 1 : 0, &request,
                     &len, NULL);
}

static int probe(struct vfuc *c)
{
    int ret = feature(c, PROBE | SET | VFIO_USER_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, NULL);

    if (ret)
        return cmd_fail(ret, "low power");
    return cmd_ok("low power: the device may sleep");
}

static int enter(struct vfuc *c, int event, unsigned seconds)
{
    int ret = feature(c, SET | VFIO_USER_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, &event);

    if (ret)
        return cmd_fail(ret, "low power: entry");
    printf("may sleep for %u s\n", seconds);
    fflush(stdout);
    sleep(seconds);
    if (event_wait(event, 0))
        return cmd_fail(0, "low power: the device was woken");
    return CMD_OK;
}

static int wake(struct vfuc *c, int event)
{
    uint16_t vendor;
    int ret = cmd_read_config16(c, PCI_VENDOR_ID, &vendor);

    if (ret)
        return cmd_fail(ret, "low power: reading the config space");
    if (event_wait(event, EVENT_TIMEOUT_MS) != 1)
        return cmd_fail(0, "low power: no event tells that the device has woken");
    ret = feature(c, SET | VFIO_USER_FEATURE_LOW_POWER_EXIT, NULL);
    if (ret)
        return cmd_fail(ret, "low power: exit");
    return cmd_ok("low power: the device slept, and an access has woken it");
}

int cmd_sleep(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    cleanup_close_ int event = -1;
    uint64_t seconds;
    int ret;

    if (argc != 1 || cmd_parse_number(argv[0], &seconds) || seconds > 3600)
        return cmd_usage("sleep: SECONDS, at most 3600");
    event = event_create();
    if (event < 0)
        return cmd_error(event, "an eventfd");
    ret = cmd_connect(target, &c);
    if (!ret)
        ret = probe(c);
    if (!ret)
        ret = enter(c, event, (unsigned)seconds);
    return ret ? ret : wake(c, event);
}
