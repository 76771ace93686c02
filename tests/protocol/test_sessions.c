/*
 * Sessions of the clients that exist, message by message as they were watched or read: what each
 * sends, in its order and with its habits, and the sizes of replies that it takes.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "client-example/event.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    RAM_SIZE = 64 * PAGE,
};

static const uint8_t zeros[4096];

/* Sends, and asserts that the reply is a success of exactly that size. */
static void expect_size(int sock, const struct raw_message *m, const int *fds, unsigned nfds,
                        uint32_t size, struct reply *r)
{
    struct reply unused;

    r = r ? r : &unused;
    raw_send(sock, m, fds, nfds);
    raw_expect_reply(sock, m, r);
    assert_int_equal(r->hdr.msg_size, size);
}

static void set_irqs(int sock, uint32_t flags, uint32_t count, int fd)
{
    expect_size(sock,
                MSG(MSG_SET_IRQS(.argsz = 20 + (fd >= 0 ? 4 : 0), .flags = flags, .index = INTX,
                                 .count = count)),
                &fd, fd >= 0, 16, NULL);
}

/*
 * QEMU.
 */

static void write_config(int sock, uint64_t offset, uint32_t value, uint32_t count)
{
    expect_size(sock,
                MSG(MSG_REGION_WRITE(offset, CONFIG, count), .data = &value, .data_len = count),
                NULL, 0, 32, NULL);
}

/* Guest memory in one file, read-only pieces of it, and what has no file: all under way at once. */
static void qemu_map(int sock, int ram)
{
    const struct raw_message maps[] = {
        {MSG_DMA_MAP(32, DMA_RW, 0, 0, 0xa0000)},
        {MSG_DMA_MAP(32, VFIO_USER_DMA_MAP_READ, 0, 0xc0000, 0xb000)},
        {MSG_DMA_MAP(32, DMA_RW, 0, 0xcb000, 0x3000)},
        {MSG_DMA_MAP(32, VFIO_USER_DMA_MAP_READ, 0x10000, 0x100000, 0x10000)},
        {MSG_DMA_MAP(32, DMA_RW, 0x20000, 0x110000, 0x20000)},
        {MSG_DMA_MAP(32, DMA_RW, 0, 0xfe000000, PAGE)},
        {MSG_DMA_MAP(32, VFIO_USER_DMA_MAP_READ, 0, 0xfffc0000, 0x40000)},
    };
    static const bool with_fd[] = {false, false, false, true, true, false, false};

    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        raw_send(sock, &maps[i], &ram, with_fd[i]);
    for (size_t i = 0; i < ARRAY_SIZE(maps); i++)
        raw_expect_reply(sock, &maps[i], &(struct reply){0});
}

static void qemu_unmap(int sock)
{
    static const uint64_t ranges[][2] = {
        {0,          0xa0000},
        {0xc0000,    0xb000 },
        {0xcb000,    0x3000 },
        {0x100000,   0x10000},
        {0x110000,   0x20000},
        {0xfe000000, PAGE   },
        {0xfffc0000, 0x40000},
    };

    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
        expect_size(sock, MSG(MSG_DMA_UNMAP(24, 0, ranges[i][0], ranges[i][1])), NULL, 0, 40, NULL);
}

static void qemu_realize(int sock)
{
    struct reply r;

    expect_size(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0, 32, &r);
    for (uint32_t i = 0; i <= CONFIG; i++) {
        if (i == VFIO_PCI_ROM_REGION_INDEX)
            continue;
        expect_size(sock, MSG(MSG_REGION_INFO(.argsz = 32, .index = i)), NULL, 0, 48, &r);
    }
    expect_size(sock, MSG(MSG_IRQ_INFO(.argsz = 16, .index = VFIO_PCI_ERR_IRQ_INDEX)), NULL, 0, 32,
                &r);
    expect_size(sock, MSG(MSG_REGION_READ(0, CONFIG, 256)), NULL, 0, 32 + 256, &r);
    write_config(sock, PCI_ROM_ADDRESS, 0xfffff800, 4);
    expect_size(sock, MSG(MSG_REGION_READ(PCI_ROM_ADDRESS, CONFIG, 4)), NULL, 0, 36, &r);
    write_config(sock, PCI_ROM_ADDRESS, 0, 4);
    expect_size(sock, MSG(MSG_IRQ_INFO(.argsz = 16, .index = INTX)), NULL, 0, 32, &r);
}

