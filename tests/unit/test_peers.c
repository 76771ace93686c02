#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <string.h>

#include "bridge/address_space.h"
#include "bridge/device.h"
#include "bridge/peers.h"
#include "bridge/region.h"
#include "bridge/reset.h"
#include "bridge/sim/sim.h"
#include "bridge/uapi_compat.h"
#include "proto/base/fd.h"
#include "tests/unit/log_capture.h"

enum {
    PAGE = 4096,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    BAR2_REGISTER = PCI_BASE_ADDRESS_0 + 2 * sizeof(uint32_t),
    SIZE = 1 << 20, /* of sim:ivshmem's BAR 2 */
    RW = IOMMU_READ | IOMMU_WRITE,
};

#define HERE  UINT64_C(0x240000000)
#define THERE UINT64_C(0x280000000)

/* Two devices of one client: one does DMA, the other has a BAR of memory. */
struct side {
    char bdf[16];
    struct address_space *as;
    struct device *dev;
};

static struct sim *sim;
static struct host *host;
static struct peers *peers;
static struct iommu_context *context;
static enum iommu_kind kind;
static struct side reader, owner;
static int fds;
static struct log_capture capture;

static void open_side(struct side *side, const char *model)
{
    struct sysfs_device where;
    struct domain *domain;

    assert_int_equal(sim_add_device(sim, model, side->bdf, sizeof(side->bdf)), 0);
    assert_int_equal(sysfs_find_device(host, side->bdf, &where), 0);
    assert_int_equal(domain_create(context, &domain), 0);
    assert_int_equal(address_space_create(domain, &side->as), 0);
    domain_unref(domain);
    assert_int_equal(device_open(&side->dev, host, side->as, &where), 0);
    address_space_set_peers(side->as, peers);
    assert_int_equal(device_join_peers(side->dev, peers), 0);
}

static void close_side(struct side *side)
{
    device_close(side->dev);
    address_space_destroy(side->as);
    side->dev = NULL;
    side->as = NULL;
}

static int setup(enum iommu_kind the_kind)
{
    kind = the_kind;
    fds = fd_count_open();
    sim = sim_create();
    assert_non_null(sim);
    host = sim_host(sim);
    assert_int_equal(peers_create(&peers), 0);
    assert_int_equal(iommu_context_create(host, kind, &context), 0);
    open_side(&reader, "edu");
    open_side(&owner, "ivshmem");
    return 0;
}

static int setup_type1(void **state)
{
    (void)state;
    return setup(IOMMU_TYPE1);
}

static int setup_iommufd(void **state)
{
    (void)state;
    return setup(IOMMU_IOMMUFD);
}

static int teardown(void **state)
{
    struct sim_stats stats;

    (void)state;
    log_capture_drop(&capture);
    close_side(&owner);
    close_side(&reader);
    peers_unref(peers);
    iommu_context_unref(context);
    sim_get_stats(sim, &stats);
    assert_int_equal(stats.mappings + stats.bar_mappings + stats.dmabufs, 0);
    assert_int_equal(stats.contexts + stats.containers + stats.devices, 0);
    sim_destroy(sim);
    assert_int_equal(fd_count_open(), fds);
    return 0;
}

static void write_config(uint64_t offset, const void *buf, uint32_t count)
{
    assert_int_equal(region_write(owner.dev, CONFIG, offset, buf, count), 0);
}

static void place(uint64_t address)
{
    uint32_t half[2] = {htole32((uint32_t)address), htole32((uint32_t)(address >> 32))};

    /* As a guest does it: one register at a time. */
    write_config(BAR2_REGISTER, &half[0], sizeof(half[0]));
    write_config(BAR2_REGISTER + 4, &half[1], sizeof(half[1]));
}

static void decode(bool on)
{
    uint16_t command = htole16(on ? PCI_COMMAND_MEMORY : 0);

    write_config(PCI_COMMAND, &command, sizeof(command));
}

static int wish(uint64_t iova, uint64_t size)
{
    return address_space_map(reader.as, iova, size, RW, -1, 0);
}

static size_t granted(const struct side *side)
{
    struct address_space_stats stats;

    address_space_get_stats(side->as, &stats);
    assert_int_equal(stats.unbacked, stats.maps);
    return stats.peers;
}

/* The reader's DMA lands in the owner's BAR, at the offset, and nowhere else. */
static void assert_reaches(uint64_t iova, uint64_t offset)
{
    static uint32_t value;
    uint32_t seen = 0;

    value += 0x01010101;
    assert_int_equal(sim_device_dma(sim, reader.bdf, iova, &value, sizeof(value), true), 0);
    assert_int_equal(region_read(owner.dev, BAR2, offset, &seen, sizeof(seen)), 0);
    assert_int_equal(seen, value);
}

static void assert_stopped(uint64_t iova)
{
    uint32_t value = 0;

    assert_int_equal(sim_device_dma(sim, reader.bdf, iova, &value, sizeof(value), true), -EFAULT);
}

