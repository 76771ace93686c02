/*
 * What writes to config space may change: of sim:testdev, which has something of every sort, and in
 * whose capabilities the bytes really change.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/config_policy.h"
#include "proto/base/arith.h"
#include "tests/protocol/raw.h"

enum {
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    ALL = CONFIG_VPD | CONFIG_VENDOR | CONFIG_UNASSIGNED | CONFIG_AER | CONFIG_BIST,

    /* Of sim:testdev. */
    VPD = 0xc0,
    VENDOR_REGISTER = 0xd4,
    HIDDEN_REGISTER = 0xf0,
    AER = 0x100,
    VSEC_REGISTER = 0x158,
};

/* A register of each sort, of which the bits can be changed. */
static const struct {
    unsigned sort, offset, width;
    uint32_t bits;
} registers[] = {
    {CONFIG_VENDOR,     VENDOR_REGISTER,           4, UINT32_MAX           },
    {CONFIG_VENDOR,     VSEC_REGISTER,             4, UINT32_MAX           },
    {CONFIG_UNASSIGNED, HIDDEN_REGISTER,           4, UINT32_MAX           },
    {CONFIG_AER,        AER + PCI_ERR_UNCOR_MASK,  4, UINT32_MAX           },
    {CONFIG_AER,        AER + PCI_ERR_UNCOR_SEVER, 4, UINT32_MAX           },
    {CONFIG_AER,        AER + PCI_ERR_COR_MASK,    4, UINT32_MAX           },
    {CONFIG_AER,        AER + PCI_ERR_CAP,         1, PCI_ERR_CAP_ECRC_GENE},
    {CONFIG_BIST,       PCI_BIST,                  1, PCI_BIST_START       },
};

static struct harness *start(unsigned denied)
{
    struct harness *h = harness_new();

    h->export_config.device = "sim:testdev";
    h->export_config.config_denied = denied;
    harness_start(h);
    return h;
}

static void stop(struct harness *h)
{
    void *state = h;

    assert_int_equal(harness_teardown(&state), 0);
}

static uint32_t get(struct vfuc *c, uint64_t offset, unsigned width)
{
    uint32_t value = 0;

    assert_int_equal(vfuc_region_read(c, CONFIG, offset, &value, width), 0);
    return value;
}

static void set(struct vfuc *c, uint64_t offset, uint32_t value, unsigned width)
{
    assert_int_equal(vfuc_region_write(c, CONFIG, offset, &value, width), 0);
}

/* As a driver does it, which waits for the flag to turn over. */
static bool vpd_read(struct vfuc *c, uint16_t address, uint32_t *data)
{
    set(c, VPD + PCI_VPD_ADDR, address, 2);
    *data = get(c, VPD + PCI_VPD_DATA, 4);
    return get(c, VPD + PCI_VPD_ADDR, 2) & PCI_VPD_ADDR_F;
}

static bool vpd_write(struct vfuc *c, uint16_t address, uint32_t data)
{
    set(c, VPD + PCI_VPD_DATA, data, 4);
    set(c, VPD + PCI_VPD_ADDR, address | PCI_VPD_ADDR_F, 2);
    return !(get(c, VPD + PCI_VPD_ADDR, 2) & PCI_VPD_ADDR_F);
}

static void assert_policy(struct vfuc *c, unsigned denied)
{
    const uint32_t text = 0x31415926;
    uint32_t data;

    for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
        unsigned offset = registers[i].offset, width = registers[i].width;
        uint32_t before = get(c, offset, width);

        assert_int_equal(before & registers[i].bits, 0);
        set(c, offset, UINT32_MAX, width);
        assert_int_equal(get(c, offset, width),
                         registers[i].sort & denied ? before : before | registers[i].bits);
        set(c, offset, 0, width);
    }
    assert_int_equal(vpd_write(c, 8, text), !(denied & CONFIG_VPD));
    assert_true(vpd_read(c, 8, &data));
    assert_int_equal(data, denied & CONFIG_VPD ? 0 : text);
    assert_true(vpd_read(c, 0, &data));
    assert_int_equal(data, 0);
}