static void qemu_enable_intx(int sock, int trigger, int resample)
{
    set_irqs(sock, 0x24, 1, trigger);
    set_irqs(sock, 0x09, 1, -1);
    set_irqs(sock, 0x14, 1, resample);
    set_irqs(sock, 0x11, 1, -1);
}

static void qemu_reset(int sock)
{
    set_irqs(sock, 0x09, 1, -1);
    set_irqs(sock, 0x11, 1, -1);
    set_irqs(sock, 0x21, 0, -1);
    write_config(sock, PCI_COMMAND, 0, 2);
    expect_size(sock, MSG(MSG_RESET()), NULL, 0, 16, NULL);
}

static void qemu(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int ram = raw_memfd(RAM_SIZE);
    cleanup_close_ int trigger = event_create();
    cleanup_close_ int resample = event_create();
    cleanup_close_ int sock = raw_session(h);

    qemu_map(sock, ram);
    qemu_realize(sock);
    qemu_enable_intx(sock, trigger, resample);
    for (int reboot = 0; reboot < 2; reboot++) {
        qemu_reset(sock);
        qemu_enable_intx(sock, trigger, resample);
        for (uint64_t bar = PCI_BASE_ADDRESS_0; bar <= PCI_BASE_ADDRESS_5; bar += 4)
            write_config(sock, bar, 0, 4);
        for (int again = 0; again < 5; again++) {
            qemu_unmap(sock);
            qemu_map(sock, ram);
        }
        assert_int_equal(harness_stats(h).mappings, 2);
    }
    expect_size(sock, MSG(MSG_DMA_UNMAP(24, VFIO_USER_DMA_UNMAP_ALL, 0, 0)), NULL, 0, 40, NULL);
    assert_int_equal(harness_stats(h).mappings, 0);
    fd_close(&sock);
    harness_assert_serves(h);
}

/*
 * rust-vmm's vfio-user, in Cloud Hypervisor: replies are read by their fixed sizes, whatever the
 * headers say of them.
 */
static void rust_vmm(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int ram = raw_memfd(RAM_SIZE);
    cleanup_close_ int event = event_create();
    cleanup_close_ int sock = raw_connect(h);
    struct reply r;

    raw_send_version(sock, 0, 1,
                     "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
                     "\"migration\":{\"pgsize\":4096}}}");
    raw_expect_reply(sock, MSG(.command = VFIO_USER_VERSION), &r);
    expect_size(sock, MSG(MSG_GET_INFO(.argsz = 32)), NULL, 0, 32, &r);
    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
        expect_size(sock, MSG(MSG_REGION_INFO(.argsz = 32, .index = i)), NULL, 0, 48, &r);
    for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++)
        expect_size(sock, MSG(MSG_IRQ_INFO(.argsz = 32, .index = i)), NULL, 0, 32, &r);
    expect_size(sock, MSG(MSG_DMA_MAP(32, DMA_RW, 0, 0, RAM_SIZE)), &ram, 1, 16, NULL);
    expect_size(sock, MSG(MSG_REGION_READ(0, CONFIG, 4)), NULL, 0, 36, &r);
    expect_size(sock, MSG(MSG_REGION_READ(0, 0, 4)), NULL, 0, 36, &r);
    expect_size(sock, MSG(MSG_REGION_WRITE(4, 0, 4), .data = zeros, .data_len = 4), NULL, 0, 32,
                &r);
    set_irqs(sock, 0x24, 1, event);
    set_irqs(sock, 0x21, 0, -1);

    /* A migration's destination: a second connection, which has an answer. */
    {
        cleanup_close_ int second = raw_connect(h);

        raw_send_version(second, 0, 1, "{\"capabilities\":{}}");
        raw_expect_error(second, MSG(.command = VFIO_USER_VERSION), EBUSY);
        raw_expect_end(second);
    }
    expect_size(sock, MSG(MSG_RESET()), NULL, 0, 16, NULL);
    expect_size(sock, MSG(MSG_DMA_UNMAP(24, 0, 0, RAM_SIZE)), NULL, 0, 40, NULL);
    fd_close(&sock);
    harness_assert_serves(h);
}

