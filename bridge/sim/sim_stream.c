#include "bridge/sim/sim_stream.h"

#include <assert.h>
#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    RECORD_HEADER = 0x48454144,
    RECORD_IMAGE = 0x494d4147,
    RECORD_FINAL = 0x46494e4c,
};

struct record {
    uint32_t type;
    uint32_t len; /* of what follows */
};

/* What a header record holds. */
struct header {
    char model[16];
    uint64_t image_size;
};

struct sim_stream {
    struct sim_device *dev;
    enum sim_stream_kind kind;
    bool ended;
    bool final;        /* saving: nothing follows; resuming: nothing may follow */
    bool begun;        /* resuming: the header was there */
    uint64_t ready_at; /* monotonic nanoseconds */

    uint8_t *bytes; /* saving: to be read, from pos on */
    size_t len, pos;
    uint64_t initial; /* bytes left of what the session began with */

    struct record record; /* resuming: that is being received */
    struct header header;
    size_t received; /* of both its parts */

    uint8_t *image; /* the last one */
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The model's state, and then the ballast. */
static size_t image_size(const struct sim_device *dev)
{
    return dev->model->image_size + dev->migration.setup.ballast;
}

uint64_t sim_stream_size(const struct sim_device *dev)
{
    return 2 * sizeof(struct record) + sizeof(struct header) + image_size(dev);
}

static uint8_t ballast_byte(size_t i)
{
    return (uint8_t)(i * 7 + i / 251);
}

/* Of the device as it is now. */
static void take_image(const struct sim_device *dev, uint8_t *image)
{
    dev->model->save(dev->state, image);
    image += dev->model->image_size;
    for (size_t i = 0; i < dev->migration.setup.ballast; i++)
        image[i] = ballast_byte(i);
}

static void fill_header(const struct sim_device *dev, struct header *h)
{
    *h = (struct header){.image_size = image_size(dev)};
    strncpy(h->model, dev->model->name, sizeof(h->model) - 1);
}

/* Room for len bytes more, at the cost of those that were read. */
static int make_room(struct sim_stream *s, size_t len)
{
    uint8_t *grown;

    if (s->pos)
        memmove(s->bytes, s->bytes + s->pos, s->len - s->pos);
    s->len -= s->pos;
    s->pos = 0;
    grown = realloc(s->bytes, s->len + len);
    if (!grown)
        return -ENOMEM;
    s->bytes = grown;
    return 0;
}

static void append(struct sim_stream *s, const void *bytes, size_t len)
{
    memcpy(s->bytes + s->len, bytes, len);
    s->len += len;
}

static int append_record(struct sim_stream *s, uint32_t type, const void *payload, size_t len)
{
    const struct record r = {.type = type, .len = (uint32_t)len};
    int ret = make_room(s, sizeof(r) + len);

    if (ret)
        return ret;
    append(s, &r, sizeof(r));
    append(s, payload, len);
    return 0;
}

static int save(struct sim_stream *s, bool final)
{
    take_image(s->dev, s->image);
    s->final = final;
    s->ready_at = now_ns() + s->dev->migration.setup.delay_ms * UINT64_C(1000000);
    return append_record(s, final ? RECORD_FINAL : RECORD_IMAGE, s->image, image_size(s->dev));
}

static int begin(struct sim_stream *s)
{
    struct header h;
    int ret;

    fill_header(s->dev, &h);
    ret = append_record(s, RECORD_HEADER, &h, sizeof(h));
    if (!ret)
        ret = save(s, s->kind == SIM_STREAM_STOP_COPY);
    s->initial = s->len;
    return ret;
}

int sim_stream_finish(struct sim_file *file)
{
    return save(file->object, true);
}

/* How many bytes of it one call moves. */
static size_t transfer_size(const struct sim_stream *s, size_t len)
{
    size_t max = s->dev->migration.setup.max_transfer;

    return max ? MIN(len, max) : len;
}

/* With the device's lock held, which it gives up while it waits. */
static int wait_until_ready(struct sim_stream *s, bool nonblock)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    while (!s->ended && now_ns() < s->ready_at) {
        if (nonblock)
            return -EAGAIN;
        pthread_mutex_unlock(&s->dev->lock);
        nanosleep(&moment, NULL);
        pthread_mutex_lock(&s->dev->lock);
    }
    return s->ended ? -ENODEV : 0;
}

