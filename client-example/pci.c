/*
 * The config space's header (type 0, a device's): identity, COMMAND, STATUS, BARs, interrupt pin.
 * Names and order are those of lspci, which readers know; the register layout is that of
 * <linux/pci_regs.h>.
 */
#include "client-example/pci.h"

#include <inttypes.h>
#include <linux/pci_regs.h>
#include <stdbool.h>

#include "client-example/pci_internal.h"

static const struct pci_bit command_bits[] = {
    {PCI_COMMAND_IO,           "I/O"      },
    {PCI_COMMAND_MEMORY,       "Mem"      },
    {PCI_COMMAND_MASTER,       "BusMaster"},
    {PCI_COMMAND_SPECIAL,      "SpecCycle"},
    {PCI_COMMAND_INVALIDATE,   "MemWINV"  },
    {PCI_COMMAND_VGA_PALETTE,  "VGASnoop" },
    {PCI_COMMAND_PARITY,       "ParErr"   },
    {PCI_COMMAND_WAIT,         "Stepping" },
    {PCI_COMMAND_SERR,         "SERR"     },
    {PCI_COMMAND_FAST_BACK,    "FastB2B"  },
    {PCI_COMMAND_INTX_DISABLE, "DisINTx"  },
};

/* lspci puts the DEVSEL timing, a number, between the two. */
static const struct pci_bit status_low_bits[] = {
    {PCI_STATUS_CAP_LIST,  "Cap"    },
    {PCI_STATUS_66MHZ,     "66MHz"  },
    {PCI_STATUS_UDF,       "UDF"    },
    {PCI_STATUS_FAST_BACK, "FastB2B"},
    {PCI_STATUS_PARITY,    "ParErr" },
};

static const struct pci_bit status_high_bits[] = {
    {PCI_STATUS_SIG_TARGET_ABORT, ">TAbort"},
    {PCI_STATUS_REC_TARGET_ABORT, "<TAbort"},
    {PCI_STATUS_REC_MASTER_ABORT, "<MAbort"},
    {PCI_STATUS_SIG_SYSTEM_ERROR, ">SERR"  },
    {PCI_STATUS_DETECTED_PARITY,  "<PERR"  },
    {PCI_STATUS_INTERRUPT,        "INTx"   },
};

/* The first match counts: the subclasses that one meets, then the base classes. */
static const struct {
    uint16_t mask;
    uint16_t class;
    const char *name;
} class_names[] = {
    {0xffff, 0x0101, "IDE interface"                  },
    {0xffff, 0x0104, "RAID bus controller"            },
    {0xffff, 0x0106, "SATA controller"                },
    {0xffff, 0x0107, "Serial Attached SCSI controller"},
    {0xffff, 0x0108, "Non-Volatile memory controller" },
    {0xffff, 0x0200, "Ethernet controller"            },
    {0xffff, 0x0207, "Infiniband controller"          },
    {0xffff, 0x0300, "VGA compatible controller"      },
    {0xffff, 0x0302, "3D controller"                  },
    {0xffff, 0x0403, "Audio device"                   },
    {0xffff, 0x0604, "PCI bridge"                     },
    {0xffff, 0x0700, "Serial controller"              },
    {0xffff, 0x0c03, "USB controller"                 },
    {0xff00, 0x0000, "Unclassified device"            },
    {0xff00, 0x0100, "Mass storage controller"        },
    {0xff00, 0x0200, "Network controller"             },
    {0xff00, 0x0300, "Display controller"             },
    {0xff00, 0x0400, "Multimedia controller"          },
    {0xff00, 0x0500, "Memory controller"              },
    {0xff00, 0x0600, "Bridge"                         },
    {0xff00, 0x0700, "Communication controller"       },
    {0xff00, 0x0800, "Generic system peripheral"      },
    {0xff00, 0x0900, "Input device controller"        },
    {0xff00, 0x0a00, "Docking station"                },
    {0xff00, 0x0b00, "Processor"                      },
    {0xff00, 0x0c00, "Serial bus controller"          },
    {0xff00, 0x0d00, "Wireless controller"            },
    {0xff00, 0x0e00, "Intelligent controller"         },
    {0xff00, 0x0f00, "Satellite communications device"},
    {0xff00, 0x1000, "Encryption controller"          },
    {0xff00, 0x1100, "Signal processing controller"   },
    {0xff00, 0x1200, "Processing accelerator"         },
    {0x0000, 0x0000, "Unassigned class"               },
};

uint8_t pci_read8(const struct pci_config *config, size_t at)
{
    return at < config->len ? config->bytes[at] : 0;
}

uint16_t pci_read16(const struct pci_config *config, size_t at)
{
    return (uint16_t)(pci_read8(config, at) | pci_read8(config, at + 1) << 8);
}

uint32_t pci_read32(const struct pci_config *config, size_t at)
{
    return pci_read16(config, at) | (uint32_t)pci_read16(config, at + 2) << 16;
}

void pci_print_bits(FILE *out, const struct pci_bit *bits, size_t n, uint32_t value)
{
    for (size_t i = 0; i < n; i++)
        fprintf(out, " %s%c", bits[i].name, value & bits[i].mask ? '+' : '-');
}

static const char *class_name(uint16_t class)
{
    size_t i = 0;

    while ((class & class_names[i].mask) != class_names[i].class)
        i++;
    return class_names[i].name;
}

