#include "bridge/region.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/unit/fake_device.h"

enum {
    BAR = 0,
    READ = VFIO_REGION_INFO_FLAG_READ,
    WRITE = VFIO_REGION_INFO_FLAG_WRITE,
    MMAP = VFIO_REGION_INFO_FLAG_MMAP,
    CAPS = VFIO_REGION_INFO_FLAG_CAPS,
    FIXED = sizeof(struct vfio_region_info),
    UNKNOWN_CAP = 0x7777,
};

#define AT(index, offset) (FAKE_REGION_AT(index) + (offset))

/* BAR 0 is full; 1 can be read alone, 2 written alone, 3 neither; 4 and more do not exist. */
static const struct fake_device device = {
    .flags = VFIO_DEVICE_FLAGS_PCI,
    .num_regions = VFIO_PCI_NUM_REGIONS,
    .regions =
        {
                  {READ | WRITE | MMAP, 0x4000},
                  {READ, 0x100},
                  {WRITE, 0x100},
                  {0, 0x100},
                  [VFIO_PCI_ROM_REGION_INDEX] = {.err = -EINVAL},
                  [VFIO_PCI_VGA_REGION_INDEX] = {.err = -EINVAL},
                  },
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

static void test_infos(void **state)
{
    (void)state;
    /* No descriptor is handed out, so none can be mapped. */
    assert_int_equal(region_get(m.dev, 0)->flags, READ | WRITE);
    assert_int_equal(region_get(m.dev, 0)->size, 0x4000);
    assert_int_equal(region_get(m.dev, 1)->offset, FAKE_REGION_AT(1));
    assert_int_equal(region_get(m.dev, 1)->flags, READ);
    assert_int_equal(region_get(m.dev, 0)->caps.len, 0);
    assert_int_equal(region_get(m.dev, 4)->size, 0);
    /* An index that the kernel refuses is a region of size 0. */
    assert_int_equal(region_get(m.dev, VFIO_PCI_VGA_REGION_INDEX)->size, 0);
    assert_int_equal(region_get(m.dev, VFIO_PCI_VGA_REGION_INDEX)->flags, 0);
    assert_null(region_get(m.dev, VFIO_PCI_NUM_REGIONS));
    assert_null(region_get(m.dev, UINT32_MAX));
}

/* A device without these would be none. */
static void test_indexes_that_must_be(void **state)
{
    static const uint32_t indexes[] = {VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX,
                                       VFIO_PCI_CONFIG_REGION_INDEX};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(indexes); i++) {
        const uint32_t info[] = {16, VFIO_DEVICE_FLAGS_PCI, VFIO_PCI_NUM_REGIONS, 0};

        fake_expect_device_fd(m.f);
        FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_GET_INFO, .out = info,
                    .out_len = sizeof(info));
        for (uint32_t k = 0; k < indexes[i]; k++)
            fake_expect_region_info(m.f, k, &(struct fake_region){.size = 0});
        fake_expect_region_info(m.f, indexes[i], &(struct fake_region){.err = -EINVAL});
        assert_int_equal(device_reopen(m.dev), -EINVAL);
    }
}

static void expect_pread(uint64_t offset, size_t len, ssize_t ret, const void *out)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PREAD, .fd = FAKE_DEVICE, .offset = offset, .len = len,
                .ret = ret, .out = out, .out_len = ret > 0 ? (size_t)ret : 0);
}

static void expect_pwrite(uint64_t offset, size_t len, ssize_t ret, const void *in)
{
    FAKE_EXPECT(m.f, .kind = FAKE_PWRITE, .fd = FAKE_DEVICE, .offset = offset, .len = len,
                .ret = ret, .in = in, .in_len = len);
}

/* One call of exactly the client's width. */
static void test_widths(void **state)
{
    static const uint8_t data[] = "0123456789abcdef";
    static const uint32_t counts[] = {1, 2, 3, 4, 5, 8, 16};
    uint8_t buf[16];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        memset(buf, 0, sizeof(buf));
        expect_pread(AT(BAR, 0x3f00 + i), counts[i], counts[i], data);
        assert_int_equal(region_read(m.dev, BAR, 0x3f00 + i, buf, counts[i]), 0);
        assert_memory_equal(buf, data, counts[i]);
        expect_pwrite(AT(BAR, 0x10 + i), counts[i], counts[i], data);
        assert_int_equal(region_write(m.dev, BAR, 0x10 + i, data, counts[i]), 0);
    }
}

