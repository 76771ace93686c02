/*
 * vfuc: a small client library for vfio-user servers.
 *
 * One struct vfuc is one session on one UNIX socket. Calls are synchronous: each sends one
 * request and waits for its reply. Functions return 0 (or a count) or -errno: the server's error
 * of the reply, or the local one of the socket (-ECONNRESET when the server is gone, -ETIMEDOUT
 * when it is silent, -EPROTO for a reply that breaks the protocol). Not thread-safe: one thread a
 * session.
 *
 * A reply that did not come, or not whole, leaves the stream at an unknown place: after such an
 * error every later call of the session returns it again. After a server's own error the session
 * goes on. The memory that is mapped for DMA must come with a descriptor if the device is to use
 * it: requests of the server (VFIO_USER_DMA_READ and _WRITE) are not served, they are -EPROTO.
 *
 * Sources: the sections of the vfio-user specification that bear the messages' names. Flags and
 * layouts are those of proto/wire.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/fdset.h"
#include "proto/version.h"
#include "proto/wire.h"
#include "proto/wire_extension.h"

struct vfuc;

/*
 * Connects to path and negotiates. proposal: NULL for the library's own (every capability).
 * *out is to be closed by the caller. Errors beside the socket's: the server's answer to VERSION,
 * -EPROTONOSUPPORT.
 */
int vfuc_open(struct vfuc **out, const char *path, const struct version_caps *proposal);

/* The same over a connected socket, which the session owns from then on, also on an error. */
int vfuc_open_fd(struct vfuc **out, int sock, const struct version_caps *proposal);

/* Ends the session and frees it. NULL is allowed. */
void vfuc_close(struct vfuc *c);

enum {
    VFUC_DEFAULT_TIMEOUT_MS = 60000, /* a reset may take a minute */
};

/*
 * How long a call waits for its request to be taken and its reply to arrive, in milliseconds,
 * more than 0. It holds from the next call on; VERSION is under the default.
 */
void vfuc_set_timeout(struct vfuc *c, int timeout_ms);

/* What the server answered. Lives as long as the session. */
const struct version_caps *vfuc_caps(const struct vfuc *c);

/* The most data that one region access can carry, by what both sides said. */
uint32_t vfuc_max_xfer(const struct vfuc *c);

/* The socket, still the session's: for poll(2), or to break the protocol on purpose. */
int vfuc_socket(const struct vfuc *c);

int vfuc_device_info(struct vfuc *c, struct vfio_user_device_info *info);

/*
 * *info is allocated, the caller frees it: the fixed part and the capability chain behind it,
 * info->argsz bytes. *fd: the descriptor that came along, the caller's, or -1.
 */
int vfuc_region_info(struct vfuc *c, uint32_t index, struct vfio_user_region_info **info, int *fd);

/*
 * Walks the capability chain of a region info: *offset is 0 for the first one and is moved on.
 * Returns 1 with the header in *cap, whose data starts at *offset + sizeof(*cap); 0 at the end of
 * the chain; -EPROTO if the chain leaves the info or does not go forward. No check is made that
 * the capability's data lies within info->argsz: vfuc_region_cap_data() makes it.
 */
int vfuc_region_cap_next(const struct vfio_user_region_info *info, uint32_t *offset,
                         struct vfio_user_cap_header *cap);

/* Copies len bytes out of the info, from an offset of its start. -EPROTO if they pass its end. */
int vfuc_region_cap_data(const struct vfio_user_region_info *info, uint64_t offset, void *buf,
                         size_t len);

/* A region in this process, or a part of it: accesses reach the device without the server. */
struct vfuc_mapping {
    volatile void *at;
    uint64_t offset, size; /* which part of the region */
};

/*
 * Maps a region by the descriptor that comes with its info, as long as the server gives one: all of
 * it, or the one area that its sparse-mmap capability names. The descriptor is closed, the mapping
 * is to be unmapped by vfuc_region_unmap(), and outlives the session; but the device does not
 * answer there (SIGBUS) while its memory decode is off, and not after the session. -EOPNOTSUPP: the
 * region can't be mapped.
 */
