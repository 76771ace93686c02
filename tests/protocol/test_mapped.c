/*
 * Regions that a client maps by a descriptor: by a dma-buf, which is no hold on the device, and by
 * the device's own file, which keeps the device from other users for as long as somebody has it.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/protocol/child.h"
#include "tests/protocol/raw.h"
#include "tests/unit/touch.h"

enum {
    BAR0 = VFIO_PCI_BAR0_REGION_INDEX,
    BAR2 = VFIO_PCI_BAR2_REGION_INDEX,
    BAR3 = VFIO_PCI_BAR3_REGION_INDEX,
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    SIZE = 1 << 20,
    /* Of BAR 3 of sim:testdev. */
    HOLE = 0x2000,
    HOLE_END = 0x3000,
    SPARSE_SIZE = 0x8000,
    POWER = 0x70 + PCI_PM_CTRL, /* of sim:testdev too */
    NOBODY = 65534,
    MMAP = VFIO_USER_REGION_INFO_MMAP,
};

/* For other users too. */
static struct harness *new_harness(const char *device)
{
    struct harness *h = harness_new();

    log_set_level(LOG_ERROR);
    h->settings.socket_mode = 0666;
    assert_int_equal(chmod(h->directory, 0755), 0);
    h->export_config.device = device;
    return h;
}

static int start(void **state, enum config_mmap how, const char *device)
{
    struct harness *h = new_harness(device);

    h->export_config.mmap = how;
    harness_start(h);
    *state = h;
    return 0;
}

static int by_default(void **state)
{
    return start(state, CONFIG_MMAP_AUTO, "sim:ivshmem");
}

static int by_dmabuf(void **state)
{
    return start(state, CONFIG_MMAP_DMABUF, "sim:ivshmem");
}

static int by_devfd(void **state)
{
    return start(state, CONFIG_MMAP_DEVFD, "sim:ivshmem");
}

static int by_none(void **state)
{
    return start(state, CONFIG_MMAP_NONE, "sim:ivshmem");
}

static int testdev_by_devfd(void **state)
{
    return start(state, CONFIG_MMAP_DEVFD, "sim:testdev");
}

static int testdev_by_dmabuf(void **state)
{
    return start(state, CONFIG_MMAP_DMABUF, "sim:testdev");
}

static int in_a_group(void **state)
{
    struct harness *h = new_harness("sim:ivshmem@group");

    h->export_config.mmap = CONFIG_MMAP_DEVFD;
    harness_add_export(h, "sim:edu@group");
    harness_start(h);
    *state = h;
    return 0;
}

/* A kernel that maps no dma-bufs, as all are so far. */
static int without_dmabuf_mmap(void **state, enum config_mmap how)
{
    struct harness *h = new_harness("sim:ivshmem");

    sim_set_dma_buf_mmap(h->machine.sim, false);
    h->export_config.mmap = how;
    harness_start(h);
    *state = h;
    return 0;
}

static int old_kernel_by_default(void **state)
{
    return without_dmabuf_mmap(state, CONFIG_MMAP_AUTO);
}

static int old_kernel_by_dmabuf(void **state)
{
    return without_dmabuf_mmap(state, CONFIG_MMAP_DMABUF);
}

static void set_decode(struct vfuc *c, bool on)
{
    const uint16_t command = on ? PCI_COMMAND_MEMORY : 0;

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
}

static struct vfuc *client(const struct harness *h)
{
    struct vfuc *c = harness_client(h);

    set_decode(c, true);
    return c;
}

/* Returns when the server has ended the session: only then it closes its side. */
static void leave(struct vfuc *c)
{
    shutdown(vfuc_socket(c), SHUT_WR);
    raw_expect_end(vfuc_socket(c));
    vfuc_close(c);
}