static void test_whole_region(void **state)
{
    cleanup_free_ uint8_t *buf = malloc(0x4000);

    (void)state;
    expect_pread(AT(BAR, 0), 0x4000, 0x4000, memset(buf, 0x11, 0x4000));
    assert_int_equal(region_read(m.dev, BAR, 0, buf, 0x4000), 0);
    expect_pwrite(AT(BAR, 0), 0x4000, 0x4000, buf);
    assert_int_equal(region_write(m.dev, BAR, 0, buf, 0x4000), 0);
}

/* The rest is asked for where the kernel stopped. */
static void test_short_accesses(void **state)
{
    static const uint8_t data[] = "0123456789abcdef";
    uint8_t buf[16] = {0};

    (void)state;
    expect_pread(AT(BAR, 0x100), 16, 7, data);
    expect_pread(AT(BAR, 0x107), 9, 1, data + 7);
    expect_pread(AT(BAR, 0x108), 8, 8, data + 8);
    assert_int_equal(region_read(m.dev, BAR, 0x100, buf, 16), 0);
    assert_memory_equal(buf, data, 16);
    expect_pwrite(AT(BAR, 0x100), 16, 15, data);
    expect_pwrite(AT(BAR, 0x10f), 1, 1, data + 15);
    assert_int_equal(region_write(m.dev, BAR, 0x100, data, 16), 0);
}

static void test_errors(void **state)
{
    static const int errors[] = {-EIO, -EFAULT, -EINVAL, -EBUSY};
    const uint8_t data[8] = {0};
    uint8_t buf[8];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_pread(AT(BAR, 0), 8, errors[i], NULL);
        assert_int_equal(region_read(m.dev, BAR, 0, buf, 8), errors[i]);
        expect_pread(AT(BAR, 0), 8, 4, data);
        expect_pread(AT(BAR, 4), 4, errors[i], NULL);
        assert_int_equal(region_read(m.dev, BAR, 0, buf, 8), errors[i]);
        expect_pwrite(AT(BAR, 0), 8, errors[i], data);
        assert_int_equal(region_write(m.dev, BAR, 0, data, 8), errors[i]);
        expect_pwrite(AT(BAR, 0), 8, 4, data);
        expect_pwrite(AT(BAR, 4), 4, errors[i], data);
        assert_int_equal(region_write(m.dev, BAR, 0, data, 8), errors[i]);
    }
}

/* The kernel's end of the region is before ours: no endless loop. */
static void test_end_of_file(void **state)
{
    uint8_t buf[8] = {0};

    (void)state;
    expect_pread(AT(BAR, 0), 8, 0, NULL);
    assert_int_equal(region_read(m.dev, BAR, 0, buf, 8), -EIO);
    expect_pwrite(AT(BAR, 0), 8, 3, buf);
    expect_pwrite(AT(BAR, 3), 5, 0, buf);
    assert_int_equal(region_write(m.dev, BAR, 0, buf, 8), -EIO);
}

static void test_outside(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t offset;
        uint32_t count;
    } cases[] = {
        {BAR,                       0x4000,             1         },
        {BAR,                       0x3fff,             2         },
        {BAR,                       0,                  0x4001    },
        {BAR,                       0,                  UINT32_MAX},
        {BAR,                       0,                  0         },
        {BAR,                       UINT64_MAX,         1         },
        {BAR,                       UINT64_MAX - 3,     8         }, /* wraps into the region */
        {BAR,                       UINT64_MAX - 0xfff, 0x2000    },
        {BAR,                       1ull << 40,         4         }, /* the next region, in the file */
        {4,                         0,                  1         },
        {VFIO_PCI_VGA_REGION_INDEX, 0,                  1         },
        {VFIO_PCI_NUM_REGIONS,      0,                  1         },
        {UINT32_MAX,                0,                  1         },
    };
    uint8_t buf[8] = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(region_read(m.dev, cases[i].index, cases[i].offset, buf, cases[i].count),
                         -EINVAL);
        assert_int_equal(region_write(m.dev, cases[i].index, cases[i].offset, buf, cases[i].count),
                         -EINVAL);
    }
}

