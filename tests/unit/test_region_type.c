#include "bridge/region_type.h"

#include <errno.h>
#include <linux/vfio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "tests/unit/fake_host.h"
#include "tests/unit/log_capture.h"

enum {
    INTEL = (int)(VFIO_REGION_TYPE_PCI_VENDOR_TYPE | 0x8086),
    RW = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
    INDEX = VFIO_PCI_NUM_REGIONS,
    REGION_SIZE = 0x1000,
    AT = 0x90000,
    HEADER = offsetof(struct vfio_region_gfx_edid, edid_size),
};

static struct log_capture capture;

static int teardown(void **state)
{
    (void)state;
    log_capture_drop(&capture);
    return 0;
}

/* A region with the capability, or of type 0 without any. */
static struct region_info make(uint32_t type, uint32_t subtype)
{
    struct region_info region = {.flags = RW, .size = REGION_SIZE, .offset = AT};
    const struct vfio_region_info_cap_type cap = {
        .header = {.id = VFIO_REGION_INFO_CAP_TYPE, .version = 1},
        .type = type,
        .subtype = subtype,
    };

    if (type) {
        region.caps.bytes = malloc(sizeof(cap));
        assert_non_null(region.caps.bytes);
        memcpy(region.caps.bytes, &cap, sizeof(cap));
        region.caps.len = sizeof(cap);
    }
    return region;
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(region_allow_parse("vga", 3), REGION_ALLOW_VGA);
    assert_int_equal(region_allow_parse("igd-opregion", 12), REGION_ALLOW_IGD_OPREGION);
    assert_int_equal(region_allow_parse("igd-bridges", 11), REGION_ALLOW_IGD_BRIDGES);
    assert_int_equal(region_allow_parse("vga", 2), 0);
    assert_int_equal(region_allow_parse("vga ", 4), 0);
    assert_int_equal(region_allow_parse("", 0), 0);
}

static void test_kinds(void **state)
{
    const uint32_t intel = (uint32_t)INTEL;
    const unsigned all = UINT32_MAX;
    const struct {
        uint32_t index, type, subtype;
        unsigned allowed;
        uint32_t flags; /* 0: hidden */
    } cases[] = {
        {0,                         0,                    0, 0,                                 RW                        },
        {VFIO_PCI_ROM_REGION_INDEX, 0,                    0, 0,                                 RW                        },
        {VFIO_PCI_VGA_REGION_INDEX, 0,                    0, all & ~(unsigned)REGION_ALLOW_VGA, 0                         },
        {VFIO_PCI_VGA_REGION_INDEX, 0,                    0, REGION_ALLOW_VGA,                  RW                        },
        {INDEX,                     0,                    0, all,                               0                         },
        {INDEX,                     intel,                0, all,                               0                         },
        {INDEX,                     intel,                1, 0,                                 0                         },
        {INDEX,                     intel,                1, REGION_ALLOW_IGD_BRIDGES,          0                         },
        {INDEX,                     intel,                1, REGION_ALLOW_IGD_OPREGION,         VFIO_REGION_INFO_FLAG_READ},
        {INDEX,                     intel,                2, REGION_ALLOW_IGD_OPREGION,         0                         },
        {INDEX,                     intel,                2, REGION_ALLOW_IGD_BRIDGES,          VFIO_REGION_INFO_FLAG_READ},
        {INDEX,                     intel,                3, REGION_ALLOW_IGD_BRIDGES,          VFIO_REGION_INFO_FLAG_READ},
        {INDEX,                     intel,                4, all,                               0                         },
        {INDEX,                     0x8086,               1, all,                               0                         },
        {INDEX + 1,                 VFIO_REGION_TYPE_CCW, 1, all,                               0                         },
        {UINT32_MAX,                VFIO_REGION_TYPE_GFX, 2, all,                               0                         },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct sysfs_device where = {.regions = cases[i].allowed};
        struct region_info region = make(cases[i].type, cases[i].subtype);

        assert_int_equal(region_type_admit(NULL, -1, &where, cases[i].index, &region), 0);
        assert_int_equal(region.flags, cases[i].flags);
        assert_int_equal(region.size, cases[i].flags ? REGION_SIZE : 0);
        if (!cases[i].flags)
            assert_null(region.caps.bytes);
        free(region.caps.bytes);
    }
}

/* What its registers say must be possible. */
static void test_edid(void **state)
{
    static const struct {
        uint32_t offset, most;
        ssize_t read;
        int result;
        uint32_t max_size; /* 0: hidden */
    } cases[] = {
        {0x800,           0x400,            HEADER,     0,    0x400           },
        {24,              REGION_SIZE - 24, HEADER,     0,    REGION_SIZE - 24},
        {REGION_SIZE - 1, 1,                HEADER,     0,    1               },
        {23,              0x400,            HEADER,     0,    0               },
        {0,               0x400,            HEADER,     0,    0               },
        {0x800,           0,                HEADER,     0,    0               },
        {0x800,           0x801,            HEADER,     0,    0               },
        {REGION_SIZE,     1,                HEADER,     0,    0               },
        {UINT32_MAX,      UINT32_MAX,       HEADER,     0,    0               },
        {0x800,           0x400,            HEADER - 1, 0,    0               },
        {0x800,           0x400,            0,          0,    0               },
        {0x800,           0x400,            -EIO,       -EIO, 0               },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake_host *f = fake_host_new();
        struct host *host = fake_host_base(f);
        const struct sysfs_device where = {.name = "0000:00:02.0"};
        struct region_info region = make(VFIO_REGION_TYPE_GFX, VFIO_REGION_SUBTYPE_GFX_EDID);
        const uint32_t regs[] = {cases[i].offset, cases[i].most};
        int fd;

        FAKE_EXPECT(f, .kind = FAKE_OPEN);
        fd = host_open(host, "device", 0);
        FAKE_EXPECT(f, .kind = FAKE_PREAD, .fd = fd, .offset = AT, .len = HEADER,
                    .ret = cases[i].read, .out = regs,
                    .out_len = cases[i].read > 0 ? (size_t)cases[i].read : 0);
        log_capture_start(&capture);
        assert_int_equal(region_type_admit(host, fd, &where, INDEX, &region), cases[i].result);
        assert_int_equal(!*log_capture_end(&capture), cases[i].max_size != 0);
        assert_int_equal(region.edid_max_size, cases[i].max_size);
        if (!cases[i].result)
            assert_int_equal(region.size, cases[i].max_size ? REGION_SIZE : 0);
        free(region.caps.bytes);
        host_close(host, &fd);
        fake_host_free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test_teardown(test_edid, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
