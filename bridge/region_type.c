#include "bridge/region_type.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"

enum {
    INTEL = VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x8086,
};

static const struct {
    const char *name;
    unsigned allow;
} switches[] = {
    {"vga",          REGION_ALLOW_VGA         },
    {"igd-opregion", REGION_ALLOW_IGD_OPREGION},
    {"igd-bridges",  REGION_ALLOW_IGD_BRIDGES },
};

/* Those that may be given at all. */
static const struct region_kind {
    uint32_t type, subtype;
    unsigned allow; /* 0: always */
    bool read_only;
} kinds[] = {
    {VFIO_REGION_TYPE_GFX, VFIO_REGION_SUBTYPE_GFX_EDID,           0,                         false},
    {INTEL,                VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION, REGION_ALLOW_IGD_OPREGION, true },
    {INTEL,                VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG, REGION_ALLOW_IGD_BRIDGES,  true },
    {INTEL,                VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG,  REGION_ALLOW_IGD_BRIDGES,  true },
};

unsigned region_allow_parse(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(switches); i++) {
        if (strlen(switches[i].name) == len && !memcmp(switches[i].name, name, len))
            return switches[i].allow;
    }
    return 0;
}

/* Of the chain that is made for a client. False: it does not tell. */
static bool find_type(const struct region_info *region, struct vfio_region_info_cap_type *type)
{
    size_t at = 0;

    while (at + sizeof(*type) <= region->caps.len) {
        memcpy(type, (const char *)region->caps.bytes + at, sizeof(*type));
        if (type->header.id == VFIO_REGION_INFO_CAP_TYPE)
            return true;
        if (!type->header.next)
            return false;
        at = type->header.next - sizeof(struct vfio_region_info);
    }
    return false;
}

static const struct region_kind *find_kind(const struct vfio_region_info_cap_type *type)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].type == type->type && kinds[i].subtype == type->subtype)
            return &kinds[i];
    }
    return NULL;
}

static void hide(struct region_info *region)
{
    free(region->caps.bytes);
    *region = (struct region_info){.caps = {.base = region->caps.base}, .dmabuf = -1};
}

/* The registers in front say where the EDID goes, and how long it may be. */
static int admit_edid(struct host *host, int fd, const char *name, uint32_t index,
                      struct region_info *region)
{
    struct vfio_region_gfx_edid regs = {0};
    size_t len = offsetof(struct vfio_region_gfx_edid, edid_size);
    ssize_t n = host_pread(host, fd, &regs, len, (off_t)region->offset);

    if (n < 0) {
        log_error("reading region %u of %s: %s", index, name, strerror((int)-n));
        return (int)n;
    }
    if ((size_t)n != len || regs.edid_offset < sizeof(regs) || !regs.edid_max_size ||
        !range_within(regs.edid_offset, regs.edid_max_size, region->size)) {
        log_warning("region %u of %s is not offered: an EDID of %u bytes at 0x%x does not fit",
                    index, name, regs.edid_max_size, regs.edid_offset);
        hide(region);
        return 0;
    }
    region->edid_max_size = regs.edid_max_size;
    return 0;
}

int region_type_admit(struct host *host, int fd, const struct sysfs_device *where, uint32_t index,
                      struct region_info *region)
{
    struct vfio_region_info_cap_type type = {0};
    const struct region_kind *kind;

    if (index < VFIO_PCI_VGA_REGION_INDEX)
        return 0;
    if (index == VFIO_PCI_VGA_REGION_INDEX) {
        if (!(where->regions & REGION_ALLOW_VGA))
            hide(region);
        return 0;
    }
    kind = find_type(region, &type) ? find_kind(&type) : NULL;
    if (!kind || (kind->allow & ~where->regions)) {
        log_debug("region %u of %s (type 0x%x, subtype %u) is not offered", index, where->name,
                  type.type, type.subtype);
        hide(region);
        return 0;
    }
    if (kind->read_only)
        region->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_WRITE;
    return kind->type == VFIO_REGION_TYPE_GFX ? admit_edid(host, fd, where->name, index, region)
                                              : 0;
}

int region_type_check_edid(const struct region_info *region, uint64_t offset, const void *buf,
                           uint32_t count)
{
    const size_t at = offsetof(struct vfio_region_gfx_edid, edid_size);
    uint32_t size;

    if (offset >= at + sizeof(size) || offset + count <= at)
        return 0;
    if (offset != at || count != sizeof(size)) {
        log_peer_warning("the size of an EDID is written in %u bytes at 0x%x", count,
                         (unsigned)offset);
        return -EINVAL;
    }
    memcpy(&size, buf, sizeof(size));
    if (size <= region->edid_max_size)
        return 0;
    log_peer_warning("an EDID of %u bytes: the device has room for %u", size,
                     region->edid_max_size);
    return -EINVAL;
}