static void test_rights(void **state)
{
    uint8_t byte = 0;

    (void)state;
    expect_pread(AT(1, 0), 1, 1, &byte);
    assert_int_equal(region_read(m.dev, 1, 0, &byte, 1), 0);
    assert_int_equal(region_write(m.dev, 1, 0, &byte, 1), -EACCES);
    assert_int_equal(region_read(m.dev, 2, 0, &byte, 1), -EACCES);
    expect_pwrite(AT(2, 0), 1, 1, &byte);
    assert_int_equal(region_write(m.dev, 2, 0, &byte, 1), 0);
    assert_int_equal(region_read(m.dev, 3, 0, &byte, 1), -EACCES);
    assert_int_equal(region_write(m.dev, 3, 0, &byte, 1), -EACCES);
}

/* The answer to GET_REGION_INFO of a region with capabilities. */
struct answer {
    uint8_t bytes[4096];
    size_t len;
    size_t last;
};

static void put32(struct answer *a, size_t at, size_t value)
{
    const uint32_t v = (uint32_t)value;

    memcpy(a->bytes + at, &v, sizeof(v));
}

static struct answer new_answer(void)
{
    const struct vfio_region_info info = {.flags = READ | MMAP | CAPS, .size = 0x1000};
    struct answer a = {.len = sizeof(info)};

    memcpy(a.bytes, &info, sizeof(info));
    return a;
}

static void link_to(struct answer *a, size_t at)
{
    put32(a,
          a->last ? a->last + offsetof(struct vfio_info_cap_header, next)
                  : offsetof(struct vfio_region_info, cap_offset),
          at);
}

static void add_cap(struct answer *a, uint16_t id, const void *data, size_t len)
{
    const struct vfio_info_cap_header cap = {.id = id, .version = 1};

    link_to(a, a->len);
    memcpy(a->bytes + a->len, &cap, sizeof(cap));
    if (len)
        memcpy(a->bytes + a->len + sizeof(cap), data, len);
    a->last = a->len;
    a->len += sizeof(cap) + len;
}

static void add_type(struct answer *a, uint32_t type, uint32_t subtype)
{
    const uint32_t data[] = {type, subtype};

    add_cap(a, VFIO_REGION_INFO_CAP_TYPE, data, sizeof(data));
}

/* A device with the one region that answers so. */
static const struct region_info *open_with(struct answer *a)
{
    static const uint32_t info[4] = {sizeof(info), VFIO_DEVICE_FLAGS_PCI, 1, 0};
    const struct fake_device empty = {.flags = VFIO_DEVICE_FLAGS_PCI};

    put32(a, 0, a->len);
    fake_machine_open(&m, &empty);
    fake_expect_device_fd(m.f);
    fake_expect_info(m.f, FAKE_DEVICE, VFIO_DEVICE_GET_INFO, info, sizeof(info), sizeof(info));
    fake_expect_info(m.f, FAKE_DEVICE, VFIO_DEVICE_GET_REGION_INFO, a->bytes, FIXED, a->len);
    assert_int_equal(device_reopen(m.dev), 0);
    return region_get(m.dev, 0);
}

static struct vfio_info_cap_header cap_at(const struct region_info *region, size_t at)
{
    struct vfio_info_cap_header cap;

    assert_in_range(at, FIXED, FIXED + region->caps.len - sizeof(cap));
    memcpy(&cap, (const char *)region->caps.bytes + at - FIXED, sizeof(cap));
    return cap;
}

static void assert_no_caps(struct answer *a)
{
    const struct region_info *region = open_with(a);

    assert_int_equal(region->flags, READ);
    assert_int_equal(region->caps.len, 0);
    assert_null(region->caps.bytes);
    fake_machine_close(&m);
}

