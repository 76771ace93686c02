#include "bridge/irq.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/fd_leak.h"

enum {
    INTX = VFIO_PCI_INTX_IRQ_INDEX,
    MSI = VFIO_PCI_MSI_IRQ_INDEX,
    MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
    ERR = VFIO_PCI_ERR_IRQ_INDEX,
    REQ = VFIO_PCI_REQ_IRQ_INDEX,
    MSI_VECTORS = 8,
    MSIX_VECTORS = 64,
    MOST_VECTORS = 2048,

    NONE = VFIO_IRQ_SET_DATA_NONE,
    BOOL = VFIO_IRQ_SET_DATA_BOOL,
    EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD,
    MASK = VFIO_IRQ_SET_ACTION_MASK,
    UNMASK = VFIO_IRQ_SET_ACTION_UNMASK,
    TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER,
};

static struct fake_machine m;
static int fds_before;

/* What each vector has by the test's own books. */
static int vectors[MOST_VECTORS];

static void open_with(const struct fake_device *dev)
{
    fds_before = fd_count_open();
    memset(vectors, 0xff, sizeof(vectors)); /* -1 each */
    fake_machine_open(&m, dev);
}

static int setup(void **state)
{
    (void)state;
    open_with(&fake_pci);
    return 0;
}

/* What the device was given it gives back when it is closed. */
static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    assert_int_equal(fd_count_open(), fds_before);
    return 0;
}

static int new_eventfd(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void expect_set(uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
                       const void *data, size_t size, int ret)
{
    uint8_t bytes[sizeof(struct vfio_irq_set) + sizeof(vectors)];
    const struct vfio_irq_set set = {(uint32_t)(sizeof(set) + size), flags, index, start, count};

    memcpy(bytes, &set, sizeof(set));
    if (size)
        memcpy(bytes + sizeof(set), data, size);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_SET_IRQS,
                .in = bytes, .in_len = sizeof(set) + size, .ret = ret);
}

static void expect_fds(uint32_t index, uint32_t start, uint32_t count, const int *fds, int ret)
{
    expect_set(index, EVENTFD | TRIGGER, start, count, fds, count * sizeof(*fds), ret);
}

static void expect_off(uint32_t index, int ret)
{
    expect_set(index, NONE | TRIGGER, 0, 0, NULL, 0, ret);
}

static void expect_signal(uint32_t index, uint32_t count)
{
    expect_set(index, NONE | TRIGGER, 0, count, NULL, 0, 0);
}

/* The block is taken away from the kernel: -1 for each. */
static void expect_none(uint32_t index, uint32_t start, uint32_t count)
{
    int none[MSIX_VECTORS];

    memset(none, 0xff, sizeof(none));
    expect_fds(index, start, count, none, 0);
}

static int request(uint32_t index, uint32_t flags, uint32_t start, uint32_t count)
{
    struct irq_request req = {.index = index, .flags = flags, .start = start, .count = count};

    return irq_set(m.dev, &req);
}

static int disable(uint32_t index)
{
    return request(index, NONE | TRIGGER, 0, 0);
}

static int give(uint32_t index, uint32_t start, uint32_t count, int *fds)
{
    struct irq_request req = {
        .index = index,
        .flags = EVENTFD | TRIGGER,
        .start = start,
        .count = count,
        .eventfds = fds,
    };

    return irq_set(m.dev, &req);
}

/*
 * New eventfds for the books' vectors from start on. The script is told what the kernel will see
 * before give_vectors() makes the request.
 */
static void plan(uint32_t start, uint32_t count)
{
    for (uint32_t i = start; i < start + count; i++)
        vectors[i] = new_eventfd();
}

static void give_vectors(uint32_t index, uint32_t start, uint32_t count)
{
    int fds[MOST_VECTORS];

    memcpy(fds, vectors + start, count * sizeof(*fds));
    assert_int_equal(give(index, start, count, fds), 0);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(fds[i], -1); /* the device's now */
        assert_true(vectors[start + i] < 0 || is_open(vectors[start + i]));
    }
}

