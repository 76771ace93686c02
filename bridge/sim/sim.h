/*
 * A simulated kernel below the uAPI: it implements struct host call by call, with VFIO containers
 * (type1's, or SPAPR TCE's of a POWER machine) and groups, iommufd and the devices' own files, an
 * IOMMU that translates and faults, and PCI devices that do DMA from threads of their own, raise
 * interrupts and reset. The bridge runs over it unmodified.
 *
 * It answers as Linux does, errno by errno; where versions differ, as 6.1, the oldest that the
 * bridge supports. What came later: BARs are accessed in up to 64 bits; iommufd and the devices'
 * own files; dma-bufs of BARs.
 *
 *     sysfs:    /sys/bus/pci/devices/BDF/{vendor,device,class,driver,iommu_group,config,...},
 *               /sys/bus/pci/devices/BDF/vfio-dev/vfioN, /sys/kernel/iommu_groups/N/devices/,
 *               /sys/class/vfio/{N,noiommu-N},
 *               /sys/bus/platform/devices/NAME/{driver,iommu_group,...},
 *               /sys/bus/mdev/devices/UUID/{driver,iommu_group,mdev_type/device_api,...}
 *     devices:  /dev/vfio/vfio, /dev/vfio/{N,noiommu-N}, /dev/iommu, /dev/vfio/devices/vfioN
 *
 * No other path exists. Descriptors that it hands out are real ones of the process (so that a leak
 * is seen), which only this host understands; every other descriptor is passed to the kernel
 * below. It keeps duplicates of the eventfds that are registered, three descriptors of its own, and
 * one for each device whose memory a client may map.
 *
 * Other processes map a device's first BAR that is memory by a descriptor that host_share() makes;
 * sim_mapped.h tells what becomes of such a mapping. Registers can't be there for others, so their
 * BARs have no MMAP flag.
 *
 * What it can't do: a mapping of a BAR in this process is memory if the BAR is, whether or not the
 * device decodes it, and until a client maps it; a mapping of registers may be given to MAP_DMA but
 * not be touched (SIGSEGV); it is unmapped as a whole. The limits of pinned memory are told in
 * sim_pin.c and sim_pages.c. What a mediated device may reach is pinned as any other memory, where
 * the kernel's drivers pin what they use.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/host.h"

struct sim;

enum {
    /* Room for any device's address. */
    SIM_NAME_SIZE = 40,
};

/* A new machine without devices; NULL without memory, descriptors or threads. */
struct sim *sim_create(void);

/* Stops the devices' threads and frees it. All descriptors must have been closed before, and all
 * BARs unmapped. */
void sim_destroy(struct sim *sim);

/* The host struct to give to the bridge; lives as long as the machine. */
struct host *sim_host(struct sim *sim);

/* The models that there are, by an index from 0; NULL behind the last. */
const char *sim_model_name(size_t index);

/*
 * Adds a device of a model, bound to vfio-pci, in a new IOMMU group of its own; or, with "-noiommu"
 * behind the model's name, without an IOMMU, in VFIO's no-IOMMU mode.
 * bdf (at least 13 bytes) receives its address, "0000:00:01.0" upwards; all are on root buses
 * at first. Two models are of other buses: a mediated device ("mdev") has a driver of its own and a
 * UUID, one of the platform bus ("platform") vfio-platform and a name (SIM_NAME_SIZE both); what is
 * said of addresses below holds for those. Returns 0, -ENOENT for a model that does not exist,
 * -ENOMEM, -ENOSPC.
 */
int sim_add_device(struct sim *sim, const char *model, char *bdf, size_t size);

/*
 * How the machine is set up. To be called before the device is opened. -ENODEV: no such address.
 */

/*
 * A driver's name, "" for none. The group is viable with vfio-pci, pci-stub, pcieport and none;
 * only a device that vfio-pci has can be opened.
 */
int sim_set_driver(struct sim *sim, const char *bdf, const char *driver);
/* Puts the device into the group of another one. */
int sim_join_group(struct sim *sim, const char *bdf, const char *sibling_bdf);
/* enable_unsafe_noiommu_mode of VFIO; default false. */
void sim_set_noiommu_mode(struct sim *sim, bool on);
/*
 * No IOMMU is in front of the device: its group goes. vfio-pci keeps it only in no-IOMMU mode, with
 * a group made for it, noiommu-N; else it takes none such (-EINVAL of sim_set_driver).
 */
int sim_set_no_iommu(struct sim *sim, const char *bdf);
/* Whether this process has CAP_SYS_RAWIO, without which nothing of no-IOMMU mode opens; default
 * true. */
void sim_set_rawio(struct sim *sim, bool capable);
/*
 * Makes the device an SR-IOV virtual function of another one, whose VF token nobody knows until
 * somebody opens it with one.
 */
