#include "bridge/region.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/bar.h"
#include "bridge/config_policy.h"
#include "bridge/config_space.h"
#include "bridge/device_internal.h"
#include "bridge/peers.h"
#include "bridge/region_type.h"
#include "bridge/uapi.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

/*
 * The bytes of a capability that may be told to a client, 0 for none of it. SPARSE_MMAP and
 * unknown ones are left out: the first speaks of a descriptor that not every client gets, the
 * others could hold what only the host should know.
 */
static size_t cap_size_for_client(const struct vfio_info_cap_header *cap)
{
    switch (cap->id) {
    case VFIO_REGION_INFO_CAP_TYPE:
        return sizeof(struct vfio_region_info_cap_type);
    case VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
        return sizeof(*cap);
    default:
        return 0;
    }
}

/* Clients take one area: the largest. */
static void read_sparse(struct region_info *region, const void *cap, size_t size)
{
    struct vfio_region_info_cap_sparse_mmap head;

    memcpy(&head, cap, sizeof(head));
    region->mappable = (struct region_area){0};
    for (size_t i = 0; i < head.nr_areas; i++) {
        struct vfio_region_sparse_mmap_area area;

        if (sizeof(head) + (i + 1) * sizeof(area) > size)
            return;
        memcpy(&area, (const char *)cap + sizeof(head) + i * sizeof(area), sizeof(area));
        if (range_within(area.offset, area.size, region->size) && area.size > region->mappable.size)
            region->mappable = (struct region_area){area.offset, area.size};
    }
}

static int read_cap(struct region_info *region, const struct vfio_info_cap_header *cap, size_t room)
{
    size_t size = cap_size_for_client(cap);

    if (cap->id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && region->mappable.size &&
        room >= sizeof(struct vfio_region_info_cap_sparse_mmap))
        read_sparse(region, cap, room);
    region->msix_mappable |= cap->id == VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;
    return size && size <= room ? uapi_caps_append(&region->caps, cap, size) : 0;
}

static int read_caps(struct region_info *region, const void *info, size_t len, uint32_t offset)
{
    const struct vfio_info_cap_header *cap;
    unsigned steps = 0;
    size_t room;
    int ret = 0;

    for (; !ret && (cap = uapi_cap_at(info, len, offset, &steps, &room)); offset = cap->next)
        ret = read_cap(region, cap, room);
    return ret;
}

/*
 * vfio-pci refuses the VGA index of a device that is none; BARs that a device lacks have the size
 * 0. A device whose config space could not be reached could not be stopped at a session's end.
 */
static bool may_be_absent(const struct device *dev, uint32_t index)
{
    return device_is_pci(dev) && index > VFIO_PCI_BAR5_REGION_INDEX &&
           index != VFIO_PCI_CONFIG_REGION_INDEX;
}

static int ask_region_info(struct device *dev, uint32_t index, struct region_info *region)
{
    struct vfio_region_info in = {.index = index};
    const struct vfio_region_info *got;
    cleanup_free_ void *buf = NULL;
    size_t len;
    int ret;

    ret =
        uapi_get_info(dev->host, dev->fd, VFIO_DEVICE_GET_REGION_INFO, &in, sizeof(in), &buf, &len);
    if (ret == -EINVAL && may_be_absent(dev, index))
        return 0;
    if (ret) {
        log_error("DEVICE_GET_REGION_INFO of region %u of %s: %s", index, dev->where.name,
                  strerror(-ret));
        return ret;
    }
    got = buf;
    region->size = got->size;
    region->offset = got->offset;
    region->flags = got->flags & (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE);
    if (got->flags & VFIO_REGION_INFO_FLAG_MMAP)
        region->mappable.size = got->size;
    if (got->flags & VFIO_REGION_INFO_FLAG_CAPS)
        ret = read_caps(region, buf, len, got->cap_offset);
    if (region->caps.len)
        region->flags |= VFIO_REGION_INFO_FLAG_CAPS;
    return ret;
}

static int read_region_info(struct device *dev, uint32_t index, struct region_info *region)
{
    int ret = ask_region_info(dev, index, region);

    if (ret || !device_is_pci(dev))
        return ret;
    return region_type_admit(dev->host, dev->fd, &dev->where, index, region);
}

static const struct region_info no_region = {
    .caps = {.base = sizeof(struct vfio_region_info)},
    .dmabuf = -1,
};

int region_read_infos(struct device *dev)
{
    dev->regions = calloc(dev->info.num_regions, sizeof(*dev->regions));
    if (!dev->regions)
        return -ENOMEM;
    for (uint32_t i = 0; i < dev->info.num_regions; i++)
        dev->regions[i] = no_region;
    for (uint32_t i = 0; i < dev->info.num_regions; i++) {
        int ret = read_region_info(dev, i, &dev->regions[i]);

        if (ret)
            return ret;
    }
    return 0;
}

static void free_info(const struct device *dev, struct region_info *region)
{
    host_close(dev->host, &region->dmabuf);
    free(region->caps.bytes);
    free(region->sparse_caps.bytes);
}