/* A request that fails: its descriptors stay the caller's, who closes them. */
static void refuse(uint32_t index, uint32_t start, uint32_t count, int *fds, int err)
{
    int copy[MSIX_VECTORS];

    memcpy(copy, fds, count * sizeof(*fds));
    assert_int_equal(give(index, start, count, fds), err);
    assert_memory_equal(fds, copy, count * sizeof(*fds));
    for (uint32_t i = 0; i < count; i++) {
        assert_true(is_open(fds[i]));
        fd_close(&fds[i]);
    }
}

/* Descriptors that the device holds. */
static int held(void)
{
    return fd_count_open() - fds_before;
}

static void test_infos(void **state)
{
    (void)state;
    assert_int_equal(irq_get(m.dev, INTX)->count, 1);
    assert_int_equal(irq_get(m.dev, INTX)->flags, fake_pci.irqs[INTX].flags);
    assert_int_equal(irq_get(m.dev, MSIX)->count, MSIX_VECTORS);
    /* An index that the kernel refuses has no vectors. */
    assert_int_equal(irq_get(m.dev, ERR)->count, 0);
    assert_int_equal(irq_get(m.dev, ERR)->flags, 0);
    assert_null(irq_get(m.dev, VFIO_PCI_NUM_IRQS));
    assert_null(irq_get(m.dev, UINT32_MAX));
}

static void test_outside(void **state)
{
    static const struct {
        uint32_t index, start, count;
    } cases[] = {
        {INTX,              0,          2         },
        {INTX,              1,          1         },
        {INTX,              2,          0         },
        {MSIX,              63,         2         },
        {MSIX,              64,         1         },
        {MSIX,              0,          65        },
        {MSIX,              1,          UINT32_MAX},
        {MSIX,              UINT32_MAX, 1         },
        {MSIX,              UINT32_MAX, UINT32_MAX},
        {ERR,               0,          1         },
        {VFIO_PCI_NUM_IRQS, 0,          1         },
        {VFIO_PCI_NUM_IRQS, 0,          0         },
        {UINT32_MAX,        0,          1         },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(request(cases[i].index, NONE | TRIGGER, cases[i].start, cases[i].count),
                         -EINVAL);
        assert_int_equal(request(cases[i].index, NONE | MASK, cases[i].start, cases[i].count),
                         -EINVAL);
        assert_int_equal(give(cases[i].index, cases[i].start, cases[i].count, NULL), -EINVAL);
    }
}