static char *map(struct vfuc *c, struct vfuc_mapping *m)
{
    assert_int_equal(vfuc_region_map(c, BAR2, m), 0);
    assert_int_equal(m->offset, 0);
    assert_int_equal(m->size, SIZE);
    return (char *)(uintptr_t)m->at;
}

static unsigned char read_byte(struct vfuc *c, uint64_t offset)
{
    unsigned char byte = 0;

    assert_int_equal(vfuc_region_read(c, BAR2, offset, &byte, 1), 0);
    return byte;
}

static void write_byte(struct vfuc *c, uint64_t offset, unsigned char byte)
{
    assert_int_equal(vfuc_region_write(c, BAR2, offset, &byte, 1), 0);
}

/* What answers the VERSION of another user; a session that it gets is in *c. */
static int ask_as_nobody(const char *path, struct vfuc **c)
{
    int sock = child_connect(path, NOBODY);

    assert_true(sock >= 0);
    return vfuc_open_fd(c, sock, NULL);
}

/* Once the session that may have had it is over. */
static void assert_kept(const char *path)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    while ((ret = ask_as_nobody(path, &c)) == -EBUSY && harness_now_ms() < deadline)
        harness_pause();
    assert_int_equal(ret, -EACCES);
}

/* It is tried again from time to time. */
static struct vfuc *await_release(const char *path)
{
    int64_t deadline = harness_now_ms() + HARNESS_SECONDS * 1000;
    struct vfuc *c;
    int ret;

    while ((ret = ask_as_nobody(path, &c))) {
        assert_true(ret == -EACCES || ret == -ENODEV);
        if (harness_now_ms() > deadline)
            fail_msg("the device does not get free in %d seconds", HARNESS_SECONDS);
        harness_pause();
    }
    return c;
}

static void assert_not_mapped(struct vfuc *c, uint32_t index)
{
    struct vfio_user_region_info *info;
    int fd;

    assert_int_equal(vfuc_region_info(c, index, &info, &fd), 0);
    assert_false(info->flags & MMAP);
    assert_int_equal(info->offset, 0);
    assert_int_equal(fd, -1);
    free(info);
}

static void assert_nothing_is_mapped(struct vfuc *c)
{
    struct vfuc_mapping m;

    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
        assert_not_mapped(c, i);
    assert_int_equal(vfuc_region_map(c, BAR2, &m), -EOPNOTSUPP);
}

static void nothing(void **state)
{
    struct vfuc *c = client(*state);

    assert_nothing_is_mapped(c);
    vfuc_close(c);
}

/* The same memory by either way; nothing is there while the device does not decode it. */
static void both_ways(void **state)
{
    struct vfuc *c = client(*state);
    struct vfuc_mapping m;
    char *bar = map(c, &m);

    bar[0] = 'a';
    bar[SIZE - 1] = 'b';
    assert_int_equal(read_byte(c, 0), 'a');
    assert_int_equal(read_byte(c, SIZE - 1), 'b');
    write_byte(c, 100, 'c');
    assert_int_equal(bar[100], 'c');
    set_decode(c, false);
    assert_int_equal(touch(bar), -EFAULT);
    set_decode(c, true);
    assert_int_equal(touch(bar), 'a');
    assert_int_equal(vfuc_reset(c), 0);
    assert_int_equal(touch(bar), 'a');
    assert_not_mapped(c, BAR0);
    for (uint32_t i = 3; i < VFIO_PCI_NUM_REGIONS; i++)
        assert_not_mapped(c, i);
    vfuc_region_unmap(&m);
    vfuc_close(c);
}

/* The descriptors of the answer, which has len bytes. */
static unsigned count_descriptors(int sock, uint32_t index, uint32_t argsz, size_t len)
{
    struct reply r;

    raw_send(sock, MSG(MSG_REGION_INFO(.argsz = argsz, .index = index)), NULL, 0);
    raw_receive(sock, &r);
    assert_int_equal(r.hdr.error, 0);
    assert_int_equal(r.len, len);
    return r.nfds;
}

