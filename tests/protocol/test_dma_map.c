/* DMA_MAP: ranges, access, limits. What a descriptor may be: test_dma_fd.c. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/limits.h"
#include "tests/protocol/raw.h"

enum {
    SIZE = 16 * PAGE,
};

#define MAP(a, s, o, f) MSG_DMA_MAP(.flags = (f), .offset = (o), .address = (a), .size = (s))

#define TOP             (UINT64_MAX - PAGE + 1) /* the last page of all */

static const uint8_t zeros[64];

/* Nothing is mapped when each of these comes. */
static const struct request_case refused[] = {
    CASE("size 0", EINVAL, MAP(0, 0, 0, DMA_RW)),
    CASE("no access", EINVAL, MAP(0, PAGE, 0, 0)),
    CASE("an unknown flag", EINVAL, MAP(0, PAGE, 0, DMA_RW | 4)),
    CASE("all flags", EINVAL, MAP(0, PAGE, 0, UINT32_MAX)),
    CASE("the address passes 2^64", EINVAL, MAP(TOP, 2 * PAGE, 0, DMA_RW)),
    CASE("the largest size", EINVAL, MAP(2 * PAGE, UINT64_MAX & ~UINT64_C(4095), 0, DMA_RW)),
    CASE("the offset passes 2^64", EINVAL, MAP(0, 2 * PAGE, TOP, DMA_RW)),
    CASE("an odd size", EINVAL, MAP(0, PAGE + 1, 0, DMA_RW)),
    CASE("half a page", EINVAL, MAP(0, PAGE / 2, 0, DMA_RW)),
    CASE("an odd address", EINVAL, MAP(1, PAGE, 0, DMA_RW)),
    CASE("an odd offset", EINVAL, MAP(0, PAGE, 1, DMA_RW)),
    CASE("cut off", EINVAL, .command = VFIO_USER_DMA_MAP, .payload = zeros, .len = 31),
    CASE("no payload", EINVAL, .command = VFIO_USER_DMA_MAP),
    CASE("too long", E2BIG, .command = VFIO_USER_DMA_MAP, .payload = zeros, .len = 33),
};

static const struct request_case refused_with_fd[] = {
    CASE("past the file's end", EINVAL, MAP(0, SIZE + PAGE, 0, DMA_RW)),
    CASE("an offset at the file's end", EINVAL, MAP(0, PAGE, SIZE, DMA_RW)),
    CASE("across the file's end", EINVAL, MAP(0, 2 * PAGE, SIZE - PAGE, DMA_RW)),
    CASE("an offset of 2^63", EINVAL, MAP(0, PAGE, UINT64_C(1) << 63, DMA_RW)),
    CASE("an offset of 2^64 - 4096", EINVAL, MAP(0, PAGE, TOP, DMA_RW)),
    CASE("an address that no IOMMU translates", EINVAL, MAP(TOP, PAGE, 0, DMA_RW)),
};

static void assert_mappings(const struct harness *h, unsigned n)
{
    assert_int_equal(harness_stats(h).mappings, n);
}

static void bad_ranges(void **state)
{
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(*state);

    raw_run_cases(sock, refused, ARRAY_SIZE(refused), NULL, 0);
    raw_run_cases(sock, refused, ARRAY_SIZE(refused), &fd, 1);
    raw_run_cases(sock, refused_with_fd, ARRAY_SIZE(refused_with_fd), &fd, 1);
    assert_mappings(*state, 0);
}

/* What a client with all its memory in one file sends, and that the device reaches it. */
static void with_descriptor(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    char seen[4] = "";

    assert_int_equal(pwrite(fd, "data", 4, 3 * PAGE), 4);
    raw_send(
        sock,
        MSG(MSG_DMA_MAP(.flags = DMA_RW, .offset = PAGE, .address = 0x10000, .size = 8 * PAGE)),
        &fd, 1);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DMA_MAP), &(struct reply){0});
    assert_mappings(h, 1);
    assert_true(harness_stats(h).pinned_bytes == 8 * PAGE);

    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0x12000, seen, 4, false), 0);
    assert_memory_equal(seen, "data", 4);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0x17ffc, seen, 4, true), 0);
    assert_int_equal(pread(fd, seen, 4, 9 * PAGE - 4), 4);
    assert_memory_equal(seen, "data", 4);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0x18000, seen, 4, false), -EFAULT);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0xfffc, seen, 4, false), -EFAULT);
}