/* What changes no eventfd of a trigger goes to the kernel as it is, and so does the answer. */
static void test_passed_on(void **state)
{
    static const struct {
        uint32_t index, flags, start, count;
        int ret, result;
    } cases[] = {
        {INTX, NONE | MASK,       0, 1, 0,       0      },
        {INTX, NONE | UNMASK,     0, 1, 0,       0      },
        {INTX, NONE | TRIGGER,    0, 1, 0,       0      },
        {MSIX, NONE | TRIGGER,    5, 3, 0,       0      },
        {MSI,  NONE | MASK,       0, 1, -ENOTTY, -ENOTTY},
        {MSIX, NONE | MASK,       0, 0, -EINVAL, -EINVAL},
        {INTX, NONE | MASK,       0, 1, 3,       0      },
        {MSIX, EVENTFD | TRIGGER, 0, 0, -ERANGE, -ERANGE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_set(cases[i].index, cases[i].flags, cases[i].start, cases[i].count, NULL, 0,
                   cases[i].ret);
        assert_int_equal(request(cases[i].index, cases[i].flags, cases[i].start, cases[i].count),
                         cases[i].result);
    }
}

static void test_bools(void **state)
{
    static const uint8_t bools[] = {1, 0, 1};
    struct irq_request req = {
        .index = MSIX, .flags = BOOL | TRIGGER, .start = 7, .count = 3, .bools = bools};

    (void)state;
    expect_set(MSIX, BOOL | TRIGGER, 7, 3, bools, sizeof(bools), 0);
    assert_int_equal(irq_set(m.dev, &req), 0);
    expect_set(MSIX, BOOL | TRIGGER, 7, 3, bools, sizeof(bools), -EINVAL);
    assert_int_equal(irq_set(m.dev, &req), -EINVAL);
}

static int give_unmask(int *fd)
{
    struct irq_request req = {.index = INTX, .flags = EVENTFD | UNMASK, .count = 1, .eventfds = fd};

    return irq_set(m.dev, &req);
}

static void expect_unmask(int fd, int ret)
{
    expect_set(INTX, EVENTFD | UNMASK, 0, 1, &fd, sizeof(fd), ret);
}

/* The kernel takes a second one only when the first is gone, and needs somebody to hold it. */
static void test_unmask_eventfd(void **state)
{
    int first = new_eventfd(), second = new_eventfd(), none = -1;
    const int kept[] = {first, second};

    (void)state;
    expect_unmask(first, 0);
    assert_int_equal(give_unmask(&first), 0);
    assert_int_equal(first, -1); /* the device's now */
    expect_unmask(-1, 0);
    expect_unmask(second, 0);
    assert_int_equal(give_unmask(&second), 0);
    assert_false(is_open(kept[0]));
    assert_true(is_open(kept[1]));
    expect_unmask(-1, 0);
    assert_int_equal(give_unmask(&none), 0);
    assert_int_equal(held(), 0);
}

/* One that is refused leaves none; the first that could not be taken away stays. */
static void test_unmask_eventfd_fails(void **state)
{
    int first = new_eventfd(), second = new_eventfd(), kept = second;

    (void)state;
    expect_unmask(first, -EINVAL);
    assert_int_equal(give_unmask(&first), -EINVAL);
    assert_true(is_open(first));
    expect_unmask(first, 0);
    assert_int_equal(give_unmask(&first), 0);
    expect_unmask(-1, -EIO);
    assert_int_equal(give_unmask(&second), -EIO);
    assert_int_equal(held(), 2);
    expect_unmask(-1, 0);
    expect_unmask(second, -EINVAL);
    assert_int_equal(give_unmask(&second), -EINVAL);
    assert_int_equal(held(), 1);
    /* The next one is the first again. */
    expect_unmask(second, 0);
    assert_int_equal(give_unmask(&second), 0);
    plan(0, 1);
    expect_fds(INTX, 0, 1, vectors, 0);
    give_vectors(INTX, 0, 1);
    expect_off(INTX, 0);
    assert_int_equal(disable(INTX), 0); /* takes both away */
    assert_false(is_open(kept));
}

static void test_one_vector(void **state)
{
    int first, second;

    (void)state;
    plan(0, 1);
    first = vectors[0];
    expect_fds(INTX, 0, 1, vectors, 0);
    give_vectors(INTX, 0, 1);
    plan(0, 1);
    second = vectors[0];
    expect_fds(INTX, 0, 1, vectors, 0); /* in the place of the first */
    give_vectors(INTX, 0, 1);
    assert_false(is_open(first));
    vectors[0] = -1;
    expect_fds(INTX, 0, 1, vectors, 0);
    give_vectors(INTX, 0, 1);
    assert_false(is_open(second));
    expect_off(INTX, 0);
    assert_int_equal(disable(INTX), 0);
    assert_int_equal(held(), 0);
}

static void test_one_vector_fails(void **state)
{
    int fd = new_eventfd();

    (void)state;
    expect_fds(INTX, 0, 1, &fd, -EINVAL); /* MSI is on, or it is no eventfd */
    refuse(INTX, 0, 1, &fd, -EINVAL);
    assert_int_equal(disable(INTX), 0); /* it is off: no call */
}

static void test_disable(void **state)
{
    (void)state;
    assert_int_equal(disable(INTX), 0);
    assert_int_equal(disable(MSIX), 0);
    assert_int_equal(disable(ERR), 0);
    plan(0, 1);
    expect_fds(MSI, 0, 1, vectors, 0);
    give_vectors(MSI, 0, 1);
    expect_off(MSI, 0);
    assert_int_equal(disable(MSI), 0);
    assert_int_equal(held(), 0);
    assert_int_equal(disable(MSI), 0);
}

static void test_disable_fails(void **state)
{
    (void)state;
    plan(0, 1);
    expect_fds(INTX, 0, 1, vectors, 0);
    give_vectors(INTX, 0, 1);
    expect_off(INTX, -EIO);
    assert_int_equal(disable(INTX), -EIO);
    assert_true(is_open(vectors[0]));
    expect_off(INTX, 0);
    assert_int_equal(disable(INTX), 0);
    assert_int_equal(held(), 0);
}

/* QEMU's way: one vector without eventfd, then chunks of 16. The set is made once. */
static void test_msix_in_chunks(void **state)
{
    (void)state;
    expect_fds(MSIX, 0, MSIX_VECTORS, vectors, 0);
    give_vectors(MSIX, 0, 1);
    for (uint32_t start = 0; start < MSIX_VECTORS; start += 16) {
        plan(start, 16);
        expect_fds(MSIX, start, 16, vectors + start, 0);
        give_vectors(MSIX, start, 16);
    }
    assert_int_equal(held(), MSIX_VECTORS);
    expect_off(MSIX, 0);
    assert_int_equal(disable(MSIX), 0);
    assert_int_equal(held(), 0);
}

/* The first chunk's eventfds are in the first call, at their place. */
static void test_msix_first_chunk(void **state)
{
    (void)state;
    plan(3, 2);
    expect_fds(MSIX, 0, MSIX_VECTORS, vectors, 0);
    give_vectors(MSIX, 3, 2);
    assert_int_equal(held(), 2);
}

static void test_msix_of_full_size(void **state)
{
    int fds[MSIX_VECTORS];

    (void)state;
    for (uint32_t i = 0; i < MSIX_VECTORS; i++)
        fds[i] = new_eventfd();
    expect_fds(MSIX, 0, MSIX_VECTORS, fds, 40); /* nothing smaller would do */
    refuse(MSIX, 0, MSIX_VECTORS, fds, -ENOSPC);
    plan(0, MSIX_VECTORS);
    expect_fds(MSIX, 0, MSIX_VECTORS, vectors, 0);
    give_vectors(MSIX, 0, MSIX_VECTORS);
}

static void test_largest_msix(void **state)
{
    const struct fake_device dev = {
        .flags = VFIO_DEVICE_FLAGS_PCI,
        .num_irqs = MSIX + 1,
        .irqs[MSIX] = {VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, MOST_VECTORS},
    };

    (void)state;
    open_with(&dev);
    plan(0, 16);
    expect_fds(MSIX, 0, MOST_VECTORS, vectors, 0);
    give_vectors(MSIX, 0, 16);
    plan(MOST_VECTORS - 1, 1);
    expect_fds(MSIX, MOST_VECTORS - 1, 1, vectors + MOST_VECTORS - 1, 0);
    give_vectors(MSIX, MOST_VECTORS - 1, 1);
    teardown(NULL);
}

/* A host short of vectors: what is asked for, and no more. */
static void test_msix_not_all_vectors(void **state)
{
    static const int shortages[] = {63, 1, -ENOSPC, -ENOMEM};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shortages); i++) {
        plan(0, 2);
        expect_fds(MSIX, 0, MSIX_VECTORS, vectors, shortages[i]);
        expect_fds(MSIX, 0, 2, vectors, 0);
        give_vectors(MSIX, 0, 2);
        expect_off(MSIX, 0);
        assert_int_equal(disable(MSIX), 0);
        vectors[0] = vectors[1] = -1;
    }
}

