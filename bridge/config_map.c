#include "bridge/config_map.h"

#include <stdbool.h>
#include <string.h>

#include "proto/base/arith.h"

enum {
    IN_CAPABILITY = 1 << 7, /* while the map is being built */
    UNIT = 4,               /* capabilities begin at multiples of it */
    VPD_SIZE = 8,
    EXPRESS_2_SIZE = 0x3c, /* since version 2, whatever the device has of it */
    SSVID_SIZE = 8,
    AER_SIZE = 0x48,
    DSN_SIZE = 12,
};

struct builder {
    struct config_map *map;
    const uint8_t *config;
    bool begins[PCI_CFG_SPACE_EXP_SIZE / UNIT]; /* a capability that was found */
};

static uint32_t load(const struct builder *b, unsigned at, unsigned width)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < width && at + i < PCI_CFG_SPACE_EXP_SIZE; i++)
        value |= (uint32_t)b->config[at + i] << (8 * i);
    return value;
}

static void mark(struct builder *b, unsigned at, unsigned len, uint8_t sorts)
{
    for (unsigned i = at; i < at + len && i < PCI_CFG_SPACE_EXP_SIZE; i++)
        b->map->sorts[i] |= sorts;
}

/* Where the next one in the space begins, or the space ends. */
static unsigned next_begin(const struct builder *b, unsigned at, unsigned end)
{
    for (at += UNIT; at < end && !b->begins[at / UNIT];)
        at += UNIT;
    return at;
}

static unsigned msi_size(uint32_t flags)
{
    unsigned size = flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_DATA_64 + 2 : PCI_MSI_DATA_32 + 2;

    return flags & PCI_MSI_FLAGS_MASKBIT ? size + 10 : size;
}

/* 0: by the next capability's begin. So for all below. */
static unsigned standard_size(const struct builder *b, unsigned at)
{
    uint32_t flags = load(b, at + PCI_CAP_FLAGS, 2);

    switch (b->config[at]) {
    case PCI_CAP_ID_PM:
        return PCI_PM_SIZEOF;
    case PCI_CAP_ID_VPD:
        return VPD_SIZE;
    case PCI_CAP_ID_MSI:
        return msi_size(flags);
    case PCI_CAP_ID_VNDR:
        return flags & 0xff;
    case PCI_CAP_ID_SSVID:
        return SSVID_SIZE;
    case PCI_CAP_ID_EXP:
        return (flags & PCI_EXP_FLAGS_VERS) < 2 ? PCI_CAP_EXP_ENDPOINT_SIZEOF_V1 : EXPRESS_2_SIZE;
    case PCI_CAP_ID_MSIX:
        return PCI_CAP_MSIX_SIZEOF;
    case PCI_CAP_ID_AF:
        return PCI_CAP_AF_SIZEOF;
    default:
        return 0;
    }
}

static unsigned extended_size(const struct builder *b, unsigned at)
{
    switch (load(b, at, 2)) {
    case PCI_EXT_CAP_ID_ERR:
        return AER_SIZE;
    case PCI_EXT_CAP_ID_DSN:
        return DSN_SIZE;
    case PCI_EXT_CAP_ID_VNDR:
    case PCI_EXT_CAP_ID_DVSEC:
        return load(b, at + 4, 4) >> 20;
    default:
        return 0;
    }
}

static void map_standard(struct builder *b, unsigned at)
{
    unsigned size = standard_size(b, at);

    if (size < PCI_CAP_SIZEOF)
        size = next_begin(b, at, PCI_CFG_SPACE_SIZE) - at;
    mark(b, at, size, IN_CAPABILITY);
    if (b->config[at] == PCI_CAP_ID_VNDR)
        mark(b, at, size, CONFIG_VENDOR);
    if (b->config[at] == PCI_CAP_ID_VPD)
        mark(b, at + PCI_VPD_ADDR + 1, 1, CONFIG_VPD);
}

/* What AER has of masks and severities, and its switches. The status between them is not of it. */
static void map_aer(struct builder *b, unsigned at)
{
    mark(b, at + PCI_ERR_UNCOR_MASK, 8, CONFIG_AER);
    mark(b, at + PCI_ERR_COR_MASK, 8, CONFIG_AER);
}

static void map_extended(struct builder *b, unsigned at)
{
    uint32_t id = load(b, at, 2);
    unsigned size = extended_size(b, at);

    if (size < UNIT)
        size = next_begin(b, at, PCI_CFG_SPACE_EXP_SIZE) - at;
    mark(b, at, size, IN_CAPABILITY);
    if (id == PCI_EXT_CAP_ID_VNDR || id == PCI_EXT_CAP_ID_DVSEC)
        mark(b, at, size, CONFIG_VENDOR);
    if (id == PCI_EXT_CAP_ID_ERR)
        map_aer(b, at);
}

/* One that was met before ends the list. */
static void find_standard(struct builder *b)
{
    bool *begins = b->begins;
    unsigned at = 0;

    if (load(b, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST)
        at = b->config[PCI_CAPABILITY_LIST] & ~3u;
    while (at >= PCI_STD_HEADER_SIZEOF && !begins[at / UNIT]) {
        begins[at / UNIT] = true;
        at = b->config[at + PCI_CAP_LIST_NEXT] & ~3u;
    }
}

static void find_extended(struct builder *b)
{
    unsigned at = PCI_CFG_SPACE_SIZE;
    uint32_t header = load(b, at, 4);

    while (header && header != UINT32_MAX && at >= PCI_CFG_SPACE_SIZE && !b->begins[at / UNIT]) {
        b->begins[at / UNIT] = true;
        at = PCI_EXT_CAP_NEXT(header) & ~3u;
        header = load(b, at, 4);
    }
}

static void map_capabilities(struct builder *b)
{
    for (unsigned at = PCI_STD_HEADER_SIZEOF; at < PCI_CFG_SPACE_EXP_SIZE; at += UNIT) {
        if (b->begins[at / UNIT] && at < PCI_CFG_SPACE_SIZE)
            map_standard(b, at);
        else if (b->begins[at / UNIT])
            map_extended(b, at);
    }
}

void config_map_build(struct config_map *map, const uint8_t config[PCI_CFG_SPACE_EXP_SIZE],
                      size_t size)
{
    struct builder b = {.map = map, .config = config};

    memset(map, 0, sizeof(*map));
    find_standard(&b);
    if (size > PCI_CFG_SPACE_SIZE)
        find_extended(&b);
    map_capabilities(&b);
    map->sorts[PCI_BIST] |= CONFIG_BIST;
    for (unsigned i = PCI_STD_HEADER_SIZEOF; i < PCI_CFG_SPACE_EXP_SIZE; i++) {
        if (map->sorts[i] & IN_CAPABILITY)
            map->sorts[i] &= (uint8_t)~IN_CAPABILITY;
        else
            map->sorts[i] |= CONFIG_UNASSIGNED;
    }
}

static const struct {
    enum config_sort sort;
    const char *name;
} names[] = {
    {CONFIG_VPD,        "vpd"       },
    {CONFIG_VENDOR,     "vendor"    },
    {CONFIG_UNASSIGNED, "unassigned"},
    {CONFIG_AER,        "aer"       },
    {CONFIG_BIST,       "bist"      },
};

unsigned config_sort_parse(const char *name, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strlen(names[i].name) == len && !memcmp(names[i].name, name, len))
            return names[i].sort;
    }
    return 0;
}

const char *config_sort_name(unsigned sorts)
{
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (sorts & names[i].sort)
            return names[i].name;
    }
    return "nothing";
}
