/*
 * Several devices of one client, and clients that are several users: what they share, and what
 * keeps them apart. Devices a and b are in one IOMMU group, c is in another.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client-example/edu.h"
#include "proto/base/arith.h"
#include "proto/base/cleanup.h"
#include "proto/base/fd.h"
#include "tests/protocol/child.h"
#include "tests/protocol/raw.h"

enum {
    CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
    IOVA = 0x100000,
    SIZE = 4 * PAGE,
    FILE_SIZE = 16 * PAGE,
    NOBODY = 65534,
    DEVICES = 3,
};

static const char *path_of(const struct harness *h, unsigned device)
{
    return device ? h->more[device - 1].path : h->path;
}

static const char *bdf_of(const struct harness *h, unsigned device)
{
    return device ? h->more[device - 1].bdf : h->bdf;
}

/* A machine that is not started. Everybody may connect. */
static struct harness *new_machine(void)
{
    struct harness *h = harness_new();

    h->settings.socket_mode = 0666;
    assert_int_equal(chmod(h->directory, 0755), 0);
    h->export_config.device = "sim:edu@one";
    harness_add_export(h, "sim:edu@one");
    harness_add_export(h, "sim:edu@two");
    return h;
}

static int setup(void **state)
{
    struct harness *h = new_machine();

    harness_start(h);
    *state = h;
    return 0;
}

#define tenants_test(f) cmocka_unit_test_setup_teardown(f, setup, harness_teardown)

static struct vfuc *client(const struct harness *h, unsigned device)
{
    const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    struct vfuc *c = harness_client_at(path_of(h, device));

    assert_int_equal(vfuc_region_write(c, CONFIG, PCI_COMMAND, &command, sizeof(command)), 0);
    return c;
}

/* Returns when the server has ended the session: only then it closes its side. */
static void leave(struct vfuc *c)
{
    shutdown(vfuc_socket(c), SHUT_WR);
    raw_expect_end(vfuc_socket(c));
    vfuc_close(c);
}

/* What answers the VERSION of a user; a session that it gets has ended afterwards. */
static int ask_as(const struct harness *h, unsigned device, uid_t uid)
{
    int sock = child_connect(path_of(h, device), uid);
    struct vfuc *c;
    int ret;

    assert_true(sock >= 0);
    ret = vfuc_open_fd(&c, sock, NULL);
    if (!ret)
        leave(c);
    return ret;
}

static int map(struct vfuc *c, int fd)
{
    return vfuc_dma_map(c, IOVA, SIZE, DMA_RW, fd, 0);
}

static int unmap(struct vfuc *c)
{
    return vfuc_dma_unmap(c, IOVA, SIZE);
}

/* By the client's own registers: from the memory's first page through the device to its second. */
static void assert_transfers(struct vfuc *c, int fd)
{
    const struct edu_transfer there = {.iova = IOVA, .len = 8};
    const struct edu_transfer back = {.iova = IOVA + PAGE, .len = 8, .to_ram = true};
    static uint64_t n;
    uint64_t word = ++n, seen = 0;

    assert_int_equal(pwrite(fd, &word, sizeof(word), 0), sizeof(word));
    assert_int_equal(edu_dma(c, &there), 0);
    assert_int_equal(edu_dma(c, &back), 0);
    assert_int_equal(pread(fd, &seen, sizeof(seen), PAGE), sizeof(seen));
    assert_true(seen == word);
}

static bool reaches(const struct harness *h, unsigned device)
{
    uint32_t word;

    return !sim_device_dma(h->machine.sim, bdf_of(h, device), IOVA, &word, sizeof(word), true);
}

static void assert_kernel_has(const struct harness *h, unsigned mappings, uint64_t pinned)
{
    assert_int_equal(harness_stats(h).mappings, mappings);
    assert_true(harness_stats(h).pinned_bytes == pinned);
}

/*
 * One client.
 */

static void same_maps(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *a = client(h, 0), *b = client(h, 1);

    for (int i = 0; i < 2; i++) {
        struct vfuc *first = i ? b : a, *second = i ? a : b;

        assert_int_equal(map(first, fd), 0);
        assert_int_equal(map(second, fd), 0);
        assert_kernel_has(h, 1, SIZE);
        assert_transfers(a, fd);
        assert_transfers(b, fd);
        assert_int_equal(map(first, fd), -EEXIST); /* its own */

        assert_int_equal(unmap(first), 0);
        assert_int_equal(unmap(first), -ENOENT);
        assert_transfers(second, fd);
        assert_int_equal(vfuc_dma_unmap_all(first), 0);
        assert_transfers(second, fd);
        assert_int_equal(vfuc_dma_unmap_all(second), 0);
        assert_kernel_has(h, 0, 0);
        assert_false(reaches(h, 0) || reaches(h, 1));
    }
    leave(a);
    leave(b);
}

