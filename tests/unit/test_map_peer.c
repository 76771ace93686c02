/*
 * DMA of one device to the BAR of another, which belongs to somebody else: over the simulated
 * kernel, by each backend, and with what each has opened for it (bar.h).
 */
#include "bridge/bar.h"

#include <linux/pci_regs.h>
#include <string.h>

#include "bridge/region.h"
#include "bridge/reset.h"
#include "bridge/uapi_compat.h"
#include "tests/unit/own_address_space.h"
#include "tests/unit/sim_fixture.h"

#define IOVA UINT64_C(0x8000000)

enum {
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    SIZE = 1 << 20,
    RW = IOMMU_READ | IOMMU_WRITE,
};

static struct sim *sim;
static struct host *host;
static enum iommu_kind kind;
static int fds;

static char bdf[16]; /* of the device that does the DMA */
static struct iommu_context *context;
static struct iommu *iommu;
static int device;

static struct address_space *as; /* of its peer */
static struct device *target;
static struct iommu_peer peer;

static void share_bar(void)
{
    if (kind == IOMMU_TYPE1)
        assert_int_equal(bar_mmap(target, BAR2, 0, SIZE, &peer.address), 0);
    else
        assert_int_equal(bar_export_dmabuf(target, BAR2, 0, SIZE, &peer.dmabuf), 0);
}

static void unshare_bar(void)
{
    if (peer.address)
        bar_munmap(target, peer.address, SIZE);
    host_close(host, &peer.dmabuf);
    peer.address = NULL;
}

static void open_devices(void)
{
    struct sysfs_device where;
    char other[16];

    assert_int_equal(sim_add_device(sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sim_add_device(sim, "ivshmem", other, sizeof(other)), 0);
    assert_int_equal(sysfs_find_device(host, bdf, &where), 0);
    assert_int_equal(iommu_context_create(host, kind, &context), 0);
    assert_int_equal(iommu_create(context, &iommu), 0);
    assert_int_equal(iommu->ops->open_device(iommu, &where, &device), 0);
    assert_int_equal(sysfs_find_device(host, other, &where), 0);
    assert_int_equal(own_address_space(host, kind, &as), 0);
    assert_int_equal(device_open(&target, host, as, &where), 0);
}

static int setup(enum iommu_kind the_kind)
{
    kind = the_kind;
    fds = fd_count_open();
    sim = sim_create();
    assert_non_null(sim);
    host = sim_host(sim);
    peer = (struct iommu_peer){.dmabuf = -1};
    open_devices();
    share_bar();
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

static struct sim_stats stats(void)
{
    struct sim_stats now;

    sim_get_stats(sim, &now);
    return now;
}

static int teardown(void **state)
{
    (void)state;
    unshare_bar();
    device_close(target);
    target = NULL;
    address_space_destroy(as);
    host_close(host, &device);
    iommu->ops->destroy(iommu);
    iommu_context_unref(context);
    assert_int_equal(stats().mappings + stats().bar_mappings + stats().dmabufs, 0);
    sim_destroy(sim);
    assert_int_equal(fd_count_open(), fds);
    return 0;
}

static int map(uint64_t iova, uint64_t size, uint32_t prot, uint64_t offset, void **cookie)
{
    return iommu->ops->map_peer(iommu, iova, size, prot, &peer, offset, cookie);
}

static int put(uint64_t iova, char byte)
{
    return sim_device_dma(sim, bdf, iova, &byte, 1, true);
}

static char get(uint64_t offset)
{
    char byte = 0;

    assert_int_equal(region_read(target, BAR2, offset, &byte, 1), 0);
    return byte;
}

static void set_decode(bool on)
{
    uint16_t command = on ? PCI_COMMAND_MEMORY : 0;

    assert_int_equal(region_write(target, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &command, 2),
                     0);
}

static void test_dma(void **state)
{
    char text[4] = "abcd";
    void *cookie;

    (void)state;
    sim_set_memlock(sim, 0);
    assert_int_equal(map(IOVA, 4 * FX_PAGE, RW, 2 * FX_PAGE, &cookie), 0);
    assert_int_equal(stats().pinned_bytes, 0);
    assert_int_equal(sim_device_dma(sim, bdf, IOVA + FX_PAGE - 2, text, 4, true), 0);
    assert_int_equal(get(3 * FX_PAGE - 2), 'a');
    assert_int_equal(get(3 * FX_PAGE + 1), 'd');
    assert_int_equal(region_write(target, BAR2, 2 * FX_PAGE, "xyz", 3), 0);
    assert_int_equal(sim_device_dma(sim, bdf, IOVA, text, 3, false), 0);
    assert_memory_equal(text, "xyzd", 4);
    assert_int_equal(put(IOVA + 4 * FX_PAGE, 'n'), -EFAULT);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, 4 * FX_PAGE, cookie), 0);
    assert_int_equal(put(IOVA, 'n'), -EFAULT);
    assert_int_equal(get(2 * FX_PAGE), 'x');
}

