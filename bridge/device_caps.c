/*
 * The capabilities of GET_INFO: what a client may know of them. Of those that are not listed
 * nothing is passed on, as they could hold what only the host should know. So is the end of
 * ZPCI_BASE: the host's handle of the function, which is of use to the host's KVM alone.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <linux/vfio_zdev.h>
#include <string.h>

#include "bridge/device_internal.h"
#include "bridge/uapi.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    /* Of the strings; s390 has 64 bytes of the one and 4 of the other. */
    MOST_TEXT = 256,
};

static const struct known_cap {
    uint16_t id;
    uint16_t version; /* the last that is told in full */
    size_t size;
    bool text; /* its size, and as many bytes, follow the header */
} known[] = {
  /* clang-format off */
    {VFIO_DEVICE_INFO_CAP_ZPCI_BASE, 1,
     offsetof(struct vfio_device_info_cap_zpci_base, fh), false},
    {VFIO_DEVICE_INFO_CAP_ZPCI_GROUP, 2,
     sizeof(struct vfio_device_info_cap_zpci_group), false},
    {VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, 1,
     sizeof(struct vfio_device_info_cap_zpci_util), true},
    {VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, 1,
     sizeof(struct vfio_device_info_cap_zpci_pfip), true},
    {UAPI_VFIO_CAP_PCI_ATOMIC_COMP, 1,
     sizeof(struct uapi_vfio_cap_pci_atomic_comp), false},
  /* clang-format on */
};

static const struct known_cap *find(uint16_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (known[i].id == id)
            return &known[i];
    }
    return NULL;
}

/* room: from the capability to the end of what the kernel said. 0: nothing of it is told. */
static size_t size_for_client(const struct known_cap *k, const struct vfio_info_cap_header *cap,
                              size_t room)
{
    const struct vfio_device_info_cap_zpci_util *text = (const void *)cap;

    if (!k || k->size > room)
        return 0;
    if (!k->text)
        return k->size;
    return text->size <= MIN(room - k->size, (size_t)MOST_TEXT) ? k->size + text->size : 0;
}

static int append(struct uapi_caps *caps, const struct known_cap *k,
                  const struct vfio_info_cap_header *cap, size_t size)
{
    struct vfio_info_cap_header *copy;
    int ret = uapi_caps_append(caps, cap, size);

    if (ret)
        return ret;
    copy = (void *)((char *)caps->bytes + caps->last);
    copy->version = MIN(copy->version, k->version);
    return 0;
}

int device_read_caps(struct device *dev, const struct vfio_device_info *got, size_t len)
{
    const size_t fixed = offsetof(struct vfio_device_info, cap_offset) + sizeof(got->cap_offset);
    struct uapi_caps caps = {.base = DEVICE_CAPS_AT};
    const struct vfio_info_cap_header *cap;
    uint32_t offset = got->flags & VFIO_DEVICE_FLAGS_CAPS && len >= fixed ? got->cap_offset : 0;
    unsigned steps = 0;
    size_t room;
    int ret = 0;

    for (; !ret && (cap = uapi_cap_at(got, len, offset, &steps, &room)); offset = cap->next) {
        const struct known_cap *k = find(cap->id);
        size_t size = size_for_client(k, cap, room);

        if (size)
            ret = append(&caps, k, cap, size);
    }
    dev->info.caps = caps.bytes;
    dev->info.caps_len = caps.len;
    return ret;
}
