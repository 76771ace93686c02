#include "bridge/region_map.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/fake_device.h"

enum {
    BAR = 2,
    SIZE = 0x4000,
    CAP_AT = 0x40,
    VECTORS = 64, /* 0x400 bytes */
    RW = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    MMAP = VFIO_REGION_INFO_FLAG_MMAP,
};

static const struct fake_device device = {
    .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
    .num_regions = VFIO_PCI_NUM_REGIONS,
    .regions = {[0] = {.flags = RW, .size = 0x1000},
                [BAR] = {.flags = RW | MMAP, .size = SIZE},
                [VFIO_PCI_ROM_REGION_INDEX] = {.flags = RW | MMAP, .size = SIZE},
                [VFIO_PCI_CONFIG_REGION_INDEX] = {.flags = RW | MMAP, .size = 256},
                [VFIO_PCI_VGA_REGION_INDEX] = {.err = -EINVAL}},
};

static struct fake_machine m;

static int setup(void **state)
{
    (void)state;
    fake_machine_open(&m, &device);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_machine_close(&m);
    return 0;
}

static void expect_config(unsigned at, const void *bytes, size_t len)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .fd = FAKE_DEVICE, .len = len,
                .offset = FAKE_REGION_AT(VFIO_PCI_CONFIG_REGION_INDEX) + at, .out = bytes,
                .out_len = len, .ret = (ssize_t)len);
}

/* place: BAR and offset of the table. */
static void expect_msix(uint32_t place)
{
    const uint8_t status[2] = {PCI_STATUS_CAP_LIST}, first = CAP_AT, head[2] = {PCI_CAP_ID_MSIX};
    const uint8_t flags[2] = {VECTORS - 1};

    expect_config(PCI_STATUS, status, sizeof(status));
    expect_config(PCI_CAPABILITY_LIST, &first, sizeof(first));
    expect_config(CAP_AT, head, sizeof(head));
    expect_config(CAP_AT + PCI_MSIX_FLAGS, flags, sizeof(flags));
    expect_config(CAP_AT + PCI_MSIX_TABLE, &place, sizeof(place));
}

static void expect_no_msix(void)
{
    const uint8_t status[2] = {0};

    expect_config(PCI_STATUS, status, sizeof(status));
}

static void expect_share(void)
{
    FAKE_EXPECT(m.f, .kind = FAKE_SHARE, .fd = FAKE_DEVICE);
}

/* offset, size: of the one area that the answer is for. */
static void assert_sparse(const struct region_mapping *r, uint64_t offset, uint64_t size)
{
    struct {
        struct vfio_region_info_cap_sparse_mmap head;
        struct vfio_region_sparse_mmap_area area;
    } sparse;

    assert_int_equal(r->caps->len, sizeof(sparse));
    memcpy(&sparse, r->caps->bytes, sizeof(sparse));
    assert_int_equal(sparse.head.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    assert_int_equal(sparse.head.header.version, 1);
    assert_int_equal(sparse.head.header.next, 0);
    assert_int_equal(sparse.head.nr_areas, 1);
    assert_int_equal(sparse.area.offset, offset);
    assert_int_equal(sparse.area.size, size);
}

static void whole(void **state)
{
    struct region_mapping r;

    (void)state;
    expect_no_msix();
    expect_share();
    assert_false(device_is_lent(m.dev));
    assert_int_equal(region_map(m.dev, BAR, REGION_MAP_DEVFD, &r), 0);
    assert_true(device_is_lent(m.dev));
    assert_int_equal(r.offset, FAKE_REGION_AT(BAR));
    assert_int_equal(r.caps->len, 0);
    close(r.fd);
}

/* The larger part of what its pages leave, and the same when it is asked again. */
static void without_the_table(void **state)
{
    static const struct {
        uint32_t table;
        uint64_t offset, size;
    } cases[] = {
        {0,           0x1000, 0x3000},
        {0x2c00,      0,      0x2000},
        {0x2fff & ~7, 0,      0x2000}, /* two pages */
        {0x3000,      0,      0x3000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int twice = 0; twice < 2; twice++) {
            struct region_mapping r;

            expect_msix(cases[i].table | BAR);
            expect_share();
            assert_int_equal(region_map(m.dev, BAR, REGION_MAP_DEVFD, &r), 0);
            assert_int_equal(r.offset, FAKE_REGION_AT(BAR));
            assert_sparse(&r, cases[i].offset, cases[i].size);
            close(r.fd);
        }
    }
}

/* A table elsewhere is in nobody's way. */
static void table_of_another_bar(void **state)
{
    struct region_mapping r;

    (void)state;
    expect_msix(0);
    expect_share();
    assert_int_equal(region_map(m.dev, BAR, REGION_MAP_DEVFD, &r), 0);
    assert_int_equal(r.caps->len, 0);
    close(r.fd);
}

/* It would have to begin behind the table, and a dma-buf begins where the BAR does. */
static void no_dmabuf_behind_the_table(void **state)
{
    struct region_mapping r;

    (void)state;
    expect_msix(BAR);
    assert_int_equal(region_map(m.dev, BAR, REGION_MAP_DMABUF, &r), -EOPNOTSUPP);
    assert_int_equal(r.fd, -1);
}

static void never(void **state)
{
    static const uint32_t indexes[] = {0, 1, VFIO_PCI_ROM_REGION_INDEX,
                                       VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_VGA_REGION_INDEX};
    struct region_mapping r;

    (void)state;
    for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++)
        assert_int_equal(region_map(m.dev, indexes[i], REGION_MAP_DEVFD, &r), -EOPNOTSUPP);
    assert_int_equal(region_map(m.dev, BAR, REGION_MAP_NONE, &r), -EOPNOTSUPP);
    assert_int_equal(region_map(m.dev, VFIO_PCI_NUM_REGIONS, REGION_MAP_DEVFD, &r), -EINVAL);
    assert_false(device_is_lent(m.dev));
}

static void errors(void **state)
{
    struct region_mapping r;

    (void)state;
    expect_no_msix();
    FAKE_EXPECT(m.f, .kind = FAKE_SHARE, .fd = FAKE_DEVICE, .ret = -EMFILE);
    assert_int_equal(region_map(m.dev, BAR, REGION_MAP_DEVFD, &r), -EMFILE);
    assert_int_equal(r.fd, -1);
    assert_false(device_is_lent(m.dev));
}

#define map_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        map_test(whole),
        map_test(without_the_table),
        map_test(table_of_another_bar),
        map_test(no_dmabuf_behind_the_table),
        map_test(never),
        map_test(errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
