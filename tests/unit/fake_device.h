/*
 * Scripts for a fake_host: what the bridge calls to open a PCI device in an address space, and a
 * fixture that has it open. Steps are apart, so that a test can put an error in the place of each.
 */
#pragma once

#include <linux/vfio.h>

#include "bridge/address_space.h"
#include "bridge/device.h"
#include "tests/unit/fake_host.h"

#define FAKE_BDF "0000:01:00.0"

enum {
    FAKE_CONTAINER = FAKE_FD,
    FAKE_GROUP,
    FAKE_DEVICE,
    FAKE_GROUP_NUMBER = 7,
};

/* Where vfio-pci puts a region in its file. */
#define FAKE_REGION_AT(index) ((uint64_t)(index) << 40)

struct fake_region {
    uint32_t flags;
    uint64_t size;
    int err; /* negative: the answer instead */
};

struct fake_irq {
    uint32_t flags, count;
    int err;
};

struct fake_device {
    uint32_t flags;
    uint32_t num_regions, num_irqs;
    struct fake_region regions[VFIO_PCI_NUM_REGIONS];
    struct fake_irq irqs[VFIO_PCI_NUM_IRQS];
};

/* RESET, BAR 0, config space; INTx, 8 vectors of MSI, 64 of MSI-X that can't be resized. */
extern const struct fake_device fake_pci;

/* Bound to vfio-pci, in the group, without a device file. */
extern const struct sysfs_device fake_where;

/* address_space_create, iommu_type1_create. */
void fake_expect_container(struct fake_host *f);
/* The group's opening up to its container; then the IOMMU model, for the first one. */
void fake_expect_group(struct fake_host *f, int number, int fd);
void fake_expect_set_iommu(struct fake_host *f);
/* An information ioctl, which is asked again if the answer does not fit into minsz. */
void fake_expect_info(struct fake_host *f, int fd, unsigned long request, const void *info,
                      size_t minsz, size_t len);
/* Pages of 4 KiB, no capabilities, coherent. */
void fake_expect_iommu_info(struct fake_host *f);
/* The same, but the IOMMU can't enforce coherency. */
void fake_expect_incoherent_iommu_info(struct fake_host *f);
void fake_expect_device_fd(struct fake_host *f);
void fake_expect_infos(struct fake_host *f, const struct fake_device *dev);
void fake_expect_region_info(struct fake_host *f, uint32_t index, const struct fake_region *region);

/* An open device, and the script's state after that. */
struct fake_machine {
    struct fake_host *f;
    struct address_space *as;
    struct device *dev;
};

void fake_machine_open(struct fake_machine *m, const struct fake_device *dev);
/* The script's end; leaving the container is added to it. */
void fake_machine_close(struct fake_machine *m);

/* The group leaves its container. */
void fake_expect_leave(struct fake_host *f, int fd);

/* COMMAND is read; written; read back. */
void fake_expect_command_read(struct fake_host *f, uint16_t value);
void fake_expect_command_write(struct fake_host *f, uint16_t value);
