#include <sys/resource.h>

#include "tests/unit/sim_iommufd_fixture.h"
#include "tests/unit/sim_peer_fixture.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    SIZE = 1 << 20,
    GET = VFIO_DEVICE_FEATURE_GET | UAPI_VFIO_DEVICE_FEATURE_DMA_BUF,
    PROBE = VFIO_DEVICE_FEATURE_PROBE | UAPI_VFIO_DEVICE_FEATURE_DMA_BUF,
};

static struct fixture peer;
static int iommufd;
static uint32_t ioas;

struct request {
    struct vfio_device_feature head;
    struct uapi_feature_dma_buf get;
    struct uapi_dma_range ranges[3];
};

static int open_cdev(struct fixture *fx, int number)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/dev/vfio/devices/vfio%d", number);
    fd = fx_open(fx, path);
    assert_true(fd >= 0);
    assert_int_equal(fd_bind(fx, fd, iommufd, NULL), 0);
    return fd;
}

/* edu, attached to an IOAS, does the DMA; ivshmem, in the same context, is the target. */
static int setup(void **state)
{
    struct fixture *fx;

    fx_setup(state);
    fx = *state;
    peer_add(fx, &sim_ivshmem_model, &peer);
    iommufd = fd_open(fx);
    ioas = fd_alloc(fx, iommufd);
    fx->device = open_cdev(fx, 3);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    peer.device = open_cdev(fx, 4);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;

    host_close(fx->host, &fx->device);
    peer_close(&peer);
    host_close(fx->host, &iommufd);
    return fx_teardown(state);
}

static int ask(struct request *request)
{
    return fx_ioctl(&peer, peer.device, VFIO_DEVICE_FEATURE, request);
}

static struct request make(uint32_t index, uint64_t offset, uint64_t length)
{
    return (struct request){
        .head = {.argsz = sizeof(struct request), .flags = GET                    },
        .get = {.region_index = index,           .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1},
        .ranges[0] = {.offset = offset,                               .length = length                                               },
    };
}

static int export_range(uint32_t index, uint64_t offset, uint64_t length)
{
    struct request request = make(index, offset, length);

    return ask(&request);
}

static int export_bar(void)
{
    int fd = export_range(BAR2, 0, SIZE);

    assert_true(fd >= 0);
    return fd;
}

static int map(struct fixture *fx, int dmabuf, uint64_t start, uint64_t length)
{
    return fd_map_file(fx, iommufd, ioas, PEER_IOVA, dmabuf, start, length);
}

static void requests(void **state)
{
    struct request request = make(BAR2, 0, FX_PAGE);

    (void)state;
    request.head.flags = PROBE;
    request.head.argsz = 8;
    assert_int_equal(ask(&request), 0);
    request.head.flags = PROBE | VFIO_DEVICE_FEATURE_GET;
    assert_int_equal(ask(&request), 0);
    request.head.flags = PROBE | VFIO_DEVICE_FEATURE_SET;
    assert_int_equal(ask(&request), -EINVAL);
    request.head.flags = VFIO_DEVICE_FEATURE_SET | UAPI_VFIO_DEVICE_FEATURE_DMA_BUF;
    assert_int_equal(ask(&request), -EINVAL);
    request.head.flags = UAPI_VFIO_DEVICE_FEATURE_DMA_BUF;
    assert_int_equal(ask(&request), -EINVAL);
    request.head.flags = GET;
    request.head.argsz = sizeof(request.head) + sizeof(request.get) - 1;
    assert_int_equal(ask(&request), -EINVAL);
}

