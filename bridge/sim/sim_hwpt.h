/*
 * Hardware page tables (HWPTs), the domains of an IOAS, and how devices are attached to them: a
 * whole group at a time, since the IOMMU can't tell its devices apart, although each says so for
 * itself.
 *
 * With the context's lock held, not with sim->lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bridge/sim/sim_object.h"

struct sim_context;
struct sim_device;
struct sim_ioas;
struct uapi_hwpt_get_dirty;

struct sim_hwpt {
    struct sim_object object;
    struct sim_ioas *ioas;
    bool tracks;    /* it was made to have dirty bits */
    bool automatic; /* made by an attachment, and goes with the last one */
};

/* As sim_ioas_add_domain(); -ENOMEM. */
int sim_hwpt_create(struct sim_context *context, struct sim_ioas *ioas, struct sim_hwpt **out);
/* Nothing is attached to it. */
void sim_hwpt_destroy(struct sim_context *context, struct sim_hwpt *hwpt);

/*
 * Attaches a device to an HWPT, or to an IOAS by one of its own. A device that is attached already
 * moves there with its whole group. *id: the IOAS's or HWPT's; receives the HWPT's. -ENOENT,
 * which a mediated device is told of an HWPT too; -EINVAL: not of these types, or the group is
 * attached elsewhere; and as sim_ioas_add_domain() and sim_ioas_add_devices().
 */
int sim_hwpt_attach(struct sim_context *context, struct sim_device *dev, uint32_t *id);
/* Does nothing with a device that is not attached. */
void sim_hwpt_detach(struct sim_context *context, struct sim_device *dev);

/*
 * Its dirty bits, which in this machine all HWPTs of an IOAS share. On, also again: all are clear.
 * -EOPNOTSUPP: it was made without.
 */
int sim_hwpt_track(struct sim_hwpt *hwpt, bool on);
/* -EOVERFLOW, -EINVAL: of the range; -EOPNOTSUPP. Behind the first hole of a range nothing is read
 * or cleared, and that is no error. */
int sim_hwpt_read_dirty(struct sim_hwpt *hwpt, const struct uapi_hwpt_get_dirty *get);