static void test_msix_too_few_vectors(void **state)
{
    int all[MSIX_VECTORS], fds[2] = {new_eventfd(), new_eventfd()};

    (void)state;
    memcpy(all, vectors, sizeof(all));
    memcpy(all, fds, sizeof(fds));
    expect_fds(MSIX, 0, MSIX_VECTORS, all, 1);
    expect_fds(MSIX, 0, 2, all, 1);
    refuse(MSIX, 0, 2, fds, -ENOSPC);
    assert_int_equal(held(), 0);
    assert_int_equal(disable(MSIX), 0); /* it is off */
    /* Nothing of the failure is left in the next attempt. */
    plan(1, 1);
    expect_fds(MSIX, 0, MSIX_VECTORS, vectors, 0);
    give_vectors(MSIX, 1, 1);
}

/* Errors that more modesty would not help. */
static void test_msix_enable_fails(void **state)
{
    static const int errors[] = {-EINVAL, -EBADF, -EIO};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        int all[MSIX_VECTORS], fd = new_eventfd();

        memcpy(all, vectors, sizeof(all));
        all[0] = fd;
        expect_fds(MSIX, 0, MSIX_VECTORS, all, errors[i]);
        refuse(MSIX, 0, 1, &fd, errors[i]);
        assert_int_equal(disable(MSIX), 0);
    }
}

