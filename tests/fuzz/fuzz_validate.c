/*
 * One request through everything that is checked of it before a handler runs.
 *
 * Input: a byte for the number of descriptors (over LIMIT_RECV_FDS: some were lost), then the
 * message as on the wire. What passes is held to what the headers promise to handlers, and all
 * data that they are pointed at is read.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "proto/validate.h"
#include "tests/fuzz/fuzz.h"

/* Keeps the reads from being optimised away. */
static volatile unsigned sink;

static void touch(const uint8_t *data, size_t len)
{
    unsigned sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += data[i];
    sink = sum;
}

static bool ends_in_64_bits(uint64_t start, uint64_t len)
{
    return len && (unsigned __int128)start + len <= (unsigned __int128)UINT64_MAX + 1;
}

static void run_dma_map(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_dma_map map;

    if (validate_dma_map(payload, len, &map) < 0)
        return;
    REQUIRE(nfds <= 1);
    REQUIRE(map.flags >= 1 && map.flags <= 3);
    REQUIRE(ends_in_64_bits(map.address, map.size));
    REQUIRE(ends_in_64_bits(map.offset, map.size));
}

static void run_dma_unmap(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_dma_unmap unmap;
    struct vfio_user_bitmap bitmap;

    (void)nfds;
    if (validate_dma_unmap(payload, len, &unmap) < 0)
        return;
    REQUIRE(unmap.flags <= VFIO_USER_DMA_UNMAP_ALL);
    REQUIRE(unmap.flags == VFIO_USER_DMA_UNMAP_ALL || ends_in_64_bits(unmap.address, unmap.size));
    if (unmap.flags != VFIO_USER_DMA_UNMAP_GET_DIRTY_BITMAP ||
        validate_dma_unmap_bitmap(payload, len, &unmap, &bitmap) < 0)
        return;
    REQUIRE(bitmap.size <= LIMIT_BITMAP_SIZE && unmap.argsz >= bitmap.size + 40);
    REQUIRE((unmap.size - 1) / bitmap.pgsize < bitmap.size * 8);
}

static void run_device_info(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_device_info info;

    if (!validate_device_info(payload, len, &info))
        REQUIRE(!nfds && info.argsz >= sizeof(info));
}

static void run_region_info(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_region_info info;

    if (!validate_region_info(payload, len, &info))
        REQUIRE(!nfds && info.argsz >= sizeof(info));
}

static void run_region_io_fds(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_region_io_fds info;

    if (!validate_region_io_fds(payload, len, &info))
        REQUIRE(!nfds && info.argsz >= sizeof(info));
}

static void run_irq_info(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_irq_info info;

    if (!validate_irq_info(payload, len, &info))
        REQUIRE(!nfds && info.argsz >= sizeof(info));
}

static void check_indexes(const uint8_t *indexes, uint32_t count, unsigned nfds)
{
    bool used[LIMIT_RECV_FDS] = {false};

    for (uint32_t i = 0; i < count; i++) {
        int32_t index;

        memcpy(&index, indexes + i * sizeof(index), sizeof(index));
        REQUIRE(index >= -1 && index < (int)nfds);
        if (index >= 0) {
            REQUIRE(!used[index]);
            used[index] = true;
        }
    }
    for (unsigned i = 0; i < nfds; i++)
        REQUIRE(used[i]);
}

static void run_irq_set(const uint8_t *payload, size_t len, unsigned nfds)
{
    const uint8_t *bools, *indexes;
    struct vfio_user_irq_set set;

    if (validate_irq_set(payload, len, nfds, &set, &bools, &indexes) < 0)
        return;
    REQUIRE((uint64_t)set.start + set.count <= UINT32_MAX);
    REQUIRE(set.count || (set.flags == 0x21 && !set.start));
    REQUIRE(!!bools == !!(set.flags & VFIO_USER_IRQ_SET_DATA_BOOL));
    REQUIRE(!indexes || set.flags & VFIO_USER_IRQ_SET_DATA_EVENTFD);
    REQUIRE(!nfds || set.flags & VFIO_USER_IRQ_SET_DATA_EVENTFD);
    REQUIRE(!nfds || indexes || nfds == set.count);
    if (bools)
        touch(bools, set.count);
    if (indexes)
        check_indexes(indexes, set.count, nfds);
}

static void check_access(const struct vfio_user_region_access *access)
{
    REQUIRE(access->count >= 1 && access->count <= LIMIT_DATA_XFER);
    REQUIRE(ends_in_64_bits(access->offset, access->count));
}

static void run_region_read(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_region_access access;

    REQUIRE(!nfds);
    if (!validate_region_read(payload, len, &access))
        check_access(&access);
}

static void run_region_write(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_region_access access;
    const uint8_t *data;

    REQUIRE(!nfds);
    if (validate_region_write(payload, len, &access, &data) < 0)
        return;
    check_access(&access);
    touch(data, access.count);
}