static void follows_the_bar(void **state)
{
    (void)state;
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_int_equal(wish(THERE, SIZE), 0);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);

    log_capture_start(&capture);
    place(HERE);
    decode(true);
    assert_non_null(strstr(log_capture_end(&capture), "reach BAR 2 of"));
    assert_int_equal(granted(&reader), 1);
    assert_reaches(HERE + 8, 8);
    assert_stopped(THERE);

    place(THERE);
    assert_int_equal(granted(&reader), 1);
    assert_stopped(HERE);
    assert_reaches(THERE + SIZE - 4, SIZE - 4);

    decode(false);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(THERE);
    decode(true);
    assert_reaches(THERE, 0);
}

static void comes_back_after_a_reset(void **state)
{
    struct sim_device_state now;

    (void)state;
    place(HERE);
    decode(true);
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_int_equal(reset_device(owner.dev), 0);
    assert_int_equal(sim_get_device_state(sim, owner.bdf, &now), 0);
    assert_int_equal(granted(&reader), now.memory_enabled);
    decode(true);
    assert_reaches(HERE, 0);
}

static void ends_with_the_device(void **state)
{
    (void)state;
    place(HERE);
    decode(true);
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_reaches(HERE, 0);
    assert_int_equal(device_reopen(owner.dev), 0);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
    /* It is the next client's now, who may put its BAR where it likes. */
    place(HERE);
    decode(true);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
    assert_int_equal(address_space_unmap(reader.as, HERE, SIZE), 0);
}

static void ends_with_the_mapping(void **state)
{
    (void)state;
    place(HERE);
    decode(true);
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_int_equal(granted(&reader), 1);
    assert_int_equal(address_space_unmap(reader.as, HERE, SIZE), 0);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_int_equal(wish(THERE, SIZE), 0);
    assert_reaches(HERE, 0);
    assert_int_equal(address_space_unmap_all(reader.as), 0);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
    decode(false);
    decode(true);
    assert_stopped(HERE);
}

static void only_inside_the_bar(void **state)
{
    (void)state;
    place(HERE);
    decode(true);
    assert_int_equal(wish(HERE - PAGE, 2 * PAGE), 0);
    assert_int_equal(wish(HERE + PAGE, PAGE), 0);
    assert_int_equal(wish(HERE + 2 * PAGE, SIZE - 2 * PAGE), 0);
    assert_int_equal(wish(HERE + SIZE, PAGE), 0);
    assert_int_equal(granted(&reader), 2);
    assert_stopped(HERE);
    assert_reaches(HERE + PAGE, PAGE);
    assert_reaches(HERE + SIZE - PAGE, SIZE - PAGE);
    assert_stopped(HERE + SIZE);
    assert_int_equal(address_space_unmap_all(reader.as), 0);
    assert_int_equal(wish(HERE + PAGE, SIZE), 0);
    assert_int_equal(granted(&reader), 0);
}

/* Its own BAR, and those of a device that left, are nobody's peer. */
static void no_others(void **state)
{
    (void)state;
    assert_int_equal(address_space_map(owner.as, HERE, SIZE, RW, -1, 0), 0);
    assert_int_equal(wish(HERE, SIZE), 0);
    place(HERE);
    decode(true);
    assert_int_equal(granted(&owner), 0);
    assert_int_equal(granted(&reader), 1);
    device_leave_peers(owner.dev);
    assert_int_equal(granted(&reader), 0);
    decode(true);
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
}

/* What can't be granted stays unbacked, and the next move tries again. */
static void kernel_refuses(void **state)
{
    unsigned long request = kind == IOMMU_TYPE1 ? VFIO_IOMMU_MAP_DMA : UAPI_IOMMU_IOAS_MAP_FILE;

    (void)state;
    place(HERE);
    decode(true);
    log_capture_start(&capture);
    sim_fail_nth(sim, SIM_CALL_IOCTL, request, 1, ENOSPC);
    assert_int_equal(wish(HERE, SIZE), 0);
    assert_non_null(strstr(log_capture_end(&capture), "can't be mapped for DMA: No space"));
    assert_int_equal(granted(&reader), 0);
    assert_stopped(HERE);
    decode(true);
    assert_reaches(HERE, 0);
}

/* A translation that can't be removed leaves a domain that has to end. */
static void kernel_does_not_unmap(void **state)
{
    unsigned long request = kind == IOMMU_TYPE1 ? VFIO_IOMMU_UNMAP_DMA : UAPI_IOMMU_IOAS_UNMAP;

    (void)state;
    place(HERE);
    decode(true);
    assert_int_equal(wish(HERE, SIZE), 0);
    sim_fail_nth(sim, SIM_CALL_IOCTL, request, 1, EIO);
    assert_int_equal(address_space_unmap(reader.as, HERE, SIZE), -EIO);
    assert_int_equal(granted(&reader), 1);
    sim_fail_nth(sim, SIM_CALL_IOCTL, request, 1, EIO);
    decode(false);
    assert_int_equal(granted(&reader), 0);
    assert_int_equal(address_space_unmap_all(reader.as), -EIO);
}

#define on_both(t)                                                                                 \
    {#t " (type1)", t, setup_type1, teardown, NULL},                                               \
    {                                                                                              \
#t " (iommufd)", t, setup_iommufd, teardown, NULL                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_both(follows_the_bar),      on_both(comes_back_after_a_reset),
        on_both(ends_with_the_device), on_both(ends_with_the_mapping),
        on_both(only_inside_the_bar),  on_both(no_others),
        on_both(kernel_refuses),       on_both(kernel_does_not_unmap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
