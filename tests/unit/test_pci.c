/* The decoding of PCI config spaces, from byte images to text. */
#include "client-example/pci.h"

#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"

struct image {
    uint8_t bytes[PCI_CONFIG_SIZE_EXTENDED];
};

static void put16(struct image *image, size_t at, uint16_t value)
{
    image->bytes[at] = (uint8_t)value;
    image->bytes[at + 1] = (uint8_t)(value >> 8);
}

static void put32(struct image *image, size_t at, uint32_t value)
{
    put16(image, at, (uint16_t)value);
    put16(image, at + 2, (uint16_t)(value >> 16));
}

static void put_capability(struct image *image, uint8_t at, uint8_t id, uint8_t next)
{
    image->bytes[at] = id;
    image->bytes[at + 1] = next;
}

/* The text of an image in memory of exactly len bytes, so that a read behind them is seen. */
static char *text_of(const struct image *image, size_t len, const struct pci_sizes *sizes)
{
    const struct pci_sizes none = {0};
    cleanup_free_ uint8_t *exact = malloc(len ? len : 1);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(exact);
    assert_non_null(out);
    memcpy(exact, image->bytes, len);
    pci_print(out, exact, len, sizes ? sizes : &none);
    fclose(out);
    return text;
}

static void assert_text(const struct image *image, size_t len, const struct pci_sizes *sizes,
                        const char *expected)
{
    cleanup_free_ char *text = text_of(image, len, sizes);

    assert_string_equal(text, expected);
}

static void assert_contains(const struct image *image, size_t len, const char *line)
{
    cleanup_free_ char *text = text_of(image, len, NULL);

    if (!strstr(text, line))
        fail_msg("\"%s\" is not in:\n%s", line, text);
}

/* QEMU's edu device, as a guest's firmware leaves it. */
static struct image edu_image(void)
{
    struct image image = {0};