/* The device sees how many vectors of MSI are on: there are no more than the client wants. */
static void test_msi_is_not_oversized(void **state)
{
    (void)state;
    plan(0, 2);
    expect_fds(MSI, 0, 2, vectors, 0);
    give_vectors(MSI, 0, 2);
}

static void enable_msi(uint32_t count)
{
    plan(0, count);
    expect_fds(MSI, 0, count, vectors, 0);
    give_vectors(MSI, 0, count);
}

/* Taken down, made anew, and each vector of before signalled once: one may have been lost. */
static void test_growing(void **state)
{
    (void)state;
    enable_msi(2);
    plan(4, 2);
    expect_off(MSI, 0);
    expect_fds(MSI, 0, 6, vectors, 0); /* 2 and 3 have none */
    expect_signal(MSI, 2);
    give_vectors(MSI, 4, 2);
    /* Within the set nothing is taken down. */
    plan(2, 2);
    expect_fds(MSI, 2, 2, vectors + 2, 0);
    give_vectors(MSI, 2, 2);
    assert_int_equal(held(), 6);
    expect_off(MSI, 0);
    assert_int_equal(disable(MSI), 0);
    assert_int_equal(held(), 0);
}

/* A request that changes old vectors too. */
static void test_growing_over_old_vectors(void **state)
{
    int replaced;

    (void)state;
    enable_msi(2);
    replaced = vectors[1];
    plan(1, 3);
    expect_off(MSI, 0);
    expect_fds(MSI, 0, 4, vectors, 0);
    expect_signal(MSI, 2);
    give_vectors(MSI, 1, 3);
    assert_false(is_open(replaced));
    assert_int_equal(held(), 4);
}

/* A set of MSI-X that could not be had whole grows by the same way. */
static void test_growing_msix(void **state)
{
    (void)state;
    plan(0, 2);
    expect_fds(MSIX, 0, MSIX_VECTORS, vectors, 10);
    expect_fds(MSIX, 0, 2, vectors, 0);
    give_vectors(MSIX, 0, 2);
    plan(2, 4);
    expect_off(MSIX, 0);
    expect_fds(MSIX, 0, 6, vectors, 0);
    expect_signal(MSIX, 2);
    give_vectors(MSIX, 2, 4);
}

static void test_growing_fails_at_once(void **state)
{
    int fd = new_eventfd();

    (void)state;
    enable_msi(2);
    expect_off(MSI, -EIO);
    refuse(MSI, 2, 1, &fd, -EIO);
    assert_int_equal(held(), 2);
    expect_off(MSI, 0); /* it is still on */
    assert_int_equal(disable(MSI), 0);
}

/* The set of before comes back as it was. */
static void test_growing_fails(void **state)
{
    static const struct {
        int ret, result;
    } cases[] = {
        {3,       -ENOSPC},
        {-ENOSPC, -ENOSPC},
        {-EINVAL, -EINVAL},
    };

    (void)state;
    enable_msi(2);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int merged[4] = {vectors[0], new_eventfd(), new_eventfd(), new_eventfd()};
        int fds[3] = {merged[1], merged[2], merged[3]};

        expect_off(MSI, 0);
        expect_fds(MSI, 0, 4, merged, cases[i].ret);
        expect_fds(MSI, 0, 2, vectors, 0);
        expect_signal(MSI, 2);
        refuse(MSI, 1, 3, fds, cases[i].result);
        assert_int_equal(held(), 2);
        assert_true(is_open(vectors[1]));
    }
    expect_off(MSI, 0);
    assert_int_equal(disable(MSI), 0);
}

