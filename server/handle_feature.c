#include <errno.h>

#include "proto/base/log.h"
#include "proto/validate.h"
#include "server/handlers.h"

/*
 * ENOTTY is the kernel's answer for a feature that a device does not have, to a probe as to a use.
 * The features of the protocol are those of migration, which is not offered in VERSION.
 */
int handle_device_feature(struct session *s, struct request *req)
{
    struct vfio_user_device_feature feature;
    int ret = validate_device_feature(req->payload, req->len, &feature);

    (void)s;
    if (ret)
        return ret;
    log_peer_info("device feature %u is not offered",
                  feature.flags & VFIO_USER_DEVICE_FEATURE_MASK);
    return -ENOTTY;
}

/* Without a migration feature a device is in no state that has a data stream. */
int handle_mig_data_read(struct session *s, struct request *req)
{
    struct vfio_user_mig_data data;
    int ret = validate_mig_data_read(req->payload, req->len, &data);

    (void)s;
    if (ret)
        return ret;
    log_peer_warning("MIG_DATA_READ: the device is in no state that can be read");
    return -EINVAL;
}

int handle_mig_data_write(struct session *s, struct request *req)
{
    struct vfio_user_mig_data data;
    const uint8_t *bytes;
    int ret = validate_mig_data_write(req->payload, req->len, &data, &bytes);

    (void)s;
    if (ret)
        return ret;
    log_peer_warning("MIG_DATA_WRITE: the device is in no state that can be written");
    return -EINVAL;
}