    put16(&image, PCI_VENDOR_ID, 0x1234);
    put16(&image, PCI_DEVICE_ID, 0x11e8);
    put16(&image, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
    put16(&image, PCI_STATUS, PCI_STATUS_CAP_LIST);
    image.bytes[PCI_REVISION_ID] = 0x10;
    put16(&image, PCI_CLASS_DEVICE, 0x00ff);
    put32(&image, PCI_BASE_ADDRESS_0, 0xfea00000);
    put16(&image, PCI_SUBSYSTEM_VENDOR_ID, 0x1af4);
    put16(&image, PCI_SUBSYSTEM_ID, 0x1100);
    image.bytes[PCI_CAPABILITY_LIST] = 0x40;
    image.bytes[PCI_INTERRUPT_LINE] = 11;
    image.bytes[PCI_INTERRUPT_PIN] = 1;
    put_capability(&image, 0x40, PCI_CAP_ID_MSI, 0);
    put16(&image, 0x40 + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT);
    return image;
}

static void test_edu(void **state)
{
    const struct pci_sizes sizes = {.bar = {1 << 20}};
    const struct image image = edu_image();

    (void)state;
    assert_text(&image, PCI_CONFIG_SIZE, &sizes,
                "Unclassified device [00ff]: [1234:11e8] (rev 10) (prog-if 00)\n"
                "\tSubsystem: [1af4:1100]\n"
                "\tControl: I/O+ Mem+ BusMaster- SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- "
                "SERR+ FastB2B- DisINTx-\n"
                "\tStatus: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- "
                "<MAbort- >SERR- <PERR- INTx-\n"
                "\tInterrupt: pin A, line 11\n"
                "\tRegion 0: Memory at fea00000 (32-bit, non-prefetchable) [size=1M]\n"
                "\tCapabilities: [40] MSI: Enable- Count=1/1 Maskable- 64bit+\n"
                "\t\tAddress: 0000000000000000  Data: 0000\n");
}

static void test_every_command_and_status_bit(void **state)
{
    struct image image = edu_image();

    (void)state;
    put16(&image, PCI_COMMAND, 0xffff);
    put16(&image, PCI_STATUS, 0xffff & ~PCI_STATUS_DEVSEL_MASK);
    assert_contains(&image, PCI_CONFIG_SIZE,
                    "Control: I/O+ Mem+ BusMaster+ SpecCycle+ MemWINV+ VGASnoop+ ParErr+ "
                    "Stepping+ SERR+ FastB2B+ DisINTx+\n");
    assert_contains(&image, PCI_CONFIG_SIZE,
                    "Status: Cap+ 66MHz+ UDF+ FastB2B+ ParErr+ DEVSEL=fast >TAbort+ <TAbort+ "
                    "<MAbort+ >SERR+ <PERR+ INTx+\n");
    put16(&image, PCI_STATUS, PCI_STATUS_DEVSEL_MEDIUM);
    assert_contains(&image, PCI_CONFIG_SIZE, "ParErr- DEVSEL=medium >TAbort-");
}

static void test_bars(void **state)
{
    const struct pci_sizes sizes = {
        .bar = {0x4000, 0, 32, UINT64_C(3) << 30, 1536, 0},
        .rom = 64 << 10,
    };
    struct image image = {0};
    cleanup_free_ char *text = NULL;

    (void)state;
    put16(&image, PCI_COMMAND, PCI_COMMAND_IO);
    put32(&image, PCI_BASE_ADDRESS_0, 0xc0000000 | PCI_BASE_ADDRESS_MEM_TYPE_64);
    put32(&image, PCI_BASE_ADDRESS_1, 0x12);
    put32(&image, PCI_BASE_ADDRESS_2, 0xc001);
    put32(&image, PCI_BASE_ADDRESS_3, PCI_BASE_ADDRESS_MEM_PREFETCH);
    put32(&image, PCI_BASE_ADDRESS_4, 0xfe000000);
    put32(&image, PCI_ROM_ADDRESS, 0xfd000000 | PCI_ROM_ADDRESS_ENABLE);
    text = text_of(&image, PCI_CONFIG_SIZE, &sizes);
    assert_non_null(strstr(text, "\tRegion 0: Memory at 00000012c0000000 (64-bit, "
                                 "non-prefetchable) [disabled] [size=16K]\n"
                                 "\tRegion 2: I/O ports at c000 [size=32]\n"
                                 "\tRegion 3: Memory at <unassigned> (32-bit, prefetchable) "
                                 "[disabled] [size=3G]\n"
                                 "\tRegion 4: Memory at fe000000 (32-bit, non-prefetchable) "
                                 "[disabled] [size=1536]\n"
                                 "\tExpansion ROM at fd000000 [size=64K]\n"));
    assert_null(strstr(text, "Region 1"));
    assert_null(strstr(text, "Region 5"));
}

/* A 64-bit BAR in the last register has no upper half. */
static void test_last_bar_claims_to_be_wide(void **state)
{
    struct image image = {0};
    cleanup_free_ char *text = NULL;

    (void)state;
    put32(&image, PCI_BASE_ADDRESS_5, 0xe0000000 | PCI_BASE_ADDRESS_MEM_TYPE_64);
    put32(&image, PCI_CARDBUS_CIS, 0x77);
    text = text_of(&image, PCI_CONFIG_SIZE, NULL);
    assert_non_null(strstr(text, "Region 5: Memory at 00000000e0000000 (64-bit"));
}

static void test_classes(void **state)
{
    static const struct {
        uint16_t class;
        const char *line;
    } cases[] = {
        {0x0108, "Non-Volatile memory controller [0108]: "},
        {0x0180, "Mass storage controller [0180]: "       },
        {0x0200, "Ethernet controller [0200]: "           },
        {0x0c03, "USB controller [0c03]: "                },
        {0x1200, "Processing accelerator [1200]: "        },
        {0x7f01, "Unassigned class [7f01]: "              },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct image image = {0};

        put16(&image, PCI_CLASS_DEVICE, cases[i].class);
        assert_contains(&image, PCI_CONFIG_SIZE, cases[i].line);
    }
}

/* The capabilities of QEMU's NVMe controller behind a port. */
static struct image nvme_image(void)
{
    struct image image = {0};

