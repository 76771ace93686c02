/*
 * What a domain needs of the kernel's IOMMU interface; one backend a file (iommu_type1.c,
 * iommu_iommufd.c, iommu_spapr.c, iommu_noiommu.c). A backend makes system calls and keeps no table
 * of mappings: domain.c and address_space.c do, check before they call, and never ask for what the
 * rules of one backend alone would allow (a part of a mapping, an overlap).
 *
 * Functions return 0 or -errno and have logged the cause of an error. One thread at a time.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "bridge/host.h"
#include "bridge/sysfs.h"

enum {
    IOMMU_READ = 1 << 0,  /* the device may read */
    IOMMU_WRITE = 1 << 1, /* the device may write */
    /*
     * The memory may stay pinned after it is unmapped, for the next map of it; see
     * iommu_context_keep(). A backend that can't ignores it.
     */
    IOMMU_STABLE = 1 << 2,
};

enum {
    IOMMU_MAX_RANGES = 64,
    /*
     * The most that is given to the kernel by one call: pinning holds its locks, and is not
     * interrupted. A multiple of every page size there is, so that huge pages stay whole.
     */
    IOMMU_MAP_CHUNK = 1 << 30,
    /* A bit for each 4 KiB, the smallest page of an IOMMU, of such a chunk. */
    IOMMU_DIRTY_SCRATCH = IOMMU_MAP_CHUNK / 4096 / 8,
};

/* max_maps of a kernel that counts memory, not entries. */
#define IOMMU_NO_MAP_LIMIT UINT_MAX

/* Both ends belong to the range. */
struct iommu_range {
    uint64_t first, last;
};

/* Known once the first device is open; may shrink with each further one. */
struct iommu_info {
    uint64_t pgsizes;  /* page sizes that mappings may be aligned to, or'ed */
    unsigned max_maps; /* entries that the kernel takes */
    bool coherent;     /* the IOMMU enforces coherency: no-snoop DMA can do no harm */
    bool untranslated; /* there is no IOMMU: the device reaches the host's memory, nothing maps */
    bool pins_for_writing;    /* also memory that the device may only read */
    const char *dirty_source; /* what tells of written memory, for log lines; NULL: nothing does */
    bool eeh;                 /* an error cuts the device off until it is recovered: eeh.h */
    unsigned n_ranges;        /* addresses that can be mapped, ascending */
    struct iommu_range ranges[IOMMU_MAX_RANGES];
};

enum iommu_kind {
    IOMMU_TYPE1,   /* VFIO's container and groups */
    IOMMU_IOMMUFD, /* iommufd and VFIO's device files */
    IOMMU_SPAPR,   /* VFIO's container and a group, on a POWER machine */
    IOMMU_NOIOMMU, /* VFIO's containers and groups, without an IOMMU */
};

/*
 * A BAR of another device, as the device's owner has opened it for peers (bar.h). A backend takes
 * what it can of the two.
 */
struct iommu_peer {
    void *address; /* where it is mapped in this process; NULL: nowhere */
    int dmabuf;    /* of the host; -1: none */
};

struct dirty_bitmap;
struct iommu;
struct vfio_eeh_pe_op;

/* Whom a backend tells of written memory. */
struct iommu_dirty {
    uint64_t *words; /* IOMMU_DIRTY_SCRATCH bytes, for its bitmaps */
    void (*tell)(void *arg, const struct dirty_bitmap *written);
    void *arg;
};

struct iommu_ops {
    const char *name;

    /*
     * Brings the device into the address space and opens it; a device that is in already is
     * opened again after its descriptor was closed. *fd: of the host, the caller's.
     */
    int (*open_device)(struct iommu *iommu, const struct sysfs_device *dev, int *fd);

    /*
     * Maps size bytes of the file from offset at iova and pins them. The descriptor stays the
     * caller's and may be closed afterwards. *cookie is handed to unmap.
     */
    int (*map)(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot, int fd,
               uint64_t offset, void **cookie);

    /*
     * Maps size bytes of another device's BAR from offset on at iova; it costs none of the memory
     * that may be pinned. The peer stays the caller's, and may go before the mapping. *cookie is
     * handed to unmap.
     *
     * While the BAR is not decoded it can't be mapped (type1: -EFAULT, iommufd: -ENODEV). What is
     * mapped stays so with type1, and DMA goes nowhere meanwhile; iommufd's kernel stops it for
     * good, and unmap and a further map are needed when the BAR is decoded again.
     *
     * -EOPNOTSUPP: the backend or its kernel can't do it with what the peer has (not logged).
     */
    int (*map_peer)(struct iommu *iommu, uint64_t iova, uint64_t size, uint32_t prot,
                    const struct iommu_peer *peer, uint64_t offset, void **cookie);

    /*
     * Unmaps exactly what one map call mapped. After an error other than of the arguments the
     * translation may still be there and so the memory's pins.
     */
    int (*unmap)(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie);

