/*
 * The way from a state to another is a sequence of hops, each of which is an action of the driver.
 * A change that fails leaves the device where the last hop that worked has brought it; so does one
 * whose descriptor can't be made, at the state's own end.
 */
#include "bridge/sim/sim_migration.h"

#include <assert.h>
#include <errno.h>
#include <linux/vfio.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/sim/sim_stream.h"
#include "bridge/uapi_compat.h"

enum {
    ERROR = VFIO_DEVICE_STATE_ERROR,
    STOP = VFIO_DEVICE_STATE_STOP,
    RUNNING = VFIO_DEVICE_STATE_RUNNING,
    STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
    RESUMING = VFIO_DEVICE_STATE_RESUMING,
    RUNNING_P2P = VFIO_DEVICE_STATE_RUNNING_P2P,
    PRE_COPY = UAPI_VFIO_STATE_PRE_COPY,
    PRE_COPY_P2P = UAPI_VFIO_STATE_PRE_COPY_P2P,

    BASE = VFIO_MIGRATION_STOP_COPY,
    P2P = BASE | VFIO_MIGRATION_P2P,
    PRE = BASE | UAPI_VFIO_MIGRATION_PRE_COPY,
};

/* What a driver must have for a state to be there. */
static const uint32_t needs[UAPI_VFIO_STATES] = {
    [STOP] = BASE,       [RUNNING] = BASE, [STOP_COPY] = BASE,         [RESUMING] = BASE,
    [RUNNING_P2P] = P2P, [PRE_COPY] = PRE, [PRE_COPY_P2P] = P2P | PRE,
};

/* The next hop with all states there; 0, which is ERROR: none. */
static const uint8_t hops[UAPI_VFIO_STATES][UAPI_VFIO_STATES] = {
    [STOP] = {[STOP] = STOP,
              [RUNNING] = RUNNING_P2P,
              [STOP_COPY] = STOP_COPY,
              [RESUMING] = RESUMING,
              [RUNNING_P2P] = RUNNING_P2P,
              [PRE_COPY] = RUNNING_P2P,
              [PRE_COPY_P2P] = RUNNING_P2P                        },
    [RUNNING] = {[STOP] = RUNNING_P2P,
              [RUNNING] = RUNNING,
              [STOP_COPY] = RUNNING_P2P,
              [RESUMING] = RUNNING_P2P,
              [RUNNING_P2P] = RUNNING_P2P,
              [PRE_COPY] = PRE_COPY,
              [PRE_COPY_P2P] = RUNNING_P2P                        },
    [STOP_COPY] = {[STOP] = STOP,
              [RUNNING] = STOP,
              [STOP_COPY] = STOP_COPY,
              [RESUMING] = STOP,
              [RUNNING_P2P] = STOP         },
    [RESUMING] = {[STOP] = STOP,
              [RUNNING] = STOP,
              [STOP_COPY] = STOP,
              [RESUMING] = RESUMING,
              [RUNNING_P2P] = STOP,
              [PRE_COPY] = STOP,
              [PRE_COPY_P2P] = STOP       },
    [RUNNING_P2P] = {[STOP] = STOP,
              [RUNNING] = RUNNING,
              [STOP_COPY] = STOP,
              [RESUMING] = STOP,
              [RUNNING_P2P] = RUNNING_P2P,
              [PRE_COPY] = RUNNING,
              [PRE_COPY_P2P] = PRE_COPY_P2P        },
    [PRE_COPY] = {[STOP] = RUNNING,
              [RUNNING] = RUNNING,
              [STOP_COPY] = PRE_COPY_P2P,
              [RESUMING] = RUNNING,
              [RUNNING_P2P] = RUNNING,
              [PRE_COPY] = PRE_COPY,
              [PRE_COPY_P2P] = PRE_COPY_P2P},
    [PRE_COPY_P2P] = {[STOP] = RUNNING_P2P,
              [RUNNING] = RUNNING_P2P,
              [STOP_COPY] = STOP_COPY,
              [RESUMING] = RUNNING_P2P,
              [RUNNING_P2P] = RUNNING_P2P,
              [PRE_COPY] = PRE_COPY,
              [PRE_COPY_P2P] = PRE_COPY_P2P    },
};

static bool has_state(uint64_t flags, uint32_t state)
{
    return (flags & needs[state]) == needs[state];
}

int sim_migration_next(uint64_t flags, uint32_t from, uint32_t to, uint32_t *next)
{
    if (from >= UAPI_VFIO_STATES || to >= UAPI_VFIO_STATES || !has_state(flags, from) ||
        !has_state(flags, to))
        return -EINVAL;
    *next = hops[from][to];
    while (!has_state(flags, *next))
        *next = hops[*next][to];
    return *next == ERROR ? -EINVAL : 0;
}

void sim_migration_init(struct sim_device *dev)
{
    dev->migration.state = RUNNING;
    if (dev->model->image_size)
        dev->migration.setup.flags = P2P | PRE;
}