static void one_by_one(void **state)
{
    static const unsigned policies[] = {0,
                                        CONFIG_DENIED_BY_DEFAULT,
                                        ALL,
                                        CONFIG_VPD,
                                        CONFIG_VENDOR,
                                        CONFIG_UNASSIGNED,
                                        CONFIG_AER,
                                        CONFIG_BIST};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
        struct harness *h = start(policies[i]);
        struct vfuc *c = harness_client(h);

        assert_policy(c, policies[i]);
        vfuc_close(c);
        stop(h);
    }
}

/* The next session's too, and the VPD that a client was allowed to write is there for it. */
static void next_session(void **state)
{
    struct harness *h = start(ALL & ~(unsigned)CONFIG_VPD);
    struct vfuc *c = harness_client(h);
    uint32_t data;

    (void)state;
    assert_policy(c, ALL & ~(unsigned)CONFIG_VPD);
    vfuc_close(c);
    c = harness_client(h);
    assert_true(vpd_read(c, 8, &data));
    assert_int_equal(data, 0x31415926);
    assert_policy(c, ALL & ~(unsigned)CONFIG_VPD);
    vfuc_close(c);
    stop(h);
}

/* Of a write that covers more, the other bytes are written. */
static void straddling_writes(void **state)
{
    struct harness *h = start(CONFIG_BIST | CONFIG_AER | CONFIG_VPD | CONFIG_VENDOR);
    struct vfuc *c = harness_client(h);
    uint8_t bytes[64];
    uint32_t data;

    (void)state;
    set(c, PCI_CACHE_LINE_SIZE, 0xffffff10, 4); /* up to BIST */
    assert_int_equal(get(c, PCI_CACHE_LINE_SIZE, 1), 0x10);
    assert_int_equal(get(c, PCI_BIST, 1), PCI_BIST_CAPABLE);

    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(vfuc_region_write(c, CONFIG, VENDOR_REGISTER - 8, bytes, 40), 0);
    assert_int_equal(get(c, VENDOR_REGISTER, 4), 0);
    assert_int_equal(get(c, HIDDEN_REGISTER, 4), UINT32_MAX);
    set(c, VENDOR_REGISTER + 3, 0xffff, 2);
    assert_int_equal(get(c, VENDOR_REGISTER, 4), 0);

    /* The flag alone, with what is in front of it, and with what is behind it. */
    set(c, VPD + PCI_VPD_DATA, 0x31415926, 4);
    set(c, VPD + PCI_VPD_ADDR, 8, 1);
    set(c, VPD + PCI_VPD_ADDR + 1, PCI_VPD_ADDR_F >> 8, 1);
    set(c, VPD, (uint32_t)(PCI_VPD_ADDR_F | 8) << 16, 4);
    memcpy(bytes, "\x08\x80\x26\x59", 4);
    assert_int_equal(vfuc_region_write(c, CONFIG, VPD + PCI_VPD_ADDR, bytes, 4), 0);
    assert_true(vpd_read(c, 8, &data));
    assert_int_equal(data, 0);
    vfuc_close(c);
    stop(h);
}

/* What can't be classed is not written: the device's answer is the client's, and it may try again.
 */
static void unreadable(void **state)
{
    struct harness *h = start(CONFIG_VENDOR);
    struct vfuc *c = harness_client(h);
    const uint32_t value = 1;

    (void)state;
    sim_fail_nth(h->machine.sim, SIM_CALL_PREAD, 0, 1, ENOMEM);
    assert_int_equal(vfuc_region_write(c, CONFIG, HIDDEN_REGISTER, &value, 4), -ENOMEM);
    assert_true(sim_fault_spent(h->machine.sim));
    assert_int_equal(get(c, HIDDEN_REGISTER, 4), 0);
    set(c, HIDDEN_REGISTER, value, 4);
    assert_int_equal(get(c, HIDDEN_REGISTER, 4), value);
    vfuc_close(c);
    stop(h);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(one_by_one),
    cmocka_unit_test(next_session),
    cmocka_unit_test(straddling_writes),
    cmocka_unit_test(unreadable),
};

HARNESS_MAIN(tests)
