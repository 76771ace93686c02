#include "tests/unit/sim_iommufd_fixture.h"

#include <pthread.h>

enum {
    SIZE = 2 * FX_PAGE,
};

/* A context with an IOAS. */
static int iommufd = -1;
static uint32_t ioas;

static int setup(void **state)
{
    fx_setup(state);
    iommufd = fd_open(*state);
    ioas = fd_alloc(*state, iommufd);
    return 0;
}

static int setup_bound(void **state)
{
    struct fixture *fx;

    setup(state);
    fx = *state;
    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;

    host_close(fx->host, &iommufd);
    return fx_teardown(state);
}

/* Another device in the fixture's group; its file is vfio4. */
static int open_sibling(struct fixture *fx)
{
    char bdf[16];
    int fd;

    assert_int_equal(sim_add_device(fx->sim, "edu", bdf, sizeof(bdf)), 0);
    assert_int_equal(sim_join_group(fx->sim, bdf, fx->bdf), 0);
    fd = fx_open(fx, "/dev/vfio/devices/vfio4");
    assert_true(fd >= 0);
    return fd;
}

static void opens_for_everybody(void **state)
{
    static const char *const absent[] = {
        "/dev/vfio/devices",        "/dev/vfio/devices/vfio",          "/dev/vfio/devices/vfio4",
        "/dev/vfio/devices/vfio3x", "/dev/vfio/devices/noiommu-vfio3",
    };
    struct fixture *fx = *state;
    int fds[2];

    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
        assert_int_equal(fx_open(fx, absent[i]), -ENOENT);
    fds[0] = fx_open(fx, FD_CDEV);
    fds[1] = fx_open(fx, FD_CDEV);
    assert_true(fds[0] >= 0 && fds[1] >= 0);
    assert_int_equal(fx_stats(fx).devices, 2);
    assert_int_equal(fx_stats(fx).resets, 0);
    host_close(fx->host, &fds[0]);
    host_close(fx->host, &fds[1]);
    assert_int_equal(sim_set_driver(fx->sim, fx->bdf, "e1000e"), 0);
    assert_int_equal(fx_open(fx, FD_CDEV), -ENOENT);
}

static void nothing_works_before_bind(void **state)
{
    static const unsigned long requests[] = {
        VFIO_DEVICE_GET_INFO,
        VFIO_DEVICE_RESET,
        UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT,
        SIM_UAPI_DETACH_IOMMUFD_PT,
        0,
    };
    struct fixture *fx = *state;
    uint32_t value = 0;
    void *addr;

    fx->device = fx_open(fx, FD_CDEV);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        assert_int_equal(fx_ioctl(fx, fx->device, requests[i], NULL), -EINVAL);
    assert_int_equal(fx_read(fx, VFIO_PCI_CONFIG_REGION_INDEX, 0, &value, 4), -EINVAL);
    assert_int_equal(fx_write(fx, VFIO_PCI_CONFIG_REGION_INDEX, 0, &value, 4), -EINVAL);
    assert_int_equal(host_mmap(fx->host, &addr, FX_PAGE, PROT_READ, MAP_SHARED, fx->device, 0),
                     -EINVAL);
}

static int bind_with(struct fixture *fx, uint32_t argsz, uint32_t flags, int fd)
{
    struct uapi_vfio_bind_iommufd bind = {.argsz = argsz, .flags = flags, .iommufd = fd};

    return fx_ioctl(fx, fx->device, UAPI_VFIO_DEVICE_BIND_IOMMUFD, &bind);
}

