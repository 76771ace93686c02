#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/base/log.h"
#include "proto/validate.h"

int validate_extension(uint16_t command, const void *payload, size_t len, uint32_t known_flags,
                       void *out, size_t size)
{
    const char *name = command_name(command);
    struct vfio_userd_head head;

    if (len < size)
        return log_peer_refusal(EINVAL, "%s: payload of %zu bytes", name, len);
    memcpy(out, payload, size);
    memcpy(&head, payload, sizeof(head));
    if (head.argsz < size)
        return log_peer_refusal(EINVAL, "%s: argsz %" PRIu32 ", at least %zu", name, head.argsz,
                                size);
    if (head.flags & ~known_flags)
        return log_peer_refusal(EINVAL, "%s: flags 0x%" PRIx32, name, head.flags);
    return 0;
}