/* However it ends, and whichever of them. */
static void one_session_ends(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);

    for (unsigned dying = 0; dying < 4; dying++) {
        struct vfuc *clients[] = {client(h, 0), client(h, 1)};
        struct vfuc *dies = clients[dying & 1], *lives = clients[!(dying & 1)];

        assert_int_equal(map(clients[0], fd), 0);
        assert_int_equal(map(clients[1], fd), 0);
        if (dying < 2) {
            leave(dies);
        } else {
            static const struct vfio_user_header broken = {.msg_size = 1};

            raw_send_bytes(vfuc_socket(dies), &broken, sizeof(broken), NULL, 0);
            vfuc_close(dies);
            leave(client(h, dying & 1)); /* who has a session when the other one has ended */
        }
        assert_transfers(lives, fd);
        assert_kernel_has(h, 1, SIZE);
        leave(lives);
        assert_kernel_has(h, 0, 0);
        assert_false(reaches(h, 0) || reaches(h, 1));
    }
}

/* The two devices can't be told apart, so they can't have different memory at one address. */
static void conflicting_maps(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE), other = raw_memfd(FILE_SIZE);
    struct vfuc *a = client(h, 0), *b = client(h, 1);
    const struct {
        uint64_t iova, size;
        uint32_t flags;
        int fd;
        uint64_t offset;
    } cases[] = {
        {IOVA,            SIZE,     DMA_RW,                 other, 0   },
        {IOVA,            SIZE,     DMA_RW,                 fd,    PAGE},
        {IOVA,            SIZE,     VFIO_USER_DMA_MAP_READ, fd,    0   },
        {IOVA,            PAGE,     DMA_RW,                 fd,    0   },
        {IOVA,            2 * SIZE, DMA_RW,                 fd,    0   },
        {IOVA + PAGE,     PAGE,     DMA_RW,                 fd,    PAGE},
        {IOVA - PAGE,     2 * PAGE, DMA_RW,                 fd,    0   },
        {IOVA + 3 * PAGE, SIZE,     DMA_RW,                 fd,    0   },
    };

    assert_int_equal(map(a, fd), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(vfuc_dma_map(b, cases[i].iova, cases[i].size, cases[i].flags, cases[i].fd,
                                      cases[i].offset),
                         -EEXIST);
    assert_kernel_has(h, 1, SIZE);
    assert_int_equal(vfuc_dma_unmap(b, IOVA, SIZE), -ENOENT); /* not its own */
    assert_int_equal(vfuc_dma_map(b, IOVA + SIZE, SIZE, DMA_RW, other, 0), 0);
    assert_int_equal(unmap(a), 0);
    assert_int_equal(map(b, other), 0);
    assert_transfers(b, other);
    leave(a);
    assert_transfers(b, other);
    leave(b);
}

/* iommufd pins it once for both groups; a container pins for itself. */
static void two_groups(void **state)
{
    struct harness *h = *state;
    const unsigned times = !harness_is_iommufd() ? 2 : 1;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *a = client(h, 0), *c = client(h, 2);

    assert_int_equal(map(a, fd), 0);
    assert_false(reaches(h, 2));
    assert_int_equal(map(c, fd), 0);
    assert_kernel_has(h, 2, times * (uint64_t)SIZE);
    if (harness_is_iommufd())
        assert_int_equal(harness_stats(h).contexts, 1);
    assert_transfers(a, fd);
    assert_transfers(c, fd);
    leave(a);
    assert_transfers(c, fd);
    assert_false(reaches(h, 0));
    assert_kernel_has(h, 1, SIZE);
    if (harness_is_iommufd())
        assert_int_equal(harness_stats(h).contexts, 2);
    assert_int_equal(unmap(c), 0);
    assert_kernel_has(h, 0, 0);
    leave(c);
}

/* In a child: makes its device busy without end, beside what is looked at. */
static void run_victim(void *arg, int ready)
{
    const struct edu_transfer t = {.to_ram = true, .iova = IOVA + 2 * PAGE, .len = EDU_BUFFER_SIZE};
    struct vfuc *c = arg;

    for (unsigned i = 0;; i++) {
        if (edu_dma_start(c, &t))
            _exit(1);
        if (i == 2)
            child_ready(ready);
        if (edu_dma_wait(c))
            _exit(1);
    }
}