int sim_set_virtual_function(struct sim *sim, const char *bdf, const char *pf_bdf);
/* Takes the reset method away: no RESET flag, RESET answers EINVAL. */
int sim_set_no_reset(struct sim *sim, const char *bdf);
/* GET_INFO tells what s390's PCI knows of the function (zPCI). */
int sim_set_zpci(struct sim *sim, const char *bdf);
/* Puts the device behind a port, with the others of that number; the bus can be reset then. 0, the
 * default: on a root bus, where no bus can be reset. Its address stays. */
int sim_set_bus(struct sim *sim, const char *bdf, unsigned bus);
/* errno that open(path) fails with from now on; 0: none. */
int sim_set_open_error(struct sim *sim, const char *path, int err);
/* RLIMIT_MEMLOCK as pinning sees it, in bytes of all containers and IOASes; UINT64_MAX (the
 * default): no limit. */
void sim_set_memlock(struct sim *sim, uint64_t bytes);
/* dma_entry_limit of type1, for containers that have no IOMMU yet; default 65535. */
void sim_set_dma_entry_limit(struct sim *sim, unsigned limit);
/* Vectors that the host can allocate for one device; default: all it has. */
void sim_set_vector_limit(struct sim *sim, unsigned limit);
/* Vectors of MSI-X are allocated one by one, as by kernels from 6.5 on; default false. */
void sim_set_dynamic_msix(struct sim *sim, bool dynamic);
/*
 * The machine's IOMMU and what comes with it; default SIM_IOMMU_TYPE1. A POWER machine has no
 * iommufd, and type1 as little as a PC has SPAPR. v1 and v2 are the kinds of container that it can
 * be used by.
 */
enum sim_iommu_model {
    SIM_IOMMU_TYPE1,
    SIM_IOMMU_SPAPR_V1, /* the window below 2 GiB alone */
    SIM_IOMMU_SPAPR_V2, /* windows are created and removed */
};
void sim_set_iommu(struct sim *sim, enum sim_iommu_model model);
/* false: a POWER machine has no EEH; default true. */
void sim_set_eeh(struct sim *sim, bool eeh);
/* false: the IOMMU can't enforce coherency (DMA_CC_IOMMU answers 0); default true. */
void sim_set_coherent(struct sim *sim, bool coherent);
/* What the kernel has of iommufd; default SIM_IOMMUFD_MAP_FILE. */
enum sim_iommufd {
    SIM_IOMMUFD_NONE,     /* neither /dev/iommu nor the devices' own files: before 6.6 */
    SIM_IOMMUFD_MAP,      /* without IOAS_MAP_FILE and VF tokens: before 6.13 */
    SIM_IOMMUFD_MAP_FILE, /* all */
};
void sim_set_iommufd(struct sim *sim, enum sim_iommufd iommufd);
/*
 * errno that VFIO_DEVICE_FEATURE_DMA_BUF fails with, its probe too. 0, the default: it works;
 * ENOTTY: a kernel without it (before 6.19); EOPNOTSUPP: a driver without it.
 */
void sim_set_dma_buf_error(struct sim *sim, int err);
/* Whether a dma-buf can be mapped by whoever has it; default true. */
void sim_set_dma_buf_mmap(struct sim *sim, bool on);

/*
 * How a device migrates. The default is all that its model can, without the peculiarities: of
 * sim:edu and sim:testdev everything. It may be set at any time at which there is no migration
 * (-EBUSY). -ENOTSUP: the model can't.
 */
struct sim_migration_setup {
    uint64_t flags;         /* VFIO_MIGRATION_* of its driver; 0: it has none, ENOTTY */
    size_t ballast;         /* bytes of its state beyond the model's registers */
    size_t max_transfer;    /* bytes that one read or write of data moves; 0: no limit */
    unsigned delay_ms;      /* until the data of a state can be read */
    bool dry_is_zero;       /* a read in pre-copy when there is nothing more says 0, not ENOMSG */
    bool bad_data_is_error; /* what can't be restored leaves it in ERROR, not RESUMING */
};
int sim_set_migration(struct sim *sim, const char *bdf, const struct sim_migration_setup *setup);
/*
 * The next hop to a state (enum vfio_device_mig_state) fails with EIO: on the way to where a change
 * leads, or at its end. A reset takes it back.
 */
int sim_fail_hop(struct sim *sim, const char *bdf, uint32_t state);
/* VFIO_MIGRATION_* of a device that has them all. */
#define SIM_MIGRATION_ALL 7

/*
 * A device's log of the pages it writes by DMA: whether it has one (default: yes), and the page
 * size of it (0, the default: what the caller asks for). To be called while the log is off
 * (-EBUSY).
 */
int sim_set_dma_log(struct sim *sim, const char *bdf, bool on, uint64_t page_size);

/*
 * The machine's IOMMU and what devices have written. Tracking: it has dirty bits, which HWPTs can
 * be made with (default: yes). Page: the largest that its tables have entries for, 4 KiB (the
 * default), 2 MiB or 1 GiB; each has one dirty bit. To be called before anything is mapped.
 */
