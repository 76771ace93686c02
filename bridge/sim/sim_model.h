/*
 * What a model of a device is to the machine, and what the machine offers to it.
 *
 * To add a device: describe it by a struct sim_model in a file of its own and enter that in the
 * table of sim.c. Its functions are called with the device's lock held unless they say otherwise;
 * threads of its own take it by sim_device_mutex().
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_device;

enum {
    SIM_MODEL_CONFIG = 4096, /* without PCI Express 256 of it */
    SIM_MODEL_BARS = 6,
    SIM_MODEL_REGIONS = 8,
};

struct sim_model_bar {
    uint32_t size;  /* a power of two, 0: none */
    uint32_t flags; /* the register's fixed bits: PCI_BASE_ADDRESS_* */
    bool ram;       /* memory that the machine keeps: the model's functions never see an access */
    /* Of RAM that is mapped: whole pages inside of it that are registers after all; size 0: none.
     */
    uint32_t hole, hole_size;
};

/* Beyond the BARs (sim_region.h). */
struct sim_model_region {
    uint32_t size;
    uint32_t index; /* VFIO_PCI_ROM_REGION_INDEX, VFIO_PCI_VGA_REGION_INDEX, or from
                       VFIO_PCI_NUM_REGIONS on */
    bool read_only;
    uint32_t type, subtype; /* type 0: its driver does not tell */
    const void *content;    /* what it begins with; zeros behind, or NULL */
    size_t content_len;
    bool (*is_decoded)(uint64_t offset);  /* NULL: all of it */
    bool (*is_writable)(uint64_t offset); /* what does nothing elsewhere; NULL: all of it */
};

struct sim_model {
    const char *name;
    /*
     * Made up by a driver of the host, which does what DMA there is: on no bus, under a UUID, in a
     * group of its own whose IOMMU is emulated.
     */
    bool mediated;
    /* Of the platform bus: BAR 0 and INTx are its region and its interrupt, and there is no more.
     */
    bool platform;
    /* Configuration space as the firmware leaves it, but for the BARs, and the bits that the
     * hardware lets be written. Capabilities: MSI, MSI-X, power management with D0, D3hot and a
     * soft reset between them, PCI Express, vendor-specific, VPD; extended ones that vfio-pci
     * passes on as they are. */
    const uint8_t *config;
    const uint8_t *config_writable;
    struct sim_model_bar bars[SIM_MODEL_BARS];
    unsigned display; /* RAM BAR with the picture, as sim_gfx.h says; 0: none */
    uint32_t atomics; /* that the port above it completes: VFIO_PCI_ATOMIC_COMP* */
    const struct sim_model_region *regions; /* at most SIM_MODEL_REGIONS */
    size_t n_regions;

    /* The model's state, NULL on failure. Without the lock, before the device is seen. */
    void *(*create)(struct sim_device *dev);
    /* Ends its threads and frees it. Without the lock. */
    void (*destroy)(void *state);

    /* Back to power-on. No transfer is under way and none that was will complete. */
    void (*reset)(void *state);
    /* width: 1, 2, 4, 8 bytes; offset: aligned to it. Of the processor or of another device's
     * transfer, which is why it asks nothing of the sim_dma functions. */
    uint64_t (*bar_read)(void *state, unsigned bar, uint64_t offset, unsigned width);
    void (*bar_write)(void *state, unsigned bar, uint64_t offset, uint64_t value, unsigned width);
    bool (*dma_running)(void *state);

    /*
     * Migration; image_size 0: the model can't. A frozen device does nothing of its own: what it
     * was doing goes on, or begins again, when it is thawed. A transfer that is under way when it
     * is frozen is cancelled or made, and made again afterwards.
     */
    size_t image_size;
    void (*freeze)(void *state, bool frozen);
    /* Of a device that may be running; image: image_size bytes, no alignment. */
    void (*save)(const void *state, void *image);
    /* Of a frozen one. -EINVAL: this is no state of it; it keeps the one that it has. */
    int (*restore)(void *state, const void *image);
};

extern const struct sim_model sim_edu_model;
extern const struct sim_model sim_ivshmem_model;
extern const struct sim_model sim_mdev_model;
extern const struct sim_model sim_platform_model;
extern const struct sim_model sim_testdev_model;

/*
 * For models.
 */
pthread_mutex_t *sim_device_mutex(struct sim_device *dev);

/* With the lock held: where the memory of a BAR that is RAM is at the moment. What is there of its
 * hole means nothing. */
char *sim_bar_memory(const struct sim_device *dev, unsigned bar);

/* With the lock held: the INTx line, set and read; MSI or MSI-X on as the hardware sees it; a
 * message. */
void sim_irq_set_intx(struct sim_device *dev, bool level);
bool sim_irq_intx(const struct sim_device *dev);
bool sim_irq_msi_enabled(struct sim_device *dev);
void sim_irq_notify(struct sim_device *dev, unsigned vector);

/*
 * A transfer, made without the device's lock so that resetting the device can wait for it. epoch:
 * of the moment when the transfer was asked for. Returns 0; -EFAULT if the IOMMU stopped any of
 * it; -EIO if any of the rest went to a BAR that nobody decoded; -EPERM if bus mastering is off;
 * -ECANCELED if the device has been reset since. What could not be read is zeros, what could not be
 * written is lost.
 */
uint64_t sim_dma_epoch(struct sim_device *dev);
int sim_dma_transfer(struct sim_device *dev, uint64_t epoch, uint64_t iova, void *buf, size_t len,
                     bool write);