static void killed_during_dma(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *b = client(h, 1);

    assert_int_equal(map(b, fd), 0);
    for (int i = 0; i < 10; i++) {
        struct vfuc *a = client(h, 0);
        pid_t pid;

        assert_int_equal(map(a, fd), 0);
        pid = child_start(run_victim, a);
        vfuc_close(a);
        assert_transfers(b, fd);
        child_kill(pid);
        assert_transfers(b, fd);
    }
    leave(client(h, 0));
    assert_transfers(b, fd);
    assert_int_equal(harness_stats(h).dma_faults, 0);
    assert_kernel_has(h, 1, SIZE);
    leave(b);
}

/* Two clients' threads, each with its session. */
struct load {
    struct vfuc *c;
    int fd;
    unsigned failures;
};

static void *map_and_unmap(void *arg)
{
    struct load *l = arg;

    for (unsigned i = 0; i < 1000; i++)
        l->failures += map(l->c, l->fd) || unmap(l->c);
    return NULL;
}

static void at_the_same_time(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct load loads[DEVICES];
    pthread_t threads[DEVICES];

    for (unsigned i = 0; i < DEVICES; i++) {
        loads[i] = (struct load){.c = client(h, i), .fd = fd};
        assert_int_equal(pthread_create(&threads[i], NULL, map_and_unmap, &loads[i]), 0);
    }
    for (unsigned i = 0; i < DEVICES; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(loads[i].failures, 0);
    }
    assert_kernel_has(h, 0, 0);
    for (unsigned i = 0; i < DEVICES; i++)
        leave(loads[i].c);
}

/*
 * Two users. Only root can be two.
 */

static void group_of_another_user(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct sim_stats before, after;
    struct vfuc *a;

    if (geteuid())
        skip();
    a = client(h, 0);
    assert_int_equal(map(a, fd), 0);
    before = harness_stats(h);
    assert_int_equal(ask_as(h, 1, NOBODY), -EACCES);
    assert_int_equal(ask_as(h, 0, NOBODY), -EBUSY);
    after = harness_stats(h);
    assert_int_equal(after.ioctls, before.ioctls);
    assert_int_equal(after.resets, before.resets);
    assert_transfers(a, fd);
    assert_int_equal(ask_as(h, 2, NOBODY), 0); /* another group */
    assert_transfers(a, fd);

    before = harness_stats(h);
    leave(a);
    assert_true(harness_stats(h).resets > before.resets);
    assert_kernel_has(h, 0, 0);
    assert_int_equal(ask_as(h, 1, NOBODY), 0);
    assert_int_equal(ask_as(h, 0, NOBODY), 0);
    leave(client(h, 1));
}

/* The group goes with the last of its sessions, and nothing of the first user's is left in it. */
static void group_changes_hands(void **state)
{
    struct harness *h = *state;
    cleanup_close_ int fd = raw_memfd(FILE_SIZE), theirs = raw_memfd(FILE_SIZE);
    struct vfuc *a, *b, *c;
    uint32_t mark = 0x12345678, word = 1;

    if (geteuid())
        skip();
    a = client(h, 0);
    b = client(h, 1);
    c = client(h, 2);
    assert_int_equal(map(a, fd) | map(b, fd) | map(c, fd), 0);
    leave(a);
    assert_int_equal(ask_as(h, 0, NOBODY), -EACCES);
    leave(b);
    assert_int_equal(vfuc_open_fd(&b, child_connect(path_of(h, 1), NOBODY), NULL), 0);
    assert_false(reaches(h, 0) || reaches(h, 1));
    assert_transfers(c, fd); /* the first user's device in the other group */
    assert_int_equal(map(b, theirs), 0);
    assert_int_equal(sim_device_dma(h->machine.sim, bdf_of(h, 2), IOVA, &mark, 4, true), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(sim_device_dma(h->machine.sim, bdf_of(h, i), IOVA, &word, 4, false), 0);
        assert_int_equal(word, 0);
    }
    if (harness_is_iommufd())
        assert_int_equal(harness_stats(h).contexts, 2);
    assert_kernel_has(h, 2, 2 * SIZE);
    leave(b);
    leave(c);
}

/* A device that could not be reset keeps its group with its last user. */
static void quarantine(void **state)
{
    struct harness *h = *state;
    struct vfuc *b;

    if (geteuid())
        skip();
    /* It shows when the device is opened again: the session after the next one ends without. */
    sim_set_no_reset(h->machine.sim, h->bdf);
    leave(client(h, 0));
    assert_int_equal(ask_as(h, 1, NOBODY), 0);
    leave(client(h, 0));
    assert_int_equal(ask_as(h, 0, NOBODY), -EACCES);
    assert_int_equal(ask_as(h, 1, NOBODY), -EACCES);
    assert_int_equal(ask_as(h, 2, NOBODY), 0);
    b = client(h, 1);
    leave(client(h, 0));
    leave(b);
    assert_int_equal(ask_as(h, 1, NOBODY), -EACCES);
}

