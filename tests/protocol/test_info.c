/* What the device is: GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO. */
#include <errno.h>
#include <linux/vfio.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/fd.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    REGIONS = VFIO_PCI_NUM_REGIONS,
    IRQS = VFIO_PCI_NUM_IRQS,
};

#define TAKE(r, type)                                                                              \
    ({                                                                                             \
        struct type taken_;                                                                        \
        assert_int_equal((r).len, sizeof(taken_));                                                 \
        memcpy(&taken_, (r).payload, sizeof(taken_));                                              \
        taken_;                                                                                    \
    })

/* libvfio-user's client wants exactly 9 regions; QEMU 8 of them and 3 irq indexes at least. */
static void device_info(void **state)
{
    int sock = raw_session(*state);
    struct vfio_user_device_info info;
    struct reply r;

    raw_call(sock, MSG(MSG_GET_INFO(.argsz = 16)), &r);
    info = TAKE(r, vfio_user_device_info);
    assert_int_equal(info.argsz, 16);
    assert_int_equal(info.flags, VFIO_USER_DEVICE_FLAGS_RESET | VFIO_USER_DEVICE_FLAGS_PCI);
    assert_int_equal(info.num_regions, REGIONS);
    assert_int_equal(info.num_irqs, IRQS);
    fd_close(&sock);
}

static const uint8_t padding[LIMIT_INFO_REPLY];

/* argsz tells the client's room; QEMU counts the payload, rust-vmm the header too, SPDK all of its
 * buffer, which SPDK also sends. */
static const struct request_case argsz_cases[] = {
    CASE("GET_INFO, argsz 16", 0, MSG_GET_INFO(.argsz = 16)),
    CASE("GET_INFO, argsz 32", 0, MSG_GET_INFO(.argsz = 32)),
    CASE("GET_INFO, argsz 4064", 0, MSG_GET_INFO(.argsz = 4064), .data = padding, .data_len = 4048),
    CASE("GET_INFO, argsz 2^32-1", 0, MSG_GET_INFO(.argsz = UINT32_MAX)),
    CASE("GET_INFO, other fields not 0", 0, MSG_GET_INFO(16, 0xffff, 0xffff, 0xffff)),
    CASE("GET_INFO, argsz 15", EINVAL, MSG_GET_INFO(.argsz = 15)),
    CASE("GET_INFO, argsz 0", EINVAL, MSG_GET_INFO(.argsz = 0)),
    CASE("GET_INFO, no payload", EINVAL, .command = VFIO_USER_DEVICE_GET_INFO),
    CASE("GET_INFO, 15 bytes", EINVAL, .command = VFIO_USER_DEVICE_GET_INFO, .payload = padding,
         .len = 15),
    CASE("GET_INFO, 64 KiB", 0, MSG_GET_INFO(16), .data = padding, .data_len = 65536 - 16),
    CASE("GET_INFO, a byte more", E2BIG, MSG_GET_INFO(16), .data = padding, .data_len = 65537 - 16),

    CASE("REGION_INFO, argsz 32", 0, MSG_REGION_INFO(.argsz = 32)),
    CASE("REGION_INFO, argsz 4064", 0, MSG_REGION_INFO(.argsz = 4064), .data = padding,
         .data_len = 4032),
    CASE("REGION_INFO, argsz 2^32-1", 0, MSG_REGION_INFO(.argsz = UINT32_MAX)),
    CASE("REGION_INFO, argsz 31", EINVAL, MSG_REGION_INFO(.argsz = 31)),
    CASE("REGION_INFO, argsz 16", EINVAL, MSG_REGION_INFO(.argsz = 16)),
    CASE("REGION_INFO, 31 bytes", EINVAL, .command = VFIO_USER_DEVICE_GET_REGION_INFO,
         .payload = padding, .len = 31),
    CASE("REGION_INFO, the last index", 0, MSG_REGION_INFO(.argsz = 32, .index = REGIONS - 1)),
    CASE("REGION_INFO, index count", EINVAL, MSG_REGION_INFO(.argsz = 32, .index = REGIONS)),
    CASE("REGION_INFO, index count + 1", EINVAL,
         MSG_REGION_INFO(.argsz = 32, .index = REGIONS + 1)),
    CASE("REGION_INFO, index 2^32-1", EINVAL, MSG_REGION_INFO(.argsz = 32, .index = UINT32_MAX)),

    CASE("IO_FDS, argsz 16", 0, MSG_IO_FDS(.argsz = 16)),
    CASE("IO_FDS, argsz 4064", 0, MSG_IO_FDS(.argsz = 4064)),
    CASE("IO_FDS, a region of size 0", 0, MSG_IO_FDS(.argsz = 16, .index = 5)),
    CASE("IO_FDS, argsz 15", EINVAL, MSG_IO_FDS(.argsz = 15)),
    CASE("IO_FDS, index count", EINVAL, MSG_IO_FDS(.argsz = 16, .index = REGIONS)),
    CASE("IO_FDS, index 2^32-1", EINVAL, MSG_IO_FDS(.argsz = 16, .index = UINT32_MAX)),

    CASE("IRQ_INFO, argsz 16", 0, MSG_IRQ_INFO(.argsz = 16)),
    CASE("IRQ_INFO, argsz 32", 0, MSG_IRQ_INFO(.argsz = 32)),
    CASE("IRQ_INFO, argsz 15", EINVAL, MSG_IRQ_INFO(.argsz = 15)),
    CASE("IRQ_INFO, the last index", 0, MSG_IRQ_INFO(.argsz = 16, .index = IRQS - 1)),
    CASE("IRQ_INFO, index count", EINVAL, MSG_IRQ_INFO(.argsz = 16, .index = IRQS)),
    CASE("IRQ_INFO, index count + 1", EINVAL, MSG_IRQ_INFO(.argsz = 16, .index = IRQS + 1)),
    CASE("IRQ_INFO, index 2^32-1", EINVAL, MSG_IRQ_INFO(.argsz = 16, .index = UINT32_MAX)),
};

