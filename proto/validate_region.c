/* validate.h, the accesses to regions. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "proto/validate.h"

static int check_access(uint16_t command, const struct vfio_user_region_access *access)
{
    if (!access->count || access->count > LIMIT_DATA_XFER)
        return log_peer_refusal(EINVAL, "%s: count %" PRIu32 ", from 1 to %d",
                                command_name(command), access->count, LIMIT_DATA_XFER);
    if (range_wraps(access->offset, access->count))
        return log_peer_refusal(EINVAL, "%s: offset 0x%" PRIx64 " + count %" PRIu32,
                                command_name(command), access->offset, access->count);
    return 0;
}

int validate_region_read(const void *payload, size_t len, struct vfio_user_region_access *out)
{
    assert(len >= sizeof(*out));
    memcpy(out, payload, sizeof(*out));
    if (len != sizeof(*out))
        return log_peer_refusal(EINVAL, "REGION_READ: %zu bytes of data in a request",
                                len - sizeof(*out));
    return check_access(VFIO_USER_REGION_READ, out);
}

int validate_region_write(const void *payload, size_t len, struct vfio_user_region_access *out,
                          const uint8_t **data)
{
    assert(len >= sizeof(*out));
    memcpy(out, payload, sizeof(*out));
    if (len - sizeof(*out) != out->count)
        return log_peer_refusal(EINVAL, "REGION_WRITE: count %" PRIu32 ", but %zu bytes came",
                                out->count, len - sizeof(*out));
    *data = (const uint8_t *)payload + sizeof(*out);
    return check_access(VFIO_USER_REGION_WRITE, out);
}

int validate_write_multi(const void *payload, size_t len, uint64_t *wr_cnt, const uint8_t **entries)
{
    struct vfio_user_region_write_multi fixed;

    assert(len >= sizeof(fixed));
    memcpy(&fixed, payload, sizeof(fixed));
    if (!fixed.wr_cnt || fixed.wr_cnt > LIMIT_WRITE_MULTI)
        return log_peer_refusal(EINVAL, "REGION_WRITE_MULTI: wr_cnt %" PRIu64 ", from 1 to %d",
                                fixed.wr_cnt, LIMIT_WRITE_MULTI);
    if (len - sizeof(fixed) != fixed.wr_cnt * sizeof(struct vfio_user_write_multi_entry))
        return log_peer_refusal(EINVAL,
                                "REGION_WRITE_MULTI: wr_cnt %" PRIu64 ", but %zu bytes came",
                                fixed.wr_cnt, len - sizeof(fixed));
    *wr_cnt = fixed.wr_cnt;
    *entries = (const uint8_t *)payload + sizeof(fixed);
    return 0;
}

int validate_write_multi_entry(const uint8_t *entries, uint64_t i,
                               struct vfio_user_write_multi_entry *out)
{
    memcpy(out, entries + i * sizeof(*out), sizeof(*out));
    if (!out->count || out->count > sizeof(out->data))
        return log_peer_refusal(
            EINVAL, "REGION_WRITE_MULTI: write %" PRIu64 ": count %" PRIu32 ", from 1 to %zu", i,
            out->count, sizeof(out->data));
    if (range_wraps(out->offset, out->count))
        return log_peer_refusal(
            EINVAL, "REGION_WRITE_MULTI: write %" PRIu64 ": offset 0x%" PRIx64 " + count %" PRIu32,
            i, out->offset, out->count);
    return 0;
}