/* One with each answer, and the server keeps none. */
static void descriptors(void **state)
{
    struct harness *h = *state;
    int sock = raw_session(h), before = 0;

    for (int i = 0; i < 100; i++) {
        assert_int_equal(count_descriptors(sock, BAR2, 32, 32), 1);
        /* With this answer the server has done with the one before it. */
        assert_int_equal(count_descriptors(sock, BAR0, 32, 32), 0);
        if (!i)
            before = fd_count_open();
    }
    assert_int_equal(fd_count_open(), before);
    raw_refused(sock, MSG(MSG_REGION_INFO(.argsz = 32, .index = 9)), EINVAL);
    close(sock);
    harness_await_idle(h);
}

/* The larger of two areas, and no other capability. */
static void assert_one_area(struct vfuc *c)
{
    struct {
        struct vfio_region_info_cap_sparse_mmap head;
        struct vfio_region_sparse_mmap_area area;
    } sparse;
    struct vfio_user_region_info *info;
    int fd;

    assert_int_equal(vfuc_region_info(c, BAR3, &info, &fd), 0);
    assert_true(info->flags & MMAP);
    assert_true(fd >= 0);
    assert_int_equal(info->argsz, info->cap_offset + sizeof(sparse));
    assert_int_equal(vfuc_region_cap_data(info, info->cap_offset, &sparse, sizeof(sparse)), 0);
    assert_int_equal(sparse.head.header.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    assert_int_equal(sparse.head.header.next, 0);
    assert_int_equal(sparse.head.nr_areas, 1);
    assert_int_equal(sparse.area.offset, HOLE_END);
    assert_int_equal(sparse.area.size, SPARSE_SIZE - HOLE_END);
    free(info);
    close(fd);
}

/* Registers are reached by messages: those in the hole, and the BARs that have nothing else. */
static void around_a_hole(void **state)
{
    struct vfuc *c = client(*state);
    struct vfuc_mapping m;
    uint32_t word = 0x12345678;
    char *area;

    for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
        if (i != BAR3)
            assert_not_mapped(c, i);
    }
    assert_one_area(c);
    assert_int_equal(vfuc_region_map(c, BAR3, &m), 0);
    assert_int_equal(m.offset, HOLE_END);
    assert_int_equal(m.size, SPARSE_SIZE - HOLE_END);
    area = (char *)(uintptr_t)m.at;
    area[m.size - 1] = 'a';
    assert_int_equal(vfuc_region_read(c, BAR3, SPARSE_SIZE - 1, &word, 1), 0);
    assert_int_equal(word & 0xff, 'a');
    assert_int_equal(vfuc_region_write(c, BAR3, HOLE_END, "b", 1), 0);
    assert_int_equal(touch(area), 'b');
    assert_int_equal(vfuc_region_write(c, BAR3, 0, "c", 1), 0);
    assert_int_equal(vfuc_region_read(c, BAR3, HOLE, &word, sizeof(word)), 0);
    assert_int_equal(word, 0x74736574);
    vfuc_region_unmap(&m);
    vfuc_close(c);
}

/* What the device keeps there is there again when it wakes. */
static void in_d3hot(void **state)
{
    const uint16_t d3hot = 3, d0 = 0;
    struct vfuc *c = client(*state);
    struct vfuc_mapping m;
    uint32_t word;
    char *area;

    assert_int_equal(vfuc_region_map(c, BAR3, &m), 0);
    area = (char *)(uintptr_t)m.at;
    area[0] = 'a';
    assert_int_equal(vfuc_region_write(c, CONFIG, POWER, &d3hot, sizeof(d3hot)), 0);
    assert_int_equal(touch(area), -EFAULT);
    assert_int_equal(vfuc_region_read(c, BAR3, HOLE, &word, sizeof(word)), 0);
    assert_int_equal(word, UINT32_MAX); /* as a bus answers */
    assert_int_equal(vfuc_region_write(c, CONFIG, POWER, &d0, sizeof(d0)), 0);
    assert_int_equal(touch(area), 'a');
    assert_int_equal(vfuc_region_read(c, BAR3, HOLE, &word, sizeof(word)), 0);
    assert_int_equal(word, 0x74736574);
    vfuc_region_unmap(&m);
    vfuc_close(c);
}

