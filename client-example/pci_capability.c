/*
 * The two capability lists of a config space: the names of all, the main fields of those that a
 * client of VFIO deals with. A list is followed as the device gives it, each place at most once.
 */
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdbool.h>

#include "client-example/pci.h"
#include "client-example/pci_internal.h"

static const char *const names[] = {
    [PCI_CAP_ID_PM] = "Power Management",
    [PCI_CAP_ID_AGP] = "AGP",
    [PCI_CAP_ID_VPD] = "Vital Product Data",
    [PCI_CAP_ID_SLOTID] = "Slot ID",
    [PCI_CAP_ID_MSI] = "MSI",
    [PCI_CAP_ID_CHSWP] = "CompactPCI hot-swap",
    [PCI_CAP_ID_PCIX] = "PCI-X",
    [PCI_CAP_ID_HT] = "HyperTransport",
    [PCI_CAP_ID_VNDR] = "Vendor Specific Information",
    [PCI_CAP_ID_DBG] = "Debug port",
    [PCI_CAP_ID_CCRC] = "CompactPCI central resource control",
    [PCI_CAP_ID_SHPC] = "Hot-plug capable",
    [PCI_CAP_ID_SSVID] = "Subsystem",
    [PCI_CAP_ID_AGP3] = "AGP3",
    [PCI_CAP_ID_SECDEV] = "Secure device",
    [PCI_CAP_ID_EXP] = "Express",
    [PCI_CAP_ID_MSIX] = "MSI-X",
    [PCI_CAP_ID_SATA] = "SATA HBA",
    [PCI_CAP_ID_AF] = "PCI Advanced Features",
    [PCI_CAP_ID_EA] = "Enhanced Allocation",
};

static const char *const extended_names[] = {
    [PCI_EXT_CAP_ID_ERR] = "Advanced Error Reporting",
    [PCI_EXT_CAP_ID_VC] = "Virtual Channel",
    [PCI_EXT_CAP_ID_DSN] = "Device Serial Number",
    [PCI_EXT_CAP_ID_PWR] = "Power Budgeting",
    [PCI_EXT_CAP_ID_RCLD] = "Root Complex Link",
    [PCI_EXT_CAP_ID_RCILC] = "Root Complex Internal Link",
    [PCI_EXT_CAP_ID_RCEC] = "Root Complex Event Collector",
    [PCI_EXT_CAP_ID_MFVC] = "Multi-Function Virtual Channel",
    [PCI_EXT_CAP_ID_VC9] = "Virtual Channel",
    [PCI_EXT_CAP_ID_RCRB] = "Root Complex Register Block",
    [PCI_EXT_CAP_ID_VNDR] = "Vendor Specific Information",
    [PCI_EXT_CAP_ID_CAC] = "Configuration Access Correlation",
    [PCI_EXT_CAP_ID_ACS] = "Access Control Services",
    [PCI_EXT_CAP_ID_ARI] = "Alternative Routing-ID Interpretation",
    [PCI_EXT_CAP_ID_ATS] = "Address Translation Service",
    [PCI_EXT_CAP_ID_SRIOV] = "Single Root I/O Virtualization",
    [PCI_EXT_CAP_ID_MRIOV] = "Multi-Root I/O Virtualization",
    [PCI_EXT_CAP_ID_MCAST] = "Multicast",
    [PCI_EXT_CAP_ID_PRI] = "Page Request Interface",
    [PCI_EXT_CAP_ID_REBAR] = "Physical Resizable BAR",
    [PCI_EXT_CAP_ID_DPA] = "Dynamic Power Allocation",
    [PCI_EXT_CAP_ID_TPH] = "Transaction Processing Hints",
    [PCI_EXT_CAP_ID_LTR] = "Latency Tolerance Reporting",
    [PCI_EXT_CAP_ID_SECPCI] = "Secondary PCI Express",
    [PCI_EXT_CAP_ID_PMUX] = "Protocol Multiplexing",
    [PCI_EXT_CAP_ID_PASID] = "Process Address Space ID",
    [PCI_EXT_CAP_ID_DPC] = "Downstream Port Containment",
    [PCI_EXT_CAP_ID_L1SS] = "L1 PM Substates",
    [PCI_EXT_CAP_ID_PTM] = "Precision Time Measurement",
    [PCI_EXT_CAP_ID_DVSEC] = "Designated Vendor-Specific",
    [PCI_EXT_CAP_ID_DLF] = "Data Link Feature",
    [PCI_EXT_CAP_ID_PL_16GT] = "Physical Layer 16.0 GT/s",
    [PCI_EXT_CAP_ID_DOE] = "Data Object Exchange",
};