static void test_rights(void **state)
{
    void *cookie;
    char byte;

    (void)state;
    assert_int_equal(map(IOVA, FX_PAGE, IOMMU_READ, 0, &cookie), 0);
    assert_int_equal(sim_device_dma(sim, bdf, IOVA, &byte, 1, false), 0);
    assert_int_equal(put(IOVA, 'n'), -EFAULT);
    assert_int_equal(get(0), 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
}

/* Several mappings of one BAR, which the owner's end of sharing it leaves alone. */
static void test_owner_stops_sharing(void **state)
{
    void *a, *b;

    (void)state;
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &a), 0);
    assert_int_equal(map(2 * IOVA, FX_PAGE, RW, FX_PAGE, &b), 0);
    unshare_bar();
    assert_int_equal(put(IOVA, 'a'), 0);
    assert_int_equal(put(2 * IOVA, 'b'), 0);
    assert_int_equal(get(0), 'a');
    assert_int_equal(get(FX_PAGE), 'b');
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, a), 0);
    assert_int_equal(put(2 * IOVA, 'c'), 0);
    assert_int_equal(iommu->ops->unmap(iommu, 2 * IOVA, FX_PAGE, b), 0);
}

/* While it is shared by a mapping the kernel keeps it open; then it is the next client's. */
static void test_owner_reopens(void **state)
{
    void *cookie;

    (void)state;
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
    unshare_bar();
    assert_int_equal(device_reopen(target), 0);
    share_bar();
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    assert_int_equal(put(IOVA, 'a'), 0);
    assert_int_equal(get(0), 'a');
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
}

static void test_what_the_other_backend_takes(void **state)
{
    const struct iommu_peer nothing = {.dmabuf = -1};
    struct iommu_peer other = nothing;
    unsigned calls = stats().ioctls;
    void *cookie;

    (void)state;
    if (kind == IOMMU_TYPE1)
        other.dmabuf = 5;
    else
        other.address = &other;
    assert_int_equal(iommu->ops->map_peer(iommu, IOVA, FX_PAGE, RW, &nothing, 0, &cookie),
                     -EOPNOTSUPP);
    assert_int_equal(iommu->ops->map_peer(iommu, IOVA, FX_PAGE, RW, &other, 0, &cookie),
                     -EOPNOTSUPP);
    assert_int_equal(stats().ioctls, calls);
}

static void test_errors_of_the_kernel(void **state)
{
    unsigned long request = kind == IOMMU_TYPE1 ? VFIO_IOMMU_MAP_DMA : UAPI_IOMMU_IOAS_MAP_FILE;
    unsigned long unmap = kind == IOMMU_TYPE1 ? VFIO_IOMMU_UNMAP_DMA : UAPI_IOMMU_IOAS_UNMAP;
    void *cookie;

    (void)state;
    sim_fail_nth(sim, SIM_CALL_IOCTL, request, 1, ENOSPC);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), -ENOSPC);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), -EEXIST);
    sim_fail_nth(sim, SIM_CALL_IOCTL, unmap, 1, EIO);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), -EIO);
    assert_int_equal(stats().mappings, 1);
    iommu->ops->abandon(iommu, FX_PAGE, cookie);
    assert_false(iommu->stray);
}

