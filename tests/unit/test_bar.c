#include "bridge/bar.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <string.h>
#include <sys/mman.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/log_capture.h"

enum {
    RW = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    MIB = 1 << 20,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    DMABUF = FAKE_FD + 100,
};

/* BAR 0 small, BAR 1 of 32 bits, BAR 2 of 64, BAR 4 ports, BAR 5. */
static const struct fake_device bars = {
    .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
    .num_regions = VFIO_PCI_NUM_REGIONS,
    .regions =
        {
                  [0] = {.flags = RW, .size = 256},
                  [1] = {.flags = RW, .size = MIB},
                  [2] = {.flags = RW, .size = 16 * MIB},
                  [4] = {.flags = RW, .size = 32},
                  [5] = {.flags = RW, .size = MIB},
                  [CONFIG] = {.flags = RW, .size = 4096},
                  },
};

static struct fake_machine m;

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &bars);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

static void expect_bars(const uint32_t values[BAR_MOST])
{
    uint32_t raw[BAR_MOST];

    for (int i = 0; i < BAR_MOST; i++)
        raw[i] = htole32(values[i]);
    fake_expect_command_read(m.f, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .fd = FAKE_DEVICE, .ret = sizeof(raw), .out = raw,
                .out_len = sizeof(raw), .len = sizeof(raw),
                .offset = FAKE_REGION_AT(CONFIG) + PCI_BASE_ADDRESS_0);
}

static void check_window(const struct bar_window *w, uint32_t index, uint64_t address,
                         uint64_t size)
{
    assert_int_equal(w->index, index);
    assert_true(w->address == address);
    assert_true(w->size == size);
}

static void test_windows(void **state)
{
    static const uint32_t values[] = {0xfebf1000, 0xfe000008, 0xfd00000c,
                                      0x00000012, 0xc001,     0x1000};
    struct bar_window w[BAR_MOST];

    (void)state;
    expect_bars(values);
    assert_int_equal(bar_find_windows(m.dev, w), 4);
    check_window(&w[0], 0, 0xfebf1000, 256);
    check_window(&w[1], 1, 0xfe000000, MIB);
    check_window(&w[2], 2, UINT64_C(0x12fd000000), 16 * MIB);
    check_window(&w[3], 5, 0x1000, MIB);
}

/* What lies nowhere, or at the end of the addresses while it is sized; and what is not there. */
static void test_no_windows(void **state)
{
    static const uint32_t cases[][BAR_MOST] = {
        {0,          0,          0x0c,       0,          0xc001,     0         },
        {0xffffff00, 0xfff00008, 0xff00000c, 0xffffffff, 0xffffffe1, 0xfff00000},
        {0,          0xfff80000, 0,          0,          0,          0         }, /* passes 4 GiB: no device is there */
        {0,          0,          0,          0xfe000000, 0,          0x04      }, /* of no size; 64 bits without an upper half, at 0 */
    };
    struct bar_window w[BAR_MOST];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        expect_bars(cases[i]);
        assert_int_equal(bar_find_windows(m.dev, w), 0);
    }
}

/* The BARs are not even read. */
static void test_decode_off(void **state)
{
    struct bar_window w[BAR_MOST];

    (void)state;
    fake_expect_command_read(m.f, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    assert_int_equal(bar_find_windows(m.dev, w), 0);
}

static void test_windows_errors(void **state)
{
    struct bar_window w[BAR_MOST];

    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .ret = -EIO,
                .offset = FAKE_REGION_AT(CONFIG) + PCI_COMMAND);
    assert_int_equal(bar_find_windows(m.dev, w), -EIO);
    fake_expect_command_read(m.f, PCI_COMMAND_MEMORY);
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .ret = -ENODEV,
                .offset = FAKE_REGION_AT(CONFIG) + PCI_BASE_ADDRESS_0);
    assert_int_equal(bar_find_windows(m.dev, w), -ENODEV);
}

static void test_may_move(void **state)
{
    (void)state;
    assert_true(bar_may_move(PCI_COMMAND, 1));
    assert_true(bar_may_move(PCI_COMMAND + 1, 1));
    assert_true(bar_may_move(0, 5));
    assert_false(bar_may_move(0, 4));
    assert_false(bar_may_move(PCI_STATUS, 10));
    assert_true(bar_may_move(PCI_BASE_ADDRESS_0, 4));
    assert_true(bar_may_move(PCI_BASE_ADDRESS_5 + 3, 1));
    assert_false(bar_may_move(PCI_BASE_ADDRESS_5 + 4, 4));
    assert_true(bar_may_move(PCI_STATUS, 11));
    assert_false(bar_may_move(PCI_COMMAND, 0));
    assert_false(bar_may_move(UINT64_MAX, UINT32_MAX));
}