/* Routine for QEMU, and to be answered with success; no device gets there. */
static void without_descriptor(void **state)
{
    const struct request_case unbacked[] = {
        CASE("the BIOS of a PC", 0, MAP(0xfffc0000, 0x40000, 0, VFIO_USER_DMA_MAP_READ)),
        CASE("a BAR mapped by its client", 0, MAP(0xfe000000, PAGE, 0, DMA_RW)),
        CASE("write only", 0, MAP(0, PAGE, 0, VFIO_USER_DMA_MAP_WRITE)),
        CASE("the last page", 0, MAP(TOP, PAGE, 0, DMA_RW)),
        CASE("huge", 0, MAP(UINT64_C(1) << 62, UINT64_C(1) << 61, 0, DMA_RW)),
    };
    struct harness *h = *state;
    cleanup_close_ int sock = raw_session(h);
    uint32_t word;

    raw_run_cases(sock, unbacked, ARRAY_SIZE(unbacked), NULL, 0);
    assert_mappings(h, 0);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0xfe000000, &word, 4, false), -EFAULT);
}

static void access_rights(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    uint32_t word = 0;

    raw_send(sock, MSG(MAP(0, PAGE, 0, VFIO_USER_DMA_MAP_READ)), &fd, 1);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DMA_MAP), &(struct reply){0});
    raw_send(sock, MSG(MAP(PAGE, PAGE, 0, VFIO_USER_DMA_MAP_WRITE)), &fd, 1);
    raw_expect_reply(sock, MSG(.command = VFIO_USER_DMA_MAP), &(struct reply){0});
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0, &word, 4, false), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 0, &word, 4, true), -EFAULT);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, PAGE, &word, 4, true), 0);
}

/* Around a mapping of the pages 4 to 7. */
static const struct request_case overlaps[] = {
    CASE("the same again", EEXIST, MAP(4 * PAGE, 4 * PAGE, 0, DMA_RW)),
    CASE("the same, less access", EEXIST, MAP(4 * PAGE, 4 * PAGE, 0, VFIO_USER_DMA_MAP_READ)),
    CASE("inside", EEXIST, MAP(5 * PAGE, PAGE, 0, DMA_RW)),
    CASE("its first page", EEXIST, MAP(4 * PAGE, PAGE, 0, DMA_RW)),
    CASE("its last page", EEXIST, MAP(7 * PAGE, PAGE, 0, DMA_RW)),
    CASE("around", EEXIST, MAP(0, SIZE, 0, DMA_RW)),
    CASE("a page at the front", EEXIST, MAP(3 * PAGE, 2 * PAGE, 0, DMA_RW)),
    CASE("a page at the back", EEXIST, MAP(7 * PAGE, 2 * PAGE, 0, DMA_RW)),
    CASE("touching at the front", 0, MAP(3 * PAGE, PAGE, 0, DMA_RW)),
    CASE("touching at the back", 0, MAP(8 * PAGE, PAGE, 0, DMA_RW)),
};

static void overlap(struct harness *h, bool first_backed, bool second_backed)
{
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    const struct raw_message first = {MAP(4 * PAGE, 4 * PAGE, 0, DMA_RW)};

    raw_send(sock, &first, &fd, first_backed);
    raw_expect_reply(sock, &first, &(struct reply){0});
    raw_run_cases(sock, overlaps, ARRAY_SIZE(overlaps), &fd, second_backed);
    assert_mappings(h, first_backed + 2 * second_backed);
}

static void overlaps_are_refused(void **state)
{
    for (int i = 0; i < 4; i++)
        overlap(*state, i & 1, i & 2);
}

/* A driver that lets the device loose before it has any memory: the IOMMU stops it, no more. */
static void device_without_memory(void **state)
{
    const struct edu_transfer transfers[] = {
        {.to_ram = true,  .iova = 0,         .len = EDU_BUFFER_SIZE},
        {.to_ram = false, .iova = 0xffff000, .len = EDU_BUFFER_SIZE},
    };
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct harness *h = *state;
    struct vfuc *c = harness_client(h);

    assert_int_equal(vfuc_region_write(c, 7, PCI_COMMAND, &command, sizeof(command)), 0);
    for (size_t i = 0; i < ARRAY_SIZE(transfers); i++)
        assert_int_equal(edu_dma(c, &transfers[i]), 0);
    assert_true(harness_stats(h).dma_faults >= 2);
    assert_true(harness_stats(h).dma_writes == 0);
    vfuc_close(c);
    harness_assert_serves(h);
}