static void print_pm(FILE *out, const struct pci_config *config, size_t at)
{
    static const unsigned aux_current_ma[] = {0, 55, 100, 160, 220, 270, 320, 375};
    static const struct pci_bit flags[] = {
        {PCI_PM_CAP_PME_CLOCK, "PMEClk"},
        {PCI_PM_CAP_DSI,       "DSI"   },
        {PCI_PM_CAP_D1,        "D1"    },
        {PCI_PM_CAP_D2,        "D2"    },
    };
    uint16_t pmc = pci_read16(config, at + PCI_PM_PMC);
    uint16_t ctrl = pci_read16(config, at + PCI_PM_CTRL);

    fprintf(out, " version %u\n\t\tFlags:", pmc & PCI_PM_CAP_VER_MASK);
    PRINT_BITS(out, flags, pmc);
    fprintf(out, " AuxCurrent=%umA PME mask %02x\n\t\tStatus: D%u NoSoftRst%c PME-Enable%c PME%c",
            aux_current_ma[(pmc & PCI_PM_CAP_AUX_POWER) >> 6],
            (pmc & PCI_PM_CAP_PME_MASK) >> PCI_PM_CAP_PME_SHIFT, ctrl & PCI_PM_CTRL_STATE_MASK,
            ctrl & PCI_PM_CTRL_NO_SOFT_RESET ? '+' : '-', ctrl & PCI_PM_CTRL_PME_ENABLE ? '+' : '-',
            ctrl & PCI_PM_CTRL_PME_STATUS ? '+' : '-');
}

static void print_msi(FILE *out, const struct pci_config *config, size_t at)
{
    uint16_t flags = pci_read16(config, at + PCI_MSI_FLAGS);
    bool wide = flags & PCI_MSI_FLAGS_64BIT;
    uint64_t address = pci_read32(config, at + PCI_MSI_ADDRESS_LO);

    if (wide)
        address |= (uint64_t)pci_read32(config, at + PCI_MSI_ADDRESS_HI) << 32;
    fprintf(out,
            ": Enable%c Count=%u/%u Maskable%c 64bit%c\n\t\tAddress: %0*" PRIx64 "  Data: %04x",
            flags & PCI_MSI_FLAGS_ENABLE ? '+' : '-', 1U << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4),
            1U << ((flags & PCI_MSI_FLAGS_QMASK) >> 1), flags & PCI_MSI_FLAGS_MASKBIT ? '+' : '-',
            wide ? '+' : '-', wide ? 16 : 8, address,
            pci_read16(config, at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32)));
    if (flags & PCI_MSI_FLAGS_MASKBIT)
        fprintf(out, "\n\t\tMasking: %08x  Pending: %08x",
                pci_read32(config, at + (wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32)),
                pci_read32(config, at + (wide ? PCI_MSI_PENDING_64 : PCI_MSI_PENDING_32)));
}