static void sizes_and_indexes(void **state)
{
    int sock = raw_session(*state);

    raw_run_cases(sock, argsz_cases, ARRAY_SIZE(argsz_cases), NULL, 0);
    fd_close(&sock);
}

/*
 * rust-vmm asks each region with argsz 32 and wants exactly 48 bytes; no region has MMAP, as no
 * descriptor of a region is handed out. The offset is one of a descriptor: 0.
 */
static void region_infos(void **state)
{
    static const struct {
        uint64_t size;
        uint32_t flags;
    } regions[REGIONS] = {
        [VFIO_PCI_BAR0_REGION_INDEX] = {1 << 20,
                                        VFIO_USER_REGION_INFO_READ | VFIO_USER_REGION_INFO_WRITE},
        [VFIO_PCI_CONFIG_REGION_INDEX] = {256,
                                        VFIO_USER_REGION_INFO_READ | VFIO_USER_REGION_INFO_WRITE},
    };
    int sock = raw_session(*state);

    for (uint32_t i = 0; i < REGIONS; i++) {
        struct vfio_user_region_info info;
        struct reply r;

        raw_call(sock, MSG(MSG_REGION_INFO(.argsz = 32, .index = i)), &r);
        assert_int_equal(r.hdr.msg_size, 48);
        info = TAKE(r, vfio_user_region_info);
        assert_int_equal(info.argsz, 32);
        assert_int_equal(info.index, i);
        assert_int_equal(info.flags, regions[i].flags);
        assert_int_equal(info.cap_offset, 0);
        assert_int_equal(info.size, regions[i].size);
        assert_int_equal(info.offset, 0);
    }
    fd_close(&sock);
}

static void io_fds_are_an_empty_list(void **state)
{
    int sock = raw_session(*state);
    struct vfio_user_region_io_fds info;
    struct reply r;

    raw_call(sock, MSG(MSG_IO_FDS(.argsz = 4064, .index = 0)), &r);
    info = TAKE(r, vfio_user_region_io_fds);
    assert_int_equal(info.argsz, sizeof(info));
    assert_int_equal(info.index, 0);
    assert_int_equal(info.count, 0);
    fd_close(&sock);
}

static void irq_infos(void **state)
{
    static const struct {
        uint32_t count;
        uint32_t flags; /* beside EVENTFD */
    } irqs[IRQS] = {
        [VFIO_PCI_INTX_IRQ_INDEX] = {1, VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED},
        [VFIO_PCI_MSI_IRQ_INDEX] = {1, VFIO_IRQ_INFO_NORESIZE                           },
        [VFIO_PCI_REQ_IRQ_INDEX] = {1, VFIO_IRQ_INFO_NORESIZE                           },
    };
    int sock = raw_session(*state);

    for (uint32_t i = 0; i < IRQS; i++) {
        struct vfio_user_irq_info info;
        struct reply r;

        raw_call(sock, MSG(MSG_IRQ_INFO(.argsz = 16, .index = i)), &r);
        info = TAKE(r, vfio_user_irq_info);
        assert_int_equal(info.argsz, sizeof(info));
        assert_int_equal(info.index, i);
        assert_int_equal(info.count, irqs[i].count);
        if (info.count)
            assert_int_equal(info.flags, VFIO_IRQ_INFO_EVENTFD | irqs[i].flags);
    }
    fd_close(&sock);
}

/* A query without an answer makes no sense: nothing is answered, the session goes on. */
static void queries_without_reply(void **state)
{
    static const uint16_t queries[] = {VFIO_USER_DEVICE_GET_INFO, VFIO_USER_DEVICE_GET_REGION_INFO,
                                       VFIO_USER_DEVICE_GET_REGION_IO_FDS,
                                       VFIO_USER_DEVICE_GET_IRQ_INFO};
    int sock = raw_session(*state);

    for (size_t i = 0; i < ARRAY_SIZE(queries); i++)
        raw_send(sock,
                 MSG(.command = queries[i], .payload = padding, .len = 32,
                     .flags = VFIO_USER_FLAG_NO_REPLY),
                 NULL, 0);
    raw_assert_in_step(sock);
    fd_close(&sock);
}

static void descriptors_are_refused(void **state)
{
    const struct request_case cases[] = {
        CASE("GET_INFO", EINVAL, MSG_GET_INFO(.argsz = 16)),
        CASE("REGION_INFO", EINVAL, MSG_REGION_INFO(.argsz = 32)),
        CASE("IO_FDS", EINVAL, MSG_IO_FDS(.argsz = 16)),
        CASE("IRQ_INFO", EINVAL, MSG_IRQ_INFO(.argsz = 16)),
    };
    int sock = raw_session(*state);
    int fd = raw_memfd(PAGE);

    raw_run_cases(sock, cases, ARRAY_SIZE(cases), &fd, 1);
    fd_close(&fd);
    fd_close(&sock);
}

static const struct CMUnitTest tests[] = {
    harness_test(device_info),
    harness_test(sizes_and_indexes),
    harness_test(region_infos),
    harness_test(io_fds_are_an_empty_list),
    harness_test(irq_infos),
    harness_test(queries_without_reply),
    harness_test(descriptors_are_refused),
};

HARNESS_MAIN(tests)
