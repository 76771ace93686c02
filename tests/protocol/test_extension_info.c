/* DEVICE_INFO and IOMMU_INFO of the extension. */
#include <errno.h>
#include <linux/vfio.h>
#include <linux/vfio_zdev.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

static const uint8_t zeros[64];

#define MSG_DEVICE_INFO(...) MSG_(VFIO_USERD_DEVICE_INFO, vfio_userd_device_info, __VA_ARGS__)
#define MSG_IOMMU_INFO(...)  MSG_(VFIO_USERD_IOMMU_INFO, vfio_userd_iommu_info, __VA_ARGS__)

static const struct request_case cases[] = {
    CASE("device, argsz 24", 0, MSG_DEVICE_INFO(.argsz = 24)),
    CASE("device, argsz 2^32-1", 0, MSG_DEVICE_INFO(.argsz = UINT32_MAX)),
    CASE("device, other fields not 0", 0, MSG_DEVICE_INFO(24, 0, 1, 2, UINT32_MAX, 4)),
    CASE("device, argsz 23", EINVAL, MSG_DEVICE_INFO(.argsz = 23)),
    CASE("device, argsz 0", EINVAL, MSG_DEVICE_INFO(.argsz = 0)),
    CASE("device, a flag", EINVAL, MSG_DEVICE_INFO(.argsz = 24, .flags = 1u << 31)),
    CASE("device, cut off", EINVAL, .command = VFIO_USERD_DEVICE_INFO, .payload = zeros, .len = 23),
    CASE("device, a byte more", E2BIG, MSG_DEVICE_INFO(.argsz = 24), .data = zeros, .data_len = 1),
    CASE("iommu, argsz 24", 0, MSG_IOMMU_INFO(.argsz = 24)),
    CASE("iommu, argsz 2^32-1", 0, MSG_IOMMU_INFO(.argsz = UINT32_MAX)),
    CASE("iommu, 2^32-1 ranges", 0, MSG_IOMMU_INFO(.argsz = 24, .num_ranges = UINT32_MAX)),
    CASE("iommu, argsz 23", EINVAL, MSG_IOMMU_INFO(.argsz = 23)),
    CASE("iommu, a flag", EINVAL, MSG_IOMMU_INFO(.argsz = 24, .flags = 1)),
    CASE("iommu, empty", EINVAL, .command = VFIO_USERD_IOMMU_INFO),
    CASE("iommu, a byte more", E2BIG, MSG_IOMMU_INFO(.argsz = 24), .data = zeros, .data_len = 1),
};

static void requests(void **state)
{
    cleanup_close_ int sock = raw_extended_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);
    const struct request_case with_fd[] = {
        CASE("device, a descriptor", EINVAL, MSG_DEVICE_INFO(.argsz = 24)),
        CASE("iommu, a descriptor", EINVAL, MSG_IOMMU_INFO(.argsz = 24)),
    };

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), NULL, 0);
    raw_run_cases(sock, with_fd, ARRAY_SIZE(with_fd), &fd, 1);
    raw_send(sock, MSG(MSG_DEVICE_INFO(.argsz = 24), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_send(sock, MSG(MSG_IOMMU_INFO(.argsz = 24), .flags = VFIO_USER_FLAG_NO_REPLY), NULL, 0);
    raw_assert_in_step(sock);
}

/* A device without capabilities: as GET_INFO, but longer. */
static void plain_device(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_free_ struct vfio_userd_device_info *info = NULL;
    struct vfio_user_device_info plain;

    assert_int_equal(vfuc_device_info(c, &plain), 0);
    assert_int_equal(vfuc_extended_info(c, &info), 0);
    assert_int_equal(info->argsz, sizeof(*info));
    assert_int_equal(info->flags, VFIO_USERD_DEVICE_RESET | VFIO_USERD_DEVICE_PCI);
    assert_int_equal(info->num_regions, plain.num_regions);
    assert_int_equal(info->num_irqs, plain.num_irqs);
    assert_int_equal(info->cap_offset, 0);
    vfuc_close(c);
}

static int setup_caps(void **state)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    harness_start(h);
    assert_int_equal(sim_set_zpci(h->machine.sim, h->bdf), 0);
    /* They are read when the device is opened: again after a session. */
    vfuc_close(harness_client(h));
    *state = h;
    return 0;
}

