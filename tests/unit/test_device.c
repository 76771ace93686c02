#include "bridge/device.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#include "bridge/config_space.h"
#include "bridge/irq.h"
#include "bridge/region.h"
#include "bridge/reset.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"
#include "tests/unit/own_address_space.h"

static struct fake_machine m;

static int setup(void **state)
{
    fd_leak_setup(state);
    fake_machine_open(&m, &fake_pci);
    return 0;
}

static int teardown(void **state)
{
    fake_machine_close(&m);
    return fd_leak_teardown(state);
}

static void test_open(void **state)
{
    const struct device_info *info = device_get_info(m.dev);

    (void)state;
    assert_string_equal(device_name(m.dev), FAKE_BDF);
    assert_int_equal(info->flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
    assert_int_equal(info->num_regions, VFIO_PCI_NUM_REGIONS);
    assert_int_equal(info->num_irqs, VFIO_PCI_NUM_IRQS);
}

/* A machine whose device can't be opened: the address space that it should be opened in. */
static void setup_closed(void)
{
    m.f = fake_host_new();
    fake_expect_container(m.f);
    assert_int_equal(own_address_space(fake_host_base(m.f), IOMMU_TYPE1, &m.as), 0);
    m.dev = NULL;
}

static void expect_join(void)
{
    fake_expect_group(m.f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(m.f);
    fake_expect_iommu_info(m.f);
    fake_expect_device_fd(m.f);
}

static void assert_does_not_open(int err)
{
    struct device *dev = (struct device *)&m;

    assert_int_equal(device_open(&dev, fake_host_base(m.f), m.as, &fake_where), err);
    assert_ptr_equal(dev, &m);
}

static void test_address_space_refuses(void **state)
{
    (void)state;
    setup_closed();
    FAKE_EXPECT(m.f, .kind = FAKE_OPEN, .path = "/dev/vfio/7", .ret = -EBUSY);
    assert_does_not_open(-EBUSY);
    address_space_destroy(m.as);
    fake_host_free(m.f);
}

/* Opens a device that answers so, and asserts what comes of it. */
static void check_info(const uint32_t answer[4], int ret, int err)
{
    setup_closed();
    expect_join();
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_GET_INFO,
                .out = answer, .out_len = 16, .ret = ret);
    assert_does_not_open(err);
    fake_machine_close(&m);
}

static void test_info(void **state)
{
    const uint32_t pci = VFIO_DEVICE_FLAGS_PCI;

    (void)state;
    check_info((uint32_t[]){16, pci, 9, 5}, -EIO, -EIO);
    check_info((uint32_t[]){12, pci, 9, 5}, 0, -EPROTO);
    check_info((uint32_t[]){16, VFIO_DEVICE_FLAGS_AP, 9, 5}, 0, -ENOTSUP);
    check_info((uint32_t[]){16, 0, 9, 5}, 0, -ENOTSUP);
    check_info((uint32_t[]){16, pci, 257, 5}, 0, -EPROTO);
    check_info((uint32_t[]){16, pci, UINT32_MAX, 5}, 0, -EPROTO);
    check_info((uint32_t[]){16, pci, 9, 65}, 0, -EPROTO);
    check_info((uint32_t[]){16, pci, 9, UINT32_MAX}, 0, -EPROTO);
}

static void test_info_with_capabilities(void **state)
{
    const uint32_t answer[6] = {
        sizeof(answer), VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_CAPS, 0, 0, 0, 0};

    (void)state;
    setup_closed();
    expect_join();
    fake_expect_info(m.f, FAKE_DEVICE, VFIO_DEVICE_GET_INFO, answer, 16, sizeof(answer));
    assert_int_equal(device_open(&m.dev, fake_host_base(m.f), m.as, &fake_where), 0);
    assert_int_equal(device_get_info(m.dev)->num_regions, 0);
    assert_null(region_get(m.dev, 0));
    assert_null(irq_get(m.dev, 0));
    fake_machine_close(&m);
}

static void check_broken(const struct fake_device *dev, int err)
{
    setup_closed();
    expect_join();
    fake_expect_infos(m.f, dev);
    assert_does_not_open(err);
    fake_machine_close(&m);
}

static void test_region_info_fails(void **state)
{
    struct fake_device broken = fake_pci;

    (void)state;
    broken.num_regions = 3;
    broken.num_irqs = 0; /* not asked for any more */
    broken.regions[2].err = -EIO;
    check_broken(&(struct fake_device){.flags = VFIO_DEVICE_FLAGS_PCI,
                                       .num_regions = 1,
                                       .regions = {{.err = -EIO}}},
                 -EIO);
    check_broken(&broken, -EIO);
}

static void test_irq_info_fails(void **state)
{
    (void)state;
    check_broken(
        &(struct fake_device){
            .flags = VFIO_DEVICE_FLAGS_PCI, .num_irqs = 2, .irqs = {{.count = 1}, {.err = -EIO}}
    },
        -EIO);
    check_broken(&(struct fake_device){.flags = VFIO_DEVICE_FLAGS_PCI,
                                       .num_irqs = 1,
                                       .irqs = {{.count = 2049}}},
                 -EPROTO);
}

static void give_eventfd(uint32_t index)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    struct irq_request req = {
        .index = index,
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
        .count = 1,
        .eventfds = &fd,
    };

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_SET_IRQS);
    assert_int_equal(irq_set(m.dev, &req), 0);
    assert_int_equal(fd, -1);
}

