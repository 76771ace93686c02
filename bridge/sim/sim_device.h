/*
 * A device: what the hardware is (its model, its registers) and what vfio-pci makes of it
 * (virtual configuration space, interrupts). Exists from sim_add_device() to sim_destroy().
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bridge/sim/sim.h"
#include "bridge/sim/sim_config.h"
#include "bridge/sim/sim_dma.h"
#include "bridge/sim/sim_dmabuf.h"
#include "bridge/sim/sim_ioeventfd.h"
#include "bridge/sim/sim_irq.h"
#include "bridge/sim/sim_mapped.h"
#include "bridge/sim/sim_migration.h"
#include "bridge/sim/sim_model.h"
#include "bridge/sim/sim_pci.h"
#include "bridge/sim/sim_power.h"
#include "bridge/sim/sim_token.h"

struct sim;
struct sim_file;
struct sim_group;

struct sim_device {
    struct sim *sim;
    const struct sim_model *model;
    void *state;               /* the model's */
    char name[SIM_NAME_SIZE];  /* its address; a mediated device's UUID */
    int cdev;                  /* the number of its own file */
    char *ram[SIM_MODEL_BARS]; /* what is behind BARs that are RAM */
    char *region[SIM_MODEL_REGIONS];

    /* With sim->lock. */
    struct sim_device *next;
    struct sim_group *group;
    char driver[32];
    bool has_reset;
    bool zpci;       /* set before it is opened */
    unsigned bus;    /* behind a port, by number; 0: a root bus */
    unsigned opened; /* descriptors */
    bool bound;      /* to an iommufd */
    struct sim_token token;

    _Atomic bool mmio_stopped; /* EEH has cut the device off: no register is reached */

    bool attached; /* with the lock of the context that it is bound to */

    pthread_mutex_t lock; /* for the block below */
    bool reset_works;     /* as tried at the first open */
    bool gone;            /* pulled out: nothing answers */
    struct sim_pci pci;
    struct sim_config config;
    struct sim_irq irq;
    struct sim_power power;
    struct sim_ioeventfds ioeventfds;
    struct sim_dmabufs dmabufs; /* that can be revoked */
    struct sim_mapped mapped;
    struct sim_migration migration;

    struct sim_dma dma;
};

/*
 * A new device at power-on; NULL without memory. memory, port: the next free addresses for its
 * BARs.
 */
struct sim_device *sim_device_create(struct sim *sim, const struct sim_model *model,
                                     const char *name, uint32_t *memory, uint32_t *port);
void sim_device_free(struct sim_device *dev);

/*
 * VFIO_GROUP_GET_DEVICE_FD: a new descriptor, or -errno. The first one enables the device, and
 * each holds the group open.
 */
int sim_device_open(struct sim_file *group_file, const char *name);

/*
 * With the device's lock held: a reset of the bus or of the function itself; what a way back from
 * D3hot is, of which the drivers learn nothing.
 */
void sim_device_reset(struct sim_device *dev);
void sim_device_soft_reset(struct sim_device *dev);

/* The calls on a descriptor of the device that is open. */
int sim_device_ioctl(struct sim_device *dev, unsigned long request, void *arg);
ssize_t sim_device_pread(struct sim_device *dev, void *buf, size_t len, off_t offset);
ssize_t sim_device_pwrite(struct sim_device *dev, const void *buf, size_t len, off_t offset);

/* The calls of struct sim_file_ops on such a descriptor. */
int sim_device_share(struct sim_device *dev, struct sim_file *file);
bool sim_device_is_held(struct sim_device *dev, const struct sim_file *file);

/*
 * With sim->lock held.
 */

/* A descriptor more, which enables the device if it is the first; one less. */
void sim_device_get(struct sim_device *dev);
void sim_device_put(struct sim_device *dev);

/* The bus of the device is reset. */
void sim_device_bus_reset(struct sim_device *dev);

/* Pulled out, and the kernel has noticed: it is nowhere any more. */
bool sim_device_is_unplugged(const struct sim_device *dev);

bool sim_device_has_driver(const struct sim_device *dev, const char *driver);

/* The VFIO driver for such a device: vfio-pci, or the one that a mediated device is made by. */
const char *sim_device_vfio_driver(const struct sim_device *dev);
/* True if it has the device. */
bool sim_device_has_vfio(const struct sim_device *dev);
/* False: it is mediated or of another bus, and vfio-pci is not its driver. */
bool sim_device_is_on_pci(const struct sim_device *dev);
