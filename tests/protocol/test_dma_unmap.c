/* DMA_UNMAP: exactly one mapping, or all. */
#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    FILE_SIZE = 16 * PAGE,
    GET_DIRTY_BITMAP = VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP,
    ALL = VFIO_USER_DMA_UNMAP_ALL,
};

#define UNMAP(a, s, f) MSG_DMA_UNMAP(.flags = (f), .address = (a), .size = (s))

#define TOP            (UINT64_MAX - PAGE + 1)

/* Backed: pages 4 to 7. Unbacked: page 8, and the last page of all. */
static void map_some(int sock, int fd)
{
    const struct raw_message backed = {
        MSG_DMA_MAP(.flags = DMA_RW, .address = 4 * PAGE, .size = 4 * PAGE)};

    raw_send(sock, &backed, &fd, 1);
    raw_expect_reply(sock, &backed, &(struct reply){0});
    raw_call(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = 8 * PAGE, .size = PAGE)), NULL);
    raw_call(sock, MSG(MSG_DMA_MAP(.flags = DMA_RW, .address = TOP, .size = PAGE)), NULL);
}

static const uint8_t bitmap_request[32];

static const struct request_case refused[] = {
    CASE("nothing there", ENOENT, UNMAP(0, PAGE, 0)),
    CASE("nothing there, far away", ENOENT, UNMAP(UINT64_C(1) << 40, PAGE, 0)),
    CASE("the first page of it", EINVAL, UNMAP(4 * PAGE, PAGE, 0)),
    CASE("all but the last page", EINVAL, UNMAP(4 * PAGE, 3 * PAGE, 0)),
    CASE("a byte less", EINVAL, UNMAP(4 * PAGE, 4 * PAGE - 1, 0)),
    CASE("the end of it", ENOENT, UNMAP(5 * PAGE, 3 * PAGE, 0)),
    CASE("a page inside", ENOENT, UNMAP(5 * PAGE, PAGE, 0)),
    CASE("it and the next one", EINVAL, UNMAP(4 * PAGE, 5 * PAGE, 0)),
    CASE("around it", ENOENT, UNMAP(0, FILE_SIZE, 0)),
    CASE("everything, without ALL", ENOENT, UNMAP(0, UINT64_MAX, 0)),
    CASE("size 0", EINVAL, UNMAP(4 * PAGE, 0, 0)),
    CASE("size 0 at 0", EINVAL, UNMAP(0, 0, 0)),
    CASE("passes 2^64", EINVAL, UNMAP(TOP, 2 * PAGE, 0)),
    CASE("an unknown flag", EINVAL, UNMAP(4 * PAGE, 4 * PAGE, 4)),
    CASE("ALL and an unknown flag", EINVAL, UNMAP(0, 0, ALL | 0x80000000)),
    CASE("ALL and a dirty bitmap", EINVAL, UNMAP(0, 0, ALL | GET_DIRTY_BITMAP)),
    CASE("a dirty bitmap, no room for it", EINVAL, UNMAP(4 * PAGE, 4 * PAGE, GET_DIRTY_BITMAP)),
    CASE("a dirty bitmap", EINVAL,
         MSG_DMA_UNMAP(.flags = GET_DIRTY_BITMAP, .address = 4 * PAGE, .size = 4 * PAGE),
         .data = bitmap_request, .data_len = 16),
    CASE("more after it", E2BIG, MSG_DMA_UNMAP(.address = 4 * PAGE, .size = 4 * PAGE),
         .data = bitmap_request, .data_len = 17),
    CASE("cut off", EINVAL, .command = VFIO_USER_DMA_UNMAP, .payload = bitmap_request, .len = 23),
};

static void only_what_was_mapped(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(h);
    uint32_t word;

    map_some(sock, fd);
    raw_run_cases(sock, refused, ARRAY_SIZE(refused), NULL, 0);
    assert_int_equal(harness_stats(h).mappings, 1);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 4 * PAGE, &word, 4, false), 0);

    raw_call(sock, MSG(UNMAP(4 * PAGE, 4 * PAGE, 0)), NULL);
    assert_int_equal(harness_stats(h).mappings, 0);
    assert_int_equal(sim_device_dma(h->machine.sim, h->bdf, 4 * PAGE, &word, 4, false), -EFAULT);
    raw_refused(sock, MSG(UNMAP(4 * PAGE, 4 * PAGE, 0)), ENOENT);
    raw_call(sock, MSG(UNMAP(8 * PAGE, PAGE, 0)), NULL);
    raw_call(sock, MSG(UNMAP(TOP, PAGE, 0)), NULL);
    raw_refused(sock, MSG(UNMAP(TOP, PAGE, 0)), ENOENT);
}

