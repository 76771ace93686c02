#include "server/session.h"

#include <errno.h>
#include <string.h>

#include "bridge/config_space.h"
#include "bridge/dirty.h"
#include "bridge/ioeventfd.h"
#include "bridge/irq.h"
#include "bridge/migration.h"
#include "bridge/reset.h"
#include "proto/base/log.h"
#include "server/config.h"
#include "server/group_reset.h"

unsigned session_dirty_sources(const struct config *settings)
{
    static const unsigned kernel[] = {
        [CONFIG_DIRTY_AUTO] = DIRTY_DEVICE | DIRTY_IOMMU,
        [CONFIG_DIRTY_DEVICE] = DIRTY_DEVICE,
        [CONFIG_DIRTY_IOMMU] = DIRTY_IOMMU,
        [CONFIG_DIRTY_NONE] = 0,
    };

    return kernel[settings->dirty_source] | (settings->guess_dirty ? DIRTY_GUESS : 0u);
}

bool session_can_migrate(struct device *dev, unsigned dirty_sources)
{
    uint64_t flags;

    return !migration_get_flags(dev, &flags) || !dirty_probe(dev, dirty_sources);
}

int session_charge(struct session *s, struct quota_amount amount)
{
    int ret = quota_charge(s->quota, &s->peer, amount);

    if (!ret) {
        s->charged.maps += amount.maps;
        s->charged.bytes += amount.bytes;
    }
    return ret;
}

void session_settle(struct session *s)
{
    struct address_space_stats held;
    struct quota_amount surplus;

    address_space_get_stats(s->as, &held);
    surplus = (struct quota_amount){
        .maps = s->charged.maps - held.maps,
        .bytes = s->charged.bytes - held.backed_bytes,
    };
    quota_release(s->quota, &s->peer, surplus);
    s->charged = (struct quota_amount){.maps = held.maps, .bytes = held.backed_bytes};
}

/* What EEH has cut off reads the same, and comes back. */
bool session_is_gone(const struct session *s)
{
    return address_space_kind(s->as) != IOMMU_SPAPR && config_space_is_gone(s->device);
}

/* ENOTTY is what the kernel says of the reset of such a device. */
void session_note_error(struct session *s, int err)
{
    if (err == -EIO || err == -ENODEV || err == -ENOTTY)
        s->gone = session_is_gone(s);
}

bool session_can_reset(const struct session *s)
{
    return s->gd ? group_reset_is_possible(s->gd) : reset_is_supported(s->device);
}

static int reset(struct session *s, enum group_reset_others others)
{
    return s->gd ? group_reset_device(s->gd, others) : reset_device(s->device);
}

int session_reset(struct session *s)
{
    return reset(s, GROUP_RESET_SAME_IDENTITY);
}

int session_hot_reset(struct session *s)
{
    return s->gd ? group_reset_bus(s->gd, GROUP_RESET_SAME_IDENTITY) : -ENOTTY;
}

int session_get_reset_set(struct session *s, struct group_reset_set *out)
{
    return s->gd ? group_reset_get_set(s->gd, out) : -ENOTTY;
}

static bool failed(const char *step, int ret)
{
    if (ret)
        log_peer_warning("end of the session: %s: %s", step, strerror(-ret));
    return ret;
}

/*
 * The order is what makes it safe. The client's other devices are kept from this one's BARs before
 * anything happens to those. No DMA may be under way when memory is unmapped, or the host's
 * log fills with IOMMU faults; nothing may be unmapped late, or the next client's device could
 * write into this client's memory; the reset comes after the interrupts, whose eventfds it would
 * otherwise signal, and after the stream of a migration, whose state it ends; decode goes off last
 * of the device's switches, because the reset restores it. The client's other devices are not reset
 * for the sake of one that it leaves.
 */
enum session_end session_teardown(struct session *s)
{
    bool broken, unreset;

    device_leave_peers(s->device);
    broken = failed("stopping DMA", config_space_stop_dma(s->device));
    failed("disabling interrupts", irq_disable_all(s->device));
    failed("taking away the doorbells", ioeventfd_end(s->device));
    failed("ending the dirty log", dirty_stop(s->device));
    migration_end_stream(s->device);
    unreset = !session_can_reset(s) || reset(s, GROUP_RESET_IDLE);
    failed("switching decode off", config_space_stop_decode(s->device));
    broken |= failed("unmapping memory", address_space_unmap_all(s->as));
    if (!s->removed)
        broken |= failed("opening the device again", device_reopen(s->device));

    if (broken && !s->removed)
        return SESSION_END_BROKEN;
    return unreset ? SESSION_END_UNRESET : SESSION_END_CLEAN;
}
