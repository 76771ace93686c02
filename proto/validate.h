/*
 * What can be said of a request without knowing the device or the session: sizes that agree with
 * each other, numbers that do not overflow, flags that exist. Handlers get only what passed.
 *
 * All functions: payload is the request after its header, len its bytes, already within the
 * command's row. They copy the fixed part out (a payload has no alignment) and return 0 or
 * -errno, -EINVAL where nothing else is said; on an error they have logged one line that names the
 * field. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "proto/commands.h"
#include "proto/fdset.h"
#include "proto/wire.h"
#include "proto/wire_extension.h"

/* A header with which the stream can't be understood any further. -EINVAL, -EMSGSIZE. */
int validate_header(const struct vfio_user_header *hdr, uint32_t max_size);

/*
 * The request against its row, after validate_header(): direction, type, flags, payload size,
 * descriptors, NO_REPLY. -EINVAL; -E2BIG for too large a payload; -EMFILE if descriptors were
 * lost. Whatever it returns, a message of another type than COMMAND and one with NO_REPLY must not
 * be replied to.
 */
int validate_request(const struct command *cmd, const struct vfio_user_header *hdr,
                     const struct fdset *fds);

/* flags: only READ and WRITE, one at least; size not 0; address + size and offset + size do not
 * wrap. */
int validate_dma_map(const void *payload, size_t len, struct vfio_user_dma_map *out);

/*
 * flags 0, ALL or GET_DIRTY_BITMAP. With ALL address and size are not looked at. Otherwise size not
 * 0, no wrap.
 */
int validate_dma_unmap(const void *payload, size_t len, struct vfio_user_dma_unmap *out);

/*
 * What follows an unmap with GET_DIRTY_BITMAP: pgsize a power of two, 4096 or more; size has room
 * for whole words of a bit for each page, and argsz for a reply with it. -E2BIG: more than
 * LIMIT_BITMAP_SIZE.
 */
int validate_dma_unmap_bitmap(const void *payload, size_t len,
                              const struct vfio_user_dma_unmap *unmap,
                              struct vfio_user_bitmap *out);

/* argsz at least the fixed reply's size. The other fields of a request are ignored if not 0. */
int validate_device_info(const void *payload, size_t len, struct vfio_user_device_info *out);
int validate_region_info(const void *payload, size_t len, struct vfio_user_region_info *out);
int validate_region_io_fds(const void *payload, size_t len, struct vfio_user_region_io_fds *out);
int validate_irq_info(const void *payload, size_t len, struct vfio_user_irq_info *out);

/*
 * One DATA and one ACTION bit and no other; start + count does not wrap; count 0 only with
 * DATA_NONE, TRIGGER and start 0 (disable the index). DATA_BOOL: at least count bytes follow, at
 * *bools (else NULL). Descriptors: with DATA_EVENTFD as many as count, or none (de-assign); with
 * other data none. DATA_EVENTFD may carry count int32 indexes in the payload, -1 for a vector
 * without descriptor, with only the valid descriptors attached (the form of Alioth): then *indexes
 * points at them (unaligned, else NULL), and those that are not -1 count 0, 1, 2 … up to nfds.
 * count has no limit but the vectors that the device has: a handler must compare it before it
 * walks.
 */
int validate_irq_set(const void *payload, size_t len, unsigned nfds, struct vfio_user_irq_set *out,
                     const uint8_t **bools, const uint8_t **indexes);

/* count not 0 and at most LIMIT_DATA_XFER; offset + count does not wrap; a read has no data. */
int validate_region_read(const void *payload, size_t len, struct vfio_user_region_access *out);

/* The same, and exactly count bytes of data follow, at *data. */
int validate_region_write(const void *payload, size_t len, struct vfio_user_region_access *out,
                          const uint8_t **data);

/* wr_cnt from 1 to LIMIT_WRITE_MULTI and exactly that many entries follow, at *entries. */
int validate_write_multi(const void *payload, size_t len, uint64_t *wr_cnt,
                         const uint8_t **entries);

/* Entry i of a checked WRITE_MULTI: count from 1 to 8, offset + count does not wrap. */
int validate_write_multi_entry(const uint8_t *entries, uint64_t i,
                               struct vfio_user_write_multi_entry *out);

/*
 * Flags known; GET and SET not both unless PROBE; one of the three at least. argsz at least the
 * header. The data of a SET (or a GET's input) follows the fixed part in the payload.
 */
int validate_device_feature(const void *payload, size_t len, struct vfio_user_device_feature *out);

/* size at most LIMIT_DATA_XFER; argsz at least the reply that has all of it. */
int validate_mig_data_read(const void *payload, size_t len, struct vfio_user_mig_data *out);

/* size as for a read; argsz at least the header; exactly size bytes follow, at *data. */
int validate_mig_data_write(const void *payload, size_t len, struct vfio_user_mig_data *out,
                            const uint8_t **data);

/*
 * A message of the extension: out, size bytes, begins with a struct vfio_userd_head. argsz at least
 * size; no flag beside known_flags.
 */
int validate_extension(uint16_t command, const void *payload, size_t len, uint32_t known_flags,
                       void *out, size_t size);