void region_free_infos(struct device *dev)
{
    for (uint32_t i = 0; dev->regions && i < dev->info.num_regions; i++)
        free_info(dev, &dev->regions[i]);
    free(dev->regions);
    dev->regions = NULL;
    if (dev->extra_index)
        free_info(dev, &dev->extra);
    dev->extra_index = 0;
}

int region_add(struct device *dev, uint32_t index)
{
    struct region_info region = no_region;
    int ret = ask_region_info(dev, index, &region);

    /* Of one without a type nothing is known but that it has a picture: to be read. */
    if (!ret && region.caps.len)
        ret = region_type_admit(dev->host, dev->fd, &dev->where, index, &region);
    else
        region.flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_WRITE;
    if (ret) {
        free_info(dev, &region);
        return ret;
    }
    if (dev->extra_index)
        free_info(dev, &dev->extra);
    dev->extra = region;
    dev->extra_index = index;
    return 0;
}

const struct region_info *region_get(const struct device *dev, uint32_t index)
{
    if (dev->regions && index < dev->info.num_regions)
        return &dev->regions[index];
    return index && index == dev->extra_index ? &dev->extra : NULL;
}

static int check_access(const struct device *dev, uint32_t index, uint64_t offset, uint32_t count,
                        uint32_t right)
{
    const struct region_info *region = region_get(dev, index);

    if (dev->fd < 0)
        return -ENODEV;
    if (!region || !range_within(offset, count, region->size)) {
        log_peer_warning("access to region %u, offset 0x%" PRIx64 ", %u bytes: outside of the "
                         "device's regions",
                         index, offset, count);
        return -EINVAL;
    }
    if (!(region->flags & right)) {
        log_peer_warning("region %u can't be %s", index,
                         right == VFIO_REGION_INFO_FLAG_READ ? "read" : "written");
        return -EACCES;
    }
    return 0;
}

static int explain_access_error(const char *what, uint32_t index, uint64_t offset, uint32_t count,
                                ssize_t n)
{
    int err = n ? (int)-n : EIO; /* 0: the kernel's end of the region is before ours */

    log_peer_warning("%s of %u bytes at 0x%" PRIx64 " of region %u: %s", what, count, offset, index,
                     strerror(err));
    return -err;
}

int region_read(struct device *dev, uint32_t index, uint64_t offset, void *buf, uint32_t count)
{
    uint64_t file_offset;
    uint32_t done = 0;
    int ret = check_access(dev, index, offset, count, VFIO_REGION_INFO_FLAG_READ);

    if (ret)
        return ret;
    file_offset = region_get(dev, index)->offset + offset;
    while (done < count) {
        ssize_t n = host_pread(dev->host, dev->fd, (char *)buf + done, count - done,
                               (off_t)(file_offset + done));

        if (n <= 0)
            return explain_access_error("read", index, offset + done, count - done, n);
        assert((size_t)n <= count - done);
        done += (uint32_t)n;
    }
    return 0;
}

static int write_bytes(struct device *dev, uint32_t index, uint64_t offset, const uint8_t *bytes,
                       uint32_t count)
{
    const uint64_t file_offset = region_get(dev, index)->offset + offset;
    uint32_t done = 0;

    while (done < count) {
        ssize_t n = host_pwrite(dev->host, dev->fd, bytes + done, count - done,
                                (off_t)(file_offset + done));

        if (n <= 0)
            return explain_access_error("write", index, offset + done, count - done, n);
        assert((size_t)n <= count - done);
        done += (uint32_t)n;
    }
    return 0;
}

static int write_allowed(struct device *dev, uint64_t offset, const uint8_t *bytes, uint32_t count)
{
    uint32_t run;
    bool denied;
    int ret = 0;

    for (uint32_t done = 0; !ret && done < count; done += run) {
        run = config_policy_run(dev, offset + done, count - done, &denied);
        if (!denied)
            ret = write_bytes(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset + done, bytes + done, run);
    }
    return ret;
}

static int write_config(struct device *dev, uint64_t offset, const void *buf, uint32_t count)
{
    bool moves = dev->peer && bar_may_move(offset, count);
    uint8_t bytes[PCI_CFG_SPACE_EXP_SIZE];
    int ret;

    if (count > sizeof(bytes))
        return -EINVAL;
    memcpy(bytes, buf, count);
    config_space_filter(dev, offset, bytes, count);
    ret = config_policy_filter(dev, offset, bytes, count);
    if (ret)
        return ret;
    if (moves)
        peers_withdraw(dev->peer);
    ret = write_allowed(dev, offset, bytes, count);
    if (moves)
        peers_publish(dev->peer);
    return ret;
}

int region_write(struct device *dev, uint32_t index, uint64_t offset, const void *buf,
                 uint32_t count)
{
    const struct region_info *region = region_get(dev, index);
    int ret = check_access(dev, index, offset, count, VFIO_REGION_INFO_FLAG_WRITE);

    if (ret)
        return ret;
    if (index == VFIO_PCI_CONFIG_REGION_INDEX && device_is_pci(dev))
        return write_config(dev, offset, buf, count);
    if (region->edid_max_size)
        ret = region_type_check_edid(region, offset, buf, count);
    return ret ? ret : write_bytes(dev, index, offset, buf, count);
}