/* What it has is read again, and the eventfds of before are gone. */
static void test_reopen(void **state)
{
    struct fake_device changed = fake_pci;

    (void)state;
    give_eventfd(VFIO_PCI_INTX_IRQ_INDEX);
    give_eventfd(VFIO_PCI_MSIX_IRQ_INDEX);
    changed.flags = VFIO_DEVICE_FLAGS_PCI;
    changed.num_regions = 8;
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, &changed);
    assert_int_equal(device_reopen(m.dev), 0);
    assert_int_equal(device_get_info(m.dev)->num_regions, 8);
    assert_null(region_get(m.dev, 8));
    assert_false(reset_is_supported(m.dev));
    assert_int_equal(fd_count_open(), (int)(intptr_t)*state);
    assert_int_equal(irq_disable_all(m.dev), 0); /* nothing is on */
}

static void assert_closed(void)
{
    struct irq_request req = {.count = 0, .flags = VFIO_IRQ_SET_ACTION_TRIGGER};
    uint8_t byte = 0;

    assert_int_equal(region_read(m.dev, 0, 0, &byte, 1), -ENODEV);
    assert_int_equal(region_write(m.dev, 0, 0, &byte, 1), -ENODEV);
    assert_int_equal(irq_set(m.dev, &req), -ENODEV);
    assert_int_equal(reset_device(m.dev), -ENODEV);
    assert_int_equal(config_space_stop_dma(m.dev), -ENODEV);
    assert_int_equal(config_space_stop_decode(m.dev), -ENODEV);
    assert_int_equal(irq_disable_all(m.dev), 0);
    assert_null(region_get(m.dev, 0));
    assert_null(irq_get(m.dev, 0));
    assert_false(reset_is_supported(m.dev));
    assert_int_equal(device_get_info(m.dev)->num_regions, 0);
    assert_string_equal(device_name(m.dev), FAKE_BDF);
}

static void test_reopen_fails(void **state)
{
    const uint32_t info[] = {16, VFIO_DEVICE_FLAGS_PCI, 1, 1};

    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EIO);
    assert_int_equal(device_reopen(m.dev), -EIO);
    assert_closed();
    /* It opens, but then does not answer. */
    fake_expect_device_fd(m.f);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_GET_INFO, .out = info,
                .out_len = sizeof(info));
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_GET_REGION_INFO, .ret = -EIO);
    assert_int_equal(device_reopen(m.dev), -EIO);
    assert_closed();
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, &fake_pci);
    assert_int_equal(device_reopen(m.dev), 0);
    assert_int_equal(device_get_info(m.dev)->num_regions, VFIO_PCI_NUM_REGIONS);
}

static void test_close_gives_eventfds_back(void **state)
{
    (void)state;
    give_eventfd(VFIO_PCI_INTX_IRQ_INDEX);
}

static void test_close_null(void **state)
{
    (void)state;
    device_close(NULL);
}

#define device_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        device_test(test_open),
        fd_leak_test(test_address_space_refuses),
        fd_leak_test(test_info),
        fd_leak_test(test_info_with_capabilities),
        fd_leak_test(test_region_info_fails),
        fd_leak_test(test_irq_info_fails),
        device_test(test_reopen),
        device_test(test_reopen_fails),
        device_test(test_close_gives_eventfds_back),
        cmocka_unit_test(test_close_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
