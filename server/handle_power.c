/*
 * The features of low power. The specification has none of them; the numbers and the data are the
 * kernel's. To a client whose export does not allow them they are features that the device lacks.
 */
#include <errno.h>

#include "bridge/power.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "server/features.h"

static int check_allowed(const struct session *s)
{
    return s->low_power ? 0 : -ENOTTY;
}

int power_feature_probe_entry(struct session *s)
{
    int ret = check_allowed(s);

    return ret ? ret : power_probe_entry(s->device, false);
}

int power_feature_probe_wakeup(struct session *s)
{
    int ret = check_allowed(s);

    return ret ? ret : power_probe_entry(s->device, true);
}

int power_feature_probe_exit(struct session *s)
{
    int ret = check_allowed(s);

    return ret ? ret : power_probe_exit(s->device);
}

int power_feature_enter(struct feature_call *call)
{
    int ret = check_allowed(call->session);

    return ret ? ret : power_enter(call->session->device, -1);
}

int power_feature_enter_with_wakeup(struct feature_call *call)
{
    cleanup_close_ int wakeup = fdset_take(call->request->fds, 0);
    struct vfio_user_feature_low_power_wakeup data;
    int ret = check_allowed(call->session);

    if (!ret)
        ret = feature_take(call, &data, sizeof(data));
    if (ret)
        return ret;
    if (wakeup < 0)
        return log_peer_refusal(EINVAL, "LOW_POWER_ENTRY_WITH_WAKEUP without an eventfd");
    return power_enter(call->session->device, wakeup);
}

int power_feature_exit(struct feature_call *call)
{
    int ret = check_allowed(call->session);

    return ret ? ret : power_exit(call->session->device);
}