static ssize_t read_locked(struct sim_stream *s, void *buf, size_t len, bool nonblock)
{
    int ret = wait_until_ready(s, nonblock);

    if (ret)
        return ret;
    if (s->pos == s->len && len && !s->final && !s->dev->migration.setup.dry_is_zero)
        return -ENOMSG;
    len = transfer_size(s, MIN(len, s->len - s->pos));
    memcpy(buf, s->bytes + s->pos, len);
    s->pos += len;
    s->initial -= MIN(s->initial, (uint64_t)len);
    return (ssize_t)len;
}

static ssize_t stream_read(struct sim_file *file, void *buf, size_t len, bool nonblock)
{
    struct sim_stream *s = file->object;
    ssize_t ret;

    if (s->kind == SIM_STREAM_RESUMING)
        return -EBADF;
    pthread_mutex_lock(&s->dev->lock);
    ret = read_locked(s, buf, len, nonblock);
    pthread_mutex_unlock(&s->dev->lock);
    return ret;
}

static bool stream_ready(struct sim_file *file)
{
    struct sim_stream *s = file->object;
    bool ready;

    pthread_mutex_lock(&s->dev->lock);
    ready = s->ended || now_ns() >= s->ready_at;
    pthread_mutex_unlock(&s->dev->lock);
    return ready;
}

static int check_record(const struct sim_stream *s)
{
    const struct record *r = &s->record;

    if (r->type == RECORD_HEADER)
        return s->begun || r->len != sizeof(s->header) ? -EINVAL : 0;
    if (!s->begun || s->final || r->len != image_size(s->dev) ||
        (r->type != RECORD_IMAGE && r->type != RECORD_FINAL))
        return -EINVAL;
    return 0;
}

static int end_record(struct sim_stream *s)
{
    struct header mine;

    s->received = 0;
    s->final = s->record.type == RECORD_FINAL;
    if (s->record.type != RECORD_HEADER)
        return 0;
    fill_header(s->dev, &mine);
    s->begun = !memcmp(&s->header, &mine, sizeof(mine));
    return s->begun ? 0 : -EINVAL;
}

/* Some of the bytes: at most what the record's part lacks. Returns their number. */
static ssize_t take_part(struct sim_stream *s, const uint8_t *bytes, size_t len)
{
    const size_t head = sizeof(s->record);
    uint8_t *payload = s->record.type == RECORD_HEADER ? (uint8_t *)&s->header : s->image;
    int ret = 0;

    if (s->received < head) {
        len = MIN(len, head - s->received);
        memcpy((uint8_t *)&s->record + s->received, bytes, len);
        s->received += len;
        ret = s->received == head ? check_record(s) : 0;
    } else {
        len = MIN(len, head + s->record.len - s->received);
        memcpy(payload + (s->received - head), bytes, len);
        s->received += len;
        ret = s->received == head + s->record.len ? end_record(s) : 0;
    }
    return ret ? ret : (ssize_t)len;
}

static ssize_t stream_write(struct sim_file *file, const void *buf, size_t len)
{
    struct sim_stream *s = file->object;
    ssize_t n = 0;

    if (s->kind != SIM_STREAM_RESUMING)
        return -EBADF;
    pthread_mutex_lock(&s->dev->lock);
    len = transfer_size(s, len);
    if (s->ended)
        n = -ENODEV;
    for (size_t done = 0; n >= 0 && done < len; done += (size_t)MAX(n, (ssize_t)0))
        n = take_part(s, (const uint8_t *)buf + done, len - done);
    pthread_mutex_unlock(&s->dev->lock);
    return n < 0 ? n : (ssize_t)len;
}