static void run_write_multi(const uint8_t *payload, size_t len, unsigned nfds)
{
    const uint8_t *entries;
    uint64_t wr_cnt;

    REQUIRE(!nfds);
    if (validate_write_multi(payload, len, &wr_cnt, &entries) < 0)
        return;
    REQUIRE(wr_cnt >= 1 && wr_cnt <= LIMIT_WRITE_MULTI);
    for (uint64_t i = 0; i < wr_cnt; i++) {
        struct vfio_user_write_multi_entry entry;

        if (validate_write_multi_entry(entries, i, &entry) < 0)
            continue;
        REQUIRE(entry.count >= 1 && entry.count <= sizeof(entry.data));
        REQUIRE(ends_in_64_bits(entry.offset, entry.count));
    }
}

static void run_device_feature(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_device_feature feature;
    uint32_t methods;

    REQUIRE(nfds <= 1); /* of a wake-up */
    if (validate_device_feature(payload, len, &feature) < 0)
        return;
    methods = feature.flags >> 16;
    REQUIRE(methods && methods <= 7 && methods != 3);
    REQUIRE(feature.argsz >= sizeof(feature));
}

static void run_mig_data_read(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_mig_data mig;

    REQUIRE(!nfds);
    if (!validate_mig_data_read(payload, len, &mig))
        REQUIRE(mig.size <= LIMIT_DATA_XFER && mig.argsz >= sizeof(mig) + mig.size);
}

static void run_mig_data_write(const uint8_t *payload, size_t len, unsigned nfds)
{
    struct vfio_user_mig_data mig;
    const uint8_t *data;

    REQUIRE(!nfds);
    if (validate_mig_data_write(payload, len, &mig, &data) < 0)
        return;
    REQUIRE(mig.size <= LIMIT_DATA_XFER);
    touch(data, mig.size);
}

/* What all messages of the extension begin with. */
static void run_extension(uint16_t command, const uint8_t *payload, size_t len)
{
    const size_t size = command_find(command)->min_payload;
    struct vfio_userd_head *head = malloc(size);

    REQUIRE(head);
    if (!validate_extension(command, payload, len, 1, head, size)) {
        REQUIRE(head->argsz >= size && !(head->flags & ~1u));
        touch((const uint8_t *)head, size);
    }
    free(head);
}

static const struct {
    uint16_t command;
    void (*run)(const uint8_t *payload, size_t len, unsigned nfds);
} targets[] = {
    {VFIO_USER_DMA_MAP,                  run_dma_map       },
    {VFIO_USER_DMA_UNMAP,                run_dma_unmap     },
    {VFIO_USER_DEVICE_GET_INFO,          run_device_info   },
    {VFIO_USER_DEVICE_GET_REGION_INFO,   run_region_info   },
    {VFIO_USER_DEVICE_GET_REGION_IO_FDS, run_region_io_fds },
    {VFIO_USER_DEVICE_GET_IRQ_INFO,      run_irq_info      },
    {VFIO_USER_DEVICE_SET_IRQS,          run_irq_set       },
    {VFIO_USER_REGION_READ,              run_region_read   },
    {VFIO_USER_REGION_WRITE,             run_region_write  },
    {VFIO_USER_REGION_WRITE_MULTI,       run_write_multi   },
    {VFIO_USER_DEVICE_FEATURE,           run_device_feature},
    {VFIO_USER_MIG_DATA_READ,            run_mig_data_read },
    {VFIO_USER_MIG_DATA_WRITE,           run_mig_data_write},
};

static void check_request(const struct command *cmd, const struct vfio_user_header *hdr, size_t len,
                          const struct fdset *fds)
{
    REQUIRE(cmd->direction == COMMAND_TO_SERVER);
    REQUIRE(!(hdr->flags & ~(uint32_t)VFIO_USER_FLAG_NO_REPLY));
    REQUIRE(len >= cmd->min_payload && len <= cmd->max_payload);
    REQUIRE(cmd->spare_fds_ok || (fds->count <= cmd->max_fds && !fds->truncated));
}

static void run_message(struct vfio_user_header hdr, const uint8_t *payload, size_t len,
                        const struct fdset *fds)
{
    const struct command *cmd = command_find(hdr.command);

    /* The connection has framed the message by its size. */
    hdr.msg_size = (uint32_t)(sizeof(hdr) + len);
    if (!cmd || validate_header(&hdr, LIMIT_MSG_SIZE) < 0 || validate_request(cmd, &hdr, fds) < 0)
        return;
    check_request(cmd, &hdr, len, fds);
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        if (targets[i].command == hdr.command)
            targets[i].run(payload, len, fds->count);
    }
    if (cmd->extension)
        run_extension(hdr.command, payload, len);
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
    struct vfio_user_header hdr;
    struct fdset fds; /* only its numbers are looked at */

    if (size < 1 + sizeof(hdr))
        return 0;
    fdset_init(&fds);
    fds.count = MIN((unsigned)data[0], (unsigned)LIMIT_RECV_FDS);
    fds.truncated = data[0] > LIMIT_RECV_FDS;
    memcpy(&hdr, data + 1, sizeof(hdr));
    if (!validate_header(&hdr, LIMIT_MSG_SIZE))
        REQUIRE(hdr.msg_size >= sizeof(hdr) && hdr.msg_size <= LIMIT_MSG_SIZE);
    run_message(hdr, data + 1 + sizeof(hdr), size - 1 - sizeof(hdr), &fds);
    return 0;
}
