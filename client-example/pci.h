/* A PCI config space in words: what lspci -vv would say of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    PCI_CONFIG_SIZE = 256,
    PCI_CONFIG_SIZE_EXTENDED = 4096,
    PCI_NUM_BARS = 6,
};

/* The address ranges' sizes, which the config space itself does not tell; 0: not known. */
struct pci_sizes {
    uint64_t bar[PCI_NUM_BARS];
    uint64_t rom;
};

/*
 * Prints a config space of len bytes, as they come from the device: capabilities that are cut
 * off or form a loop end the list.
 */
void pci_print(FILE *out, const uint8_t *bytes, size_t len, const struct pci_sizes *sizes);