/*
 * --stable-memory
 */

static unsigned count_pins(const struct harness *h, struct vfuc *c, int fd, unsigned rounds)
{
    unsigned before = harness_stats(h).pins;

    for (unsigned i = 0; i < rounds; i++) {
        assert_int_equal(map(c, fd), 0);
        assert_transfers(c, fd);
        assert_int_equal(unmap(c), 0);
        assert_false(reaches(h, 0));
    }
    return harness_stats(h).pins - before;
}

/* As QEMU does when a BIOS boots. type1 has nothing to keep memory in. */
static void stable_memory(void **state)
{
    struct harness *h = new_machine();
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *a, *c;

    (void)state;
    h->export_config.stable_memory = FILE_SIZE;
    harness_start(h);
    a = client(h, 0);
    c = client(h, 2);
    assert_int_equal(count_pins(h, a, fd, 5), !harness_is_iommufd() ? 5 : 1);
    assert_int_equal(count_pins(h, a, fd, 5), !harness_is_iommufd() ? 5 : 0);
    assert_true(harness_stats(h).pinned_bytes == (!harness_is_iommufd() ? 0 : SIZE));

    /* The export that has not the option takes the file as it is. */
    assert_int_equal(count_pins(h, c, fd, 1), 1);
    assert_kernel_has(h, harness_is_iommufd(), !harness_is_iommufd() ? 0 : SIZE);
    assert_int_equal(count_pins(h, a, fd, 2), !harness_is_iommufd() ? 2 : 0);
    leave(a);
    assert_kernel_has(h, 0, 0);
    leave(c);
    fd_close(&fd);
    harness_stop(h);
}

/* What may stay pinned is the export's, not the client's: the mapping is the same. */
static void stable_beside_not_stable(void **state)
{
    struct harness *h = new_machine();
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);

    (void)state;
    h->export_config.stable_memory = FILE_SIZE;
    harness_start(h);
    for (int i = 0; i < 2; i++) {
        struct vfuc *a = client(h, 0), *b = client(h, 1);

        assert_int_equal(map(i ? b : a, fd), 0);
        assert_int_equal(map(i ? a : b, fd), 0);
        assert_transfers(a, fd);
        assert_transfers(b, fd);
        leave(i ? a : b);
        leave(i ? b : a);
        assert_kernel_has(h, 0, 0);
    }
    fd_close(&fd);
    harness_stop(h);
}

/* Nor does it stay pinned for a user who has gone, though the device stays his. */
static void stable_in_quarantine(void **state)
{
    struct harness *h = new_machine();
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *a;

    (void)state;
    h->export_config.stable_memory = FILE_SIZE;
    harness_start(h);
    sim_set_no_reset(h->machine.sim, h->bdf);
    for (int i = 0; i < 3; i++) {
        a = client(h, 0);
        assert_int_equal(count_pins(h, a, fd, 2), !harness_is_iommufd() ? 2 : 1);
        leave(a);
        assert_kernel_has(h, 0, 0);
    }
    fd_close(&fd);
    harness_stop(h);
}

/* The daemon ends in the middle of it; harness_stop asserts that nothing is left. */
static void stopped_with_sessions(void **state)
{
    struct harness *h = new_machine();
    cleanup_close_ int fd = raw_memfd(FILE_SIZE);
    struct vfuc *clients[DEVICES];

    (void)state;
    h->export_config.stable_memory = FILE_SIZE;
    harness_start(h);
    for (unsigned i = 0; i < DEVICES; i++) {
        clients[i] = client(h, i);
        assert_int_equal(map(clients[i], fd), 0);
    }
    assert_int_equal(unmap(clients[0]), 0);
    h->fds_before += DEVICES + 1; /* this side of the connections, and the memory */
    harness_stop(h);
    for (unsigned i = 0; i < DEVICES; i++)
        vfuc_close(clients[i]);
}

static const struct CMUnitTest tests[] = {
    tenants_test(same_maps),
    tenants_test(one_session_ends),
    tenants_test(conflicting_maps),
    tenants_test(two_groups),
    tenants_test(killed_during_dma),
    tenants_test(at_the_same_time),
    tenants_test(group_of_another_user),
    tenants_test(group_changes_hands),
    tenants_test(quarantine),
    cmocka_unit_test(stable_memory),
    cmocka_unit_test(stable_beside_not_stable),
    cmocka_unit_test(stable_in_quarantine),
    cmocka_unit_test(stopped_with_sessions),
};

HARNESS_MAIN(tests)
