/* What an operator limits: memory without a descriptor, mappings and pinned bytes of a user. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "tests/protocol/harness.h"

enum {
    PAGE = 4096,
    RW = VFIO_USER_DMA_MAP_READ | VFIO_USER_DMA_MAP_WRITE,
};

static int memory(void)
{
    int fd = memfd_create("memory", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 16 * PAGE), 0);
    return fd;
}

static int map(struct vfuc *c, unsigned page, unsigned pages, int fd)
{
    return vfuc_dma_map(c, (uint64_t)page * PAGE, (uint64_t)pages * PAGE, RW, fd, 0);
}

static void strict_dma(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int fd = memory();
    struct vfuc *c;

    (void)state;
    h->settings.strict_dma = true;
    harness_start(h);
    c = harness_client(h);
    assert_int_equal(map(c, 0, 1, -1), -EINVAL);
    assert_int_equal(harness_stats(h).mappings, 0);
    assert_int_equal(map(c, 0, 1, fd), 0);
    vfuc_close(c);
    harness_await_idle(h);
    fd_close(&fd);
    harness_stop(h);
}

static void maps(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int fd = memory();
    struct vfuc *c;

    (void)state;
    h->settings.quota.maps = 3;
    harness_start(h);
    c = harness_client(h);
    assert_int_equal(map(c, 0, 1, fd), 0);
    assert_int_equal(map(c, 1, 1, -1), 0);       /* the unbacked ones count */
    assert_int_equal(map(c, 1, 1, fd), -EEXIST); /* and one that fails does not */
    assert_int_equal(map(c, 2, 1, fd), 0);
    assert_int_equal(map(c, 3, 1, fd), -ENOSPC);
    assert_int_equal(vfuc_dma_unmap(c, PAGE, PAGE), 0);
    assert_int_equal(map(c, 3, 1, fd), 0);
    assert_int_equal(map(c, 4, 1, fd), -ENOSPC);
    vfuc_close(c);

    /* The next session begins with nothing charged. */
    c = harness_client(h);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(map(c, i, 1, fd), 0);
    assert_int_equal(vfuc_dma_unmap_all(c), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(map(c, i, 1, fd), 0);
    assert_int_equal(map(c, 3, 1, fd), -ENOSPC);
    vfuc_close(c);
    harness_await_idle(h);
    fd_close(&fd);
    harness_stop(h);
}

static void pinned_bytes(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int fd = memory();
    struct vfuc *c;

    (void)state;
    h->settings.quota.bytes = 4 * PAGE;
    harness_start(h);
    c = harness_client(h);
    assert_int_equal(map(c, 0, 5, fd), -ENOMEM);
    assert_int_equal(harness_stats(h).pinned_bytes, 0);
    assert_int_equal(map(c, 0, 3, fd), 0);
    assert_int_equal(map(c, 8, 2, fd), -ENOMEM);
    assert_int_equal(map(c, 16, 8, -1), 0); /* nothing is pinned for it */
    assert_int_equal(map(c, 8, 1, fd), 0);
    assert_int_equal(vfuc_dma_unmap(c, 0, 3 * PAGE), 0);
    assert_int_equal(map(c, 32, 4, fd), -ENOMEM);
    assert_int_equal(map(c, 32, 3, fd), 0);
    vfuc_close(c);
    harness_await_idle(h);
    fd_close(&fd);
    harness_stop(h);
}

/* What a user has taken in one export it lacks in another: they share one account. */
static void shared_account(void **state)
{
    struct harness *h = harness_new();
    cleanup_close_ int fd = memory();
    struct vfuc *c;

    (void)state;
    h->settings.quota.maps = 2;
    harness_start(h);
    c = harness_client(h);
    assert_int_equal(map(c, 0, 1, fd), 0);
    /* As a session of another export is charged. */
    assert_int_equal(quota_charge(h->machine.quota, &(struct peer){.uid = geteuid()},
                                  (struct quota_amount){.maps = 1}),
                     0);
    assert_int_equal(map(c, 1, 1, fd), -ENOSPC);
    quota_release(h->machine.quota, &(struct peer){.uid = geteuid()},
                  (struct quota_amount){.maps = 1});
    assert_int_equal(map(c, 1, 1, fd), 0);
    vfuc_close(c);
    harness_await_idle(h);
    fd_close(&fd);
    harness_stop(h);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_dma),
        cmocka_unit_test(maps),
        cmocka_unit_test(pinned_bytes),
        cmocka_unit_test(shared_account),
    };

    if (!harness_select_backend(argc, argv))
        return 2;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