static bool is_running(uint32_t state)
{
    return state == RUNNING || state == RUNNING_P2P || state == PRE_COPY || state == PRE_COPY_P2P;
}

static bool is_saving(uint32_t state)
{
    return state == PRE_COPY || state == PRE_COPY_P2P || state == STOP_COPY;
}

/* When it returns from freezing, the device does no DMA any more and raises no interrupt. */
static void freeze(struct sim_device *dev, bool frozen)
{
    dev->model->freeze(dev->state, frozen);
    if (frozen)
        sim_dma_cancel(dev);
}

static void end_session(struct sim_device *dev)
{
    if (dev->migration.session)
        sim_stream_end(dev->migration.session);
    dev->migration.session = NULL;
}

void sim_migration_reset(struct sim_device *dev)
{
    struct sim_migration *m = &dev->migration;

    end_session(dev);
    if (dev->model->image_size && !is_running(m->state))
        freeze(dev, false);
    m->state = RUNNING;
    m->fails_to = 0;
}

static enum sim_stream_kind kind_of(uint32_t state)
{
    if (state == RESUMING)
        return SIM_STREAM_RESUMING;
    return state == STOP_COPY ? SIM_STREAM_STOP_COPY : SIM_STREAM_PRE_COPY;
}

/* The session of the state that a hop leads to. */
static int change_session(struct sim_device *dev, uint32_t to, bool *opened)
{
    struct sim_migration *m = &dev->migration;
    int ret = 0;

    if (m->state == RESUMING) {
        ret = sim_stream_restore(m->session);
        if (ret)
            return ret;
    }
    if (!is_saving(to))
        end_session(dev);
    if (to == RESUMING || (is_saving(to) && !is_saving(m->state))) {
        ret = sim_stream_open(dev, kind_of(to), &m->session);
        *opened = !ret;
    } else if (to == STOP_COPY) {
        ret = sim_stream_finish(m->session);
    }
    return ret;
}

static int hop(struct sim_device *dev, uint32_t to, bool *opened)
{
    struct sim_migration *m = &dev->migration;
    bool was_running = is_running(m->state);
    int ret;

    if (to == m->fails_to) {
        m->fails_to = 0;
        return -EIO;
    }
    if (was_running && !is_running(to))
        freeze(dev, true);
    ret = change_session(dev, to, opened);
    if (ret) {
        if (was_running && !is_running(to))
            freeze(dev, false);
        return ret;
    }
    if (!was_running && is_running(to))
        freeze(dev, false);
    m->state = to;
    return 0;
}

/* *opened: the state has a new session, whose descriptor the caller gets. */
static int change_state(struct sim_device *dev, uint32_t to, bool *opened)
{
    struct sim_migration *m = &dev->migration;

    while (m->state != to) {
        uint32_t next = to;
        int ret = sim_migration_next(m->setup.flags, m->state, to, &next);

        if (!ret)
            ret = hop(dev, next, opened);
        if (ret && m->state == RESUMING && next == STOP && m->setup.bad_data_is_error) {
            end_session(dev);
            m->state = ERROR;
        }
        if (ret)
            return ret;
    }
    return 0;
}

static int set_state(struct sim_device *dev, struct vfio_device_feature_mig_state *s)
{
    bool opened = false;
    int ret = change_state(dev, s->device_state, &opened);

    if (ret || !opened)
        return ret;
    ret = sim_file_install(sim_file_ref(dev->migration.session));
    if (ret < 0) {
        sim_file_put(dev->migration.session);
        return ret;
    }
    s->data_fd = ret;
    return 0;
}

int sim_migration_device_state(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    struct vfio_device_feature_mig_state s;
    int ret;

    if (!dev->migration.setup.flags)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_GET,
                            sizeof(s));
    if (ret != 1)
        return ret;
    memcpy(&s, data, sizeof(s));
    s.data_fd = -1;
    if (flags & VFIO_DEVICE_FEATURE_GET) {
        s.device_state = dev->migration.state;
        ret = 0;
    } else {
        ret = set_state(dev, &s);
    }
    memcpy(data, &s, sizeof(s));
    return ret;
}

int sim_migration_get_flags(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    const struct vfio_device_feature_migration out = {.flags = dev->migration.setup.flags};
    int ret;

    if (!out.flags)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(out));
    if (ret != 1)
        return ret;
    return sim_copy_out(data, &out, sizeof(out));
}

int sim_migration_data_size(struct sim_device *dev, uint32_t flags, void *data, size_t argsz)
{
    const struct uapi_vfio_mig_data_size out = {.stop_copy_length = sim_stream_size(dev)};
    int ret;

    if (!dev->migration.setup.flags)
        return -ENOTTY;
    ret = sim_feature_check(flags, argsz, VFIO_DEVICE_FEATURE_GET, sizeof(out));
    if (ret != 1)
        return ret;
    return sim_copy_out(data, &out, sizeof(out));
}
