/*
 * The regions beyond the BARs and config space: of sim:testdev, which has what Intel's graphics
 * has and more, and of sim:mdev, a display.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/region_type.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "tests/protocol/raw.h"

enum {
    ROM = VFIO_PCI_ROM_REGION_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    VGA = VFIO_PCI_VGA_REGION_INDEX,
    READ = VFIO_USER_REGION_INFO_READ,
    WRITE = VFIO_USER_REGION_INFO_WRITE,
    CAPS = VFIO_USER_REGION_INFO_CAPS,
    INTEL = (int)(VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x8086),

    /* Of sim:testdev. */
    OPREGION = 9,
    HOST_BRIDGE = 10,
    LPC_BRIDGE = 11,
    UNKNOWN = 12,
    UNTYPED = 13,
    TESTDEV_REGIONS = 14,

    /* Of sim:mdev. */
    EDID = 9,
    EDID_AT = 0x100,
    EDID_MOST = 0x100,
    EDID_SIZE = offsetof(struct vfio_region_gfx_edid, edid_size),
    LINK_STATE = offsetof(struct vfio_region_gfx_edid, link_state),
};

static struct harness *start(const char *device, unsigned regions)
{
    struct harness *h = harness_new();

    h->export_config.device = device;
    h->export_config.regions = regions;
    if (!strcmp(device, "sim:mdev"))
        strcpy(h->bdf, "73696d00-6d64-4576-8000-000000000001");
    harness_start(h);
    return h;
}

static void assert_region(struct vfuc *c, uint32_t index, uint64_t size, uint32_t flags)
{
    cleanup_free_ struct vfio_user_region_info *info = NULL;

    assert_int_equal(vfuc_region_info(c, index, &info, &(int){-1}), 0);
    assert_int_equal(info->size, size);
    assert_int_equal(info->flags, flags);
    if (!(flags & CAPS))
        assert_int_equal(info->argsz, sizeof(*info));
}

static void assert_type(struct vfuc *c, uint32_t index, uint32_t type, uint32_t subtype)
{
    cleanup_free_ struct vfio_user_region_info *info = NULL;
    struct vfio_user_cap_header cap;
    uint32_t offset = 0, said[2];

    assert_int_equal(vfuc_region_info(c, index, &info, &(int){-1}), 0);
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 1);
    assert_int_equal(offset, sizeof(*info)); /* from the message's struct, not from the kernel's */
    assert_int_equal(cap.id, VFIO_REGION_INFO_CAP_TYPE);
    assert_int_equal(vfuc_region_cap_data(info, offset + sizeof(cap), said, sizeof(said)), 0);
    assert_int_equal(said[0], type);
    assert_int_equal(said[1], subtype);
    assert_int_equal(vfuc_region_cap_next(info, &offset, &cap), 0);
}

static void assert_reads(struct vfuc *c, uint32_t index, uint64_t offset, const void *expected,
                         uint32_t count)
{
    char got[64];

    assert_true(count <= sizeof(got));
    assert_int_equal(vfuc_region_read(c, index, offset, got, count), 0);
    assert_memory_equal(got, expected, count);
}

static void assert_hidden(struct vfuc *c, uint32_t index)
{
    uint32_t word = 0;

    assert_region(c, index, 0, 0);
    assert_int_equal(vfuc_region_read(c, index, 0, &word, sizeof(word)), -EINVAL);
    assert_int_equal(vfuc_region_write(c, index, 0, &word, sizeof(word)), -EINVAL);
}

static void assert_read_only(struct vfuc *c, uint32_t index)
{
    uint32_t word = 0;

    assert_int_equal(vfuc_region_write(c, index, 0, &word, sizeof(word)), -EACCES);
}

/* The indexes stay, as those behind them would else be others. */
static void hidden_by_default(void **state)
{
    struct harness *h = start("sim:testdev", 0);
    struct vfuc *c = harness_client(h);
    struct vfio_user_device_info info;

    *state = h;
    assert_int_equal(vfuc_device_info(c, &info), 0);
    assert_int_equal(info.num_regions, TESTDEV_REGIONS);
    for (uint32_t index = VGA; index < TESTDEV_REGIONS; index++)
        assert_hidden(c, index);
    vfuc_close(c);
}

