#include "tests/unit/sim_iommufd_fixture.h"
#include "tests/unit/sim_peer_fixture.h"
#include "tests/unit/touch.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    SIZE = 1 << 20,
    RW = PROT_READ | PROT_WRITE,
};

static int setup(void **state)
{
    fx_setup_model(state, &sim_ivshmem_model);
    fx_open_device(*state);
    return 0;
}

static int setup_cdev(void **state)
{
    fx_setup_model(state, &sim_ivshmem_model);
    return 0;
}

/* What another process does with the descriptor that it is given. */
static char *map_at(int fd, off_t offset)
{
    char *p = mmap(NULL, SIZE, RW, MAP_SHARED, fd, offset);

    assert_ptr_not_equal(p, MAP_FAILED);
    return p;
}

static char *map_shared(struct fixture *fx, int *fd)
{
    *fd = host_share(fx->host, fx->device);
    assert_true(*fd >= 0);
    return map_at(*fd, fx_offset(fx, BAR2, 0));
}

static int export_dmabuf(struct fixture *fx, uint64_t offset)
{
    struct {
        struct vfio_device_feature head;
        struct uapi_feature_dma_buf get;
        struct uapi_dma_range range;
    } request = {
        .head = {.argsz = sizeof(request),
                 .flags = VFIO_DEVICE_FEATURE_GET | UAPI_VFIO_DEVICE_FEATURE_DMA_BUF},
        .get = {.region_index = BAR2,     .open_flags = O_CLOEXEC | O_RDWR,          .nr_ranges = 1},
        .range = {.offset = offset,                        .length = SIZE - offset                                                 },
    };

    return fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, &request);
}

static void a_client_maps_the_memory(void **state)
{
    struct fixture *fx = *state;
    char *bar;
    int fd;

    fx_set(fx, BAR2, 1, 'a', 1);
    bar = map_shared(fx, &fd);
    assert_int_equal(bar[1], 'a');
    bar[SIZE - 1] = 'b';
    assert_int_equal(fx_get(fx, BAR2, SIZE - 1, 1), 'b');
    fx_set(fx, BAR2, 2, 'c', 1);
    assert_int_equal(bar[2], 'c');
    munmap(bar, SIZE);
    close(fd);
}

static void what_has_no_memory(void **state)
{
    struct fixture *fx = *state;

    fx_open_device(fx);
    assert_int_equal(host_share(fx->host, fx->device), -EOPNOTSUPP);
    assert_int_equal(host_share(fx->host, fx->container), -EOPNOTSUPP);
    assert_int_equal(host_share(fx->host, -1), -EBADF);
}

/* As the kernel zaps mappings: what is behind them is there still. */
static void decode_off(void **state)
{
    struct fixture *fx = *state;
    char *bar;
    int fd;

    bar = map_shared(fx, &fd);
    bar[0] = 'a';
    peer_set_decode(fx, false);
    assert_int_equal(touch(bar), -EFAULT);
    peer_set_decode(fx, true);
    assert_int_equal(touch(bar), 'a');
    assert_int_equal(fx_get(fx, BAR2, 0, 1), 'a');
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(touch(bar), 'a');
    munmap(bar, SIZE);
    close(fd);
}

/* A duplicate and a mapping each keep the device open, so that its group stays where it is. */
static void a_client_keeps_the_device(void **state)
{
    struct fixture *fx = *state;
    int fd, copy, again;
    char *bar;

    bar = map_shared(fx, &fd);
    bar[0] = 'a';
    fx_set_bus_master(fx, true);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
    assert_true(fx_state(fx).bus_master);
    assert_int_equal(touch(bar), 'a');
    copy = dup(fd);
    munmap(bar, SIZE);
    close(fd);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);

    /* The device may be opened once more meanwhile, which does not reset it. */
    again = fx_get_device(fx, fx->bdf);
    assert_true(again >= 0);
    assert_true(fx_state(fx).bus_master);
    host_close(fx->host, &again);
    bar = map_at(copy, 0);
    close(copy);
    assert_int_equal(fx_ioctl(fx, fx->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
    host_close(fx->host, &fx->group);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    munmap(bar, SIZE);
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
    assert_false(fx_state(fx).bus_master);
}

static void a_client_keeps_the_cdev(void **state)
{
    struct fixture *fx = *state;
    int iommufd = fd_open(fx), fd, next = fx_open(fx, FD_CDEV);
    char *bar;

    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(host_share(fx->host, fx->device), -EOPNOTSUPP);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), 0);
    bar = map_shared(fx, &fd);
    host_close(fx->host, &fx->device);
    assert_int_equal(fd_bind(fx, next, iommufd, NULL), -EINVAL);
    close(fd);
    assert_int_equal(fd_bind(fx, next, iommufd, NULL), -EINVAL);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    munmap(bar, SIZE);
    assert_int_equal(fd_bind(fx, next, iommufd, NULL), 0);
    host_close(fx->host, &next);
    host_close(fx->host, &iommufd);
}

