/*
 * PCI configuration space as the hardware has it.
 *
 * With the device's lock held, unless stated.
 */
#pragma once

#include <linux/pci_regs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;
struct sim_model_bar;

enum {
    SIM_VPD_SIZE = 128,
};

struct sim_pci {
    size_t size;                     /* 4096 for PCI Express, else 256 */
    uint8_t msi, msix, exp, vpd, pm; /* where these capabilities are, 0: nowhere */
    uint8_t config[PCI_CFG_SPACE_EXP_SIZE];
    uint8_t vpd_data[SIM_VPD_SIZE]; /* persistent */
};

/* Power-on. memory, port: the next free addresses for BARs. Without the lock. */
void sim_pci_init(struct sim_device *dev, uint32_t *memory, uint32_t *port);

/* A register; width: 1 to 4 bytes. */
uint32_t sim_pci_read(const struct sim_device *dev, unsigned offset, unsigned width);
/* One byte, those bits of it that mask has and the hardware lets be written. */
void sim_pci_write_byte(struct sim_device *dev, unsigned offset, uint8_t value, uint8_t mask);
/* To be called when COMMAND may have been written. */
void sim_pci_command_written(struct sim_device *dev);

/* The first capability or the one behind at; 0: there is none. */
unsigned sim_pci_next_capability(const struct sim_device *dev, unsigned at);

/* Turns the device's decoding and bus mastering off for a reset; COMMAND as it was before. */
uint16_t sim_pci_quiesce(struct sim_device *dev);
void sim_pci_set_command(struct sim_device *dev, uint16_t command);

/* Where it does nothing that COMMAND would let it. */
bool sim_pci_is_in_d3hot(const struct sim_device *dev);

bool sim_pci_bus_master(const struct sim_device *dev);
bool sim_pci_memory_enabled(const struct sim_device *dev);
bool sim_pci_io_enabled(const struct sim_device *dev);
bool sim_pci_has_intx(const struct sim_device *dev);
bool sim_pci_is_express(const struct sim_device *dev);
unsigned sim_pci_msi_vectors(const struct sim_device *dev);
unsigned sim_pci_msix_vectors(const struct sim_device *dev);
bool sim_pci_is_64bit(const struct sim_model_bar *bar);

/* The MSI-X table: its BAR, first byte and end. False: there is none. */
bool sim_pci_msix_table(const struct sim_device *dev, unsigned *bar, uint64_t *start,
                        uint64_t *end);

/* STATUS follows the INTx line. */
void sim_pci_set_intx_status(struct sim_device *dev, bool level);

/* MSI or MSI-X, by its irq index; other indexes have nothing to turn on. */
void sim_pci_enable_msi(struct sim_device *dev, uint32_t index, bool on);
bool sim_pci_msi_enabled(const struct sim_device *dev);