/* One writer's worth of requests under way at a time, as nobody reads the replies meanwhile. */
static void map_many(int sock, unsigned first, unsigned n)
{
    enum { BATCH = 64 };
    static uint8_t
        buf[BATCH * (sizeof(struct vfio_user_header) + sizeof(struct vfio_user_dma_map))];

    while (n) {
        unsigned batch = MIN(n, (unsigned)BATCH);
        size_t len = 0;

        for (unsigned i = 0; i < batch; i++)
            len += raw_encode(MSG(MAP((uint64_t)(first + i) * PAGE, PAGE, 0, DMA_RW)), buf + len,
                              sizeof(buf) - len);
        raw_send_bytes(sock, buf, len, NULL, 0);
        for (unsigned i = 0; i < batch; i++) {
            struct vfio_user_header hdr;

            assert_int_equal(recv(sock, &hdr, sizeof(hdr), MSG_WAITALL), sizeof(hdr));
            assert_int_equal(hdr.error, 0);
        }
        first += batch;
        n -= batch;
    }
}

static void as_many_as_there_can_be(void **state)
{
    const struct raw_message one_more = {MAP(0x80000000, PAGE, 0, DMA_RW)};
    cleanup_close_ int sock = raw_session(*state);
    cleanup_close_ int fd = raw_memfd(PAGE);

    map_many(sock, 0, LIMIT_DMA_MAPS);
    raw_refused(sock, &one_more, ENOSPC);
    raw_send(sock, &one_more, &fd, 1);
    raw_expect_error(sock, &one_more, ENOSPC);
    raw_refused(sock, MSG(MAP(0, PAGE, 0, DMA_RW)), ENOSPC);
    raw_call(sock, MSG(MSG_DMA_UNMAP(.address = 1000 * PAGE, .size = PAGE)), NULL);
    raw_call(sock, &one_more, NULL);
    raw_refused(sock, &one_more, ENOSPC);
    fd_close(&sock);
    harness_assert_serves(*state);
}

/* The kernel's limit is told in VERSION, and holds. */
static void limit_of_the_kernel(void **state)
{
    struct harness *h;
    struct vfuc *c;

    (void)state;
    if (!harness_is_type1())
        skip();
    h = harness_new();
    sim_set_dma_entry_limit(h->machine.sim, 3);
    harness_start(h);
    c = harness_client(h);
    assert_int_equal(vfuc_caps(c)->max_dma_maps, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vfuc_dma_map(c, (uint64_t)i * PAGE, PAGE, DMA_RW, -1, 0), 0);
    assert_int_equal(vfuc_dma_map(c, 3 * PAGE, PAGE, DMA_RW, -1, 0), -ENOSPC);
    vfuc_close(c);
    harness_assert_serves(h);
    harness_stop(h);
}

static void limit_on_locked_memory(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    struct vfuc *c = harness_client(h);

    sim_set_memlock(h->machine.sim, harness_stats(h).locked_bytes + 4 * PAGE);
    assert_int_equal(vfuc_dma_map(c, 0, 4 * PAGE, DMA_RW, fd, 0), 0);
    assert_int_equal(vfuc_dma_map(c, SIZE, PAGE, DMA_RW, fd, 0), -ENOMEM);
    assert_int_equal(vfuc_dma_unmap(c, 0, 4 * PAGE), 0);
    assert_int_equal(vfuc_dma_map(c, SIZE, PAGE, DMA_RW, fd, 0), 0);
    vfuc_close(c);
}

static void without_reply(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(SIZE);
    cleanup_close_ int sock = raw_session(h);
    struct raw_message map = {MAP(0, PAGE, 0, DMA_RW)};

    map.flags = VFIO_USER_FLAG_NO_REPLY;
    raw_send(sock, &map, &fd, 1);
    raw_send(sock, &map, &fd, 1); /* EEXIST, and nobody is told */
    raw_assert_in_step(sock);
    assert_mappings(h, 1);
}

static const struct CMUnitTest tests[] = {
    harness_test(bad_ranges),
    harness_test(with_descriptor),
    harness_test(without_descriptor),
    harness_test(access_rights),
    harness_test(overlaps_are_refused),
    harness_test(device_without_memory),
    harness_test(as_many_as_there_can_be),
    cmocka_unit_test(limit_of_the_kernel),
    harness_test(limit_on_locked_memory),
    harness_test(without_reply),
};

HARNESS_MAIN(tests)
