/* Which of GET_INFO's capabilities a client is told, and in what shape. */
#include <errno.h>
#include <linux/vfio_zdev.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"
#include "tests/unit/fake_device.h"
#include "tests/unit/own_address_space.h"

enum {
    AT = DEVICE_CAPS_AT,
    MIN_SIZE = 16,
    UNKNOWN_CAP = 0x7777,
};

static struct fake_machine m;

/* An answer of the kernel: a device without regions and interrupts. */
struct answer {
    uint8_t bytes[1024];
    size_t len;
    size_t last;
};

static struct answer new_answer(void)
{
    const uint32_t fixed[] = {0, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_CAPS, 0, 0, 0, 0};
    struct answer a = {.len = AT};

    memcpy(a.bytes, fixed, sizeof(fixed));
    return a;
}

static void link_cap(struct answer *a, uint32_t offset)
{
    const size_t at = a->last ? a->last + offsetof(struct vfio_info_cap_header, next)
                              : offsetof(struct vfio_device_info, cap_offset);

    memcpy(a->bytes + at, &offset, sizeof(offset));
}

/* cap: its header's id and version, and what follows it; size: of it all. */
static void add(struct answer *a, const void *cap, size_t size)
{
    link_cap(a, (uint32_t)a->len);
    memcpy(a->bytes + a->len, cap, size);
    a->last = a->len;
    a->len += (size + 7) & ~(size_t)7;
}

static int open_with(struct answer *a)
{
    const uint32_t argsz = (uint32_t)a->len;

    memcpy(a->bytes, &argsz, sizeof(argsz));
    m.f = fake_host_new();
    fake_expect_container(m.f);
    assert_int_equal(own_address_space(fake_host_base(m.f), IOMMU_TYPE1, &m.as), 0);
    m.dev = NULL;
    fake_expect_group(m.f, FAKE_GROUP_NUMBER, FAKE_GROUP);
    fake_expect_set_iommu(m.f);
    fake_expect_iommu_info(m.f);
    fake_expect_device_fd(m.f);
    fake_expect_info(m.f, FAKE_DEVICE, VFIO_DEVICE_GET_INFO, a->bytes, MIN_SIZE, a->len);
    return device_open(&m.dev, fake_host_base(m.f), m.as, &fake_where);
}

static const struct vfio_info_cap_header *cap_at(size_t offset)
{
    const struct device_info *info = device_get_info(m.dev);

    assert_in_range(offset, AT, AT + info->caps_len - sizeof(struct vfio_info_cap_header));
    return (const void *)((const char *)info->caps + offset - AT);
}

static void assert_no_caps(struct answer *a)
{
    assert_int_equal(open_with(a), 0);
    assert_null(device_get_info(m.dev)->caps);
    assert_int_equal(device_get_info(m.dev)->caps_len, 0);
    fake_machine_close(&m);
}

static const struct vfio_device_info_cap_zpci_base base = {
    .header = {.id = VFIO_DEVICE_INFO_CAP_ZPCI_BASE, .version = 2},
    .start_dma = 0x1000,
    .end_dma = 0xffffff,
    .gid = 7,
    .fh = 0x5ec4e7,
};
static const struct uapi_vfio_cap_pci_atomic_comp atomics = {
    .header = {.id = UAPI_VFIO_CAP_PCI_ATOMIC_COMP, .version = 1},
    .flags = UAPI_VFIO_ATOMIC_COMP64,
};

struct text {
    struct vfio_info_cap_header header;
    uint32_t size;
    uint8_t bytes[300];
};

/* The known ones, linked anew; of ZPCI_BASE what its first version has. */
static void test_allow_list(void **state)
{
    const struct text util = {
        .header = {.id = VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, .version = 1},
        .size = 5,
        .bytes = "abcde"
    };
    const struct vfio_info_cap_header unknown[4] = {
        {.id = UNKNOWN_CAP, .version = 1}
    };
    struct answer a = new_answer();
    struct vfio_device_info_cap_zpci_base got;

    (void)state;
    add(&a, unknown, sizeof(unknown));
    add(&a, &base, sizeof(base));
    add(&a, unknown, sizeof(unknown));
    add(&a, &util, offsetof(struct text, bytes) + 5);
    add(&a, &atomics, sizeof(atomics));
    assert_int_equal(open_with(&a), 0);
    assert_int_equal(device_get_info(m.dev)->caps_len, 32 + 24 + 16);
    assert_int_equal(cap_at(AT)->id, VFIO_DEVICE_INFO_CAP_ZPCI_BASE);
    assert_int_equal(cap_at(AT)->version, 1);
    assert_int_equal(cap_at(AT)->next, AT + 32);
    memcpy(&got, cap_at(AT), offsetof(struct vfio_device_info_cap_zpci_base, fh));
    assert_int_equal(got.end_dma, 0xffffff);
    assert_int_equal(got.gid, 7);
    assert_int_equal(cap_at(AT + 32)->id, VFIO_DEVICE_INFO_CAP_ZPCI_UTIL);
    assert_memory_equal((const char *)cap_at(AT + 32) + 12, "abcde\0\0\0", 8);
    assert_int_equal(cap_at(AT + 56)->id, UAPI_VFIO_CAP_PCI_ATOMIC_COMP);
    assert_int_equal(cap_at(AT + 56)->next, 0);
    assert_int_equal(((const struct uapi_vfio_cap_pci_atomic_comp *)cap_at(AT + 56))->flags,
                     UAPI_VFIO_ATOMIC_COMP64);
    fake_machine_close(&m);
}

