/* vfuc info: all that a server says of its device. */
#include <errno.h>
#include <inttypes.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>

#include "client-example/cmd.h"
#include "client-example/pci.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

enum {
    MAX_INDEXES = 256, /* of regions or interrupts; a device has a dozen */
};

struct flag {
    uint32_t mask;
    const char *name;
};

static const struct flag device_flags[] = {
    {VFIO_USER_DEVICE_FLAGS_RESET, "reset"},
    {VFIO_USER_DEVICE_FLAGS_PCI,   "pci"  },
};

/* VFIO_DEVICE_INFO_CAP_* */
static const char *const device_caps[] = {
    [1] = "zPCI function", [2] = "zPCI group", [3] = "zPCI utility string",
    [4] = "zPCI path",     [5] = "AtomicOps",
};

static const struct flag region_flags[] = {
    {VFIO_USER_REGION_INFO_READ,  "read"        },
    {VFIO_USER_REGION_INFO_WRITE, "write"       },
    {VFIO_USER_REGION_INFO_MMAP,  "mmap"        },
    {VFIO_USER_REGION_INFO_CAPS,  "capabilities"},
};

static const struct flag irq_flags[] = {
    {VFIO_IRQ_INFO_EVENTFD,    "eventfd"   },
    {VFIO_IRQ_INFO_MASKABLE,   "maskable"  },
    {VFIO_IRQ_INFO_AUTOMASKED, "automasked"},
    {VFIO_IRQ_INFO_NORESIZE,   "noresize"  },
};

static const char *const irq_names[] = {
    [VFIO_PCI_INTX_IRQ_INDEX] = "INTx",   [VFIO_PCI_MSI_IRQ_INDEX] = "MSI",
    [VFIO_PCI_MSIX_IRQ_INDEX] = "MSI-X",  [VFIO_PCI_ERR_IRQ_INDEX] = "error",
    [VFIO_PCI_REQ_IRQ_INDEX] = "request",
};

/* The known bits by name, the rest as a number. */
static void print_flags(const struct flag *flags, size_t n, uint32_t value)
{
    for (size_t i = 0; i < n; i++) {
        if (value & flags[i].mask)
            printf(" %s", flags[i].name);
        value &= ~flags[i].mask;
    }
    if (value)
        printf(" 0x%" PRIx32, value);
    printf("\n");
}

static void print_session(const struct version_caps *caps)
{
    printf("session: version %u.%u, max_msg_fds %" PRIu64 ", max_data_xfer_size %" PRIu64
           ", max_dma_maps %" PRIu64 ", pgsizes 0x%" PRIx64 ", write_multiple %s, extensions %s\n",
           caps->major, caps->minor, caps->max_msg_fds, caps->max_data_xfer_size,
           caps->max_dma_maps, caps->pgsizes, caps->write_multiple ? "yes" : "no",
           caps->extensions ? "yes" : "no");
}

/* Of a server with the extension: what GET_INFO has no place for. */
static int print_device_caps(struct vfuc *c)
{
    cleanup_free_ struct vfio_userd_device_info *info = NULL;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;
    int ret = vfuc_has_extensions(c) ? vfuc_extended_info(c, &info) : 0;

    while (info && (ret = vfuc_device_cap_next(info, &offset, &cap)) > 0)
        printf("  capability %u (%s), version %u\n", cap.id,
               cap.id < ARRAY_SIZE(device_caps) && device_caps[cap.id] ? device_caps[cap.id]
                                                                       : "unknown",
               cap.version);
    return ret ? cmd_error(ret, "asking for the device's capabilities") : CMD_OK;
}

static int print_sparse_areas(const struct vfio_user_region_info *info, uint32_t offset)
{
    struct vfio_region_info_cap_sparse_mmap sparse;
    struct vfio_region_sparse_mmap_area area;
    int ret = vfuc_region_cap_data(info, offset, &sparse, sizeof(sparse));

    if (ret)
        return ret;
    for (uint32_t i = 0; i < sparse.nr_areas && !ret; i++) {
        ret = vfuc_region_cap_data(info, offset + sizeof(sparse) + (uint64_t)i * sizeof(area),
                                   &area, sizeof(area));
        if (!ret)
            printf("    mmap area: offset 0x%" PRIx64 ", size 0x%" PRIx64 "\n",
                   (uint64_t)area.offset, (uint64_t)area.size);
    }
    return ret;
}

static int print_type(const struct vfio_user_region_info *info, uint32_t offset)
{
    struct vfio_region_info_cap_type type;
    int ret = vfuc_region_cap_data(info, offset, &type, sizeof(type));

    if (ret)
        return ret;
    if (type.type & VFIO_REGION_TYPE_PCI_VENDOR_TYPE)
        printf("    type: of PCI vendor %04x, subtype %u\n",
               type.type & VFIO_REGION_TYPE_PCI_VENDOR_MASK, type.subtype);
    else
        printf("    type: %u, subtype %u\n", type.type, type.subtype);
    return 0;
}

