/*
 * Layouts are asserted where they are defined. Here: the bytes of a message as a peer sees them,
 * and the numbers that vfio-user shares with VFIO, held against the kernel's header.
 */
#include "proto/wire.h"

#include <linux/kvm.h>
#include <linux/vfio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_header_bytes(void **state)
{
    const struct vfio_user_header hdr = {
        .msg_id = 0x0102,
        .command = VFIO_USER_DMA_MAP,
        .msg_size = 0x03040506,
        .flags = VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR,
        .error = 17,
    };
    uint16_t half[2];
    uint32_t word[3];

    (void)state;
    memcpy(half, &hdr, sizeof(half));
    memcpy(word, (const char *)&hdr + sizeof(half), sizeof(word));
    assert_int_equal(half[0], 0x0102);
    assert_int_equal(half[1], 2);
    assert_int_equal(word[0], 0x03040506);
    assert_int_equal(word[1], 0x21);
    assert_int_equal(word[2], 17);
}

static void test_header_flags(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_FLAG_TYPE_COMMAND, 0);
    assert_int_equal(VFIO_USER_FLAG_TYPE_REPLY, 1);
    assert_int_equal(VFIO_USER_FLAG_NO_REPLY, 0x10);
    assert_int_equal(VFIO_USER_FLAG_ERROR, 0x20);
    assert_int_equal(VFIO_USER_FLAG_ALL, 0x3f);
}

static void test_commands(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_VERSION, 1);
    assert_int_equal(VFIO_USER_DEVICE_RESET, 13);
    assert_int_equal(VFIO_USER_REGION_WRITE_MULTI, 15);
    assert_int_equal(VFIO_USER_MIG_DATA_WRITE, 18);
}

static void test_dma_flags(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_DMA_MAP_READ, VFIO_DMA_MAP_FLAG_READ);
    assert_int_equal(VFIO_USER_DMA_MAP_WRITE, VFIO_DMA_MAP_FLAG_WRITE);
    assert_int_equal(VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP);
    assert_int_equal(VFIO_USER_DMA_UNMAP_ALL, VFIO_DMA_UNMAP_FLAG_ALL);
}

static void test_device_and_region(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_DEVICE_FLAGS_RESET, VFIO_DEVICE_FLAGS_RESET);
    assert_int_equal(VFIO_USER_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_PCI);
    assert_int_equal(VFIO_USER_REGION_INFO_READ, VFIO_REGION_INFO_FLAG_READ);
    assert_int_equal(VFIO_USER_IO_FD_DATAMATCH, KVM_IOEVENTFD_FLAG_DATAMATCH);
    assert_int_equal(VFIO_USER_IO_FD_PIO, KVM_IOEVENTFD_FLAG_PIO);
    assert_int_equal(VFIO_USER_REGION_INFO_WRITE, VFIO_REGION_INFO_FLAG_WRITE);
    assert_int_equal(VFIO_USER_REGION_INFO_MMAP, VFIO_REGION_INFO_FLAG_MMAP);
    assert_int_equal(VFIO_USER_REGION_INFO_CAPS, VFIO_REGION_INFO_FLAG_CAPS);
    assert_int_equal(sizeof(struct vfio_user_region_info), sizeof(struct vfio_region_info));
    assert_int_equal(sizeof(struct vfio_user_cap_header), sizeof(struct vfio_info_cap_header));
}

static void test_irqs(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_NONE);
    assert_int_equal(VFIO_USER_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_BOOL);
    assert_int_equal(VFIO_USER_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_EVENTFD);
    assert_int_equal(VFIO_USER_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_MASK);
    assert_int_equal(VFIO_USER_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_ACTION_UNMASK);
    assert_int_equal(VFIO_USER_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TRIGGER);
    assert_int_equal(VFIO_USER_IRQ_SET_DATA_TYPES, VFIO_IRQ_SET_DATA_TYPE_MASK);
    assert_int_equal(VFIO_USER_IRQ_SET_ACTIONS, VFIO_IRQ_SET_ACTION_TYPE_MASK);
    assert_int_equal(sizeof(struct vfio_user_irq_set), sizeof(struct vfio_irq_set));
    assert_int_equal(sizeof(struct vfio_user_irq_info), sizeof(struct vfio_irq_info));
}

static void test_features(void **state)
{
    (void)state;
    assert_int_equal(VFIO_USER_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_MASK);
    assert_int_equal(VFIO_USER_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_GET);
    assert_int_equal(VFIO_USER_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_SET);
    assert_int_equal(VFIO_USER_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_PROBE);
    assert_int_equal(VFIO_USER_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIGRATION);
    assert_int_equal(VFIO_USER_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE);
    assert_int_equal(VFIO_USER_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
    assert_int_equal(VFIO_USER_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP);
    assert_int_equal(VFIO_USER_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
    assert_int_equal(sizeof(struct vfio_user_device_feature), sizeof(struct vfio_device_feature));
    assert_int_equal(sizeof(struct vfio_user_feature_mig_state),
                     sizeof(struct vfio_device_feature_mig_state));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_bytes), cmocka_unit_test(test_header_flags),
        cmocka_unit_test(test_commands),     cmocka_unit_test(test_dma_flags),
        cmocka_unit_test(test_irqs),         cmocka_unit_test(test_device_and_region),
        cmocka_unit_test(test_features),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