/* It does not come back: the index is off, and nothing of it is left for a later set. */
static void test_growing_fails_for_good(void **state)
{
    static const int answers[] = {-EIO, 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        int fd = new_eventfd(), merged[3];

        enable_msi(2);
        memcpy(merged, vectors, sizeof(merged));
        merged[2] = fd;
        expect_off(MSI, 0);
        expect_fds(MSI, 0, 3, merged, -EIO);
        expect_fds(MSI, 0, 2, vectors, answers[i]);
        refuse(MSI, 2, 1, &fd, -EIO);
        assert_int_equal(held(), 0);
        assert_int_equal(disable(MSI), 0);

        vectors[0] = vectors[1] = -1;
        plan(2, 1);
        expect_fds(MSI, 0, 3, vectors, 0);
        give_vectors(MSI, 2, 1);
        expect_off(MSI, 0);
        assert_int_equal(disable(MSI), 0);
        vectors[2] = -1;
    }
}

/* A kernel that allocates vectors one by one needs none of this. */
static void test_resizable_msix(void **state)
{
    const struct fake_device dev = {
        .flags = VFIO_DEVICE_FLAGS_PCI,
        .num_irqs = MSIX + 1,
        .irqs[MSIX] = {VFIO_IRQ_INFO_EVENTFD, MSIX_VECTORS},
    };
    int fd;

    (void)state;
    open_with(&dev);
    plan(0, 1);
    expect_fds(MSIX, 0, 1, vectors, 0);
    give_vectors(MSIX, 0, 1);
    plan(10, 2);
    expect_fds(MSIX, 10, 2, vectors + 10, 0);
    give_vectors(MSIX, 10, 2);
    fd = new_eventfd();
    expect_fds(MSIX, 20, 1, &fd, -ENOSPC);
    expect_none(MSIX, 20, 1);
    refuse(MSIX, 20, 1, &fd, -ENOSPC);
    assert_int_equal(held(), 3);
    expect_off(MSIX, 0);
    assert_int_equal(disable(MSIX), 0);
    assert_int_equal(held(), 0);
    teardown(NULL);
}

/* One of many is taken away: it must be gone from the kernel and from the next set. */
static void test_one_of_many(void **state)
{
    int gone;

    (void)state;
    enable_msi(4);
    gone = vectors[2];
    vectors[2] = -1;
    expect_fds(MSI, 2, 1, vectors + 2, 0);
    give_vectors(MSI, 2, 1);
    assert_false(is_open(gone));
    assert_int_equal(held(), 3);
    plan(4, 1);
    expect_off(MSI, 0);
    expect_fds(MSI, 0, 5, vectors, 0);
    expect_signal(MSI, 4);
    give_vectors(MSI, 4, 1);
}

/*
 * The kernel stops in the middle of a block, where some have the old eventfd and some none: none of
 * the block has one then, and the others keep theirs.
 */
static void test_change_fails(void **state)
{
    int fds[2] = {new_eventfd(), new_eventfd()};

    (void)state;
    enable_msi(4);
    expect_fds(MSI, 1, 2, fds, -EINVAL);
    expect_none(MSI, 1, 2);
    refuse(MSI, 1, 2, fds, -EINVAL);
    assert_true(is_open(vectors[0]) && is_open(vectors[3]));
    assert_false(is_open(vectors[1]) || is_open(vectors[2]));
    vectors[1] = vectors[2] = -1;
    /* And that is what a later set is made of. */
    plan(4, 1);
    expect_off(MSI, 0);
    expect_fds(MSI, 0, 5, vectors, 0);
    expect_signal(MSI, 4);
    give_vectors(MSI, 4, 1);
    assert_int_equal(held(), 3);
}

