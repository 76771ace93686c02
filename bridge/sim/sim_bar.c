#include "bridge/sim/sim_bar.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "bridge/sim/sim_device.h"
#include "bridge/sim/sim_internal.h"
#include "proto/base/arith.h"

/* An access in progress; the buffer of its direction is set. */
struct access {
    struct sim_device *dev;
    unsigned bar;
    uint64_t offset;
    size_t left;
    unsigned widest;
    bool write;
    uint8_t *to;
    const uint8_t *from;
};

static const struct sim_model_bar *bar_of(const struct access *a)
{
    return &a->dev->model->bars[a->bar];
}

static bool is_io(const struct access *a)
{
    return bar_of(a)->flags & PCI_BASE_ADDRESS_SPACE_IO;
}

/* Bytes from the offset on that are not the MSI-X table's; *hidden: those that are. */
static size_t outside_msix_table(const struct access *a, size_t *hidden)
{
    uint64_t start, end;
    unsigned bar;

    *hidden = 0;
    if (!sim_pci_msix_table(a->dev, &bar, &start, &end) || bar != a->bar || a->offset >= end)
        return a->left;
    if (a->offset < start)
        return MIN(a->left, start - a->offset);
    *hidden = MIN(a->left, end - a->offset);
    return 0;
}

/* The widest aligned access that fits. */
static unsigned access_width(const struct access *a, size_t fits)
{
    unsigned width = a->widest;

    assert(fits);
    while (width > fits || a->offset % width)
        width /= 2;
    return width;
}

static void advance(struct access *a, size_t n)
{
    a->offset += n;
    a->left -= n;
    if (a->write)
        a->from += n;
    else
        a->to += n;
}

char *sim_bar_memory(const struct sim_device *dev, unsigned bar)
{
    return (int)bar == sim_mapped_bar(dev) ? sim_mapped_ram(dev) : dev->ram[bar];
}

/* Bytes from the offset on that are memory. */
static size_t memory_left(const struct access *a)
{
    const struct sim_model_bar *bar = bar_of(a);

    if (!bar->ram)
        return 0;
    if (a->offset < bar->hole)
        return MIN(a->left, bar->hole - a->offset);
    return a->offset - bar->hole < bar->hole_size ? 0 : a->left;
}

static void copy_ram(struct access *a, size_t len)
{
    char *ram = sim_bar_memory(a->dev, a->bar) + a->offset;

    if (a->write)
        memcpy(ram, a->from, len);
    else
        memcpy(a->to, ram, len);
}

/* A port that is not decoded, and a device that is cut off, answer as no device would. */
static void do_registers(struct access *a, unsigned width)
{
    const struct sim_model *model = a->dev->model;
    bool decoded = !a->dev->mmio_stopped && (!is_io(a) || sim_pci_io_enabled(a->dev));
    uint64_t value = 0;

    if (!a->write) {
        value = decoded ? model->bar_read(a->dev->state, a->bar, a->offset, width) : UINT64_MAX;
        value = htole64(value);
        memcpy(a->to, &value, width);
    } else if (decoded) {
        memcpy(&value, a->from, width);
        model->bar_write(a->dev->state, a->bar, a->offset, le64toh(value), width);
    }
}

static void do_io(struct access *a, unsigned width)
{
    if (memory_left(a) && !a->dev->mmio_stopped)
        copy_ram(a, width);
    else
        do_registers(a, width);
}

/* With the device's lock held. */
static int step(struct access *a)
{
    size_t hidden, fits = outside_msix_table(a, &hidden);
    unsigned width;

    if (hidden) {
        if (!a->write)
            memset(a->to, 0xff, hidden);
        advance(a, hidden);
        return 0;
    }
    if (!is_io(a) && !sim_config_memory_enabled(a->dev))
        return -EIO;
    width = access_width(a, fits);
    if (!a->dev->gone)
        do_io(a, width);
    else if (!a->write)
        memset(a->to, 0xff, width);
    advance(a, width);
    return 0;
}

static ssize_t run(struct access *a)
{
    uint32_t size = a->bar < SIM_MODEL_BARS ? bar_of(a)->size : 0;
    size_t len;

    if (a->offset >= size)
        return -EINVAL;
    a->left = MIN(a->left, size - a->offset);
    a->widest = is_io(a) ? 4 : 8;
    len = a->left;
    while (a->left) {
        int ret;

        pthread_mutex_lock(&a->dev->lock);
        ret = step(a);
        pthread_mutex_unlock(&a->dev->lock);
        if (ret)
            return ret;
    }
    return (ssize_t)len;
}

ssize_t sim_bar_read(struct sim_device *dev, unsigned bar, uint64_t offset, void *buf, size_t len)
{
    return run(&(struct access){.dev = dev, .bar = bar, .offset = offset, .left = len, .to = buf});
}

ssize_t sim_bar_write(struct sim_device *dev, unsigned bar, uint64_t offset, const void *buf,
                      size_t len)
{
    return run(&(struct access){
        .dev = dev, .bar = bar, .offset = offset, .left = len, .write = true, .from = buf});
}

void sim_bar_poke(struct sim_device *dev, unsigned bar, uint64_t offset, const void *buf,
                  size_t len)
{
    struct access a = {
        .dev = dev,
        .bar = bar,
        .offset = offset,
        .left = len,
        .widest = 8,
        .write = true,
        .from = buf,
    };

    while (a.left && !step(&a))
        ;
}

void sim_bar_transfer(struct sim_device *dev, unsigned bar, uint64_t offset, void *buf, size_t len,
                      bool write)
{
    struct access a = {
        .dev = dev,
        .bar = bar,
        .offset = offset,
        .left = len,
        .widest = 4,
        .write = write,
        .to = write ? NULL : buf,
        .from = write ? buf : NULL,
    };

    while (a.left) {
        size_t n = memory_left(&a);

        if (n) {
            copy_ram(&a, n);
        } else {
            n = access_width(&a, a.left);
            do_registers(&a, (unsigned)n);
        }
        advance(&a, n);
    }
}

size_t sim_bar_ram_size(const struct sim_model_bar *bar)
{
    return bar->ram ? (bar->size + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE : 0;
}

int sim_bar_create_ram(struct sim_device *dev)
{
    for (unsigned i = 0; i < SIM_MODEL_BARS; i++) {
        size_t size = sim_bar_ram_size(&dev->model->bars[i]);
        void *ram;

        if (!size)
            continue;
        ram = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (ram == MAP_FAILED)
            return -ENOMEM;
        dev->ram[i] = ram;
    }
    return 0;
}

void sim_bar_destroy_ram(struct sim_device *dev)
{
    for (unsigned i = 0; i < SIM_MODEL_BARS; i++) {
        if (dev->ram[i])
            munmap(dev->ram[i], sim_bar_ram_size(&dev->model->bars[i]));
    }
}