static void print_msix(FILE *out, const struct pci_config *config, size_t at)
{
    uint16_t flags = pci_read16(config, at + PCI_MSIX_FLAGS);
    uint32_t table = pci_read32(config, at + PCI_MSIX_TABLE);
    uint32_t pba = pci_read32(config, at + PCI_MSIX_PBA);

    fprintf(out,
            ": Enable%c Count=%u Masked%c\n\t\tVector table: BAR=%u offset=%08x"
            "\n\t\tPBA: BAR=%u offset=%08x",
            flags & PCI_MSIX_FLAGS_ENABLE ? '+' : '-', (flags & PCI_MSIX_FLAGS_QSIZE) + 1,
            flags & PCI_MSIX_FLAGS_MASKALL ? '+' : '-', table & PCI_MSIX_TABLE_BIR,
            table & PCI_MSIX_TABLE_OFFSET, pba & PCI_MSIX_PBA_BIR, pba & PCI_MSIX_PBA_OFFSET);
}

static const char *express_type(uint16_t flags)
{
    static const char *const types[] = {
        [PCI_EXP_TYPE_ENDPOINT] = "Endpoint",
        [PCI_EXP_TYPE_LEG_END] = "Legacy Endpoint",
        [PCI_EXP_TYPE_ROOT_PORT] = "Root Port",
        [PCI_EXP_TYPE_UPSTREAM] = "Upstream Port",
        [PCI_EXP_TYPE_DOWNSTREAM] = "Downstream Port",
        [PCI_EXP_TYPE_PCI_BRIDGE] = "PCI-Express to PCI/PCI-X Bridge",
        [PCI_EXP_TYPE_PCIE_BRIDGE] = "PCI/PCI-X to PCI-Express Bridge",
        [PCI_EXP_TYPE_RC_END] = "Root Complex Integrated Endpoint",
        [PCI_EXP_TYPE_RC_EC] = "Root Complex Event Collector",
    };
    size_t type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;

    return type < ARRAY_SIZE(types) && types[type] ? types[type] : "unknown type";
}

static void print_link(FILE *out, const char *name, unsigned speed, unsigned width)
{
    static const char *const speeds[] = {"?", "2.5", "5", "8", "16", "32", "64"};

    fprintf(out, "\n\t\t%s: Speed %sGT/s, Width x%u", name,
            speed < ARRAY_SIZE(speeds) ? speeds[speed] : "?", width);
}

static void print_express(FILE *out, const struct pci_config *config, size_t at)
{
    static const struct pci_bit capability_bits[] = {
        {PCI_EXP_DEVCAP_EXT_TAG, "ExtTag" },
        {PCI_EXP_DEVCAP_RBER,    "RBE"    },
        {PCI_EXP_DEVCAP_FLR,     "FLReset"},
    };
    static const struct pci_bit control_bits[] = {
        {PCI_EXP_DEVCTL_CERE,       "CorrErr"    },
        {PCI_EXP_DEVCTL_NFERE,      "NonFatalErr"},
        {PCI_EXP_DEVCTL_FERE,       "FatalErr"   },
        {PCI_EXP_DEVCTL_URRE,       "UnsupReq"   },
        {PCI_EXP_DEVCTL_RELAX_EN,   "RlxdOrd"    },
        {PCI_EXP_DEVCTL_EXT_TAG,    "ExtTag"     },
        {PCI_EXP_DEVCTL_NOSNOOP_EN, "NoSnoop"    },
    };
    uint16_t flags = pci_read16(config, at + PCI_EXP_FLAGS);
    uint32_t devcap = pci_read32(config, at + PCI_EXP_DEVCAP);
    uint16_t devctl = pci_read16(config, at + PCI_EXP_DEVCTL);
    uint32_t lnkcap = pci_read32(config, at + PCI_EXP_LNKCAP);
    uint16_t lnksta = pci_read16(config, at + PCI_EXP_LNKSTA);

    fprintf(out, " (v%u) %s, IntMsgNum %u\n\t\tDevCap: MaxPayload %u bytes",
            flags & PCI_EXP_FLAGS_VERS, express_type(flags), (flags & PCI_EXP_FLAGS_IRQ) >> 9,
            128U << (devcap & PCI_EXP_DEVCAP_PAYLOAD));
    PRINT_BITS(out, capability_bits, devcap);
    fprintf(out, "\n\t\tDevCtl: MaxPayload %u bytes, MaxReadReq %u bytes",
            128U << ((devctl & PCI_EXP_DEVCTL_PAYLOAD) >> 5),
            128U << ((devctl & PCI_EXP_DEVCTL_READRQ) >> 12));
    PRINT_BITS(out, control_bits, devctl);
    if (!lnkcap) /* integrated in the root complex: no link */
        return;
    print_link(out, "LnkCap", lnkcap & PCI_EXP_LNKCAP_SLS, (lnkcap & PCI_EXP_LNKCAP_MLW) >> 4);
    print_link(out, "LnkSta", lnksta & PCI_EXP_LNKSTA_CLS,
               (lnksta & PCI_EXP_LNKSTA_NLW) >> PCI_EXP_LNKSTA_NLW_SHIFT);
}

