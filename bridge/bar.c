#include "bridge/bar.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/device_internal.h"
#include "bridge/feature.h"
#include "bridge/region.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/log.h"

enum {
    BARS_SIZE = BAR_MOST * sizeof(uint32_t),
};

static_assert(PCI_BASE_ADDRESS_0 + BARS_SIZE == PCI_CARDBUS_CIS, "the registers of all BARs");

static int read_config(struct device *dev, uint64_t offset, void *buf, uint32_t count)
{
    return region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, buf, count);
}

static bool is_64bit(uint32_t bar)
{
    return (bar & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
}

/*
 * Sizing a BAR means to write all ones and to read back, which puts it at the end of the address
 * space; some drivers do so with decode on. No BAR is put there to stay.
 */
static bool is_placed(const struct bar_window *w, bool wide)
{
    uint64_t end = wide ? UINT64_MAX : UINT32_MAX;

    return w->size && w->address && w->address <= end && w->size - 1 < end - w->address;
}

/* bars: the registers from this BAR's on, left of them. False: it is no window. */
static bool read_window(const struct device *dev, uint32_t index, const uint32_t *bars,
                        struct bar_window *w)
{
    const struct region_info *region = region_get(dev, index);
    uint32_t bar = le32toh(bars[index]);
    bool wide = is_64bit(bar) && index + 1 < BAR_MOST;

    if (bar & PCI_BASE_ADDRESS_SPACE_IO || !region)
        return false;
    *w = (struct bar_window){
        .index = index,
        .address = bar & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK,
        .size = region->size,
    };
    if (wide)
        w->address |= (uint64_t)le32toh(bars[index + 1]) << 32;
    return is_placed(w, wide);
}

static int find_decoded(struct device *dev, struct bar_window windows[BAR_MOST])
{
    uint32_t bars[BAR_MOST];
    int n = 0, ret = read_config(dev, PCI_BASE_ADDRESS_0, bars, sizeof(bars));

    if (ret)
        return ret;
    for (uint32_t i = 0; i < BAR_MOST; i++) {
        uint32_t bar = le32toh(bars[i]);

        n += read_window(dev, i, bars, &windows[n]);
        if (!(bar & PCI_BASE_ADDRESS_SPACE_IO) && is_64bit(bar))
            i++; /* the next register is the upper half */
    }
    return n;
}

int bar_find_windows(struct device *dev, struct bar_window windows[BAR_MOST])
{
    uint16_t command;
    int ret = read_config(dev, PCI_COMMAND, &command, sizeof(command));

    if (ret)
        return ret;
    return command & htole16(PCI_COMMAND_MEMORY) ? find_decoded(dev, windows) : 0;
}

static bool overlap(uint64_t offset, uint32_t count, uint64_t start, uint64_t size)
{
    return offset < start + size && count && (offset >= start || start - offset < count);
}

bool bar_may_move(uint64_t offset, uint32_t count)
{
    return overlap(offset, count, PCI_COMMAND, sizeof(uint16_t)) ||
           overlap(offset, count, PCI_BASE_ADDRESS_0, BARS_SIZE);
}

static int check_part(const struct device *dev, uint32_t index, uint64_t offset, uint64_t size)
{
    const struct region_info *region = region_get(dev, index);

    if (dev->fd < 0)
        return -ENODEV;
    if (index >= BAR_MOST || !region || !range_within(offset, size, region->size))
        return -EINVAL;
    return is_aligned(offset | size, (uint64_t)getpagesize()) ? 0 : -EOPNOTSUPP;
}

static int explain(const struct device *dev, const char *what, uint32_t index, uint64_t offset,
                   uint64_t size, int ret)
{
    if (ret != -EOPNOTSUPP && ret != -ENOTTY)
        log_peer_warning("%s 0x%" PRIx64 " bytes at 0x%" PRIx64 " of BAR %u of %s: %s", what, size,
                         offset, index, device_name(dev), strerror(-ret));
    return ret;
}

int bar_export_dmabuf(struct device *dev, uint32_t index, uint64_t offset, uint64_t size, int *fd)
{
    struct {
        struct uapi_feature_dma_buf get;
        struct uapi_dma_range range;
    } request = {
        .get = {.region_index = index, .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1},
        .range = {.offset = offset,                     .length = size                                     },
    };
    int ret = check_part(dev, index, offset, size);

    if (!ret)
        ret = feature_get(dev, UAPI_VFIO_DEVICE_FEATURE_DMA_BUF, &request, sizeof(request));
    if (ret < 0)
        return explain(dev, "can't export", index, offset, size, ret);
    *fd = ret;
    return 0;
}

int bar_mmap(struct device *dev, uint32_t index, uint64_t offset, uint64_t size, void **address)
{
    int ret = check_part(dev, index, offset, size);

    if (ret)
        return explain(dev, "can't mmap", index, offset, size, ret);
    ret = host_mmap(dev->host, address, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd,
                    (off_t)(dev->regions[index].offset + offset));
    /* The part is one of the BAR: what the kernel finds wrong with it is the BAR itself. */
    if (ret == -EINVAL)
        ret = -EOPNOTSUPP;
    return ret ? explain(dev, "can't mmap", index, offset, size, ret) : 0;
}

void bar_munmap(struct device *dev, void *address, uint64_t size)
{
    host_munmap(dev->host, address, size);
}