/* type1's translation outlives what happens to the BAR. */
static void test_decode_off_type1(void **state)
{
    void *cookie, *none;

    (void)state;
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    set_decode(false);
    assert_int_equal(map(2 * IOVA, FX_PAGE, RW, 0, &none), -EFAULT);
    assert_int_equal(put(IOVA, 'a'), -EIO);
    assert_int_equal(stats().peer_faults, 1);
    assert_int_equal(reset_device(target), 0);
    set_decode(true);
    assert_int_equal(get(0), 0);
    assert_int_equal(put(IOVA, 'b'), 0);
    assert_int_equal(get(0), 'b');
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
}

/* iommufd's does not, but the dma-buf can be mapped anew. */
static void test_decode_off_iommufd(void **state)
{
    void *cookie, *none;

    (void)state;
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    set_decode(false);
    assert_int_equal(map(2 * IOVA, FX_PAGE, RW, 0, &none), -ENODEV);
    set_decode(true);
    assert_int_equal(put(IOVA, 'a'), -EFAULT);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    assert_int_equal(put(IOVA, 'b'), 0);
    assert_int_equal(reset_device(target), 0);
    assert_int_equal(put(IOVA, 'c'), -EFAULT);
    assert_int_equal(get(0), 'b');
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
}

/* Such a kernel maps memory by its address, which no BAR has. */
static void test_kernel_without_map_file(void **state)
{
    void *cookie;

    (void)state;
    sim_set_iommufd(sim, SIM_IOMMUFD_MAP);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), -EOPNOTSUPP);
    sim_set_iommufd(sim, SIM_IOMMUFD_MAP_FILE);
    assert_int_equal(map(IOVA, FX_PAGE, RW, 0, &cookie), 0);
    assert_int_equal(iommu->ops->unmap(iommu, IOVA, FX_PAGE, cookie), 0);
}

static void test_kernel_without_dma_buf(void **state)
{
    int fd;

    (void)state;
    sim_set_dma_buf_error(sim, ENOTTY);
    assert_int_equal(bar_export_dmabuf(target, BAR2, 0, FX_PAGE, &fd), -ENOTTY);
    sim_set_dma_buf_error(sim, EOPNOTSUPP);
    assert_int_equal(bar_export_dmabuf(target, BAR2, 0, FX_PAGE, &fd), -EOPNOTSUPP);
}

/* Where the firmware has put the BARs, before any client. */
static void test_windows(void **state)
{
    struct bar_window w[BAR_MOST];

    (void)state;
    assert_int_equal(bar_find_windows(target, w), 2);
    assert_int_equal(w[0].index, 0);
    assert_int_equal(w[1].index, BAR2);
    assert_int_equal(w[1].size, SIZE);
    assert_int_equal(w[1].address % SIZE, 0);
    assert_true(w[0].address != w[1].address);
    set_decode(false);
    assert_int_equal(bar_find_windows(target, w), 0);
}

#define WITH(kind, test) cmocka_unit_test_setup_teardown(test, setup_##kind, teardown)
#define BOTH(test)       WITH(type1, test), WITH(iommufd, test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_dma),
        BOTH(test_rights),
        BOTH(test_owner_stops_sharing),
        BOTH(test_owner_reopens),
        BOTH(test_what_the_other_backend_takes),
        BOTH(test_errors_of_the_kernel),
        BOTH(test_windows),
        WITH(type1, test_decode_off_type1),
        WITH(iommufd, test_decode_off_iommufd),
        WITH(iommufd, test_kernel_without_map_file),
        WITH(iommufd, test_kernel_without_dma_buf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
