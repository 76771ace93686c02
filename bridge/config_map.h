/*
 * A map of a PCI config space: of which sort each byte is, by the capabilities that the device
 * lists. Only of what an operator may want to keep clients from; no calls, no device.
 */
#pragma once

#include <linux/pci_regs.h>
#include <stddef.h>
#include <stdint.h>

enum config_sort {
    CONFIG_VPD = 1 << 0,        /* the byte with the flag that starts a transfer */
    CONFIG_VENDOR = 1 << 1,     /* capabilities of the vendor's own: also VSEC and DVSEC */
    CONFIG_UNASSIGNED = 1 << 2, /* behind the header, in no capability */
    CONFIG_AER = 1 << 3,        /* which errors are reported, and as how severe */
    CONFIG_BIST = 1 << 4,       /* the register that starts a self-test */
};

struct config_map {
    uint8_t sorts[PCI_CFG_SPACE_EXP_SIZE]; /* of each byte: enum config_sort */
};

/*
 * Fills the map in. config: the device's bytes, size of them, zeros behind. Both lists are the
 * device's own word: they may go in circles, overlap, or leave the space.
 */
void config_map_build(struct config_map *map, const uint8_t config[PCI_CFG_SPACE_EXP_SIZE],
                      size_t size);

/* The sort of that name ("vpd", "vendor", "unassigned", "aer", "bist"), len bytes; 0: none. */
unsigned config_sort_parse(const char *name, size_t len);

/* The name of the lowest of the sorts. */
const char *config_sort_name(unsigned sorts);