/* It is read while the device decodes; else as nothing that is there. */
static void rom(void **state)
{
    static const uint8_t begin[] = {0x55, 0xaa, 4, 0};
    const uint16_t off = 0;
    struct harness *h = start("sim:testdev", 0);
    struct vfuc *c = harness_client(h);
    uint32_t bar = UINT32_MAX;

    *state = h;
    assert_region(c, ROM, 0x800, READ);
    assert_reads(c, ROM, 0, begin, sizeof(begin));
    assert_read_only(c, ROM);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_ROM_ADDRESS, &bar, sizeof(bar)), 0);
    assert_int_equal(vfuc_region_read(c, CONFIG, PCI_ROM_ADDRESS, &bar, sizeof(bar)), 0);
    assert_int_equal(bar, 0xfffff800 | PCI_ROM_ADDRESS_ENABLE);
    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &off, sizeof(off)), 0);
    assert_reads(c, ROM, 0, "\xff\xff\xff\xff", 4);
    vfuc_close(c);
}

static void vga(void **state)
{
    struct harness *h = start("sim:testdev", REGION_ALLOW_VGA);
    struct vfuc *c = harness_client(h);

    *state = h;
    assert_region(c, VGA, 0xc0000, READ | WRITE);
    assert_int_equal(vfuc_region_write(c, VGA, 0xb8000, "text", 4), 0);
    assert_reads(c, VGA, 0xb8000, "text", 4);
    assert_int_equal(vfuc_region_write(c, VGA, 0x3c0, "p", 1), 0);
    assert_reads(c, VGA, 0x3c0, "p", 1);
    /* Not VGA's addresses. */
    assert_int_equal(vfuc_region_write(c, VGA, 0x9fffc, "no", 2), -EINVAL);
    assert_int_equal(vfuc_region_write(c, VGA, 0x9fffe, "some", 4), -EINVAL);
    assert_reads(c, VGA, 0xa0000, "\0\0", 2);
    for (uint32_t index = OPREGION; index < TESTDEV_REGIONS; index++)
        assert_hidden(c, index);
    vfuc_close(c);
}

static void igd(void **state)
{
    struct harness *h = start("sim:testdev", REGION_ALLOW_IGD_OPREGION);
    struct vfuc *c = harness_client(h);

    *state = h;
    assert_region(c, OPREGION, 0x2000, READ | CAPS);
    assert_type(c, OPREGION, (uint32_t)INTEL, VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION);
    assert_reads(c, OPREGION, 0, "IntelGraphicsMem", 16);
    assert_read_only(c, OPREGION);
    assert_hidden(c, VGA);
    assert_hidden(c, HOST_BRIDGE);
    assert_hidden(c, LPC_BRIDGE);
    vfuc_close(c);
}

static void igd_bridges(void **state)
{
    struct harness *h = start("sim:testdev", REGION_ALLOW_IGD_BRIDGES);
    struct vfuc *c = harness_client(h);

    *state = h;
    assert_region(c, HOST_BRIDGE, 0x100, READ | CAPS);
    assert_type(c, HOST_BRIDGE, (uint32_t)INTEL, VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG);
    assert_reads(c, HOST_BRIDGE, 0, "\x86\x80\x01\x59", 4);
    assert_read_only(c, HOST_BRIDGE);
    assert_type(c, LPC_BRIDGE, (uint32_t)INTEL, VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG);
    assert_reads(c, LPC_BRIDGE, 0, "\x86\x80\x02\x59", 4);
    assert_read_only(c, LPC_BRIDGE);
    assert_hidden(c, OPREGION);
    vfuc_close(c);
}

/* Whatever is allowed; and for the next client as for the first. */
static void unknown_types_stay_hidden(void **state)
{
    struct harness *h = start("sim:testdev", UINT32_MAX);

    *state = h;
    for (int i = 0; i < 2; i++) {
        struct vfuc *c = harness_client(h);

        assert_region(c, OPREGION, 0x2000, READ | CAPS);
        assert_hidden(c, UNKNOWN);
        assert_hidden(c, UNTYPED);
        vfuc_close(c);
        harness_await_idle(h);
    }
}