/* 40 bytes, the request repeated: rust-vmm reads a reply of that size whatever it says. */
static void reply_has_its_form(void **state)
{
    const struct vfio_user_dma_unmap unmap = {.argsz = 24, .address = 8 * PAGE, .size = PAGE};
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(*state);
    struct reply r;

    map_some(sock, fd);
    raw_call(sock, MSG(.command = VFIO_USER_DMA_UNMAP, .payload = &unmap, .len = sizeof(unmap)),
             &r);
    assert_int_equal(r.hdr.msg_size, 40);
    assert_memory_equal(r.payload, &unmap, sizeof(unmap));
}

/* Whatever address and size come with it, and also when nothing is mapped. */
static void all(void **state)
{
    const struct request_case forms[] = {
        CASE("address and size 0", 0, UNMAP(0, 0, ALL)),
        CASE("an address", 0, UNMAP(0x1234567, 0, ALL)),
        CASE("everything", 0, UNMAP(0, UINT64_MAX, ALL)),
        CASE("a range that passes 2^64", 0, UNMAP(UINT64_MAX, UINT64_MAX, ALL)),
    };
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(h);

    raw_run_cases(sock, forms, ARRAY_SIZE(forms), NULL, 0);
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        map_some(sock, fd);
        assert_int_equal(harness_stats(h).mappings, 1);
        raw_run_cases(sock, &forms[i], 1, NULL, 0);
        assert_int_equal(harness_stats(h).mappings, 0);
        raw_refused(sock, MSG(UNMAP(8 * PAGE, PAGE, 0)), ENOENT);
    }
}

/* SPDK repeats the descriptor of the map here: closed, and no error. */
static void descriptors_are_closed(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(h);
    int many[LIMIT_RECV_FDS];
    const struct request_case good = CASE("a mapping", 0, UNMAP(4 * PAGE, 4 * PAGE, 0));
    const struct request_case bad = CASE("none", ENOENT, UNMAP(0, PAGE, 0));

    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = fd;
    map_some(sock, fd);
    raw_run_cases(sock, &good, 1, many, 1);
    raw_run_cases(sock, &bad, 1, many, 5);
    raw_run_cases(sock, &bad, 1, many, LIMIT_RECV_FDS);
}

/* During the boot of a BIOS, QEMU takes all memory away and maps it again about five times. */
static void again_and_again(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(h);
    int open_mapped = 0;

    for (int i = 0; i < 100; i++) {
        map_some(sock, fd);
        if (!i)
            open_mapped = fd_count_open();
        harness_await_fds(open_mapped);
        raw_call(sock, MSG(UNMAP(TOP, PAGE, 0)), NULL);
        raw_call(sock, MSG(UNMAP(4 * PAGE, 4 * PAGE, 0)), NULL);
        raw_call(sock, MSG(UNMAP(8 * PAGE, PAGE, 0)), NULL);
        assert_int_equal(harness_stats(h).mappings, 0);
        assert_true(harness_stats(h).pinned_bytes == 0);
    }
}

static void without_reply(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    cleanup_close_ int sock = raw_session(h);
    struct raw_message unmap = {UNMAP(4 * PAGE, 4 * PAGE, 0)};

    unmap.flags = VFIO_USER_FLAG_NO_REPLY;
    map_some(sock, fd);
    raw_send(sock, &unmap, NULL, 0);
    raw_send(sock, &unmap, NULL, 0); /* ENOENT, and nobody is told */
    raw_assert_in_step(sock);
    assert_int_equal(harness_stats(h).mappings, 0);
}

static const struct CMUnitTest tests[] = {
    harness_test(only_what_was_mapped),
    harness_test(reply_has_its_form),
    harness_test(all),
    harness_test(descriptors_are_closed),
    harness_test(again_and_again),
    harness_test(without_reply),
};

HARNESS_MAIN(tests)