/* The function's handle is not among the bytes. */
static void test_handle_is_kept_back(void **state)
{
    const struct device_info *info;
    struct answer a = new_answer();

    (void)state;
    add(&a, &base, sizeof(base));
    assert_int_equal(open_with(&a), 0);
    info = device_get_info(m.dev);
    for (size_t i = 0; i + sizeof(base.fh) <= info->caps_len; i++)
        assert_memory_not_equal((const char *)info->caps + i, &base.fh, sizeof(base.fh));
    fake_machine_close(&m);
}

static void test_texts_that_lie(void **state)
{
    static const uint32_t sizes[] = {257, 1 << 16, UINT32_MAX};
    struct text pfip = {
        .header = {.id = VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, .version = 1}
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct answer a = new_answer();

        pfip.size = sizes[i];
        add(&a, &pfip, sizeof(pfip));
        assert_no_caps(&a);
    }
    for (uint32_t size = 255; size <= 256; size++) {
        struct answer a = new_answer();

        pfip.size = size;
        add(&a, &pfip, offsetof(struct text, bytes) + size);
        assert_int_equal(open_with(&a), 0);
        assert_int_equal(device_get_info(m.dev)->caps_len, 272);
        fake_machine_close(&m);
    }
    /* Longer than the kernel's answer. */
    for (uint32_t size = 5; size <= 6; size++) {
        struct answer a = new_answer();

        pfip.size = size;
        add(&a, &pfip, offsetof(struct text, bytes));
        assert_no_caps(&a);
    }
}

static void test_chains_that_lie(void **state)
{
    static const uint32_t offsets[] = {1, 4096, UINT32_MAX, UINT32_MAX - 3};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        struct answer a = new_answer();

        link_cap(&a, offsets[i]);
        assert_no_caps(&a);
        /* Behind one that is good. */
        add(&a, &atomics, sizeof(atomics));
        link_cap(&a, offsets[i]);
        assert_int_equal(open_with(&a), 0);
        assert_int_equal(device_get_info(m.dev)->caps_len, sizeof(atomics));
        fake_machine_close(&m);
    }
}

/* Cut off, and one that has no room. */
static void test_short(void **state)
{
    struct answer a = new_answer();

    (void)state;
    add(&a, &base, 24);
    assert_no_caps(&a);
    a = new_answer();
    assert_no_caps(&a);
}

static void test_without_flag(void **state)
{
    const uint32_t flags = VFIO_DEVICE_FLAGS_PCI;
    struct answer a = new_answer();

    (void)state;
    add(&a, &atomics, sizeof(atomics));
    memcpy(a.bytes + 4, &flags, sizeof(flags));
    assert_no_caps(&a);
}

/* What is read at the next opening takes the place of the first. */
static void test_reopen(void **state)
{
    struct answer a = new_answer();
    const uint32_t plain[] = {16, VFIO_DEVICE_FLAGS_PCI, 0, 0};

    (void)state;
    add(&a, &atomics, sizeof(atomics));
    assert_int_equal(open_with(&a), 0);
    fake_expect_device_fd(m.f);
    FAKE_EXPECT(m.f, .kind = FAKE_IOCTL, .request = VFIO_DEVICE_GET_INFO, .out = plain,
                .out_len = sizeof(plain));
    assert_int_equal(device_reopen(m.dev), 0);
    assert_null(device_get_info(m.dev)->caps);
    fake_machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allow_list),     cmocka_unit_test(test_handle_is_kept_back),
        cmocka_unit_test(test_texts_that_lie), cmocka_unit_test(test_chains_that_lie),
        cmocka_unit_test(test_short),          cmocka_unit_test(test_without_flag),
        cmocka_unit_test(test_reopen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
