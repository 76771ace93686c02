/*
 * A VERSION payload: parsed, answered under several offers, and the answer parsed as the client
 * would, whose rules it must keep.
 */
#include <errno.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "proto/version.h"
#include "proto/wire.h"
#include "tests/fuzz/fuzz.h"

/* pgsizes, max_dma_maps, migration */
static const struct version_offer offers[] = {
    {0x40201000, 65535, false},
    {0x40201000, 65535, true },
    {0x20010000, 100,   true },
    {UINT64_MAX, 1,     false},
};

/* No key that was not proposed. */
static void check_keys(const struct version_caps *p, const struct version_caps *a)
{
    REQUIRE(a->has_json == p->has_json);
    REQUIRE(a->has_capabilities == p->has_capabilities);
    REQUIRE(!a->has_max_msg_fds || p->has_max_msg_fds);
    REQUIRE(!a->has_max_data_xfer_size || p->has_max_data_xfer_size);
    REQUIRE(!a->has_max_dma_maps || p->has_max_dma_maps);
    REQUIRE(!a->has_pgsizes || p->has_pgsizes);
    REQUIRE(!a->has_migration || p->has_migration);
    REQUIRE(!a->has_migration_max_bitmap_size || p->has_migration_max_bitmap_size);
    REQUIRE(!a->has_write_multiple || p->has_write_multiple);
    REQUIRE(!a->has_twin_socket || p->has_twin_socket);
    REQUIRE(a->has_extensions == p->has_extensions);
}

/* What QEMU ends the session on. */
static void check_values(const struct version_caps *p, const struct version_caps *a)
{
    REQUIRE(a->major == p->major);
    REQUIRE(a->minor <= p->minor && a->minor <= LIMIT_VERSION_MINOR);
    REQUIRE(a->max_msg_fds <= 16);
    REQUIRE(a->max_data_xfer_size <= 64 << 20);
    REQUIRE(a->max_dma_maps <= 65535 && a->max_dma_maps <= p->max_dma_maps);
    REQUIRE(is_aligned(a->pgsizes, 4096));
    REQUIRE(is_aligned(a->migration_pgsize, 4096));
    REQUIRE(!a->has_migration_max_bitmap_size ||
            a->migration_max_bitmap_size <= p->migration_max_bitmap_size);
    REQUIRE(!a->twin_socket);
    REQUIRE(a->extensions <= p->extensions && a->extensions <= LIMIT_EXTENSIONS);
    REQUIRE(!a->write_multiple || p->write_multiple);
}

/* Longer than its request only if there was nothing left to leave out. */
static void check_length(const struct version_caps *p, const struct version_caps *a)
{
    if (a->payload_len > p->payload_len)
        REQUIRE(!a->has_twin_socket && (!a->has_write_multiple || a->write_multiple));
}

static void check_reply(const struct version_caps *proposed, const struct version_offer *offer)
{
    cleanup_free_ void *reply = NULL;
    struct version_caps answer, agreed;
    size_t len;

    REQUIRE(!version_reply(proposed, offer, &reply, &len, &agreed));
    REQUIRE(!version_parse(reply, len, &answer));
    check_keys(proposed, &answer);
    check_values(proposed, &answer);
    check_length(proposed, &answer);
    REQUIRE(agreed.minor == answer.minor);
    REQUIRE(agreed.extensions == answer.extensions);
    REQUIRE(agreed.write_multiple == answer.write_multiple);
    REQUIRE(agreed.max_dma_maps <= offer->max_dma_maps);
    REQUIRE(!answer.has_max_dma_maps || agreed.max_dma_maps == answer.max_dma_maps);
}

/* What was understood, said again and understood again, is the same. */
static void check_round_trip(const struct version_caps *caps)
{
    cleanup_free_ void *once = NULL;
    cleanup_free_ void *twice = NULL;
    struct version_caps again;
    size_t len, len_twice;

    REQUIRE(!version_propose(caps, &once, &len));
    REQUIRE(!version_parse(once, len, &again));
    REQUIRE(!version_propose(&again, &twice, &len_twice));
    REQUIRE(len == len_twice && !memcmp(once, twice, len));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    log_set_level(LOG_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct version_caps caps;
    int r = version_parse(data, size, &caps);

    if (r < 0) {
        REQUIRE(r == -EINVAL || r == -EPROTONOSUPPORT);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
        check_reply(&caps, &offers[i]);
    check_round_trip(&caps);
    return 0;
}
