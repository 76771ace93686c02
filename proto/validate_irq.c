/*
 * validate.h, SET_IRQS.
 *
 * With DATA_EVENTFD the vectors get their descriptors in one of three forms:
 *   no descriptor: all vectors lose theirs;
 *   count descriptors, one a vector, in order;
 *   an int32 for each vector in the payload (Alioth): -1, or the next one of the descriptors.
 *
 * argsz is of no use: QEMU counts an array in it that it does not send.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/arith.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "proto/validate.h"

static int check_flags(uint32_t flags)
{
    const uint32_t data = flags & VFIO_USER_IRQ_SET_DATA_TYPES;
    const uint32_t action = flags & VFIO_USER_IRQ_SET_ACTIONS;

    if (flags != (data | action) || !is_pow2(data) || !is_pow2(action))
        return log_peer_refusal(
            EINVAL, "DEVICE_SET_IRQS: flags 0x%" PRIx32 ": one kind of data and one action are due",
            flags);
    return 0;
}

static int check_range(const struct vfio_user_irq_set *set)
{
    const uint32_t disable = VFIO_USER_IRQ_SET_DATA_NONE | VFIO_USER_IRQ_SET_ACTION_TRIGGER;

    if (!set->count && (set->flags != disable || set->start))
        return log_peer_refusal(EINVAL,
                                "DEVICE_SET_IRQS: count 0 with flags 0x%" PRIx32
                                " and start %" PRIu32 " does not disable the index",
                                set->flags, set->start);
    if (set->count > UINT32_MAX - set->start)
        return log_peer_refusal(EINVAL, "DEVICE_SET_IRQS: start %" PRIu32 " + count %" PRIu32,
                                set->start, set->count);
    return 0;
}

/* Each descriptor is named once, in order: so none is taken twice and none is left over. */
static int check_indexes(const uint8_t *indexes, uint32_t count, unsigned nfds)
{
    unsigned named = 0;

    for (uint32_t i = 0; i < count; i++) {
        int32_t index;

        memcpy(&index, indexes + i * sizeof(index), sizeof(index));
        if (index == -1)
            continue;
        if (index != (int32_t)named)
            return log_peer_refusal(EINVAL,
                                    "DEVICE_SET_IRQS: vector %" PRIu32 " names descriptor %" PRId32
                                    ", the next of %u is %u",
                                    i, index, nfds, named);
        named++;
    }
    if (named != nfds)
        return log_peer_refusal(EINVAL, "DEVICE_SET_IRQS: %u descriptors, %u of them named", nfds,
                                named);
    return 0;
}

static int check_eventfds(const struct vfio_user_irq_set *set, const uint8_t *data, size_t data_len,
                          unsigned nfds, const uint8_t **indexes)
{
    if (data_len) {
        if (data_len / sizeof(int32_t) != set->count || data_len % sizeof(int32_t))
            return log_peer_refusal(EINVAL,
                                    "DEVICE_SET_IRQS: count %" PRIu32 ", but %zu bytes of indexes",
                                    set->count, data_len);
        *indexes = data;
        return check_indexes(data, set->count, nfds);
    }
    if (nfds && nfds != set->count)
        return log_peer_refusal(EINVAL, "DEVICE_SET_IRQS: count %" PRIu32 ", but %u descriptors",
                                set->count, nfds);
    return 0;
}

static int check_bools(const struct vfio_user_irq_set *set, const uint8_t *data, size_t data_len,
                       const uint8_t **bools)
{
    if (data_len < set->count)
        return log_peer_refusal(EINVAL, "DEVICE_SET_IRQS: count %" PRIu32 ", but %zu booleans",
                                set->count, data_len);
    *bools = data;
    return 0;
}

int validate_irq_set(const void *payload, size_t len, unsigned nfds, struct vfio_user_irq_set *out,
                     const uint8_t **bools, const uint8_t **indexes)
{
    const uint8_t *data = (const uint8_t *)payload + sizeof(*out);
    const size_t data_len = len - sizeof(*out);
    int r;

    assert(len >= sizeof(*out));
    memcpy(out, payload, sizeof(*out));
    *bools = NULL;
    *indexes = NULL;
    r = check_flags(out->flags);
    if (r < 0)
        return r;
    r = check_range(out);
    if (r < 0)
        return r;
    if (out->flags & VFIO_USER_IRQ_SET_DATA_EVENTFD)
        return check_eventfds(out, data, data_len, nfds, indexes);
    if (nfds)
        return log_peer_refusal(EINVAL, "DEVICE_SET_IRQS: %u descriptors with flags 0x%" PRIx32,
                                nfds, out->flags);
    if (out->flags & VFIO_USER_IRQ_SET_DATA_BOOL)
        return check_bools(out, data, data_len, bools);
    return 0;
}