static void enable_three(void)
{
    int fds[3] = {new_eventfd(), new_eventfd(), new_eventfd()};

    expect_fds(INTX, 0, 1, &fds[0], 0);
    expect_fds(MSI, 0, 1, &fds[1], 0);
    expect_fds(REQ, 0, 1, &fds[2], 0); /* is it an eventfd? */
    expect_none(REQ, 0, 1);
    assert_int_equal(give(INTX, 0, 1, &fds[0]), 0);
    assert_int_equal(give(MSI, 0, 1, &fds[1]), 0);
    assert_int_equal(give(REQ, 0, 1, &fds[2]), 0);
}

static void test_disable_all(void **state)
{
    (void)state;
    assert_int_equal(irq_disable_all(m.dev), 0);
    enable_three();
    expect_off(INTX, 0);
    expect_off(MSI, 0);
    assert_int_equal(irq_disable_all(m.dev), 0);
    assert_int_equal(held(), 0);
    assert_int_equal(irq_disable_all(m.dev), 0);
}

/* Every index is tried; the first error is told. */
static void test_disable_all_with_errors(void **state)
{
    (void)state;
    enable_three();
    expect_off(INTX, -EIO);
    expect_off(MSI, -EBUSY);
    assert_int_equal(irq_disable_all(m.dev), -EIO);
    assert_int_equal(held(), 2);
    expect_off(INTX, 0);
    expect_off(MSI, 0);
    assert_int_equal(irq_disable_all(m.dev), 0);
    assert_int_equal(held(), 0);
}

/* After a reset: each index that is on, whole, as it is. */
static void test_rearm(void **state)
{
    int intx = new_eventfd();

    (void)state;
    assert_int_equal(irq_rearm(m.dev), 0);
    enable_msi(2);
    vectors[0] = -1;
    expect_fds(MSI, 0, 1, vectors, 0);
    give_vectors(MSI, 0, 1);
    expect_fds(INTX, 0, 1, &intx, 0);
    assert_int_equal(give(INTX, 0, 1, (int[]){intx}), 0);
    expect_fds(INTX, 0, 1, &intx, 0);
    expect_fds(MSI, 0, 2, vectors, 0);
    assert_int_equal(irq_rearm(m.dev), 0);
    assert_int_equal(held(), 2);
}

/* The others are tried, and the next call gives all of them again. */
static void test_rearm_fails(void **state)
{
    int intx = new_eventfd();

    (void)state;
    enable_msi(2);
    expect_fds(INTX, 0, 1, &intx, 0);
    assert_int_equal(give(INTX, 0, 1, (int[]){intx}), 0);
    expect_fds(INTX, 0, 1, &intx, -EIO);
    expect_fds(MSI, 0, 2, vectors, 0);
    assert_int_equal(irq_rearm(m.dev), -EIO);
    expect_fds(INTX, 0, 1, &intx, 0);
    expect_fds(MSI, 0, 2, vectors, 0);
    assert_int_equal(irq_rearm(m.dev), 0);
    assert_int_equal(held(), 3);
}

#define irq_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        irq_test(test_infos),
        irq_test(test_outside),
        irq_test(test_passed_on),
        irq_test(test_bools),
        irq_test(test_unmask_eventfd),
        irq_test(test_unmask_eventfd_fails),
        irq_test(test_one_vector),
        irq_test(test_one_vector_fails),
        irq_test(test_disable),
        irq_test(test_disable_fails),
        irq_test(test_msix_in_chunks),
        irq_test(test_msix_first_chunk),
        irq_test(test_msix_of_full_size),
        cmocka_unit_test(test_largest_msix),
        irq_test(test_msix_not_all_vectors),
        irq_test(test_msix_too_few_vectors),
        irq_test(test_msix_enable_fails),
        irq_test(test_msi_is_not_oversized),
        irq_test(test_growing),
        irq_test(test_growing_over_old_vectors),
        irq_test(test_growing_msix),
        irq_test(test_growing_fails_at_once),
        irq_test(test_growing_fails),
        irq_test(test_growing_fails_for_good),
        cmocka_unit_test(test_resizable_msix),
        irq_test(test_one_of_many),
        irq_test(test_change_fails),
        irq_test(test_disable_all),
        irq_test(test_disable_all_with_errors),
        irq_test(test_rearm),
        irq_test(test_rearm_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