int vfuc_region_map(struct vfuc *c, uint32_t index, struct vfuc_mapping *out);
void vfuc_region_unmap(struct vfuc_mapping *mapping);

int vfuc_irq_info(struct vfuc *c, uint32_t index, struct vfio_user_irq_info *info);

/* Reads or writes exactly count bytes, one message. */
int vfuc_region_read(struct vfuc *c, uint32_t region, uint64_t offset, void *buf, uint32_t count);
int vfuc_region_write(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                      uint32_t count);

/*
 * The same for any amount, in messages of vfuc_max_xfer() bytes. After an error an unknown part
 * was transferred.
 */
int vfuc_region_read_all(struct vfuc *c, uint32_t region, uint64_t offset, void *buf, size_t len);
int vfuc_region_write_all(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                          size_t len);

/* A write without reply: an error of it is never known. */
int vfuc_region_write_posted(struct vfuc *c, uint32_t region, uint64_t offset, const void *buf,
                             uint32_t count);

/* n entries in one message, at most LIMIT_WRITE_MULTI. Returns the number of writes that the server
 * completed. */
int64_t vfuc_region_write_multi(struct vfuc *c, const struct vfio_user_write_multi_entry *entries,
                                uint64_t n);

/* fd: -1 for memory that can't be shared; stays the caller's. flags: VFIO_USER_DMA_MAP_*. */
int vfuc_dma_map(struct vfuc *c, uint64_t iova, uint64_t size, uint32_t flags, int fd,
                 uint64_t offset);
/* The range is exactly that of an earlier map. */
int vfuc_dma_unmap(struct vfuc *c, uint64_t iova, uint64_t size);
int vfuc_dma_unmap_all(struct vfuc *c);
/* The same as the first, while the dirty log is on: with a report of the range, as that of
 * vfuc_dma_log_report(). */
int vfuc_dma_unmap_dirty(struct vfuc *c, uint64_t iova, uint64_t size, uint64_t page_size,
                         uint64_t *bitmap);

/* Doorbells of a region: what has to be written where, and the eventfd that has it written. */
struct vfuc_io_fds {
    struct vfio_user_sub_region_io_fd *subs; /* count of them */
    uint32_t count;
    struct fdset fds; /* subs[i].fd_index is an index of it */
};

/* GET_REGION_IO_FDS. *io: to be freed, also after an error. */
int vfuc_region_io_fds(struct vfuc *c, uint32_t region, struct vfuc_io_fds *io);
/* Closes what is left in its fds. */
void vfuc_io_fds_free(struct vfuc_io_fds *io);

/*
 * SET_IRQS. flags: one DATA and one ACTION of VFIO_USER_IRQ_SET_*. fds: count descriptors for
 * DATA_EVENTFD, or NULL to de-assign; bools: count bytes for DATA_BOOL. Larger counts are sent in
 * chunks of the server's max_msg_fds.
 */
int vfuc_set_irqs(struct vfuc *c, uint32_t index, uint32_t flags, uint32_t start, uint32_t count,
                  const int *fds, const uint8_t *bools);
/* Disables an index: DATA_NONE, TRIGGER, count 0. */
int vfuc_irq_disable(struct vfuc *c, uint32_t index);

int vfuc_reset(struct vfuc *c);

/*
 * DEVICE_FEATURE. flags: the feature's number and one of GET, SET, PROBE of
 * VFIO_USER_DEVICE_FEATURE_*. in: data of the request; out: of the reply, exactly out_len bytes of
 * it. -ENOTTY: the device has no such feature.
 */
int vfuc_feature(struct vfuc *c, uint32_t flags, const void *in, size_t in_len, void *out,
                 size_t out_len);

/* VFIO_MIGRATION_* and enum vfio_device_mig_state of <linux/vfio.h>. After a change that failed
 * the device may be in any state, which is to be asked for. */
int vfuc_migration_flags(struct vfuc *c, uint64_t *flags);
int vfuc_migration_state(struct vfuc *c, uint32_t *state);
int vfuc_set_migration_state(struct vfuc *c, uint32_t state);

