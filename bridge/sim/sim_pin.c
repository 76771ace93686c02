/*
 * The kernel pins pages: they stay the device's whatever the process does to its mapping or the
 * client to its file. What comes closest to it in user space is a second mapping of the same
 * file, which survives munmap() of the first. Its limits:
 *
 * - Private memory can't be mapped a second time. It is used where it is and must stay there.
 * - A process has some 65,000 mappings at most, and the bridge needs one for each entry too, so
 *   only so many pins get one; the others use the caller's mapping.
 * - The second mapping follows the file: what a client cuts off or punches out of it is gone for
 *   the device too. The kernel's device would go on with the old pages, which nobody else sees.
 *   So a device's write to memory that is gone is lost and a read gives zeros, and no fault is
 *   counted.
 * - One entry must lie within one mapping of the caller.
 *
 * Nothing here touches the memory directly, because that could raise SIGBUS: all copies are made
 * by the kernel.
 */
#include "bridge/sim/sim_pin.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bridge/sim/sim_internal.h"

enum {
    MAX_OWN_MAPPINGS = 16384,
};

static char *to_pointer(uint64_t vaddr)
{
    return (char *)(uintptr_t)vaddr;
}

int sim_lock_memory(struct sim *sim, uint64_t size)
{
    uint64_t locked = sim->count.locked_bytes;

    do {
        if (size > sim->memlock || locked > sim->memlock - size)
            return -ENOMEM;
    } while (!atomic_compare_exchange_weak(&sim->count.locked_bytes, &locked, locked + size));
    return 0;
}

void sim_unlock_memory(struct sim *sim, uint64_t size)
{
    sim->count.locked_bytes -= size;
}

static bool take_own_mapping(struct sim *sim, struct sim_pin *pin)
{
    void *addr;

    if (atomic_fetch_add(&sim->count.pins, 1) >= MAX_OWN_MAPPINGS)
        goto none;
    addr = mremap(pin->addr, 0, pin->size, MREMAP_MAYMOVE);
    if (addr == MAP_FAILED)
        goto none;
    pin->addr = addr;
    return true;

none:
    sim->count.pins--;
    return false;
}

static int hold(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size, bool write)
{
    *pin = (struct sim_pin){.addr = to_pointer(vaddr), .size = size};
    if (madvise(pin->addr, size, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) < 0)
        return -EFAULT;
    sim->count.pinned_bytes += size;
    sim->count.pins_made++;
    return 0;
}

int sim_pin_in_place(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size,
                     bool write)
{
    int ret = sim_lock_memory(sim, size);

    if (ret)
        return ret;
    ret = hold(sim, pin, vaddr, size, write);
    if (ret)
        sim_unlock_memory(sim, size);
    else
        pin->counted = true;
    return ret;
}

int sim_pin(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size, bool write)
{
    int ret = sim_pin_in_place(sim, pin, vaddr, size, write);

    if (!ret)
        pin->own = take_own_mapping(sim, pin);
    return ret;
}

int sim_pin_uncounted(struct sim *sim, struct sim_pin *pin, uint64_t vaddr, uint64_t size,
                      bool write)
{
    int ret = hold(sim, pin, vaddr, size, write);

    if (!ret)
        pin->own = take_own_mapping(sim, pin);
    return ret;
}

void sim_unpin(struct sim *sim, struct sim_pin *pin)
{
    sim->count.pinned_bytes -= pin->size;
    if (pin->counted)
        sim_unlock_memory(sim, pin->size);
    if (!pin->own)
        return;
    munmap(pin->addr, pin->size);
    sim->count.pins--;
}

void sim_pin_move(struct sim_pin *pin, uint64_t vaddr)
{
    if (!pin->own)
        pin->addr = to_pointer(vaddr);
}

void sim_pin_copy(const struct sim_pin *pin, uint64_t offset, void *buf, size_t len, bool write)
{
    size_t done = 0;

    while (done < len) {
        struct iovec local = {.iov_base = (char *)buf + done, .iov_len = len - done};
        struct iovec remote = {.iov_base = pin->addr + offset + done, .iov_len = len - done};
        ssize_t n = write ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
                          : process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (!write)
        memset((char *)buf + done, 0, len - done);
}