    /*
     * Dirty tracking, with info.dirty_source; else these are NULL. On: from now on the IOMMU notes
     * what the devices write; it is not on yet.
     */
    int (*track)(struct iommu *iommu, bool on);

    /*
     * Tells what was written of a part of a mapping since it was told last. What the kernel would
     * forget of the rest of the mapping with it is told too. keep: the kernel forgets nothing;
     * asked only of a backend without unmap_dirty. After an error it may have told some.
     */
    int (*read_dirty)(struct iommu *iommu, const struct iommu_range *mapping,
                      const struct iommu_range *part, bool keep, const struct iommu_dirty *dirty);

    /*
     * As unmap, and tells what was written of the mapping, if both can be one call. After an error
     * nothing was told, and unmap may be tried. NULL: it can't.
     */
    int (*unmap_dirty)(struct iommu *iommu, uint64_t iova, uint64_t size, void *cookie,
                       const struct iommu_dirty *dirty);

    /*
     * Gives back what this process still holds for a mapping that unmap could not take away. The
     * translation goes with destroy, which is all that may follow.
     */
    void (*abandon)(struct iommu *iommu, uint64_t size, void *cookie);

    /* VFIO_EEH_PE_OP on the device's PE: what the kernel returns, not logged. NULL: no EEH. */
    int (*eeh)(struct iommu *iommu, struct vfio_eeh_pe_op *op);

    /*
     * A device has one file at a time: once its descriptor is closed it is opened again only when
     * nobody else has a duplicate or a mapping of it. Else it may be opened any number of times.
     */
    bool has_one_file;

    /*
     * Lets a group go whose devices are closed; nothing but destroy may follow then. -EBUSY:
     * somebody else still has the file of one of them, and the group stays. NULL: has_one_file.
     */
    int (*vacate)(struct iommu *iommu, int number);

    /* The open file of a group that is inside, which stays the backend's; -1 (or no function):
     * there is none. */
    int (*group_file)(struct iommu *iommu, int number);

    void (*destroy)(struct iommu *iommu);
};

struct iommu {
    const struct iommu_ops *ops;
    struct host *host;
    struct iommu_info info;
    /*
     * A map call failed in its middle and could not be undone: the kernel has translations that
     * no table knows, and only destroy takes them away.
     */
    bool stray;
};

/*
 * What the domains of one client have in common. With iommufd that is its open file, in which the
 * client's memory is pinned once for all of its devices; a device's file takes any IOAS of its
 * iommufd for an ATTACH, so it is never shared between clients. With type1 it is nothing: each
 * container pins for itself.
 *
 * Reference-counted; any thread.
 */
struct iommu_context;

/* *out: one reference, for iommu_context_unref. 0 or -errno, logged. */
int iommu_context_create(struct host *host, enum iommu_kind kind, struct iommu_context **out);
struct iommu_context *iommu_context_ref(struct iommu_context *context);
/* NULL is allowed. */
void iommu_context_unref(struct iommu_context *context);

enum iommu_kind iommu_context_kind(const struct iommu_context *context);

/* True if somebody else has a reference. */
bool iommu_context_is_shared(const struct iommu_context *context);

/* Whether domains of one context pin the same memory once. */
bool iommu_context_shares_memory(const struct iommu_context *context);

/*
 * How many bytes that were mapped with IOMMU_STABLE, and are unmapped, may stay pinned, if that is
 * more than was said before.
 */
void iommu_context_keep(struct iommu_context *context, uint64_t bytes);

/* Unpins what is kept and not mapped. */
void iommu_context_forget(struct iommu_context *context);

/* *out: to be destroyed by its ops, before the context's last reference goes. */
int iommu_create(struct iommu_context *context, struct iommu **out);

/*
 * The better kind that the host offers for a device: iommufd if the kernel has it and VFIO's
 * device files, and this process may open both; else what iommu_container_kind() says.
 */
enum iommu_kind iommu_best_kind(struct host *host, const struct sysfs_device *dev);

/* The kind that the host's containers are of; type1 too if that can't be known. */
enum iommu_kind iommu_container_kind(struct host *host);

/*
 * The backends, for iommu_create. A container with type1v2; an IOAS of its own in an iommufd; a
 * container with SPAPR TCE v2 or v1, for one group; a container that nothing can be mapped in.
 */
struct iommufd_context;
int iommu_type1_create(struct host *host, struct iommu **out);
int iommu_iommufd_create(struct iommufd_context *context, struct iommu **out);
int iommu_spapr_create(struct host *host, struct iommu **out);
int iommu_noiommu_create(struct host *host, struct iommu **out);

/*
 * For backends that pin by virtual address: maps a client's file, for nothing but that. Nobody
 * ever touches the memory, so a client that truncates its file can't raise SIGBUS. Logged.
 */
int iommu_mmap_client_file(struct host *host, void **address, uint64_t size, uint32_t prot, int fd,
                           uint64_t offset);

/* Logs why the kernel did not map (ret: -errno), with the remedy if it is the memlock limit. */
void iommu_explain_map_error(uint64_t iova, uint64_t size, int ret);
