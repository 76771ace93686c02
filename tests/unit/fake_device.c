#include "tests/unit/fake_device.h"
#include "tests/unit/own_address_space.h"

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RW = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
};

const struct fake_device fake_pci = {
    .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
    .num_regions = VFIO_PCI_NUM_REGIONS,
    .num_irqs = VFIO_PCI_NUM_IRQS,
    .regions =
        {
                  [VFIO_PCI_BAR0_REGION_INDEX] = {RW, 0x4000},
                  [VFIO_PCI_CONFIG_REGION_INDEX] = {RW, 256},
                  [VFIO_PCI_VGA_REGION_INDEX] = {.err = -EINVAL},
                  },
    .irqs =
        {
                  [VFIO_PCI_INTX_IRQ_INDEX] = {VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
                                             VFIO_IRQ_INFO_AUTOMASKED,
                                         1},
                  [VFIO_PCI_MSI_IRQ_INDEX] = {VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 8},
                  [VFIO_PCI_MSIX_IRQ_INDEX] = {VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 64},
                  [VFIO_PCI_ERR_IRQ_INDEX] = {.err = -EINVAL},
                  [VFIO_PCI_REQ_IRQ_INDEX] = {VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, 1},
                  },
};

void fake_expect_container(struct fake_host *f)
{
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = "/dev/vfio/vfio", .ret = FAKE_CONTAINER);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_GET_API_VERSION,
                .ret = VFIO_API_VERSION);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_CHECK_EXTENSION,
                .value = VFIO_TYPE1v2_IOMMU, .ret = 1);
}

void fake_expect_group(struct fake_host *f, int number, int fd)
{
    const struct vfio_group_status asked = {.argsz = sizeof(asked)};
    const struct vfio_group_status status = {sizeof(status), VFIO_GROUP_FLAGS_VIABLE};
    const int container = FAKE_CONTAINER;
    char path[32];

    snprintf(path, sizeof(path), "/dev/vfio/%d", number);
    FAKE_EXPECT(f, .kind = FAKE_OPEN, .path = path, .ret = fd);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = fd, .request = VFIO_GROUP_GET_STATUS, .in = &asked,
                .in_len = sizeof(asked), .out = &status, .out_len = sizeof(status));
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = fd, .request = VFIO_GROUP_SET_CONTAINER,
                .in = &container, .in_len = sizeof(container));
}

void fake_expect_set_iommu(struct fake_host *f)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_SET_IOMMU,
                .value = VFIO_TYPE1v2_IOMMU);
}

void fake_expect_info(struct fake_host *f, int fd, unsigned long request, const void *info,
                      size_t minsz, size_t len)
{
    const uint32_t argsz[] = {(uint32_t)minsz, (uint32_t)len};

    if (len > minsz)
        FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = fd, .request = request, .in = &argsz[0],
                    .in_len = sizeof(argsz[0]), .out = info, .out_len = minsz);
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = fd, .request = request, .in = &argsz[1],
                .in_len = sizeof(argsz[1]), .out = info, .out_len = len);
}

static void expect_iommu_info(struct fake_host *f, bool coherent)
{
    const struct vfio_iommu_type1_info info = {
        .argsz = sizeof(info),
        .flags = VFIO_IOMMU_INFO_PGSIZES,
        .iova_pgsizes = 4096 | 2 << 20,
    };

    fake_expect_info(f, FAKE_CONTAINER, VFIO_IOMMU_GET_INFO, &info, sizeof(info), sizeof(info));
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_CONTAINER, .request = VFIO_CHECK_EXTENSION,
                .value = VFIO_DMA_CC_IOMMU, .ret = coherent);
}

void fake_expect_iommu_info(struct fake_host *f)
{
    expect_iommu_info(f, true);
}

void fake_expect_incoherent_iommu_info(struct fake_host *f)
{
    expect_iommu_info(f, false);
}