/* A dma-buf is mapped from the BAR's start, where the larger area is not. */
static void no_area_at_the_start(void **state)
{
    struct vfuc *c = client(*state);

    assert_nothing_is_mapped(c);
    vfuc_close(c);
}

/* Whoever comes next gets the device at once, and the kept mapping shows nothing of it. */
static void a_dmabuf_is_kept(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;
    char *bar = map(c, &m);

    bar[0] = 'a';
    leave(c);
    assert_int_equal(touch(bar), -EFAULT);
    if (geteuid()) {
        c = client(h);
    } else {
        assert_int_equal(ask_as_nobody(h->path, &c), 0);
        set_decode(c, true);
    }
    write_byte(c, 0, 's');
    assert_int_equal(touch(bar), -EFAULT);
    leave(c);
    vfuc_region_unmap(&m);
}

static void hold(void *arg, int ready)
{
    (void)arg;
    child_ready(ready);
    pause();
}

/* Who has forked has given copies of both ends away. */
static void leave_child_behind(struct vfuc *c)
{
    shutdown(vfuc_socket(c), SHUT_WR);
    vfuc_close(c);
}

/* By another process and by this one, when that has left. */
static void the_device_is_kept(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;
    char *bar = map(c, &m);
    pid_t child;

    if (geteuid())
        skip();
    child = child_start(hold, NULL);
    bar[0] = 'a';
    leave_child_behind(c);
    assert_kept(h->path);
    assert_int_equal(touch(bar), -EFAULT);

    /* Its own user is served, and that is how the kept mapping comes to reach it again. */
    c = client(h);
    assert_int_equal(read_byte(c, 0), 'a');
    assert_int_equal(touch(bar), 'a');
    leave(c);
    assert_kept(h->path);
    assert_int_equal(touch(bar), -EFAULT);

    vfuc_region_unmap(&m);
    child_kill(child);
    c = await_release(h->path);
    set_decode(c, true);
    write_byte(c, 0, 's');
    leave(c);
    harness_await_idle(h);
    c = client(h); /* and back at once, for nothing was lent */
    vfuc_close(c);
}

/* Nothing of it is left, so the next one is served at once. */
static void the_device_is_given_back(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;

    if (geteuid())
        skip();
    map(c, &m);
    vfuc_region_unmap(&m);
    leave(c);
    assert_int_equal(ask_as_nobody(h->path, &c), 0);
    leave(c);
}

/* A descriptor that nobody has taken out of a socket is in no process, but the kernel knows. */
static void the_device_is_under_way(void **state)
{
    struct harness *h = *state;
    struct vfio_user_region_info *info;
    struct vfuc *c = client(h);
    int ends[2], fd;

    if (geteuid())
        skip();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(vfuc_region_info(c, BAR2, &info, &fd), 0);
    assert_true(fd >= 0);
    free(info);
    raw_send_bytes(ends[0], "x", 1, &fd, 1);
    close(fd);
    leave(c);
    assert_true(ask_as_nobody(h->path, &c) < 0);
    close(ends[0]);
    close(ends[1]);
    leave(await_release(h->path));
}

/* A process has it whom the server does not know; it dies. And a group is one's as a whole. */
static void the_holder_dies(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;
    pid_t child;

    if (geteuid())
        skip();
    map(c, &m);
    child = child_start(hold, NULL);
    vfuc_region_unmap(&m);
    leave_child_behind(c);
    assert_kept(h->path);
    assert_kept(h->more[0].path);
    child_kill(child);
    leave(await_release(h->more[0].path));
    leave(await_release(h->path));
}