/* What a client is told of: two kinds, in their order, without what stood between. */
static void test_caps_by_allow_list(void **state)
{
    static const uint8_t secret[40] = {0x5e};
    struct answer a = new_answer();
    const struct region_info *region;
    struct vfio_region_info_cap_type type;

    (void)state;
    add_cap(&a, VFIO_REGION_INFO_CAP_SPARSE_MMAP, secret, sizeof(secret));
    add_type(&a, 0x80008086, 3);
    add_cap(&a, UNKNOWN_CAP, secret, sizeof(secret));
    add_cap(&a, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, NULL, 0);
    region = open_with(&a);
    assert_int_equal(region->flags, READ | CAPS);
    assert_int_equal(region->caps.len, 16 + 8);
    assert_int_equal(cap_at(region, FIXED).id, VFIO_REGION_INFO_CAP_TYPE);
    assert_int_equal(cap_at(region, FIXED).next, FIXED + 16);
    assert_int_equal(cap_at(region, FIXED + 16).id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
    assert_int_equal(cap_at(region, FIXED + 16).next, 0);
    memcpy(&type, region->caps.bytes, sizeof(type));
    assert_int_equal(type.header.version, 1);
    assert_int_equal(type.type, 0x80008086);
    assert_int_equal(type.subtype, 3);
    fake_machine_close(&m);
}

static void test_caps_that_nobody_may_see(void **state)
{
    static const uint8_t secret[24] = {0x5e};
    struct answer a = new_answer();

    (void)state;
    add_cap(&a, VFIO_REGION_INFO_CAP_SPARSE_MMAP, secret, sizeof(secret));
    add_cap(&a, UNKNOWN_CAP, secret, sizeof(secret));
    assert_no_caps(&a);
}

/* Cut off within itself, behind the end, at no multiple of 4. */
static void test_caps_that_lie(void **state)
{
    static const size_t wrong[] = {FIXED + 1, FIXED + 2, FIXED + 16, 4096, UINT32_MAX, 0x7ffffffc};
    struct answer a = new_answer();

    (void)state;
    add_type(&a, 1, 1);
    a.len -= 4;
    assert_no_caps(&a);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        a = new_answer();
        add_type(&a, 1, 1);
        a.last = 0;
        link_to(&a, wrong[i]);
        assert_no_caps(&a);
    }
}

/* The flag tells whether there is a chain, not the offset. */
static void test_caps_without_flag(void **state)
{
    const uint32_t flags = READ;
    struct answer a = new_answer();

    (void)state;
    add_type(&a, 1, 1);
    memcpy(a.bytes + offsetof(struct vfio_region_info, flags), &flags, sizeof(flags));
    assert_no_caps(&a);
}

static void test_caps_misaligned(void **state)
{
    static const uint8_t odd[4];
    struct answer a = new_answer();
    const struct region_info *region;

    (void)state;
    add_cap(&a, UNKNOWN_CAP, odd, sizeof(odd));
    assert_int_equal(a.len % 8, 4);
    add_type(&a, 1, 2);
    add_cap(&a, UNKNOWN_CAP, odd, sizeof(odd));
    add_type(&a, 3, 4);
    region = open_with(&a);
    assert_int_equal(region->caps.len, 32);
    assert_int_equal(cap_at(region, FIXED).next, FIXED + 16); /* aligned to 8 again */
    fake_machine_close(&m);
}

/* The walk ends; the chain that is made of it is sound. */
static void test_caps_in_a_circle(void **state)
{
    struct answer a = new_answer();
    const struct region_info *region;
    size_t at = FIXED, links = 1;

    (void)state;
    add_type(&a, 1, 2);
    link_to(&a, FIXED);
    region = open_with(&a);
    for (size_t next; (next = cap_at(region, at).next); at = next, links++)
        assert_true(next > at);
    assert_int_equal(links, 64);
    assert_int_equal(region->caps.len, 64 * 16);
    fake_machine_close(&m);
}

#define region_test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        region_test(test_infos),
        region_test(test_indexes_that_must_be),
        region_test(test_widths),
        region_test(test_whole_region),
        region_test(test_short_accesses),
        region_test(test_errors),
        region_test(test_end_of_file),
        region_test(test_outside),
        region_test(test_rights),
        cmocka_unit_test(test_caps_by_allow_list),
        cmocka_unit_test(test_caps_that_nobody_may_see),
        cmocka_unit_test(test_caps_that_lie),
        cmocka_unit_test(test_caps_without_flag),
        cmocka_unit_test(test_caps_misaligned),
        cmocka_unit_test(test_caps_in_a_circle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
