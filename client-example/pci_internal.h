/* What the decoding's files share: the registers, read within bounds, and bits in words. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/arith.h"

struct pci_config {
    const uint8_t *bytes;
    size_t len;
};

/* Little-endian, as PCI is; 0 beyond the end. */
uint8_t pci_read8(const struct pci_config *config, size_t at);
uint16_t pci_read16(const struct pci_config *config, size_t at);
uint32_t pci_read32(const struct pci_config *config, size_t at);

struct pci_bit {
    uint32_t mask;
    const char *name;
};

/* " Name+" for each bit that is set, " Name-" for each that is not. */
void pci_print_bits(FILE *out, const struct pci_bit *bits, size_t n, uint32_t value);

#define PRINT_BITS(out, bits, value) pci_print_bits(out, bits, ARRAY_SIZE(bits), value)

/* pci_capability.c: both lists. */
void pci_print_capabilities(FILE *out, const struct pci_config *config);