static void bind_rules(void **state)
{
    struct fixture *fx = *state;
    int container = fx_open(fx, "/dev/vfio/vfio"), pipes[2];
    uint32_t id = 0;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(fx_ioctl(fx, fx->device, UAPI_VFIO_DEVICE_BIND_IOMMUFD, NULL), -EFAULT);
    assert_int_equal(bind_with(fx, 15, 0, iommufd), -EINVAL);
    assert_int_equal(bind_with(fx, 16, 2, iommufd), -EINVAL);
    assert_int_equal(bind_with(fx, 16, 0, -1), -EINVAL);
    assert_int_equal(bind_with(fx, 16, 0, 12345), -EBADF);
    assert_int_equal(bind_with(fx, 16, 0, pipes[0]), -EBADFD);
    assert_int_equal(bind_with(fx, 16, 0, container), -EBADFD);
    assert_int_equal(fx_stats(fx).resets, 0);

    assert_int_equal(fd_bind(fx, fx->device, iommufd, &id), 0);
    assert_int_equal(id, 2); /* behind the IOAS */
    assert_int_equal(fx_stats(fx).resets, 1);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), -EINVAL);
    /* That comes before a wrong descriptor. */
    assert_int_equal(bind_with(fx, 16, 0, 12345), -EINVAL);
    host_close(fx->host, &container);
    close(pipes[0]);
    close(pipes[1]);
}

static void one_user(void **state)
{
    struct fixture *fx = *state;
    int second = fx_open(fx, FD_CDEV);

    assert_true(second >= 0);
    assert_int_equal(fd_bind(fx, second, iommufd, NULL), -EINVAL);
    assert_int_equal(fx_ioctl(fx, second, VFIO_DEVICE_RESET, NULL), -EINVAL);
    host_close(fx->host, &fx->device);
    assert_int_equal(fd_bind(fx, second, iommufd, NULL), 0);
    assert_int_equal(fx_ioctl(fx, second, VFIO_DEVICE_RESET, NULL), 0);
    host_close(fx->host, &second);
}

static void group_and_own_file_exclude_each_other(void **state)
{
    struct fixture *fx = *state;
    int sibling = open_sibling(fx);

    /* To have it open is no harm yet. */
    fx->device = fx_open(fx, FD_CDEV);
    fx->group = fx_open(fx, fx->group_path);
    assert_true(fx->group >= 0);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), -EBUSY);
    host_close(fx->host, &fx->group);

    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), 0);
    assert_int_equal(fd_bind(fx, sibling, iommufd, NULL), 0);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_open(fx, fx->group_path), -EBUSY);
    host_close(fx->host, &sibling);
    fx_open_device(fx);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), -EINVAL);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), -ENOTTY);
    sim_set_iommufd(fx->sim, SIM_IOMMUFD_NONE);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), -ENOTTY);
}

static void one_context_has_the_group(void **state)
{
    struct fixture *fx = *state;
    int sibling = open_sibling(fx), other = fd_open(fx);

    assert_int_equal(fd_bind(fx, sibling, other, NULL), -EPERM);
    host_close(fx->host, &fx->device);
    assert_int_equal(fd_bind(fx, sibling, other, NULL), 0);
    host_close(fx->host, &sibling);
    host_close(fx->host, &other);
}

static void sibling_with_a_driver(void **state)
{
    struct fixture *fx = *state;
    int sibling = open_sibling(fx);

    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(sim_set_driver(fx->sim, "0000:00:02.0", "e1000e"), 0);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), -EPERM);
    assert_int_equal(sim_set_driver(fx->sim, "0000:00:02.0", ""), 0);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), 0);
    host_close(fx->host, &sibling);
}

static void attach_rules(void **state)
{
    struct fixture *fx = *state;
    struct uapi_vfio_attach_pt attach = {.argsz = 11, .pt_id = ioas};
    struct sim_uapi_detach_pt detach = {.argsz = 7};
    uint32_t id = ioas;

    assert_int_equal(fx_ioctl(fx, fx->device, UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
                     -EINVAL);
    attach = (struct uapi_vfio_attach_pt){.argsz = 12, .flags = 1, .pt_id = ioas};
    assert_int_equal(fx_ioctl(fx, fx->device, UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
                     -EINVAL);
    assert_int_equal(fx_ioctl(fx, fx->device, UAPI_VFIO_DEVICE_ATTACH_IOMMUFD_PT, NULL), -EFAULT);
    assert_int_equal(fd_attach_to(fx, fx->device, 99), -ENOENT);
    assert_int_equal(fd_attach_to(fx, fx->device, 2), -EINVAL); /* itself */

    assert_int_equal(fx_ioctl(fx, fx->device, SIM_UAPI_DETACH_IOMMUFD_PT, NULL), -EFAULT);
    assert_int_equal(fx_ioctl(fx, fx->device, SIM_UAPI_DETACH_IOMMUFD_PT, &detach), -EINVAL);
    detach = (struct sim_uapi_detach_pt){.argsz = 8, .flags = 1};
    assert_int_equal(fx_ioctl(fx, fx->device, SIM_UAPI_DETACH_IOMMUFD_PT, &detach), -EINVAL);
    assert_int_equal(fd_detach(fx, fx->device), 0); /* of nothing */

    assert_int_equal(fd_attach(fx, fx->device, &id), 0);
    assert_int_equal(id, 3); /* the HWPT */
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, id), 0);
}

