/* The device's inside, for the files of bridge/ that drive it. */
#pragma once

#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>

#include "bridge/config_map.h"
#include "bridge/device.h"
#include "bridge/dirty.h"
#include "bridge/gfx.h"
#include "bridge/irq.h"
#include "bridge/region.h"
#include "bridge/sysfs.h"

struct irq_index {
    struct irq_info info;
    /*
     * What the kernel has been given. A vector's eventfd is kept so that the set can be made
     * again with more vectors; -1: none. NULL until the first use.
     */
    int *eventfd;
    uint32_t enabled; /* vectors of the kernel's set; 0: the index is off */
    int unmask;       /* the eventfd that unmasks INTx; -1: none */
};

/* The data of a migration state. */
struct migration_stream {
    int fd;      /* of the host, does not block; -1: none */
    bool saving; /* it is read; else written */
};

struct device {
    struct host *host;
    struct address_space *as;
    struct sysfs_device where;
    int fd; /* -1: could not be opened again */
    struct device_info info;
    struct region_info *regions;  /* info.num_regions of them */
    struct region_info extra;     /* beyond those, that of index: */
    uint32_t extra_index;         /* 0: there is none */
    struct irq_index *irqs;       /* info.num_irqs of them */
    int err_event, req_event;     /* what ERR and REQ signal, their owner's; -1: nothing */
    struct peer_device *peer;     /* NULL: no other device reaches this one's BARs */
    bool lent;                    /* a client got the descriptor */
    bool no_dma;                  /* bus mastering is kept off until the device is opened again */
    struct ioeventfd *ioeventfds; /* doorbells that the kernel has been given */
    struct migration_stream stream;
    struct gfx_ids gfx;
    struct dirty_log *dirty;       /* NULL: off */
    const char *dirty_told;        /* the source that the log has named in this session */
    uint16_t no_snoop_at;          /* config offset of the register with that bit; 0: leave it */
    uint8_t config_denied;         /* enum config_sort that are not written */
    struct config_map *config_map; /* NULL: not needed so far */
};

/* Makes info.caps of the answer to GET_INFO, len bytes. 0 or -ENOMEM. */
int device_read_caps(struct device *dev, const struct vfio_device_info *got, size_t len);

/* Read the device's regions and irq indexes; what they allocate hangs at the device. */
int region_read_infos(struct device *dev);
void region_free_infos(struct device *dev);
/*
 * Reads a region beyond those that GET_INFO counts, which a display may have (the kernel's sample
 * mdpy has 16); the last one that was added is known. 0 or -errno, logged.
 */
int region_add(struct device *dev, uint32_t index);
int irq_read_infos(struct device *dev);
void irq_free_infos(struct device *dev);

/* Frees what is known of a log that the kernel's device takes with it when it is closed. */
void dirty_forget(struct device *dev);

/* Frees what is known of doorbells that the kernel's device takes with it when it is closed. */
void ioeventfd_forget(struct device *dev);

/* Nothing is denied, and what capabilities there are is not known. */
void config_policy_forget(struct device *dev);

/* SET_IRQS with size bytes of data of the kind that flags say (NULL: none); the kernel's answer. */
int irq_call(struct device *dev, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
             const void *data, size_t size);
/* Makes the array of eventfds, if there is none. 0 or -ENOMEM. */
int irq_alloc_eventfds(struct irq_index *irq);

/* ERR or REQ; irq_set for these; their eventfds given to the kernel after an opening. */
bool irq_relay_has(const struct device *dev, uint32_t index);
int irq_relay_set(struct device *dev, struct irq_request *req);
int irq_relay_arm(struct device *dev);
