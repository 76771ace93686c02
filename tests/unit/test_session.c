#include "server/session.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bridge/ioeventfd.h"
#include "bridge/irq.h"
#include "bridge/reset.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"

enum {
    PAGE = 4096,
    VADDR = 0x7f0000000000,
    ON = PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE,
    NO_DMA = ON & ~PCI_COMMAND_MASTER,
    ALL_OFF = PCI_COMMAND_INTX_DISABLE,
};

static struct fake_machine m;

static void expect_map(uint64_t vaddr, uint64_t iova)
{
    const struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ,
        .vaddr = vaddr,
        .iova = iova,
        .size = PAGE,
    };

    FAKE_EXPECT(m.f, .kind = FAKE_MMAP, .value = vaddr);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_MAP_DMA, .in = &map,
                .in_len = sizeof(map));
}

static void use_interrupt(uint32_t index)
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
}

/* A device with two interrupts and two mappings in use. */
static void open_session(const struct fake_device *dev)
{
    int memory = memfd_create("memory", MFD_CLOEXEC);

    fake_machine_open(&m, dev);
    assert_int_equal(ftruncate(memory, PAGE), 0);
    for (uint64_t i = 0; i < 2; i++) {
        expect_map(VADDR + i * PAGE, i * PAGE);
        assert_int_equal(address_space_map(m.as, i * PAGE, PAGE, IOMMU_READ, memory, 0), 0);
    }
    assert_int_equal(address_space_map(m.as, 2 * PAGE, PAGE, IOMMU_READ, -1, 0), 0);
    use_interrupt(VFIO_PCI_MSI_IRQ_INDEX);
    use_interrupt(VFIO_PCI_MSIX_IRQ_INDEX);
    fd_close(&memory);
}

/*
 * The steps of the end, in their order. Each is apart, so that a test can let it fail: what comes
 * after it must be tried all the same.
 */
static void expect_stop_dma(void)
{
    fake_expect_command_read(m.f, ON);
    fake_expect_command_write(m.f, NO_DMA);
    fake_expect_command_read(m.f, NO_DMA);
}

static void expect_off(uint32_t index, int ret)
{
    const struct vfio_irq_set set = {
        sizeof(set), VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, index, 0, 0};

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_SET_IRQS, .in = &set,
                .in_len = sizeof(set), .ret = ret);
}

static void expect_disable(void)
{
    expect_off(VFIO_PCI_MSI_IRQ_INDEX, 0);
    expect_off(VFIO_PCI_MSIX_IRQ_INDEX, 0);
}

static void expect_reset(int ret)
{
    fake_expect_command_read(m.f, NO_DMA);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_RESET, .ret = ret);
}

static void expect_stop_decode(void)
{
    fake_expect_command_read(m.f, NO_DMA);
    fake_expect_command_write(m.f, ALL_OFF);
    fake_expect_command_read(m.f, ALL_OFF);
}

static void expect_unmap(uint64_t iova, int ret)
{
    const struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap), .iova = iova, .size = PAGE};

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_IOMMU_UNMAP_DMA, .in = &unmap,
                .in_len = sizeof(unmap), .ret = ret);
}

static void expect_unmap_all(void)
{
    expect_unmap(0, 0);
    expect_unmap(PAGE, 0);
}

static void expect_reopen(const struct fake_device *dev)
{
    fake_expect_device_fd(m.f);
    fake_expect_infos(m.f, dev);
}

static void expect_config_error(void)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .ret = -EIO,
                .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + PCI_COMMAND);
}

static enum session_end end(void)
{
    struct session s = {.device = m.dev, .as = m.as};
    enum session_end result = session_teardown(&s);

    fake_assert_done(m.f);
    return result;
}

static size_t mappings_left(void)
{
    struct address_space_stats stats;

    address_space_get_stats(m.as, &stats);
    return stats.maps;
}

static void use_doorbell(void)
{
    static const struct doorbell bell = {.region = 0, .width = 4, .offset = 8, .data = 1};
    int fd;

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_IOEVENTFD);
    assert_int_equal(ioeventfd_get(m.dev, &bell, &fd), 0);
}