/*
 * The migration data, at most vfuc_max_xfer() bytes a message. A read returns their number: less
 * than size is the end, which in PRE_COPY is only for now.
 */
int64_t vfuc_migration_read(struct vfuc *c, void *buf, uint32_t size);
int vfuc_migration_write(struct vfuc *c, const void *buf, uint32_t size);

/*
 * The log of the pages that the device writes. n 0: all there are. *page_size: a wish, and what it
 * became. A report's bitmap has a bit for each page_size bytes of the range, from the lowest bit of
 * the first word on, whole words; what it reports is forgotten by the server.
 */
int vfuc_dma_log_start(struct vfuc *c, const struct vfio_user_feature_dma_logging_range *ranges,
                       uint32_t n, uint64_t *page_size);
int vfuc_dma_log_stop(struct vfuc *c);
int vfuc_dma_log_report(struct vfuc *c, uint64_t iova, uint64_t length, uint64_t page_size,
                        uint64_t *bitmap);

/*
 * The messages of the extension (docs/protocol-extensions.md), which only this server has: -ENOTTY
 * of one without it.
 */

/* Whether the server has agreed on it. */
bool vfuc_has_extensions(const struct vfuc *c);

/*
 * GET_INFO with all flags and capabilities. *info is allocated, the caller frees it: the fixed part
 * and the chain behind it, info->argsz bytes; the chain is walked as vfuc_region_cap_next() does.
 */
int vfuc_extended_info(struct vfuc *c, struct vfio_userd_device_info **info);
int vfuc_device_cap_next(const struct vfio_userd_device_info *info, uint32_t *offset,
                         struct vfio_user_cap_header *cap);

/* The addresses that can be mapped. *info is allocated, the caller frees it: num_ranges of them
 * follow, of which vfuc_iova_range() gives the one numbered i. */
int vfuc_iommu_info(struct vfuc *c, struct vfio_userd_iommu_info **info);
struct vfio_userd_iova_range vfuc_iova_range(const struct vfio_userd_iommu_info *info, uint32_t i);

/* What a device in PRE_COPY still has to say. -EINVAL: it is not. */
int vfuc_precopy_info(struct vfuc *c, struct vfio_userd_precopy_info *info);

/*
 * The plane of a display. flags: VFIO_USERD_GFX_REGION or _DMABUF, with _PROBE only to ask whether
 * there is such a one (-EINVAL: there is not). *fd: the dma-buf of an id that a query has told, the
 * caller's.
 */
int vfuc_gfx_plane(struct vfuc *c, uint32_t flags, uint32_t drm_plane_type,
                   struct vfio_userd_gfx_plane *plane);
int vfuc_gfx_dmabuf(struct vfuc *c, uint32_t id, int *fd);

/* An operation of EEH, VFIO_EEH_PE_* of <linux/vfio.h>. *value: of GET_STATE; may be NULL. */
int vfuc_eeh(struct vfuc *c, uint32_t op, uint32_t *value);

/*
 * What a hot reset would reset. *info is allocated, the caller frees it: count devices follow, of
 * which vfuc_hot_reset_device() gives the one numbered i. -ENOTTY: there is no such reset.
 */
int vfuc_hot_reset_info(struct vfuc *c, struct vfio_userd_hot_reset_info **info);
struct vfio_userd_hot_reset_device vfuc_hot_reset_device(
    const struct vfio_userd_hot_reset_info *info, uint32_t i);

/* Resets the device's whole slot or bus. -EPERM: others there are in use. */
int vfuc_hot_reset(struct vfuc *c);

/*
 * Any request. payload: len bytes after the header; fds: nfds descriptors, the caller's.
 * reply: at most *reply_len bytes are stored, *reply_len is set to the reply's payload length.
 * reply_fd (may be NULL): the first descriptor of the reply, the caller's, or -1.
 */
int vfuc_call(struct vfuc *c, uint16_t command, const void *payload, size_t len, const int *fds,
              unsigned nfds, void *reply, size_t *reply_len, int *reply_fd);