static void (*const decoders[])(FILE *out, const struct pci_config *config, size_t at) = {
    [PCI_CAP_ID_PM] = print_pm,
    [PCI_CAP_ID_MSI] = print_msi,
    [PCI_CAP_ID_MSIX] = print_msix,
    [PCI_CAP_ID_EXP] = print_express,
};

static const char *name_of(const char *const *table, size_t n, size_t id)
{
    return id < n && table[id] ? table[id] : NULL;
}

static void print_name(FILE *out, const char *name, unsigned id)
{
    if (name)
        fprintf(out, "%s", name);
    else
        fprintf(out, "unknown capability %02x", id);
}

/* Marks the place; false if the list has been there before, or leaves the space. */
static bool enter(bool seen[], const struct pci_config *config, size_t at)
{
    if (at + 4 > config->len || seen[at / 4])
        return false;
    seen[at / 4] = true;
    return true;
}

static void print_standard(FILE *out, const struct pci_config *config)
{
    bool seen[PCI_CONFIG_SIZE / 4] = {false};
    size_t at = pci_read8(config, PCI_CAPABILITY_LIST) & ~3U;

    if (!(pci_read16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST))
        return;
    for (; at; at = pci_read8(config, at + PCI_CAP_LIST_NEXT) & ~3U) {
        uint8_t id = pci_read8(config, at + PCI_CAP_LIST_ID);

        fprintf(out, "\tCapabilities: [%02zx] ", at);
        if (at < PCI_STD_HEADER_SIZEOF || !enter(seen, config, at)) {
            fprintf(out, "<the list is broken>\n");
            return;
        }
        print_name(out, name_of(names, ARRAY_SIZE(names), id), id);
        if (id < ARRAY_SIZE(decoders) && decoders[id])
            decoders[id](out, config, at);
        fprintf(out, "\n");
    }
}

static void print_extended(FILE *out, const struct pci_config *config)
{
    bool seen[PCI_CONFIG_SIZE_EXTENDED / 4] = {false};
    size_t at = PCI_CONFIG_SIZE;

    while (at) {
        uint32_t header = pci_read32(config, at);
        unsigned id = PCI_EXT_CAP_ID(header);

        /* A list without entries starts with zeros; what does not answer reads as ones. */
        if (!header || header == UINT32_MAX)
            return;
        fprintf(out, "\tCapabilities: [%03zx v%u] ", at, PCI_EXT_CAP_VER(header));
        if (at < PCI_CONFIG_SIZE || !enter(seen, config, at)) {
            fprintf(out, "<the list is broken>\n");
            return;
        }
        print_name(out, name_of(extended_names, ARRAY_SIZE(extended_names), id), id);
        fprintf(out, "\n");
        at = PCI_EXT_CAP_NEXT(header);
    }
}

void pci_print_capabilities(FILE *out, const struct pci_config *config)
{
    print_standard(out, config);
    if (config->len > PCI_CONFIG_SIZE)
        print_extended(out, config);
}