static void ranges(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t offset, length;
        int ret;
    } cases[] = {
        {BAR2,                         0,                  FX_PAGE / 2, -EINVAL   },
        {BAR2,                         FX_PAGE / 2,        FX_PAGE,     -EINVAL   },
        {BAR2,                         0,                  0,           -EINVAL   },
        {BAR2,                         SIZE,               FX_PAGE,     -EINVAL   },
        {BAR2,                         FX_PAGE,            SIZE,        -EINVAL   },
        {BAR2,                         UINT64_MAX - 0xfff, FX_PAGE,     -EOVERFLOW},
        {BAR0,                         0,                  FX_PAGE,     -EINVAL   }, /* smaller */
        {1,                            0,                  FX_PAGE,     -EINVAL   }, /* none */
        {VFIO_PCI_ROM_REGION_INDEX,    0,                  FX_PAGE,     -ENODEV   },
        {VFIO_PCI_CONFIG_REGION_INDEX, 0,                  FX_PAGE,     -ENODEV   },
    };
    struct request request = make(BAR2, 0, FX_PAGE);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(export_range(cases[i].index, cases[i].offset, cases[i].length),
                         cases[i].ret);
    request.get.flags = 1;
    assert_int_equal(ask(&request), -EINVAL);
    request = make(VFIO_PCI_ROM_REGION_INDEX, 0, FX_PAGE);
    request.get.nr_ranges = 0;
    assert_int_equal(ask(&request), -EINVAL);
    request = make(BAR2, 0, FX_PAGE);
    request.get.nr_ranges = 2;
    request.ranges[1] = (struct uapi_dma_range){FX_PAGE, FX_PAGE + 1};
    assert_int_equal(ask(&request), -EINVAL);
    request.ranges[0].length = 0 - (uint64_t)FX_PAGE;
    request.ranges[1].length = FX_PAGE;
    assert_int_equal(ask(&request), -EINVAL);
    assert_int_equal(fx_stats(&peer).dmabufs, 0);
}

static void a_kernel_or_driver_without(void **state)
{
    struct request request = make(BAR2, 0, FX_PAGE);

    (void)state;
    request.head.flags = PROBE | VFIO_DEVICE_FEATURE_GET;
    sim_set_dma_buf_error(peer.sim, ENOTTY);
    assert_int_equal(ask(&request), -ENOTTY);
    sim_set_dma_buf_error(peer.sim, EOPNOTSUPP);
    assert_int_equal(ask(&request), -EOPNOTSUPP);
    assert_int_equal(export_range(BAR2, 0, FX_PAGE), -EOPNOTSUPP);
    sim_set_dma_buf_error(peer.sim, 0);
    assert_int_equal(ask(&request), 0);
}

/* It can be mapped, or not even that (test_sim_mapped.c). */
static void the_descriptor(void **state)
{
    struct fixture *fx = *state;
    int fd = export_bar();
    char byte;

    assert_int_equal(fx_stats(fx).dmabufs, 1);
    assert_int_equal(host_pread(fx->host, fd, &byte, 1, 0), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fd, VFIO_DEVICE_RESET, NULL), -ENOTTY);
    host_close(fx->host, &fd);
    assert_int_equal(fx_stats(fx).dmabufs, 0);
}

static void out_of_descriptors(void **state)
{
    struct fixture *fx = *state;
    struct rlimit before, limit;
    int lowest = dup(0), fd;

    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(export_range(BAR2, 0, FX_PAGE), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    fd = export_bar();
    host_close(fx->host, &fd);
}

static void dma_to_the_bar(void **state)
{
    struct fixture *fx = *state;
    int fd = export_range(BAR2, FX_PAGE, 4 * FX_PAGE);
    char text[4];

    sim_set_memlock(fx->sim, 0);
    assert_int_equal(map(fx, fd, FX_PAGE, 2 * FX_PAGE), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    host_close(fx->host, &fd); /* the mapping keeps what it needs */
    assert_int_equal(fx_dma_put(fx, PEER_IOVA + FX_PAGE - 2, "abcd", 4), 0);
    assert_int_equal(fx_read(&peer, BAR2, 3 * FX_PAGE - 2, text, 4), 4);
    assert_memory_equal(text, "abcd", 4);
    fx_set(&peer, BAR2, 2 * FX_PAGE, 'x', 1);
    assert_int_equal(fx_dma(fx, PEER_IOVA, text, 1, false), 0);
    assert_int_equal(text[0], 'x');
    assert_int_equal(fx_dma_put(fx, PEER_IOVA + 2 * FX_PAGE, "y", 1), -EFAULT);
    assert_int_equal(fd_unmap(fx, iommufd, ioas, PEER_IOVA, 2 * FX_PAGE), 2 * FX_PAGE);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "z", 1), -EFAULT);
}