static void translates_through_what_it_is_attached_to(void **state)
{
    struct fixture *fx = *state;
    uint32_t other = fd_alloc(fx, iommufd);
    char *memory = fx_memory(SIZE, NULL);
    char buf[8] = "";

    strcpy(memory, "first");
    strcpy(memory + FX_PAGE, "other");
    assert_int_equal(fd_map(fx, iommufd, ioas, 0, memory, FX_PAGE), 0);
    assert_int_equal(fd_map(fx, iommufd, other, 0, memory + FX_PAGE, FX_PAGE), 0);
    assert_int_equal(fx_dma(fx, 0, buf, 6, false), -EFAULT);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    assert_int_equal(fx_dma(fx, 0, buf, 6, false), 0);
    assert_string_equal(buf, "first");

    /* Without a detach between; what it was in does not pin any more. */
    assert_int_equal(fd_attach_to(fx, fx->device, other), 0);
    assert_int_equal(fx_dma(fx, 0, buf, 6, false), 0);
    assert_string_equal(buf, "other");
    assert_int_equal(fx_stats(fx).pinned_bytes, FX_PAGE);
    assert_int_equal(fd_destroy(fx, iommufd, ioas), 0);
    assert_int_equal(fd_detach(fx, fx->device), 0);
    assert_int_equal(fx_dma(fx, 0, buf, 6, false), -EFAULT);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    munmap(memory, SIZE);
}

static void replacement_that_fails_changes_nothing(void **state)
{
    struct fixture *fx = *state;
    uint32_t bad = fd_alloc(fx, iommufd);
    char *memory = fx_memory(SIZE, NULL);
    char byte;

    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    assert_int_equal(fd_map(fx, iommufd, ioas, 0, memory, FX_PAGE), 0);
    assert_int_equal(fd_map(fx, iommufd, bad, 0xfee00000, memory, FX_PAGE), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, bad), -EADDRINUSE);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    assert_int_equal(fx_stats(fx).pinned_bytes, FX_PAGE);
    assert_int_equal(fd_destroy(fx, iommufd, bad), 0);
    munmap(memory, SIZE);
}

/* The IOMMU can't tell the group's devices apart. */
static void group_is_attached_as_one(void **state)
{
    struct fixture *fx = *state;
    int sibling = open_sibling(fx);
    uint32_t other = fd_alloc(fx, iommufd), hwpt = ioas, same = ioas;
    char *memory = fx_memory(SIZE, NULL);
    char byte;

    assert_int_equal(fd_map(fx, iommufd, ioas, 0, memory, FX_PAGE), 0);
    assert_int_equal(fd_bind(fx, sibling, iommufd, NULL), 0);
    assert_int_equal(fd_attach(fx, fx->device, &hwpt), 0);
    assert_int_equal(sim_device_dma(fx->sim, "0000:00:02.0", 0, &byte, 1, false), 0);
    assert_int_equal(fd_attach_to(fx, sibling, other), -EINVAL);
    assert_int_equal(fd_attach(fx, sibling, &same), 0);
    assert_int_equal(same, hwpt);
    assert_int_equal(fd_detach(fx, fx->device), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    /* One that is attached takes the others along. */
    assert_int_equal(fd_attach_to(fx, sibling, other), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), -EFAULT);
    assert_int_equal(fd_destroy(fx, iommufd, ioas), 0);
    assert_int_equal(fd_destroy(fx, iommufd, other), -EBUSY);
    host_close(fx->host, &sibling);
    assert_int_equal(fd_detach(fx, fx->device), 0);
    assert_int_equal(fd_destroy(fx, iommufd, other), 0);
    munmap(memory, SIZE);
}