void sim_set_dirty_tracking(struct sim *sim, bool able);
void sim_set_iommu_page(struct sim *sim, uint64_t size);
/*
 * Whether type1 takes all its groups for ones whose drivers tell what they write, as those of
 * mediated devices do: then its bitmaps have what was written, else (the default) all that is
 * mapped.
 */
void sim_set_pinned_only(struct sim *sim, bool on);

/*
 * The fault plan: the Nth call from now (1: the next; 0: no plan) of the given kind fails with
 * errno err without any effect; then the plan is spent. request: of ioctl only those with this
 * number, 0 for all. Calls that can't fail or whose failure means nothing (close, munmap) are none.
 */
enum sim_call {
    SIM_CALL_ANY,
    SIM_CALL_OPEN,
    SIM_CALL_IOCTL,
    SIM_CALL_PREAD,
    SIM_CALL_PWRITE,
    SIM_CALL_READ,
    SIM_CALL_WRITE,
    SIM_CALL_SET_NONBLOCK,
    SIM_CALL_MMAP,
    SIM_CALL_SHARE,
    SIM_CALL_READLINK,
    SIM_CALL_LIST,
};
void sim_fail_nth(struct sim *sim, enum sim_call call, unsigned long request, unsigned n, int err);
/* True if the plan has been spent. */
bool sim_fault_spent(struct sim *sim);

/* What a test sees of the machine's inside. */
struct sim_stats {
    unsigned containers, groups, devices, contexts, dmabufs; /* open descriptors of each kind */
    unsigned streams;                                        /* of migration data, likewise */
    unsigned bar_mappings;
    unsigned mappings; /* DMA entries in all containers, areas in all IOASes */
    uint64_t pinned_bytes;
    unsigned pins;                  /* made so far, of whatever size */
    uint64_t locked_bytes;          /* what counts against RLIMIT_MEMLOCK */
    uint64_t dma_faults;            /* pages of a transfer that the IOMMU stopped */
    uint64_t peer_faults;           /* pieces of a transfer to a BAR that nobody decoded */
    uint64_t dma_reads, dma_writes; /* transfers that went through whole */
    /* Transfers without an IOMMU, to whatever of the host's memory they named. No memory is there:
     * writes are lost, reads give zeros. */
    uint64_t dma_to_host;
    unsigned resets; /* those of the first open and last close too */
    unsigned ioctls; /* calls so far */
};
void sim_get_stats(struct sim *sim, struct sim_stats *stats);

/* State of one device as the hardware has it (not as a client sees it through vfio-pci). */
struct sim_device_state {
    bool bus_master;
    bool memory_enabled;
    bool dma_running;
    bool intx_eventfd;      /* a trigger eventfd is registered */
    bool may_sleep, asleep; /* low power */
    unsigned msi_eventfds;  /* vectors of the active MSI or MSI-X set that have one */
    uint32_t migration;     /* enum vfio_device_mig_state */
    bool logging;           /* of its DMA writes */
    unsigned doorbells;     /* VFIO_DEVICE_IOEVENTFD */
};
int sim_get_device_state(struct sim *sim, const char *bdf, struct sim_device_state *state);

/*
 * Makes the hardware do something, as a guest's driver never could.
 */

/*
 * DMA of len bytes at iova by the device, whatever its COMMAND register says; returns 0, -EFAULT if
 * the IOMMU stopped any of it, or -EIO if any of the rest went to a BAR that nobody decoded.
 */
int sim_device_dma(struct sim *sim, const char *bdf, uint64_t iova, void *buf, size_t len,
                   bool write);

/* An error on the device's bus, after which EEH has cut its group off. */
int sim_freeze_pe(struct sim *sim, const char *bdf);

/*
 * Unbinds vfio-pci from the device, without waiting for the end of it: whoever has the device open
 * is signalled by REQ, once a call; the kernel repeats it every ten seconds. Nobody opens it any
 * more. -ENODEV: no such address; as the next ones.
 */
int sim_request_removal(struct sim *sim, const char *bdf);
/*
 * True when the unbinding is over: the device's descriptors are closed, and its group's too if
 * vfio-pci has no other device of the group, for which 6.1 waits.
 */
bool sim_removal_is_done(struct sim *sim, const char *bdf);
/*
 * The hardware is pulled out: nothing answers, and reads are all ones. sim_request_removal() is
 * what a kernel does that notices; when that is over, sysfs has no such device.
 */
int sim_surprise_removal(struct sim *sim, const char *bdf);
/*
 * The device is there again, bound to vfio-pci, with another number of its own file and another
 * group if it was its group's last. What was pulled out comes as from power-on. -EBUSY: its removal
 * is not over.
 */
int sim_bring_back(struct sim *sim, const char *bdf);
/* AER reports an uncorrectable error: whoever has the device open is signalled by ERR. */
int sim_report_error(struct sim *sim, const char *bdf);