int sim_stream_restore(struct sim_file *file)
{
    const struct sim_stream *s = file->object;
    const struct sim_device *dev = s->dev;

    if (!s->final || s->received)
        return -EINVAL;
    for (size_t i = 0; i < dev->migration.setup.ballast; i++) {
        if (s->image[dev->model->image_size + i] != ballast_byte(i))
            return -EINVAL;
    }
    return dev->model->restore(dev->state, s->image);
}

/* A driver that is asked how much there is left takes the device's state once more if it has
 * changed and all of the last one was read. */
static int save_again(struct sim_stream *s)
{
    uint8_t *now;
    bool changed;

    if (s->pos != s->len || s->dev->migration.state != UAPI_VFIO_STATE_PRE_COPY)
        return 0;
    now = malloc(image_size(s->dev));
    if (!now)
        return -ENOMEM;
    take_image(s->dev, now);
    changed = memcmp(now, s->image, image_size(s->dev));
    free(now);
    return changed ? save(s, false) : 0;
}

static int precopy_info(struct sim_stream *s, struct uapi_vfio_precopy_info *info)
{
    uint32_t state = s->dev->migration.state;
    int ret;

    if (info->argsz < sizeof(*info) ||
        (state != UAPI_VFIO_STATE_PRE_COPY && state != UAPI_VFIO_STATE_PRE_COPY_P2P))
        return -EINVAL;
    if (s->ended)
        return -ENODEV;
    ret = save_again(s);
    info->initial_bytes = s->initial;
    info->dirty_bytes = s->len - s->pos - s->initial;
    return ret;
}

static int stream_ioctl(struct sim_file *file, unsigned long request, void *arg)
{
    struct sim_stream *s = file->object;
    struct uapi_vfio_precopy_info info;
    int ret;

    if (request != UAPI_VFIO_MIG_GET_PRECOPY_INFO || s->kind == SIM_STREAM_RESUMING)
        return -ENOTTY;
    ret = sim_copy_in(&info, arg, sizeof(info));
    if (ret)
        return ret;
    pthread_mutex_lock(&s->dev->lock);
    ret = precopy_info(s, &info);
    pthread_mutex_unlock(&s->dev->lock);
    return ret ? ret : sim_copy_out(arg, &info, sizeof(info));
}

static ssize_t no_pread(struct sim_file *file, void *buf, size_t len, off_t offset)
{
    (void)file, (void)buf, (void)len, (void)offset;
    return -ESPIPE;
}

static ssize_t no_pwrite(struct sim_file *file, const void *buf, size_t len, off_t offset)
{
    (void)file, (void)buf, (void)len, (void)offset;
    return -ESPIPE;
}

static void free_stream(struct sim_stream *s)
{
    free(s->bytes);
    free(s->image);
    free(s);
}

static void stream_release(struct sim_file *file)
{
    free_stream(file->object);
}

static const struct sim_file_ops stream_ops = {
    .name = "sim-migration",
    .kind = SIM_FILE_STREAM,
    .ioctl = stream_ioctl,
    .pread = no_pread,
    .pwrite = no_pwrite,
    .read = stream_read,
    .write = stream_write,
    .ready = stream_ready,
    .release = stream_release,
};

int sim_stream_open(struct sim_device *dev, enum sim_stream_kind kind, struct sim_file **out)
{
    struct sim_stream *s = calloc(1, sizeof(*s));
    struct sim_file *file;
    int ret = -ENOMEM;

    if (!s)
        return -ENOMEM;
    s->dev = dev;
    s->kind = kind;
    s->image = malloc(image_size(dev));
    if (s->image)
        ret = kind == SIM_STREAM_RESUMING ? 0 : begin(s);
    file = ret ? NULL : sim_file_create(dev->sim, &stream_ops, s);
    if (!file) {
        free_stream(s);
        return -ENOMEM;
    }
    *out = file;
    return 0;
}

void sim_stream_end(struct sim_file *file)
{
    struct sim_stream *s = file->object;

    s->ended = true;
    sim_file_put(file);
}