static void the_same_device_as_by_the_group(void **state)
{
    struct fixture *fx = *state;
    struct vfio_device_info info = {.argsz = sizeof(info)};
    int event = fx_eventfd();

    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_GET_INFO, &info), 0);
    assert_int_equal(info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
    assert_int_equal(info.num_regions, VFIO_PCI_NUM_REGIONS);
    assert_int_equal(fx_config_get(fx, PCI_VENDOR_ID, 2), 0x1234);
    assert_int_equal(fx_bar_get(fx, 0), 0x010000ed);
    fx_bar_set(fx, 4, 0x55);
    assert_int_equal(fx_bar_get(fx, 4), 0xffffffaa);
    assert_int_equal(fx_set_trigger(fx, VFIO_PCI_MSI_IRQ_INDEX, event), 0);
    assert_int_equal(fx_state(fx).msi_eventfds, 1);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_GROUP_GET_STATUS, NULL), -ENOTTY);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_state(fx).msi_eventfds, 0);
    close(event);
}

static void close_unbinds_and_detaches(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);
    char byte;

    assert_int_equal(fd_map(fx, iommufd, ioas, 0, memory, SIZE), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    fx_set_bus_master(fx, true);
    assert_int_equal(fx_stats(fx).pinned_bytes, SIZE);
    host_close(fx->host, &fx->device);
    assert_false(fx_state(fx).bus_master);
    assert_int_equal(fx_stats(fx).resets, 2);
    assert_int_equal(fx_stats(fx).pinned_bytes, 0);
    assert_int_equal(fx_stats(fx).mappings, 1);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), -EFAULT);
    assert_int_equal(fd_destroy(fx, iommufd, 2), -ENOENT);
    /* And can come back. */
    fx->device = fx_open(fx, FD_CDEV);
    assert_int_equal(fd_bind(fx, fx->device, iommufd, NULL), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    munmap(memory, SIZE);
}

static void the_device_keeps_the_context(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(SIZE, NULL);
    char byte;

    assert_int_equal(fd_map(fx, iommufd, ioas, 0, memory, SIZE), 0);
    assert_int_equal(fd_attach_to(fx, fx->device, ioas), 0);
    host_close(fx->host, &iommufd);
    assert_int_equal(fx_stats(fx).contexts, 0);
    assert_int_equal(fx_dma(fx, 0, &byte, 1, false), 0);
    host_close(fx->host, &fx->device);
    assert_int_equal(fx_stats(fx).mappings, 0);
    munmap(memory, SIZE);
}

static void *try_to_bind(void *arg)
{
    struct fixture *fx = arg;
    intptr_t bound = 0;

    for (int i = 0; i < 100; i++) {
        int fd = fx_open(fx, FD_CDEV);

        assert_true(fd >= 0);
        if (!fd_bind(fx, fd, iommufd, NULL)) {
            assert_int_equal(fd_attach_to(fx, fd, ioas), 0);
            bound++;
        }
        host_close(fx->host, &fd);
    }
    return (void *)bound;
}

/* Which of the two has it each time is chance; it is never both. */
static void threads(void **state)
{
    pthread_t thread;
    intptr_t mine;
    void *others;

    pthread_create(&thread, NULL, try_to_bind, *state);
    mine = (intptr_t)try_to_bind(*state);
    pthread_join(thread, &others);
    assert_true(mine + (intptr_t)others > 0);
    assert_int_equal(fx_stats(*state).resets, 2 * (mine + (intptr_t)others));
}

#define in_context(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define bound(f)      cmocka_unit_test_setup_teardown(f, setup_bound, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_context(opens_for_everybody),
        in_context(nothing_works_before_bind),
        in_context(bind_rules),
        bound(one_user),
        in_context(group_and_own_file_exclude_each_other),
        bound(one_context_has_the_group),
        in_context(sibling_with_a_driver),
        bound(attach_rules),
        bound(translates_through_what_it_is_attached_to),
        bound(replacement_that_fails_changes_nothing),
        bound(group_is_attached_as_one),
        bound(the_same_device_as_by_the_group),
        bound(close_unbinds_and_detaches),
        bound(the_device_keeps_the_context),
        in_context(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