static void bounds_and_kinds(void **state)
{
    struct fixture *fx = *state;
    struct request request = make(BAR2, 0, FX_PAGE);
    int fd = export_range(BAR2, FX_PAGE, 2 * FX_PAGE);
    int several;

    assert_int_equal(map(fx, fd, 0, 3 * FX_PAGE), -EINVAL);
    assert_int_equal(map(fx, fd, 2 * FX_PAGE, FX_PAGE), -EINVAL);
    assert_int_equal(map(fx, fd, UINT64_MAX - 0xfff, 2 * FX_PAGE), -EOVERFLOW);
    assert_int_equal(map(fx, fd, 0, 0), -EINVAL);
    assert_int_equal(map(fx, fd, 512, FX_PAGE), -EINVAL);
    request.get.nr_ranges = 2;
    request.ranges[1] = (struct uapi_dma_range){4 * FX_PAGE, FX_PAGE};
    several = ask(&request);
    assert_true(several >= 0);
    assert_int_equal(map(fx, several, 0, FX_PAGE), -EOPNOTSUPP);
    peer_set_decode(&peer, false);
    assert_int_equal(map(fx, several, 0, FX_PAGE), -ENODEV);
    assert_int_equal(map(fx, peer.device, 0, FX_PAGE), -EINVAL);
    assert_int_equal(fx_stats(fx).mappings, 0);
    host_close(fx->host, &several);
    host_close(fx->host, &fd);
}

/* Copies of a mapping are of the same dma-buf, and revoked with it. */
static void copies(void **state)
{
    struct fixture *fx = *state;
    int fd = export_bar();

    assert_int_equal(map(fx, fd, FX_PAGE, 2 * FX_PAGE), 0);
    assert_int_equal(fd_copy(fx, iommufd, ioas, 0x1000, ioas, PEER_IOVA + FX_PAGE, FX_PAGE, FD_RW),
                     0);
    assert_int_equal(fx_dma_put(fx, 0x1000, "a", 1), 0);
    assert_int_equal(fx_get(&peer, BAR2, 2 * FX_PAGE, 1), 'a');
    peer_set_decode(&peer, false);
    assert_int_equal(fx_dma_put(fx, 0x1000, "b", 1), -EFAULT);
    peer_set_decode(&peer, true);
    assert_int_equal(fx_dma_put(fx, 0x1000, "b", 1), -EFAULT);
    assert_int_equal(fx_get(&peer, BAR2, 2 * FX_PAGE, 1), 'a');
    host_close(fx->host, &fd);
}

static void reset(void)
{
    assert_int_equal(fx_ioctl(&peer, peer.device, VFIO_DEVICE_RESET, NULL), 0);
}

static void decode_off_and_on(void)
{
    peer_set_decode(&peer, false);
    peer_set_decode(&peer, true);
}

/*
 * A revoked mapping is a hole, and stays one whatever becomes of the dma-buf; its addresses are
 * taken until it is unmapped. The dma-buf itself is good again.
 */
static void check_revocation(struct fixture *fx, void (*revoke)(void))
{
    int fd = export_bar();
    char byte = 'n';

    assert_int_equal(map(fx, fd, 0, 2 * FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), 0);
    revoke();
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "b", 1), -EFAULT);
    assert_int_equal(fx_dma(fx, PEER_IOVA + FX_PAGE - 1, &byte, 1, false), -EFAULT);
    assert_int_equal(byte, 0);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 'a');
    assert_int_equal(map(fx, fd, 0, 2 * FX_PAGE), -EEXIST);
    assert_int_equal(fd_unmap(fx, iommufd, ioas, PEER_IOVA, 2 * FX_PAGE), 2 * FX_PAGE);
    assert_int_equal(map(fx, fd, 0, 2 * FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "b", 1), 0);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 'b');
    assert_int_equal(fd_unmap(fx, iommufd, ioas, PEER_IOVA, 2 * FX_PAGE), 2 * FX_PAGE);
    host_close(fx->host, &fd);
}

static void revocation(void **state)
{
    check_revocation(*state, reset);
    check_revocation(*state, decode_off_and_on);
}

/* Each page that a transfer finds gone is a fault of the IOMMU's, not of the bus. */
static void faults_are_the_iommus(void **state)
{
    struct fixture *fx = *state;
    int fd = export_bar();
    char buf[2 * FX_PAGE];

    assert_int_equal(map(fx, fd, 0, 4 * FX_PAGE), 0);
    peer_set_decode(&peer, false);
    assert_int_equal(fx_dma(fx, PEER_IOVA + 100, buf, sizeof(buf), false), -EFAULT);
    assert_int_equal(fx_stats(fx).dma_faults, 3);
    assert_int_equal(fx_stats(fx).peer_faults, 0);
    host_close(fx->host, &fd);
}