/* What a client does that has a display: the EDID's size, its bytes, the link's state. */
static void edid(void **state)
{
    static const char text[] = "EDID of a display";
    const struct vfio_region_gfx_edid wanted = {
        EDID_AT, EDID_MOST, sizeof(text), 1920, 1080, VFIO_DEVICE_GFX_LINK_STATE_UP,
    };
    const uint32_t down = VFIO_DEVICE_GFX_LINK_STATE_DOWN;
    struct harness *h = start("sim:mdev", 0);
    struct vfuc *c = harness_client(h);

    *state = h;
    assert_region(c, EDID, 0x1000, READ | WRITE | CAPS);
    assert_type(c, EDID, VFIO_REGION_TYPE_GFX, VFIO_REGION_SUBTYPE_GFX_EDID);
    assert_int_equal(vfuc_region_write(c, EDID, LINK_STATE, &down, sizeof(down)), 0);
    assert_int_equal(vfuc_region_write(c, EDID, EDID_SIZE, &wanted.edid_size, 4), 0);
    assert_int_equal(vfuc_region_write(c, EDID, EDID_AT, text, sizeof(text)), 0);
    assert_int_equal(vfuc_region_write(c, EDID, LINK_STATE, &wanted.link_state, 4), 0);
    assert_reads(c, EDID, 0, &wanted, sizeof(wanted));
    assert_reads(c, EDID, EDID_AT, text, sizeof(text));
    vfuc_close(c);
}

static void edid_sizes(void **state)
{
    static const struct {
        uint64_t offset;
        uint32_t count;
        uint32_t value; /* its first four bytes */
        int result;
    } cases[] = {
        {EDID_SIZE,     4, 0,             0      },
        {EDID_SIZE,     4, EDID_MOST,     0      },
        {EDID_SIZE,     4, EDID_MOST + 1, -EINVAL},
        {EDID_SIZE,     4, UINT32_MAX,    -EINVAL},
        {EDID_SIZE,     1, 1,             -EINVAL},
        {EDID_SIZE + 3, 1, 1,             -EINVAL},
        {EDID_SIZE + 3, 2, 1,             -EINVAL},
        {EDID_SIZE - 1, 2, 1,             -EINVAL},
        {EDID_SIZE,     8, 1,             -EINVAL},
        {0,             8, 1,             0      }, /* the device's own: it keeps them */
        {0,             9, 1,             -EINVAL},
        {EDID_SIZE + 4, 4, 1,             0      },
        {0xffc,         4, 1,             0      },
        {0xffd,         4, 1,             -EINVAL}, /* beyond the region */
    };
    const struct vfio_region_gfx_edid wanted = {EDID_AT, EDID_MOST, EDID_MOST, 1920, 1080, 0};
    struct harness *h = start("sim:mdev", 0);
    struct vfuc *c = harness_client(h);

    *state = h;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const uint32_t bytes[4] = {cases[i].value};

        assert_int_equal(vfuc_region_write(c, EDID, cases[i].offset, bytes, cases[i].count),
                         cases[i].result);
    }
    assert_reads(c, EDID, 0, &wanted, sizeof(wanted));
    vfuc_close(c);
}

#define type_test(f) cmocka_unit_test_teardown(f, harness_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        type_test(hidden_by_default),
        type_test(rom),
        type_test(vga),
        type_test(igd),
        type_test(igd_bridges),
        type_test(unknown_types_stay_hidden),
    };
    /* POWER has no mediated devices. */
    const struct CMUnitTest display_tests[] = {
        type_test(edid),
        type_test(edid_sizes),
    };
    int ret;

    if (!harness_select_backend(argc, argv))
        return 2;
    ret = cmocka_run_group_tests(tests, NULL, NULL);
    return ret || harness_is_spapr() ? ret : cmocka_run_group_tests(display_tests, NULL, NULL);
}
