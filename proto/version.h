/*
 * VERSION: proposal in, answer out (specification, "VFIO_USER_VERSION").
 *
 * The answer holds only keys that the client proposed, compact, so that it does not outgrow a
 * request that has them all (QEMU drops the connection otherwise); JSON asked is JSON answered,
 * with its NUL; no JSON asked is none answered, and the defaults apply.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a peer said, or the specification's default where it said nothing. */
struct version_caps {
    uint16_t major;
    uint16_t minor;
    size_t payload_len;    /* of the message it was parsed from, 0 if from none */
    bool has_json;         /* version data was present */
    bool has_capabilities; /* with a "capabilities" object */
    uint64_t max_msg_fds;
    uint64_t max_data_xfer_size;
    uint64_t max_dma_maps;
    uint64_t pgsizes;
    uint64_t migration_pgsize;
    uint64_t migration_max_bitmap_size;
    uint64_t extensions; /* version of our own messages (wire_extension.h); 0: there are none */
    bool write_multiple;
    bool twin_socket;
    /* Which keys were there. */
    bool has_max_msg_fds, has_max_data_xfer_size, has_max_dma_maps, has_pgsizes, has_migration,
        has_migration_max_bitmap_size, has_extensions, has_write_multiple, has_twin_socket;
};

/* What the server offers; the session's limits where they differ from limits.h. */
struct version_offer {
    uint64_t pgsizes;      /* IOMMU page sizes, or'ed; those of 4 KiB and more are told */
    uint64_t max_dma_maps; /* at most LIMIT_DMA_MAPS */
    bool migration;        /* the device can migrate: the migration key is answered */
};

/*
 * Parses the payload of a VERSION request or reply (after the header), of any length. Unknown keys
 * are ignored, of a repeated key the last counts; an empty string is no version data. Returns 0 or
 * -EINVAL (too short or too long, not NUL-terminated, NUL in the middle, not UTF-8, not JSON, too
 * deep, a known key of the wrong type, a number below 1 or above INT64_MAX), -EPROTONOSUPPORT for
 * another major, -ENOMEM. One log line tells which.
 */
int version_parse(const void *payload, size_t len, struct version_caps *out);

/*
 * Builds the reply's payload for a parsed proposal: *payload is allocated, the caller frees it.
 * Returns 0 or -ENOMEM.
 *
 * Numbers: the smaller of both sides' where the value limits what may be in use at a time
 * (max_dma_maps), the common part for pgsizes (ours if there is none), ours where it says what we
 * take (max_msg_fds, max_data_xfer_size). Of the extension's versions the smaller. twin_socket is
 * answered as not supported. If the reply would be longer than its request, keys that say no more
 * than their absence (twin_socket, write_multiple false) are left out.
 *
 * agreed (may be NULL) receives the answer, and so what holds for the session: minor,
 * write_multiple, max_dma_maps, extensions. What the client takes stays in proposed.
 */
int version_reply(const struct version_caps *proposed, const struct version_offer *offer,
                  void **payload, size_t *len, struct version_caps *agreed);

/*
 * Builds a client's proposal. Same ownership as version_reply.
 */
int version_propose(const struct version_caps *caps, void **payload, size_t *len);

/* The specification's defaults, with our version numbers. */
struct version_caps version_defaults(void);

/*
 * The JSON text that --print-capabilities shows (NUL-terminated, one line); the caller frees it;
 * NULL without memory.
 */
char *version_capabilities_text(const char *program_version);
