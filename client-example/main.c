/*
 * vfuc: a client of a vfio-user server on the command line. It shows a device, accesses its
 * regions, and drives devices as a guest's driver would: QEMU's edu, an NVMe controller, and two
 * devices together.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "client-example/cmd.h"
#include "proto/base/arith.h"

static const struct command_row {
    const char *name;
    const char *synopsis;
    const char *help; /* lines, each but the last with its newline */
    int (*run)(const struct cmd_target *target, int argc, char **argv);
} commands[] = {
    {"info",      "",
     "Show what the server offers: regions, interrupts, and the PCI config space in words.",      cmd_info     },
    {"read",      "REGION OFFSET COUNT [FILE]",
     "Read COUNT bytes of a region; as a hex dump, or as they are into FILE.\n"
     "REGION: an index, or bar0 … bar5, rom, config, vga.",                                     cmd_read     },
    {"write",     "REGION OFFSET VALUE[:WIDTH] | REGION OFFSET --file FILE",
     "Write a number of WIDTH (1, 2, 4 or 8; default 4) bytes, or a file's bytes.",               cmd_write    },
    {"map",       "REGION [--write OFFSET:VALUE]... [--keep]",
     "Map REGION by the descriptor that the server gives and compare what its first registers\n"
     "read there with what they read by messages. --write: write 4 bytes there, and read them by "
     "a\n"
     "message. --keep: keep the mapping when the session is over, until killed, and see that\n"
     "nothing is to be read there.",                                                              cmd_map      },
    {"edu",       "[--dma-forever | --copy FROM TO COUNT]",
     "Drive QEMU's edu device through all it can do and check each step: registers, DMA,\n"
     "interrupts, DMA that must be stopped, reset. With --dma-forever: do DMA until killed. With\n"
     "--copy: move COUNT bytes by DMA between addresses that nobody has mapped (no-IOMMU mode).", cmd_edu      },
    {"pair",      "OTHER_SOCKET [--one-group]",
     "Map the same memory for two edu devices, and check which of them reaches it when one has\n"
     "unmapped it. --one-group: they are in one IOMMU group.",                                    cmd_pair     },
    {"p2p",       "OTHER_SOCKET",
     "Move data by DMA between an edu device and BAR 2 of another, which is memory, and check\n"
     "that nothing arrives while the BAR is elsewhere, not decoded or not mapped.",               cmd_p2p      },
    {"mtty",      "",
     "Drive the kernel's sample mtty, a mediated device: a serial port whose output is its\n"
     "input; its registers, INTx and MSI, and a reset.",                                          cmd_mtty     },
    {"migrate",   "OTHER_SOCKET [OPTION...]",
     "Move the device and the memory that it may write to another server, in rounds while it runs\n"
     "and then with the device stopped; compare the memory. After an error the source runs on.\n"
     "--memory MIB (default 16), --rounds N (at most; default 8);\n"
     "--write REGION:OFFSET:VALUE[:WIDTH]: of the source's registers, first; repeat it for more;\n"
     "--expect REGION:OFFSET:VALUE[:WIDTH]: likewise, to be read from the destination at the end;\n"
     "--edu: keep an edu device busy with DMA meanwhile; --step: after each step wait for a line\n"
     "of input, without which the migration is given up.",                                        cmd_migrate  },
    {"states",    "",
     "Bring a device that can migrate from each state of migration to each other, and check that\n"
     "it is there, or was left alone by what is refused.",                                        cmd_states   },
    {"dirty",     "",
     "Let an edu device write memory by DMA, and check that the server tells which: in reports of\n"
     "its dirty log, and when the memory is unmapped.",                                           cmd_dirty    },
    {"nvme",      "[--expect LBA:TEXT]... [--write LBA:TEXT]... [--no-irq] [--doorbell]",
     "Drive an NVMe controller: identify it, write blocks that begin with TEXT, read blocks that\n"
     "must begin with TEXT; first polled, then (unless --no-irq) with MSI-X interrupts.\n"
     "--doorbell: some doorbells must be rung by eventfds (the server's --doorbell).",            cmd_nvme     },
    {"msix",      "",
     "Give the vectors of MSI-X eventfds, in chunks and with gaps, and take some away; each must\n"
     "fire its own when it is triggered.",                                                        cmd_msix     },
    {"ring",      "REGION OFFSET",
     "Signal the eventfds of the doorbells there, as KVM does when a guest writes what they are\n"
     "for, and show what the register reads before and after.",                                   cmd_ring     },
    {"sleep",     "SECONDS",
     "Let the device sleep for so long, then use it: it must have slept, and wake.",              cmd_sleep    },
    {"iommu",     "",
     "Show which addresses can be mapped for the device's DMA, in pages of which sizes, and how\n"
     "many mappings there can be.",                                                               cmd_iommu    },
    {"plane",     "[REGION OFFSET VALUE[:WIDTH]]...",
     "Write registers, then show the planes of a device that has a display, in a region or in a\n"
     "dma-buf, and the first pixel of each.",                                                     cmd_plane    },
    {"eeh",       "OPERATION",
     "On a POWER machine: state, enable, unfreeze-io, unfreeze-dma, reset-hot, reset-fundamental,\n"
     "reset-deactivate, configure.",                                                              cmd_eeh      },
    {"hot-reset", "[--info | --with OTHER_SOCKET]",
     "Show which devices a reset of the whole slot or bus resets, and (unless --info) reset it.\n"
     "--with: two devices there (edu, ivshmem) without a reset of their own; check that each of\n"
     "them resets both, and that both work on.",                                                  cmd_hot_reset},
    {"watch",     "[--stay]",
     "Have the device until the host wants it back, and tell of errors that it reports; then\n"
     "leave, or with --stay, see that it is taken away.",                                         cmd_watch    },
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: vfuc [--timeout SECONDS] SOCKET COMMAND [ARGUMENT...]\n\n"
                 "A client of the vfio-user server that listens on SOCKET.\n\n"
                 "Options:\n"
                 "  --timeout SECONDS  wait so long for a reply (default 60)\n"
                 "  --help             show this\n\n"
                 "Commands:\n");
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        fprintf(out, "  %s%s%s\n      ", commands[i].name, commands[i].synopsis[0] ? " " : "",
                commands[i].synopsis);
        for (const char *p = commands[i].help; *p; p++) {
            fputc(*p, out);
            if (*p == '\n')
                fputs("      ", out);
        }
        fputc('\n', out);
    }
    fprintf(out, "\nExit status: 0 all was done and proven; 1 it was not; 2 wrong usage.\n");
}

/* Options before the socket. Returns the index of the first argument behind them, or -1. */
static int parse_options(int argc, char **argv, struct cmd_target *target)
{
    uint64_t seconds;

    if (argc < 2 || strncmp(argv[1], "--", 2))
        return 1;
    if (strcmp(argv[1], "--timeout") || argc < 3 || cmd_parse_number(argv[2], &seconds) ||
        !seconds || seconds > INT_MAX / 1000)
        return -1;
    target->timeout_ms = (int)seconds * 1000;
    return 3;
}

int main(int argc, char **argv)
{
    struct cmd_target target = {.timeout_ms = VFUC_DEFAULT_TIMEOUT_MS};
    int at = parse_options(argc, argv, &target);

    if (argc == 2 && !strcmp(argv[1], "--help")) {
        print_help(stdout);
        return CMD_OK;
    }
    if (at < 0 || argc - at < 2) {
        print_help(stderr);
        return CMD_USAGE;
    }
    /* A reader of a pipe sees each step when it happens. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    target.socket = argv[at++];
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        if (!strcmp(argv[at], commands[i].name))
            return commands[i].run(&target, argc - at - 1, argv + at + 1);
    }
    return cmd_usage("no command \"%s\"; vfuc --help lists them", argv[at]);
}
