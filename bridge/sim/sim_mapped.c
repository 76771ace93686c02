#include "bridge/sim/sim_mapped.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/sim/sim_bar.h"
#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"

void sim_mapped_init(struct sim_mapped *mapped)
{
    *mapped = (struct sim_mapped){.file = -1, .hidden = true};
}

int sim_mapped_bar(const struct sim_device *dev)
{
    for (int i = 0; i < SIM_MODEL_BARS; i++) {
        if (dev->model->bars[i].ram)
            return i;
    }
    return -1;
}

/* The machine's own memory keeps what there is while the file is truncated. */
static char *own_memory(const struct sim_device *dev)
{
    return dev->ram[sim_mapped_bar(dev)];
}

static size_t size_of(const struct sim_device *dev)
{
    return sim_bar_ram_size(&dev->model->bars[sim_mapped_bar(dev)]);
}

char *sim_mapped_ram(const struct sim_device *dev)
{
    return dev->mapped.file >= 0 && !dev->mapped.hidden ? dev->mapped.window : own_memory(dev);
}

/* Of a file that is ours and fits into memory it can't fail. */
static void resize(const struct sim_device *dev, size_t size)
{
    int ret = ftruncate(dev->mapped.file, (off_t)size);

    assert(!ret);
    (void)ret;
}

static void fill_file(const struct sim_device *dev)
{
    resize(dev, size_of(dev));
    memcpy(dev->mapped.window, own_memory(dev), size_of(dev));
}

static void empty_file(const struct sim_device *dev)
{
    memcpy(own_memory(dev), dev->mapped.window, size_of(dev));
    resize(dev, 0);
}

static int move_into_file(struct sim_device *dev)
{
    struct sim_mapped *m = &dev->mapped;
    cleanup_close_ int file = -1;
    void *window;

    if (sim_mapped_bar(dev) < 0)
        return -EOPNOTSUPP;
    if (m->file >= 0)
        return 0;
    file = memfd_create("sim-bar", MFD_CLOEXEC);
    if (file < 0)
        return -errno;
    window = mmap(NULL, size_of(dev), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (window == MAP_FAILED)
        return -ENOMEM;
    m->window = window;
    m->file = steal_fd(&file);
    if (!m->hidden)
        fill_file(dev);
    return 0;
}

static int lock_as(int fd, off_t owner)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = owner, .l_len = 1};

    return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

int sim_mapped_share(struct sim_device *dev, off_t *owner)
{
    cleanup_close_ int fd = -1;
    char name[16];
    int ret = move_into_file(dev);

    if (ret)
        return ret;
    snprintf(name, sizeof(name), "%d", dev->mapped.file);
    fd = openat(dev->sim->proc_fds, name, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (owner && !*owner)
        *owner = ++dev->mapped.owners;
    if (owner)
        ret = lock_as(fd, *owner);
    return ret ? ret : steal_fd(&fd);
}

int sim_mapped_map(struct sim_device *dev, void **addr, size_t len, int prot, int flags,
                   off_t offset)
{
    int ret = move_into_file(dev);

    return ret ? ret : host_mmap(host_linux(), addr, len, prot, flags, dev->mapped.file, offset);
}

bool sim_mapped_is_held(const struct sim_device *dev, off_t owner)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = owner, .l_len = 1};

    return owner && dev->mapped.file >= 0 && !fcntl(dev->mapped.file, F_OFD_GETLK, &lock) &&
           lock.l_type != F_UNLCK;
}

void sim_mapped_show(struct sim_device *dev, bool visible)
{
    struct sim_mapped *m = &dev->mapped;

    if (m->hidden == !visible)
        return;
    m->hidden = !visible;
    if (m->file < 0)
        return;
    if (visible)
        fill_file(dev);
    else
        empty_file(dev);
}

void sim_mapped_end(struct sim_device *dev)
{
    struct sim_mapped *m = &dev->mapped;

    sim_mapped_show(dev, false);
    if (m->file < 0)
        return;
    munmap(m->window, size_of(dev));
    fd_close(&m->file);
}