/*
 * SPDK: no JSON, message id 0, buffers sent whole, IOVA = address, a descriptor on unmaps. On a
 * POWER machine it uses physical addresses: no window is large enough for its virtual ones.
 */
static void spdk(void **state)
{
    const uint64_t address = harness_is_spapr() ? 0x20000000 : 0x200000000000;
    struct harness *h = *state;
    cleanup_close_ int ram = raw_memfd(RAM_SIZE);
    cleanup_close_ int sock = raw_connect(h);
    const uint32_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct reply r;

    raw_send_version(sock, 0, 1, NULL);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_VERSION), &r);
    assert_int_equal(r.hdr.msg_size, 20);
    expect_size(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0, 32, &r);
    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
        expect_size(
            sock,
            MSG(MSG_REGION_INFO(.argsz = 4064, .index = i), .data = zeros, .data_len = 4064 - 32),
            NULL, 0, 48, &r);
    expect_size(sock, MSG(MSG_DMA_MAP(32, DMA_RW, 0, address, RAM_SIZE)), &ram, 1, 16, NULL);
    assert_int_equal(harness_stats(h).mappings, 1);
    write_config(sock, PCI_COMMAND, command, 4);
    expect_size(sock, MSG(MSG_REGION_READ(0, 0, 8)), NULL, 0, 40, &r);
    expect_size(sock, MSG(MSG_DMA_UNMAP(24, 0, address, RAM_SIZE)), &ram, 1, 40, NULL);
    assert_int_equal(harness_stats(h).mappings, 0);
    fd_close(&sock);
    harness_assert_serves(h);
}

/* libvfio-user's sample client: infos, INTx, memory with and without a file, migration asked for.
 */
static void libvfio_user(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int ram = raw_memfd(RAM_SIZE);
    cleanup_close_ int event = event_create();
    cleanup_close_ int sock = raw_connect(h);
    struct vfio_user_device_info info;
    struct reply r;

    raw_send_version(sock, 0, 1,
                     "{\"capabilities\":{\"max_msg_fds\":32,\"max_data_xfer_size\":1024}}");
    raw_expect_reply(sock, MSG(.command = VFIO_USER_VERSION), &r);
    expect_size(sock,
                MSG(MSG_FEATURE(16, VFIO_USER_DEVICE_FEATURE_GET | VFIO_USER_FEATURE_MIGRATION)),
                NULL, 0, 32, NULL);
    expect_size(sock, MSG(MSG_GET_INFO(.argsz = 16)), NULL, 0, 32, &r);
    memcpy(&info, r.payload, sizeof(info));
    assert_int_equal(info.num_regions, 9);
    expect_size(sock, MSG(MSG_RESET()), NULL, 0, 16, NULL);
    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
        expect_size(sock, MSG(MSG_REGION_INFO(.argsz = 32, .index = i)), NULL, 0, 48, &r);
    for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++)
        expect_size(sock, MSG(MSG_IRQ_INFO(.argsz = 16, .index = i)), NULL, 0, 32, &r);
    set_irqs(sock, 0x24, 1, event);
    for (uint64_t i = 0; i < 5; i++)
        expect_size(sock, MSG(MSG_DMA_MAP(32, DMA_RW, i * PAGE, i * PAGE, PAGE)), &ram, i & 1, 16,
                    NULL);
    for (uint64_t i = 0; i < 5; i++)
        expect_size(sock, MSG(MSG_DMA_UNMAP(24, 0, i * PAGE, PAGE)), NULL, 0, 40, NULL);
    fd_close(&sock);
    harness_assert_serves(h);
}

static const struct CMUnitTest tests[] = {
    harness_test(qemu),
    harness_test(rust_vmm),
    harness_test(spdk),
    harness_test(libvfio_user),
};

HARNESS_MAIN(tests)