static void print_identity(FILE *out, const struct pci_config *config)
{
    uint16_t class = pci_read16(config, PCI_CLASS_DEVICE);

    fprintf(out, "%s [%04x]: [%04x:%04x] (rev %02x) (prog-if %02x)\n", class_name(class), class,
            pci_read16(config, PCI_VENDOR_ID), pci_read16(config, PCI_DEVICE_ID),
            pci_read8(config, PCI_REVISION_ID), pci_read8(config, PCI_CLASS_PROG));
}

static void print_command_and_status(FILE *out, const struct pci_config *config)
{
    static const char *const devsel[] = {"fast", "medium", "slow", "??"};
    uint16_t status = pci_read16(config, PCI_STATUS);

    fprintf(out, "\tControl:");
    PRINT_BITS(out, command_bits, pci_read16(config, PCI_COMMAND));
    fprintf(out, "\n\tStatus:");
    PRINT_BITS(out, status_low_bits, status);
    fprintf(out, " DEVSEL=%s", devsel[(status & PCI_STATUS_DEVSEL_MASK) >> 9]);
    PRINT_BITS(out, status_high_bits, status);
    fprintf(out, "\n");
}

static void print_interrupt(FILE *out, const struct pci_config *config)
{
    uint8_t pin = pci_read8(config, PCI_INTERRUPT_PIN);

    if (pin)
        fprintf(out, "\tInterrupt: pin %c, line %u\n", 'A' + (pin - 1) % 26,
                pci_read8(config, PCI_INTERRUPT_LINE));
}

/* "[size=64K]", in the largest unit that divides it. */
static void print_size(FILE *out, uint64_t size)
{
    static const char units[] = {'\0', 'K', 'M', 'G', 'T'};
    size_t unit = 0;

    if (!size)
        return;
    while (size % 1024 == 0 && unit + 1 < sizeof(units)) {
        size /= 1024;
        unit++;
    }
    fprintf(out, " [size=%" PRIu64, size);
    if (units[unit])
        fputc(units[unit], out);
    fputc(']', out);
}

static void print_address(FILE *out, uint64_t address, int digits)
{
    if (address)
        fprintf(out, "%0*" PRIx64, digits, address);
    else
        fprintf(out, "<unassigned>");
}

static void print_memory_bar(FILE *out, uint64_t bar, bool enabled)
{
    bool wide = (bar & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;

    fprintf(out, "Memory at ");
    print_address(out, bar & ~UINT64_C(0xf), wide ? 16 : 8);
    fprintf(out, " (%s, %sprefetchable)%s", wide ? "64-bit" : "32-bit",
            bar & PCI_BASE_ADDRESS_MEM_PREFETCH ? "" : "non-", enabled ? "" : " [disabled]");
}

static void print_io_bar(FILE *out, uint64_t bar, bool enabled)
{
    fprintf(out, "I/O ports at ");
    print_address(out, bar & ~UINT64_C(3), 4);
    fprintf(out, "%s", enabled ? "" : " [disabled]");
}

/* Returns the number of 32-bit registers that the BAR takes. */
static unsigned print_bar(FILE *out, const struct pci_config *config, unsigned i, uint64_t size)
{
    uint16_t command = pci_read16(config, PCI_COMMAND);
    size_t at = PCI_BASE_ADDRESS_0 + 4 * i;
    uint64_t bar = pci_read32(config, at);
    bool io = bar & PCI_BASE_ADDRESS_SPACE_IO;
    bool wide = !io && (bar & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;

    if (wide && i + 1 < PCI_NUM_BARS)
        bar |= (uint64_t)pci_read32(config, at + 4) << 32;
    if (bar || size) {
        fprintf(out, "\tRegion %u: ", i);
        if (io)
            print_io_bar(out, bar, command & PCI_COMMAND_IO);
        else
            print_memory_bar(out, bar, command & PCI_COMMAND_MEMORY);
        print_size(out, size);
        fprintf(out, "\n");
    }
    return wide ? 2 : 1;
}

static void print_rom(FILE *out, const struct pci_config *config, uint64_t size)
{
    uint32_t rom = pci_read32(config, PCI_ROM_ADDRESS);

    if (!rom && !size)
        return;
    fprintf(out, "\tExpansion ROM at ");
    print_address(out, rom & PCI_ROM_ADDRESS_MASK, 8);
    fprintf(out, "%s", rom & PCI_ROM_ADDRESS_ENABLE ? "" : " [disabled]");
    print_size(out, size);
    fprintf(out, "\n");
}

void pci_print(FILE *out, const uint8_t *bytes, size_t len, const struct pci_sizes *sizes)
{
    const struct pci_config config = {bytes, len};
    uint8_t type = pci_read8(&config, PCI_HEADER_TYPE) & 0x7f;

    print_identity(out, &config);
    if (type == PCI_HEADER_TYPE_NORMAL)
        fprintf(out, "\tSubsystem: [%04x:%04x]\n", pci_read16(&config, PCI_SUBSYSTEM_VENDOR_ID),
                pci_read16(&config, PCI_SUBSYSTEM_ID));
    else
        fprintf(out, "\tHeader type %02x\n", type);
    print_command_and_status(out, &config);
    print_interrupt(out, &config);
    if (type == PCI_HEADER_TYPE_NORMAL) {
        for (unsigned i = 0; i < PCI_NUM_BARS;)
            i += print_bar(out, &config, i, sizes->bar[i]);
        print_rom(out, &config, sizes->rom);
    }
    pci_print_capabilities(out, &config);
}