static void expect_export(uint32_t index, uint64_t offset, uint64_t size, int ret)
{
    const struct {
        struct vfio_device_feature head;
        struct uapi_feature_dma_buf get;
        struct uapi_dma_range range;
    } request = {
        .head = {.argsz = sizeof(request), .flags = VFIO_DEVICE_FEATURE_GET | 11},
        .get = {.region_index = index,    .open_flags = O_RDWR | O_CLOEXEC,      .nr_ranges = 1},
        .range = {offset,                        size                                                       },
    };

    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .fd = FAKE_DEVICE, .request = VFIO_DEVICE_FEATURE,
                .in = &request, .in_len = sizeof(request), .ret = ret, .opens = true);
}

static void test_export(void **state)
{
    int fd = -1;

    (void)state;
    expect_export(2, 0x3000, 0x5000, DMABUF);
    assert_int_equal(bar_export_dmabuf(m.dev, 2, 0x3000, 0x5000, &fd), 0);
    assert_int_equal(fd, DMABUF);
    host_close(fake_host_base(m.f), &fd);
}

/* Whoever can do without is not bothered by what is not there. */
static void test_export_errors(void **state)
{
    static const struct {
        int err;
        bool logged;
    } cases[] = {
        {-ENOTTY,     false},
        {-EOPNOTSUPP, false},
        {-EINVAL,     true },
        {-EMFILE,     true }
    };
    int fd = -1;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct log_capture log;

        log_capture_start(&log);
        expect_export(1, 0, MIB, cases[i].err);
        assert_int_equal(bar_export_dmabuf(m.dev, 1, 0, MIB, &fd), cases[i].err);
        assert_int_equal(!!*log_capture_end(&log), cases[i].logged);
    }
    assert_int_equal(fd, -1);
}

static void expect_mmap(uint64_t offset, uint64_t size, int ret)
{
    FAKE_EXPECT(m.f, .kind = FAKE_MMAP, .fd = FAKE_DEVICE, .len = size, .ret = ret,
                .prot = PROT_READ | PROT_WRITE, .value = 0x7000000, .offset = offset);
}

static void test_mmap(void **state)
{
    void *address;

    (void)state;
    expect_mmap(FAKE_REGION_AT(1) + 0x2000, 0x4000, 0);
    assert_int_equal(bar_mmap(m.dev, 1, 0x2000, 0x4000, &address), 0);
    assert_true((uintptr_t)address == 0x7000000);
    bar_munmap(m.dev, address, 0x4000);
    expect_mmap(FAKE_REGION_AT(5), MIB, -EINVAL);
    assert_int_equal(bar_mmap(m.dev, 5, 0, MIB, &address), -EOPNOTSUPP);
    expect_mmap(FAKE_REGION_AT(5), MIB, -ENOMEM);
    assert_int_equal(bar_mmap(m.dev, 5, 0, MIB, &address), -ENOMEM);
}

/* The kernel is not asked. */
static void test_parts(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t offset, size;
        int ret;
    } cases[] = {
        {1,      0,                  MIB + 0x1000, -EINVAL    },
        {1,      MIB,                0x1000,       -EINVAL    },
        {1,      0,                  0,            -EINVAL    },
        {1,      UINT64_MAX - 0xfff, 0x1000,       -EINVAL    },
        {3,      0,                  0x1000,       -EINVAL    },
        {CONFIG, 0,                  0x1000,       -EINVAL    },
        {99,     0,                  0x1000,       -EINVAL    },
        {0,      0,                  256,          -EOPNOTSUPP},
        {1,      0x800,              0x1000,       -EOPNOTSUPP},
        {1,      0x1000,             0x1800,       -EOPNOTSUPP},
    };
    void *address;
    int fd;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(
            bar_export_dmabuf(m.dev, cases[i].index, cases[i].offset, cases[i].size, &fd),
            cases[i].ret);
        assert_int_equal(bar_mmap(m.dev, cases[i].index, cases[i].offset, cases[i].size, &address),
                         cases[i].ret);
    }
}

static void test_not_open(void **state)
{
    struct bar_window w[BAR_MOST];
    void *address;
    int fd;

    (void)state;
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_GROUP_GET_DEVICE_FD, .ret = -EBUSY);
    assert_int_equal(device_reopen(m.dev), -EBUSY);
    assert_int_equal(bar_find_windows(m.dev, w), -ENODEV);
    assert_int_equal(bar_export_dmabuf(m.dev, 1, 0, MIB, &fd), -ENODEV);
    assert_int_equal(bar_mmap(m.dev, 1, 0, MIB, &address), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decode_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_windows_errors, setup, teardown),
        cmocka_unit_test(test_may_move),
        cmocka_unit_test_setup_teardown(test_export, setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mmap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_open, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