static bool is_removed(const struct harness *h)
{
    return sim_removal_is_done(h->machine.sim, h->bdf);
}

static bool is_closed(const struct harness *h)
{
    return !harness_stats(h).devices;
}

/* The host's unbinding waits for whoever has the device; then it comes back as any other. */
static void removal(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;
    char *bar = map(c, &m);

    bar[0] = 'a';
    assert_int_equal(sim_request_removal(h->machine.sim, h->bdf), 0);
    harness_await(h, is_closed, "the server has closed the device");
    assert_false(is_removed(h));
    assert_int_equal(touch(bar), -EFAULT);
    vfuc_close(c);
    assert_int_equal(vfuc_open(&c, h->path, NULL), -ENODEV);
    vfuc_region_unmap(&m);
    assert_true(is_removed(h));
    assert_int_equal(sim_bring_back(h->machine.sim, h->bdf), 0);
    c = client(h);
    assert_int_equal(read_byte(c, 0), 'a');
    vfuc_close(c);
}

static bool has_one_left(const struct harness *h)
{
    return harness_stats(h).devices == 1;
}

/* One of two is taken away: the other one's memory is in reach of whoever has its file. */
static void removal_of_one(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);
    struct vfuc_mapping m;
    pid_t child;

    if (geteuid())
        skip();
    map(c, &m);
    child = child_start(hold, NULL);
    vfuc_region_unmap(&m);
    assert_int_equal(sim_request_removal(h->machine.sim, h->bdf), 0);
    harness_await(h, has_one_left, "the server has closed the device");
    leave_child_behind(c);
    assert_kept(h->more[0].path);
    vfuc_close(harness_client_at(h->more[0].path)); /* its holder is served */
    assert_kept(h->more[0].path);
    child_kill(child);
    leave(await_release(h->more[0].path));
    harness_await(h, is_removed, "the removal is over");
    assert_int_equal(sim_bring_back(h->machine.sim, h->bdf), 0);
    leave(await_release(h->path));
}

/* What a client could not be given is left out, and it uses messages. */
static void out_of_descriptors(void **state)
{
    struct harness *h = *state;
    struct vfuc *c = client(h);

    sim_fail_nth(h->machine.sim, SIM_CALL_SHARE, 0, 1, EMFILE);
    assert_not_mapped(c, BAR2);
    assert_true(sim_fault_spent(h->machine.sim));
    write_byte(c, 0, 'a');
    assert_int_equal(read_byte(c, 0), 'a');
    vfuc_close(c);
}

#define mapped_test(f, setup) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)
#define named_test(f, setup)                                                                       \
    {                                                                                              \
#f " " #setup, f, setup, harness_teardown, NULL                                            \
    }

static const struct CMUnitTest tests[] = {
    named_test(nothing, by_none),
    named_test(nothing, old_kernel_by_default),
    named_test(nothing, old_kernel_by_dmabuf),
    named_test(both_ways, by_default),
    named_test(both_ways, by_devfd),
    named_test(descriptors, by_dmabuf),
    named_test(descriptors, by_devfd),
    mapped_test(around_a_hole, testdev_by_devfd),
    mapped_test(in_d3hot, testdev_by_devfd),
    mapped_test(no_area_at_the_start, testdev_by_dmabuf),
    mapped_test(a_dmabuf_is_kept, by_default),
    mapped_test(the_device_is_kept, by_devfd),
    mapped_test(the_device_is_given_back, by_devfd),
    mapped_test(the_device_is_under_way, by_devfd),
    mapped_test(the_holder_dies, in_a_group),
    mapped_test(removal, by_devfd),
    mapped_test(removal_of_one, in_a_group),
    named_test(out_of_descriptors, by_dmabuf),
    named_test(out_of_descriptors, by_devfd),
};

HARNESS_MAIN(tests)
