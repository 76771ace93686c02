/*
 * Reading. The kernel's drivers agree on little: a read may be short though more is there; at the
 * end of what a running device has to say it is ENOMSG (mlx5) or 0 (mtty, as at the end of all);
 * data that is still being made is waited for, or EAGAIN for a descriptor that does not block. So
 * a read goes on until the buffer is full or the driver says that there is nothing.
 *
 * The descriptor does not block because a client that leaves must end the wait. Only mlx5 says by
 * poll(2) when data is there; of another driver's file poll says always that it is, and where a
 * read does not agree we look again a little later.
 */
#include "bridge/migration.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <string.h>
#include <time.h>

#include "bridge/device_internal.h"
#include "bridge/feature.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

enum {
    WAIT_SECONDS = 60,
    /* Between two looks at a stream whose poll may not tell (mlx5 after an error in pre-copy). */
    LOOK_MS = 100,
    PAUSE_MS = 1,
};

static const char *const names[] = {
    [VFIO_DEVICE_STATE_ERROR] = "ERROR",       [VFIO_DEVICE_STATE_STOP] = "STOP",
    [VFIO_DEVICE_STATE_RUNNING] = "RUNNING",   [VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
    [VFIO_DEVICE_STATE_RESUMING] = "RESUMING", [VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
    [UAPI_VFIO_STATE_PRE_COPY] = "PRE_COPY",   [UAPI_VFIO_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

static const char *name_of(uint32_t state)
{
    return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static bool is_saving(uint32_t state)
{
    return state == UAPI_VFIO_STATE_PRE_COPY || state == UAPI_VFIO_STATE_PRE_COPY_P2P ||
           state == VFIO_DEVICE_STATE_STOP_COPY;
}

static int explain(const struct device *dev, const char *what, int ret)
{
    if (ret && ret != -ENOTTY)
        log_peer_warning("%s of %s: %s", what, dev->where.name, strerror(-ret));
    return ret;
}

int migration_get_flags(struct device *dev, uint64_t *flags)
{
    struct vfio_device_feature_migration mig = {0};
    int ret = feature_get(dev, VFIO_DEVICE_FEATURE_MIGRATION, &mig, sizeof(mig));

    *flags = mig.flags;
    return explain(dev, "migration flags", ret);
}

int migration_get_state(struct device *dev, uint32_t *state)
{
    struct vfio_device_feature_mig_state mig = {.data_fd = -1};
    int ret = feature_get(dev, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &mig, sizeof(mig));

    *state = mig.device_state;
    return explain(dev, "migration state", ret);
}

int migration_get_data_size(struct device *dev, uint64_t *bytes)
{
    struct uapi_vfio_mig_data_size size = {0};
    int ret = feature_get(dev, UAPI_VFIO_FEATURE_MIG_DATA_SIZE, &size, sizeof(size));

    *bytes = size.stop_copy_length;
    return explain(dev, "size of the migration data", ret);
}

void migration_end_stream(struct device *dev)
{
    host_close(dev->host, &dev->stream.fd);
}

/* What is left of the stream after a change that may have failed on its way. */
static void settle(struct device *dev, uint32_t wanted)
{
    uint32_t state;

    if (migration_get_state(dev, &state)) {
        migration_end_stream(dev);
        return;
    }
    if (dev->stream.saving ? !is_saving(state) : state != VFIO_DEVICE_STATE_RESUMING)
        migration_end_stream(dev);
    log_peer_warning("%s did not go to %s: it is in %s", dev->where.name, name_of(wanted),
                     name_of(state));
}

static int take_stream(struct device *dev, uint32_t state, int fd)
{
    int ret;

    migration_end_stream(dev);
    dev->stream.fd = fd;
    dev->stream.saving = is_saving(state);
    ret = host_set_nonblock(dev->host, fd);
    if (ret)
        migration_end_stream(dev);
    return explain(dev, "migration data", ret);
}

int migration_set_state(struct device *dev, uint32_t state)
{
    struct vfio_device_feature_mig_state mig = {.device_state = state, .data_fd = -1};
    int ret = feature_set(dev, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &mig, sizeof(mig));

    if (ret == -ENOTTY || ret == -ENODEV)
        return ret;
    if (ret < 0) {
        explain(dev, "change of the migration state", ret);
        settle(dev, state);
        return ret;
    }
    if (mig.data_fd >= 0)
        return take_stream(dev, state, mig.data_fd);
    if (!is_saving(state) && state != VFIO_DEVICE_STATE_RESUMING)
        migration_end_stream(dev);
    return 0;
}

static int check_stream(const struct device *dev, bool saving)
{
    if (dev->fd < 0)
        return -ENODEV;
    if (dev->stream.fd < 0 || dev->stream.saving != saving)
        return log_peer_refusal(EINVAL, "%s is in no state whose data can be %s", dev->where.name,
                                saving ? "read" : "written");
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A wait for the stream; zero-initialized but for ends. */
struct wait {
    const struct migration_ends *ends;
    int64_t until;  /* 0: not begun */
    bool was_ready; /* poll said so, and the call that followed EAGAIN */
};

static int wait_for(struct device *dev, struct wait *w, short events)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    struct pollfd fds[] = {
        {.fd = dev->stream.fd, .events = events   },
        {.fd = w->ends->peer,  .events = POLLRDHUP},
        {.fd = w->ends->stop,  .events = POLLIN   },
    };
    int ret;

    if (!w->until)
        w->until = now_ms() + WAIT_SECONDS * 1000L;
    if (now_ms() >= w->until)
        return -ETIMEDOUT;
    if (w->was_ready)
        nanosleep(&pause, NULL);
    ret = host_poll(dev->host, fds, ARRAY_SIZE(fds), LOOK_MS);
    if (ret < 0)
        return ret;
    w->was_ready = fds[0].revents;
    return fds[1].revents || fds[2].revents ? -ECANCELED : 0;
}

/* The kernel is asked for flags each time: that changes nothing, and it forgets when it is closed.
 */
int migration_get_precopy(struct device *dev, struct migration_precopy *out)
{
    struct uapi_vfio_precopy_info info = {.argsz = sizeof(info)};
    int ret = check_stream(dev, true);
    bool has_flags;

    if (ret)
        return ret;
    has_flags = !feature_set(dev, UAPI_VFIO_FEATURE_PRECOPY_INFO_V2, NULL, 0);
    ret = host_ioctl(dev->host, dev->stream.fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO, &info);
    *out = (struct migration_precopy){
        .initial_bytes = info.initial_bytes,
        .dirty_bytes = info.dirty_bytes,
        .reinit = has_flags && info.flags & UAPI_VFIO_PRECOPY_INFO_REINIT,
    };
    return explain(dev, "GET_PRECOPY_INFO", ret < 0 ? ret : 0);
}

/*
 * A device in pre-copy has more to say if it has changed since; mlx5 looks for that when it is
 * asked how much there is, and at no other time.
 */
static bool has_more(struct device *dev)
{
    struct uapi_vfio_precopy_info info = {.argsz = sizeof(info)};
    int ret = host_ioctl(dev->host, dev->stream.fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO, &info);

    return !ret && (info.initial_bytes || info.dirty_bytes);
}

int migration_read(struct device *dev, void *buf, size_t size, const struct migration_ends *ends,
                   size_t *got)
{
    struct wait wait = {.ends = ends};
    bool asked = false;
    int ret = check_stream(dev, true);

    *got = 0;
    while (!ret && *got < size) {
        ssize_t n = host_read(dev->host, dev->stream.fd, (char *)buf + *got, size - *got);

        if (n == -EAGAIN) {
            ret = wait_for(dev, &wait, POLLIN);
        } else if (n == 0 || n == -ENOMSG) {
            if (*got || asked || !has_more(dev))
                break;
            asked = true;
        } else if (n < 0) {
            ret = (int)n;
        } else {
            *got += (size_t)n;
            wait.until = 0;
        }
    }
    return explain(dev, "reading the migration data", ret);
}

int migration_write(struct device *dev, const void *buf, size_t size,
                    const struct migration_ends *ends)
{
    struct wait wait = {.ends = ends};
    size_t done = 0;
    int ret = check_stream(dev, false);

    while (!ret && done < size) {
        ssize_t n = host_write(dev->host, dev->stream.fd, (const char *)buf + done, size - done);

        if (n == -EAGAIN) {
            ret = wait_for(dev, &wait, POLLOUT);
        } else if (n <= 0) {
            ret = n ? (int)n : -EIO;
        } else {
            done += (size_t)n;
            wait.until = 0;
        }
    }
    return explain(dev, "writing the migration data", ret);
}