static void test_clean(void **state)
{
    (void)state;
    open_session(&fake_pci);
    use_doorbell();
    expect_stop_dma();
    expect_disable();
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_IOEVENTFD);
    expect_reset(0);
    expect_stop_decode();
    expect_unmap_all();
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_CLEAN);
    assert_int_equal(mappings_left(), 0);
    fake_machine_close(&m);
}

/* A client that has left at once: nothing is on, nothing to be switched off. */
static void test_nothing_used(void **state)
{
    (void)state;
    fake_machine_open(&m, &fake_pci);
    fake_expect_command_read(m.f, 0);
    fake_expect_command_read(m.f, 0);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_RESET);
    fake_expect_command_read(m.f, 0);
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_CLEAN);
    fake_machine_close(&m);
}

static void test_dma_goes_on(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_config_error();
    expect_disable();
    expect_config_error(); /* the reset's own attempt */
    expect_stop_decode();
    expect_unmap_all();
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_BROKEN);
    assert_int_equal(mappings_left(), 0);
    fake_machine_close(&m);
}

/* Opening the device again takes them away, too. */
static void test_interrupts_stay(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_stop_dma();
    expect_off(VFIO_PCI_MSI_IRQ_INDEX, -EIO);
    expect_off(VFIO_PCI_MSIX_IRQ_INDEX, 0);
    expect_reset(0);
    expect_stop_decode();
    expect_unmap_all();
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_CLEAN);
    fake_machine_close(&m);
}

static void test_reset_fails(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_stop_dma();
    expect_disable();
    expect_reset(-EIO);
    expect_stop_decode();
    expect_unmap_all();
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_UNRESET);
    assert_int_equal(mappings_left(), 0);
    fake_machine_close(&m);
}

static void test_no_reset(void **state)
{
    struct fake_device dev = fake_pci;

    (void)state;
    dev.flags &= ~(uint32_t)VFIO_DEVICE_FLAGS_RESET;
    open_session(&dev);
    expect_stop_dma();
    expect_disable();
    expect_stop_decode();
    expect_unmap_all();
    expect_reopen(&dev);
    assert_int_equal(end(), SESSION_END_UNRESET);
    fake_machine_close(&m);
}

/* The kernel resets it once more when it is opened, with decode off. */
static void test_decode_stays(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_stop_dma();
    expect_disable();
    expect_reset(0);
    expect_config_error();
    expect_unmap_all();
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_CLEAN);
    fake_machine_close(&m);
}

static void test_memory_stays(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_stop_dma();
    expect_disable();
    expect_reset(0);
    expect_stop_decode();
    expect_unmap(0, -EIO);
    expect_unmap(PAGE, 0);
    expect_reopen(&fake_pci);
    assert_int_equal(end(), SESSION_END_BROKEN);
    assert_int_equal(mappings_left(), 1);
    /* The address space goes with the device then, and tries once more. */
    device_close(m.dev);
    expect_unmap(0, -EIO);
    fake_expect_leave(m.f, FAKE_GROUP);
    address_space_destroy(m.as);
    fake_host_free(m.f);
}

static void test_device_does_not_open_again(void **state)
{
    (void)state;
    open_session(&fake_pci);
    expect_stop_dma();
    expect_disable();
    expect_reset(0);
    expect_stop_decode();
    expect_unmap_all();
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EIO);
    assert_int_equal(end(), SESSION_END_BROKEN);
    assert_false(reset_is_supported(m.dev)); /* it is not there */
    fake_machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fd_leak_test(test_clean),
        fd_leak_test(test_nothing_used),
        fd_leak_test(test_dma_goes_on),
        fd_leak_test(test_interrupts_stay),
        fd_leak_test(test_reset_fails),
        fd_leak_test(test_no_reset),
        fd_leak_test(test_decode_stays),
        fd_leak_test(test_memory_stays),
        fd_leak_test(test_device_does_not_open_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