    put16(&image, PCI_STATUS, PCI_STATUS_CAP_LIST);
    image.bytes[PCI_CAPABILITY_LIST] = 0x40;
    put_capability(&image, 0x40, PCI_CAP_ID_MSIX, 0x80);
    put16(&image, 0x40 + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | 64);
    put32(&image, 0x40 + PCI_MSIX_TABLE, 0x2000);
    put32(&image, 0x40 + PCI_MSIX_PBA, 0x3000 | 4);
    put_capability(&image, 0x80, PCI_CAP_ID_EXP, 0x60);
    put16(&image, 0x80 + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
    put32(&image, 0x80 + PCI_EXP_DEVCAP, 1 | PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
    put16(&image, 0x80 + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_READRQ_512B);
    put32(&image, 0x80 + PCI_EXP_LNKCAP, 3 | 4 << 4);
    put16(&image, 0x80 + PCI_EXP_LNKSTA, 1 | PCI_EXP_LNKSTA_NLW_X1);
    put_capability(&image, 0x60, PCI_CAP_ID_PM, 0);
    put16(&image, 0x60 + PCI_PM_PMC, 3 | PCI_PM_CAP_D1 | PCI_PM_CAP_PME_D0 | 7 << 6);
    put16(&image, 0x60 + PCI_PM_CTRL, 3 | PCI_PM_CTRL_NO_SOFT_RESET);
    return image;
}

static void test_capabilities(void **state)
{
    const struct image image = nvme_image();

    (void)state;
    assert_contains(&image, PCI_CONFIG_SIZE,
                    "\tCapabilities: [40] MSI-X: Enable+ Count=65 Masked-\n"
                    "\t\tVector table: BAR=0 offset=00002000\n"
                    "\t\tPBA: BAR=4 offset=00003000\n"
                    "\tCapabilities: [80] Express (v2) Endpoint, IntMsgNum 0\n"
                    "\t\tDevCap: MaxPayload 256 bytes ExtTag- RBE+ FLReset+\n"
                    "\t\tDevCtl: MaxPayload 128 bytes, MaxReadReq 512 bytes CorrErr- "
                    "NonFatalErr- FatalErr- UnsupReq- RlxdOrd+ ExtTag- NoSnoop-\n"
                    "\t\tLnkCap: Speed 8GT/s, Width x4\n"
                    "\t\tLnkSta: Speed 2.5GT/s, Width x1\n"
                    "\tCapabilities: [60] Power Management version 3\n"
                    "\t\tFlags: PMEClk- DSI- D1+ D2- AuxCurrent=375mA PME mask 01\n"
                    "\t\tStatus: D3 NoSoftRst+ PME-Enable- PME-\n");
}

static void test_msi_of_32_bits_with_masks(void **state)
{
    struct image image = edu_image();

    (void)state;
    put16(&image, 0x40 + PCI_MSI_FLAGS,
          PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_MASKBIT | 3 << 1 | 2 << 4);
    put32(&image, 0x40 + PCI_MSI_ADDRESS_LO, 0xfee00000);
    put16(&image, 0x40 + PCI_MSI_DATA_32, 0x4023);
    put32(&image, 0x40 + PCI_MSI_MASK_32, 5);
    put32(&image, 0x40 + PCI_MSI_PENDING_32, 4);
    assert_contains(&image, PCI_CONFIG_SIZE,
                    "MSI: Enable+ Count=4/8 Maskable+ 64bit-\n"
                    "\t\tAddress: fee00000  Data: 4023\n"
                    "\t\tMasking: 00000005  Pending: 00000004\n");
}

static void test_unknown_capability(void **state)
{
    struct image image = edu_image();

    (void)state;
    put_capability(&image, 0x40, 0xf0, 0xfc);
    put_capability(&image, 0xfc, PCI_CAP_ID_EA, 0);
    assert_contains(&image, PCI_CONFIG_SIZE,
                    "\tCapabilities: [40] unknown capability f0\n"
                    "\tCapabilities: [fc] Enhanced Allocation\n");
}

static void test_no_capability_bit_no_list(void **state)
{
    struct image image = edu_image();
    cleanup_free_ char *text = NULL;

    (void)state;
    put16(&image, PCI_STATUS, 0);
    text = text_of(&image, PCI_CONFIG_SIZE, NULL);
    assert_null(strstr(text, "Capabilities"));
}

static void test_broken_lists_end(void **state)
{
    static const struct {
        uint8_t next;
        const char *line;
    } cases[] = {
        {0x40, "\tCapabilities: [40] <the list is broken>\n"}, /* a loop */
        {0x43, "\tCapabilities: [40] <the list is broken>\n"}, /* the low bits do not count */
        {0x3c, "\tCapabilities: [3c] <the list is broken>\n"}, /* in the header */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct image image = edu_image();

        put_capability(&image, 0x40, PCI_CAP_ID_VNDR, cases[i].next);
        assert_contains(&image, PCI_CONFIG_SIZE, cases[i].line);
    }
}

static void test_extended_capabilities(void **state)
{
    struct image image = nvme_image();

    (void)state;
    put32(&image, 0x100, PCI_EXT_CAP_ID_ERR | 2 << 16 | 0x148U << 20);
    put32(&image, 0x148, PCI_EXT_CAP_ID_SRIOV | 1 << 16 | 0xffcU << 20);
    put32(&image, 0xffc, 0x3ff | 1 << 16);
    assert_contains(&image, PCI_CONFIG_SIZE_EXTENDED,
                    "\tCapabilities: [100 v2] Advanced Error Reporting\n"
                    "\tCapabilities: [148 v1] Single Root I/O Virtualization\n"
                    "\tCapabilities: [ffc v1] unknown capability 3ff\n");
}

static void test_broken_extended_lists_end(void **state)
{
    static const uint32_t nexts[] = {0x100, 0x40};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(nexts); i++) {
        struct image image = nvme_image();

        put32(&image, 0x100, PCI_EXT_CAP_ID_DSN | 1 << 16 | nexts[i] << 20);
        assert_contains(&image, PCI_CONFIG_SIZE_EXTENDED, "<the list is broken>\n");
    }
}

static void test_empty_extended_lists(void **state)
{
    struct image image = {0};
    cleanup_free_ char *zeros = text_of(&image, PCI_CONFIG_SIZE_EXTENDED, NULL);
    cleanup_free_ char *ones = NULL;

    (void)state;
    assert_null(strstr(zeros, "Capabilities"));
    put32(&image, 0x100, UINT32_MAX);
    ones = text_of(&image, PCI_CONFIG_SIZE_EXTENDED, NULL);
    assert_null(strstr(ones, "Capabilities"));
}

static void test_bridge_has_no_bars(void **state)
{
    struct image image = edu_image();
    cleanup_free_ char *text = NULL;

    (void)state;
    image.bytes[PCI_HEADER_TYPE] = PCI_HEADER_TYPE_BRIDGE | 0x80;
    text = text_of(&image, PCI_CONFIG_SIZE, NULL);
    assert_non_null(strstr(text, "\tHeader type 01\n"));
    assert_null(strstr(text, "Region"));
    assert_null(strstr(text, "Subsystem"));
}

/* Any bytes of any length are decoded without a read behind their end, and the lists end. */
static void test_any_bytes(void **state)
{
    static const size_t lengths[] = {0, 1, 63, 64, 100, 255, 256, 257, 4095, 4096};
    struct image image;

    (void)state;
    srandom(1);
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof(image.bytes); i++)
            image.bytes[i] = round ? (uint8_t)random() : 0xff;
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
            free(text_of(&image, lengths[i], NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edu),
        cmocka_unit_test(test_every_command_and_status_bit),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_last_bar_claims_to_be_wide),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_msi_of_32_bits_with_masks),
        cmocka_unit_test(test_unknown_capability),
        cmocka_unit_test(test_no_capability_bit_no_list),
        cmocka_unit_test(test_broken_lists_end),
        cmocka_unit_test(test_extended_capabilities),
        cmocka_unit_test(test_broken_extended_lists_end),
        cmocka_unit_test(test_empty_extended_lists),
        cmocka_unit_test(test_bridge_has_no_bars),
        cmocka_unit_test(test_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