/* As many as the client takes: all of them or none, and in both cases how long they are. */
static void capabilities(void **state)
{
    static const uint16_t ids[] = {VFIO_DEVICE_INFO_CAP_ZPCI_BASE, VFIO_DEVICE_INFO_CAP_ZPCI_GROUP,
                                   VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, VFIO_DEVICE_INFO_CAP_ZPCI_PFIP,
                                   UAPI_VFIO_CAP_PCI_ATOMIC_COMP};
    struct vfuc *c = harness_client(*state);
    cleanup_free_ struct vfio_userd_device_info *info = NULL;
    struct vfio_userd_device_info fixed;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0;
    struct reply r;

    assert_int_equal(vfuc_extended_info(c, &info), 0);
    assert_true(info->flags & VFIO_USERD_DEVICE_CAPS);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_int_equal(vfuc_device_cap_next(info, &offset, &cap), 1);
        assert_int_equal(cap.id, ids[i]);
    }
    assert_int_equal(vfuc_device_cap_next(info, &offset, &cap), 0);

    raw_call(vfuc_socket(c), MSG(MSG_DEVICE_INFO(.argsz = info->argsz - 1), .id = 0x7000), &r);
    assert_int_equal(r.len, sizeof(fixed));
    memcpy(&fixed, r.payload, sizeof(fixed));
    assert_int_equal(fixed.argsz, info->argsz);
    raw_call(vfuc_socket(c), MSG(MSG_DEVICE_INFO(.argsz = info->argsz), .id = 0x7000), &r);
    assert_int_equal(r.len, info->argsz);
    assert_memory_equal(r.payload, info, info->argsz);
    vfuc_close(c);
}

static bool is_reserved(uint64_t address)
{
    return address >= 0xfee00000 && address < 0xfef00000;
}

/* What is told can be mapped, and what is next to it can't. */
static void ranges(void **state)
{
    struct vfuc *c = harness_client(*state);
    cleanup_free_ struct vfio_userd_iommu_info *info = NULL;
    cleanup_close_ int fd = raw_memfd(PAGE);
    uint64_t after = 0;

    assert_int_equal(vfuc_iommu_info(c, &info), 0);
    assert_true(info->pgsizes & PAGE);
    assert_in_range(info->max_maps, 1, 65535);
    assert_true(info->num_ranges >= 1);
    assert_int_equal(!!(info->flags & VFIO_USERD_IOMMU_COHERENT), harness_is_type1());
    assert_false(info->flags & VFIO_USERD_IOMMU_UNTRANSLATED);
    assert_int_equal(!!(info->flags & VFIO_USERD_IOMMU_EEH), harness_is_spapr());
    for (uint32_t i = 0; i < info->num_ranges; i++) {
        const struct vfio_userd_iova_range range = vfuc_iova_range(info, i);
        const uint64_t last_page = (range.last & ~UINT64_C(0xfff));

        assert_true(range.first <= range.last && range.first >= after);
        assert_false(is_reserved(range.first));
        assert_int_equal(vfuc_dma_map(c, range.first, PAGE, DMA_RW, fd, 0), 0);
        assert_int_equal(vfuc_dma_unmap(c, range.first, PAGE), 0);
        assert_int_equal(vfuc_dma_map(c, last_page, PAGE, DMA_RW, fd, 0), 0);
        assert_int_equal(vfuc_dma_unmap(c, last_page, PAGE), 0);
        if (range.last == UINT64_MAX)
            break;
        after = range.last + 1;
        assert_int_equal(vfuc_dma_map(c, after, PAGE, DMA_RW, fd, 0), -EINVAL);
    }
    vfuc_close(c);
}

static void room_for_ranges(void **state)
{
    cleanup_close_ int sock = raw_extended_session(*state);
    struct vfio_userd_iommu_info info;
    struct reply r;

    raw_call(sock, MSG(MSG_IOMMU_INFO(.argsz = sizeof(info))), &r);
    assert_int_equal(r.len, sizeof(info));
    memcpy(&info, r.payload, sizeof(info));
    assert_int_equal(info.argsz,
                     sizeof(info) + info.num_ranges * sizeof(struct vfio_userd_iova_range));
    raw_call(sock, MSG(MSG_IOMMU_INFO(.argsz = info.argsz - 1)), &r);
    assert_int_equal(r.len, sizeof(info));
    raw_call(sock, MSG(MSG_IOMMU_INFO(.argsz = info.argsz)), &r);
    assert_int_equal(r.len, info.argsz);
}

static const struct CMUnitTest tests[] = {
    harness_test(requests),
    harness_test(plain_device),
    cmocka_unit_test_setup_teardown(capabilities, setup_caps, harness_teardown),
    harness_test(ranges),
    harness_test(room_for_ranges),
};

HARNESS_MAIN(tests)