void fake_expect_device_fd(struct fake_host *f)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_GROUP, .request = VFIO_GROUP_GET_DEVICE_FD,
                .in = FAKE_BDF, .in_len = sizeof(FAKE_BDF), .opens = true, .ret = FAKE_DEVICE);
}

void fake_expect_region_info(struct fake_host *f, uint32_t index, const struct fake_region *region)
{
    const struct vfio_region_info asked = {.argsz = sizeof(asked), .index = index};
    const struct vfio_region_info info = {
        .argsz = sizeof(info),
        .flags = region->flags,
        .index = index,
        .size = region->size,
        .offset = FAKE_REGION_AT(index),
    };

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_GET_REGION_INFO,
                .in = &asked, .in_len = sizeof(asked), .out = &info,
                .out_len = region->err ? 0 : sizeof(info), .ret = region->err);
}

static void expect_irq_info(struct fake_host *f, uint32_t index, const struct fake_irq *irq)
{
    const struct vfio_irq_info asked = {.argsz = sizeof(asked), .index = index};
    const struct vfio_irq_info info = {sizeof(info), irq->flags, index, irq->count};

    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_GET_IRQ_INFO,
                .in = &asked, .in_len = sizeof(asked), .out = &info,
                .out_len = irq->err ? 0 : sizeof(info), .ret = irq->err);
}

static void expect_device_info(struct fake_host *f, const struct fake_device *dev)
{
    const uint32_t info[4] = {sizeof(info), dev->flags, dev->num_regions, dev->num_irqs};

    fake_expect_info(f, FAKE_DEVICE, VFIO_DEVICE_GET_INFO, info, sizeof(info), sizeof(info));
}

void fake_expect_infos(struct fake_host *f, const struct fake_device *dev)
{
    expect_device_info(f, dev);
    for (uint32_t i = 0; i < dev->num_regions; i++)
        fake_expect_region_info(f, i, &dev->regions[i]);
    for (uint32_t i = 0; i < dev->num_irqs; i++)
        expect_irq_info(f, i, &dev->irqs[i]);
}

const struct sysfs_device fake_where = {
    .name = FAKE_BDF,
    .driver = "vfio-pci",
    .group = FAKE_GROUP_NUMBER,
};

void fake_machine_open(struct fake_machine *m, const struct fake_device *dev)
{
    m->f = fake_host_new();
    fake_expect_container(m->f);
    fake_expect_group(m->f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(m->f);
    fake_expect_iommu_info(m->f);
    fake_expect_device_fd(m->f);
    fake_expect_infos(m->f, dev);
    assert_int_equal(own_address_space(fake_host_base(m->f), IOMMU_TYPE1, &m->as), 0);
    assert_int_equal(device_open(&m->dev, fake_host_base(m->f), m->as, &fake_where), 0);
    fake_assert_done(m->f);
}

void fake_machine_close(struct fake_machine *m)
{
    fake_assert_done(m->f);
    device_close(m->dev);
    fake_expect_leave(m->f, FAKE_GROUP);
    address_space_destroy(m->as);
    fake_host_free(m->f);
}

void fake_expect_leave(struct fake_host *f, int fd)
{
    FAKE_EXPECT(f, .kind = FAKE_IOCTL, .fd = fd, .request = VFIO_GROUP_UNSET_CONTAINER);
}

void fake_expect_command_read(struct fake_host *f, uint16_t value)
{
    const uint16_t command = htole16(value);

    FAKE_EXPECT(f, .kind = FAKE_PREAD, .fd = FAKE_DEVICE, .ret = sizeof(command), .out = &command,
                .out_len = sizeof(command), .len = sizeof(command),
                .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_COMMAND);
}

void fake_expect_command_write(struct fake_host *f, uint16_t value)
{
    const uint16_t command = htole16(value);

    FAKE_EXPECT(f, .kind = FAKE_PWRITE, .fd = FAKE_DEVICE, .ret = sizeof(command), .in = &command,
                .in_len = sizeof(command), .len = sizeof(command),
                .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_COMMAND);
}