static void while_revoked(void **state)
{
    struct fixture *fx = *state;
    int before = export_bar(), meanwhile;

    peer_set_decode(&peer, false);
    meanwhile = export_bar();
    assert_int_equal(map(fx, before, 0, FX_PAGE), -ENODEV);
    assert_int_equal(map(fx, meanwhile, 0, FX_PAGE), -ENODEV);
    reset();
    assert_int_equal(map(fx, meanwhile, 0, FX_PAGE), -ENODEV);
    peer_set_decode(&peer, true);
    assert_int_equal(map(fx, meanwhile, 0, FX_PAGE), 0);
    assert_int_equal(fd_unmap(fx, iommufd, ioas, PEER_IOVA, FX_PAGE), FX_PAGE);
    assert_int_equal(map(fx, before, 0, FX_PAGE), 0);
    /* Decode that is switched on again was on all the time. */
    peer_set_decode(&peer, true);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), 0);
    host_close(fx->host, &before);
    host_close(fx->host, &meanwhile);
}

/* The device can be opened again by anybody; the dma-buf is no way to it. */
static void the_device_is_closed(void **state)
{
    struct fixture *fx = *state;
    int fd = export_bar(), fresh;

    assert_int_equal(map(fx, fd, 0, FX_PAGE), 0);
    host_close(peer.host, &peer.device);
    assert_int_equal(fx_stats(fx).devices, 1);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EFAULT);
    peer.device = open_cdev(fx, 4);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EFAULT);
    assert_int_equal(fd_unmap(fx, iommufd, ioas, PEER_IOVA, FX_PAGE), FX_PAGE);
    assert_int_equal(map(fx, fd, 0, FX_PAGE), -ENODEV);
    decode_off_and_on();
    assert_int_equal(map(fx, fd, 0, FX_PAGE), -ENODEV);
    /* The end of the old one leaves those alone that are exported since. */
    fresh = export_bar();
    host_close(fx->host, &fd);
    assert_int_equal(map(fx, fresh, 0, FX_PAGE), 0);
    reset();
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EFAULT);
    host_close(fx->host, &fresh);
}

/* Its address is not that of memory that could be pinned. */
static void a_mapped_bar_is_no_memory(void **state)
{
    struct fixture *fx = *state;
    char *addr;

    assert_int_equal(peer_mmap(&peer, BAR2, 0, 2 * FX_PAGE, PROT_READ | PROT_WRITE, (void **)&addr),
                     0);
    assert_int_equal(fd_map(fx, iommufd, ioas, PEER_IOVA, addr, FX_PAGE), -EFAULT);
    assert_int_equal(fx_stats(fx).mappings, 0);
    assert_int_equal(host_munmap(peer.host, addr, 2 * FX_PAGE), 0);
}

/* A mapping may be older than the domain. */
static void attached_later(void **state)
{
    struct fixture *fx = *state;
    int fd = export_bar();

    assert_int_equal(fd_detach(fx, fx->device), 0);
    assert_int_equal(map(fx, fd, 0, FX_PAGE), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), -EFAULT);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    assert_int_equal(fx_dma_put(fx, PEER_IOVA, "a", 1), 0);
    assert_int_equal(fx_get(&peer, BAR2, 0, 1), 'a');
    host_close(fx->host, &fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges, setup, teardown),
        cmocka_unit_test_setup_teardown(a_kernel_or_driver_without, setup, teardown),
        cmocka_unit_test_setup_teardown(the_descriptor, setup, teardown),
        cmocka_unit_test_setup_teardown(out_of_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(dma_to_the_bar, setup, teardown),
        cmocka_unit_test_setup_teardown(bounds_and_kinds, setup, teardown),
        cmocka_unit_test_setup_teardown(copies, setup, teardown),
        cmocka_unit_test_setup_teardown(revocation, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_are_the_iommus, setup, teardown),
        cmocka_unit_test_setup_teardown(while_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(the_device_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mapped_bar_is_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(attached_later, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
