/*
 * As vfio-pci: those of s390's functions in the order in which it has them, then AtomicOps.
 */
#include "bridge/sim/sim_info_caps.h"

#include <linux/vfio_zdev.h>
#include <stdint.h>
#include <string.h>

#include "bridge/sim/sim_device.h"
#include "bridge/uapi_compat.h"

enum {
    /* The kernel's struct with its padding, which the older headers leave to the compiler. */
    FIXED = 24,
    UTIL_SIZE = 64,
    PFIP_SIZE = 4,
};

struct chain {
    _Alignas(8) uint8_t bytes[256];
    size_t len;
    uint32_t *next; /* of the last one */
};

static void *add(struct chain *chain, uint16_t id, uint16_t version, size_t size)
{
    struct vfio_info_cap_header *cap = (void *)(chain->bytes + chain->len);

    if (chain->next)
        *chain->next = (uint32_t)(FIXED + chain->len);
    cap->id = id;
    cap->version = version;
    chain->next = &cap->next;
    chain->len += (size + 7) & ~(size_t)7;
    return cap;
}

static void add_zpci(struct chain *chain)
{
    struct vfio_device_info_cap_zpci_base *base =
        add(chain, VFIO_DEVICE_INFO_CAP_ZPCI_BASE, 2, sizeof(*base));
    struct vfio_device_info_cap_zpci_group *group =
        add(chain, VFIO_DEVICE_INFO_CAP_ZPCI_GROUP, 2, sizeof(*group));
    struct vfio_device_info_cap_zpci_util *util =
        add(chain, VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, 1, sizeof(*util) + UTIL_SIZE);
    struct vfio_device_info_cap_zpci_pfip *pfip =
        add(chain, VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, 1, sizeof(*pfip) + PFIP_SIZE);

    base->start_dma = 0x100000000;
    base->end_dma = 0x1ffffffff;
    base->pchid = 0x123;
    base->pft = 2;
    base->gid = 0x20;
    base->fh = 0x80001234;
    group->dasm = UINT64_MAX;
    group->msi_addr = 0xfe00000000000000;
    group->noi = 64;
    group->maxstbl = 128;
    util->size = UTIL_SIZE;
    memset(util->util_str, 0xc1, UTIL_SIZE); /* EBCDIC */
    pfip->size = PFIP_SIZE;
    memset(pfip->pfip, 0x11, PFIP_SIZE);
}

void sim_info_add_caps(const struct sim_device *dev, void *arg, struct vfio_device_info *info)
{
    struct chain chain = {0};

    if (dev->zpci)
        add_zpci(&chain);
    if (dev->model->atomics) {
        struct uapi_vfio_cap_pci_atomic_comp *atomics =
            add(&chain, UAPI_VFIO_CAP_PCI_ATOMIC_COMP, 1, sizeof(*atomics));

        atomics->flags = dev->model->atomics;
    }
    if (!chain.len)
        return;
    info->flags |= VFIO_DEVICE_FLAGS_CAPS;
    info->cap_offset = 0;
    if (info->argsz < FIXED + chain.len) {
        info->argsz = (uint32_t)(FIXED + chain.len);
        return;
    }
    info->cap_offset = FIXED;
    memcpy((char *)arg + FIXED, chain.bytes, chain.len);
}