static int print_capability(const struct vfio_user_region_info *info, uint32_t offset,
                            const struct vfio_user_cap_header *cap)
{
    switch (cap->id) {
    case VFIO_REGION_INFO_CAP_SPARSE_MMAP:
        return print_sparse_areas(info, offset);
    case VFIO_REGION_INFO_CAP_TYPE:
        return print_type(info, offset);
    case VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
        printf("    msix-mappable: the pages of the MSI-X table may be mapped\n");
        return 0;
    default:
        printf("    capability %u version %u\n", cap->id, cap->version);
        return 0;
    }
}

static int print_capabilities(const struct vfio_user_region_info *info)
{
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;
    int ret;

    while ((ret = vfuc_region_cap_next(info, &offset, &cap)) > 0) {
        ret = print_capability(info, offset, &cap);
        if (ret)
            return ret;
    }
    return ret;
}

/* pci: the index means what PCI has by it. */
static int print_region(struct vfuc *c, uint32_t index, bool pci, uint64_t *size)
{
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    cleanup_close_ int fd = -1;
    int ret = vfuc_region_info(c, index, &info, &fd);

    if (ret)
        return cmd_error(ret, "asking for region %u", index);
    *size = info->size;
    printf("region %u %s: size 0x%" PRIx64, index, cmd_region_name(pci ? index : UINT32_MAX),
           (uint64_t)info->size);
    if (fd >= 0)
        printf(", offset 0x%" PRIx64 " in a file that came along", (uint64_t)info->offset);
    printf("%s", info->flags ? "," : "");
    print_flags(region_flags, ARRAY_SIZE(region_flags), info->flags);
    ret = print_capabilities(info);
    return ret ? cmd_error(ret, "reading the capabilities of region %u", index) : CMD_OK;
}

static int print_irq(struct vfuc *c, uint32_t index, bool pci)
{
    struct vfio_user_irq_info info;
    int ret = vfuc_irq_info(c, index, &info);

    if (ret)
        return cmd_error(ret, "asking for irq index %u", index);
    printf("irq %u %s: %u vector%s%s", index,
           pci && index < ARRAY_SIZE(irq_names) ? irq_names[index] : "device", info.count,
           info.count == 1 ? "" : "s", info.flags ? "," : "");
    print_flags(irq_flags, ARRAY_SIZE(irq_flags), info.flags);
    return CMD_OK;
}

static int print_config(struct vfuc *c, uint64_t size, const struct pci_sizes *sizes)
{
    uint8_t config[PCI_CONFIG_SIZE_EXTENDED];
    size_t len = MIN(size, sizeof(config));
    int ret;

    if (!len)
        return CMD_OK;
    ret = vfuc_region_read_all(c, VFIO_PCI_CONFIG_REGION_INDEX, 0, config, len);
    if (ret)
        return cmd_error(ret, "reading the config space");
    pci_print(stdout, config, len, sizes);
    return CMD_OK;
}

static int print_regions(struct vfuc *c, uint32_t n, bool pci, struct pci_sizes *sizes,
                         uint64_t *config)
{
    int ret = CMD_OK;

    for (uint32_t i = 0; i < n && ret == CMD_OK; i++) {
        uint64_t size = 0;

        ret = print_region(c, i, pci, &size);
        if (i <= VFIO_PCI_BAR5_REGION_INDEX)
            sizes->bar[i] = size;
        else if (i == VFIO_PCI_ROM_REGION_INDEX)
            sizes->rom = size;
        else if (i == VFIO_PCI_CONFIG_REGION_INDEX)
            *config = size;
    }
    return ret;
}

int cmd_info(const struct cmd_target *target, int argc, char **argv)
{
    cleanup_(cmd_disconnectp) struct vfuc *c = NULL;
    struct vfio_user_device_info info;
    struct pci_sizes sizes = {0};
    uint64_t config = 0;
    bool pci;
    int ret;

    if (argc)
        return cmd_usage("info: takes no argument, not \"%s\"", argv[0]);
    ret = cmd_connect(target, &c);
    if (ret)
        return ret;
    print_session(vfuc_caps(c));
    ret = vfuc_device_info(c, &info);
    if (ret)
        return cmd_error(ret, "asking for the device");
    pci = info.flags & VFIO_USER_DEVICE_FLAGS_PCI;
    printf("device: %u regions, %u irq indexes%s", info.num_regions, info.num_irqs,
           info.flags ? "," : "");
    print_flags(device_flags, ARRAY_SIZE(device_flags), info.flags);
    if (info.num_regions > MAX_INDEXES || info.num_irqs > MAX_INDEXES)
        return cmd_error(-EPROTO, "more than %d indexes are not believed", MAX_INDEXES);
    ret = print_device_caps(c);
    if (ret == CMD_OK)
        ret = print_regions(c, info.num_regions, pci, &sizes, &config);
    for (uint32_t i = 0; i < info.num_irqs && ret == CMD_OK; i++)
        ret = print_irq(c, i, pci);
    if (ret == CMD_OK && pci)
        ret = print_config(c, config, &sizes);
    return ret;
}