static void removal_waits_for_a_client(void **state)
{
    struct fixture *fx = *state;
    char *bar;
    int fd;

    bar = map_shared(fx, &fd);
    close(fd);
    assert_int_equal(sim_request_removal(fx->sim, fx->bdf), 0);
    fx_close_all(fx);
    assert_false(sim_removal_is_done(fx->sim, fx->bdf));
    assert_int_equal(sim_bring_back(fx->sim, fx->bdf), -EBUSY);
    munmap(bar, SIZE);
    assert_true(sim_removal_is_done(fx->sim, fx->bdf));
}

/* A dma-buf is no hold on the device, and what was mapped of it is gone for good with that. */
static void dmabufs(void **state)
{
    struct fixture *fx = *state;
    int dmabuf = export_dmabuf(fx, 0), fd;
    void *here;
    char *bar;

    assert_int_equal(host_mmap(fx->host, &here, SIZE, RW, MAP_SHARED, dmabuf, 0), 0);
    assert_int_equal(host_munmap(fx->host, here, SIZE), 0);
    fd = host_share(fx->host, dmabuf);
    assert_true(fd >= 0);
    host_close(fx->host, &dmabuf);
    bar = map_at(fd, 0);
    bar[5] = 'a';
    assert_int_equal(fx_get(fx, BAR2, 5, 1), 'a');
    peer_set_decode(fx, false);
    assert_int_equal(touch(bar + 5), -EFAULT);
    peer_set_decode(fx, true);
    assert_int_equal(touch(bar + 5), 'a');

    host_close(fx->host, &fx->device);
    assert_int_equal(touch(bar + 5), -EFAULT);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_true(fx->device >= 0);
    assert_int_equal(touch(bar + 5), -EFAULT);
    assert_int_equal(fx_get(fx, BAR2, 5, 1), 'a');
    munmap(bar, SIZE);
    close(fd);
}

static void dmabufs_that_can_not_be_mapped(void **state)
{
    struct fixture *fx = *state;
    int part = export_dmabuf(fx, FX_PAGE), whole = export_dmabuf(fx, 0);
    void *p;

    assert_int_equal(host_mmap(fx->host, &p, FX_PAGE, RW, MAP_SHARED, part, 0), -EINVAL);
    assert_int_equal(host_share(fx->host, part), -EOPNOTSUPP);
    assert_int_equal(host_mmap(fx->host, &p, SIZE + 1, RW, MAP_SHARED, whole, 0), -EINVAL);
    assert_int_equal(host_mmap(fx->host, &p, SIZE, RW, MAP_PRIVATE, whole, 0), -EINVAL);
    sim_set_dma_buf_mmap(fx->sim, false);
    assert_int_equal(host_mmap(fx->host, &p, SIZE, RW, MAP_SHARED, whole, 0), -EINVAL);
    host_close(fx->host, &part);
    host_close(fx->host, &whole);
}

/* Low power takes the BAR away until it is given up, though accesses wake the device. */
static void low_power(void **state)
{
    struct vfio_device_feature entry = {.argsz = sizeof(entry),
                                        .flags = VFIO_DEVICE_FEATURE_SET |
                                                 VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY};
    struct fixture *fx = *state;
    char *bar;
    int fd;

    bar = map_shared(fx, &fd);
    bar[0] = 'a';
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, &entry), 0);
    assert_int_equal(touch(bar), -EFAULT);
    assert_int_equal(fx_get(fx, BAR2, 0, 1), 'a');
    assert_int_equal(touch(bar), -EFAULT);
    entry.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, &entry), 0);
    assert_int_equal(touch(bar), 'a');
    munmap(bar, SIZE);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_client_maps_the_memory, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(what_has_no_memory, fx_setup, fx_teardown),
        cmocka_unit_test_setup_teardown(decode_off, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(a_client_keeps_the_device, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(a_client_keeps_the_cdev, setup_cdev, fx_teardown),
        cmocka_unit_test_setup_teardown(removal_waits_for_a_client, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(dmabufs, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(dmabufs_that_can_not_be_mapped, setup, fx_teardown),
        cmocka_unit_test_setup_teardown(low_power, setup, fx_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
