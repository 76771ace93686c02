#include "tests/unit/sim_fixture.h"

#include <pthread.h>
#include <sys/resource.h>

#include "bridge/sim/sim_migration.h"
#include "bridge/uapi_compat.h"
#include "proto/base/arith.h"

enum {
    ERROR,
    STOP,
    RUNNING,
    STOP_COPY,
    RESUMING,
    RUNNING_P2P,
    PRE_COPY,
    PRE_COPY_P2P,
    STATES,

    BASE = 1,
    P2P = 2,
    PRE = 4,

    LIVENESS = 0x04,
    FACTORIAL = 0x08,
    STATUS = 0x20,
    DMA_SRC = 0x80,
    DMA_DST = 0x88,
    DMA_CNT = 0x90,
    DMA_CMD = 0x98,
    BUFFER = 0x40000,
    RUN = 1,
    TO_RAM = 2,
    IOVA = 0x100000,
};

/*
 * Every way between two states when all of them are there, as the comment of the kernel's
 * vfio_mig_get_next_state() lists the arcs and the combinations of them, a digit a state.
 */
static const char *const ways[] = {
    "62",  "75",   "67",   "76",   "26",  "57",  "52",   "25",   "51",    "15",
    "13",  "31",   "14",   "41",   "73",  "673", "625",  "6251", "62514", "752",
    "751", "7514", "415",  "4157", "413", "257", "4152", "251",  "2514",  "41526",
    "526", "514",  "2513", "1526", "513", "157", "152",  "314",  "315",   "3152",
};

/* And the two that are blocked. */
static const char *const blocked[] = {"36", "37"};

static int feature(struct fixture *fx, uint32_t flags, void *data, size_t size)
{
    struct vfio_device_feature *request = calloc(1, sizeof(*request) + size);
    int ret;

    request->argsz = (uint32_t)(sizeof(*request) + size);
    request->flags = flags;
    memcpy(request->data, data, size);
    ret = fx_ioctl(fx, fx->device, VFIO_DEVICE_FEATURE, request);
    memcpy(data, request->data, size);
    free(request);
    return ret;
}

static uint32_t get_state(struct fixture *fx)
{
    struct vfio_device_feature_mig_state s = {.device_state = 99, .data_fd = 99};

    assert_int_equal(
        feature(fx, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s, sizeof(s)),
        0);
    assert_int_equal(s.data_fd, -1);
    assert_int_equal(s.device_state, fx_state(fx).migration);
    return s.device_state;
}

static int set_state(struct fixture *fx, uint32_t state, int *fd)
{
    struct vfio_device_feature_mig_state s = {.device_state = state, .data_fd = 99};
    int ret =
        feature(fx, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s, sizeof(s));

    *fd = s.data_fd;
    return ret;
}

/* A change that must work; returns the data descriptor, which there must be. */
static int open_session(struct fixture *fx, uint32_t state)
{
    int fd;

    assert_int_equal(set_state(fx, state, &fd), 0);
    assert_true(fd >= 0);
    return fd;
}

static void go(struct fixture *fx, uint32_t state)
{
    int fd;

    assert_int_equal(set_state(fx, state, &fd), 0);
    assert_int_equal(fd, -1);
    assert_int_equal(get_state(fx), state);
}

static void set_up(struct fixture *fx, const struct sim_migration_setup *setup)
{
    assert_int_equal(sim_set_migration(fx->sim, fx->bdf, setup), 0);
}

/* All there is to read until the kernel says something else than bytes, which is *end. */
static size_t read_all(struct fixture *fx, int fd, void *buf, size_t size, ssize_t *end)
{
    size_t len = 0;

    for (;;) {
        *end = host_read(fx->host, fd, (char *)buf + len, size - len);
        if (*end <= 0)
            return len;
        len += (size_t)*end;
        assert_true(len < size);
    }
}

static void write_all(struct fixture *fx, int fd, const void *buf, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = host_write(fx->host, fd, (const char *)buf + done, len - done);

        assert_true(n > 0);
        done += (size_t)n;
    }
}

static const char *find_way(uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        const char *way = ways[i];

        if (way[0] == (char)('0' + from) && way[strlen(way) - 1] == (char)('0' + to))
            return way;
    }
    return NULL;
}

static bool has_state(uint64_t flags, uint32_t state)
{
    switch (state) {
    case ERROR:
        return false;
    case RUNNING_P2P:
        return flags & P2P;
    case PRE_COPY:
        return flags & PRE;
    case PRE_COPY_P2P:
        return (flags & P2P) && (flags & PRE);
    default:
        return state < STATES;
    }
}

/* The states of a way that are there, after the first one. */
static void skip_missing(uint64_t flags, const char *way, char *hops)
{
    for (way++; *way; way++) {
        if (has_state(flags, (uint32_t)(*way - '0')))
            *hops++ = *way;
    }
    *hops = '\0';
}

static void check_way(uint64_t flags, uint32_t from, uint32_t to)
{
    const char *way = find_way(from, to);
    char wanted[8], got[8];
    size_t n = 0;
    uint32_t at = from;

    if (from == to && from != ERROR && has_state(flags, from)) {
        assert_int_equal(sim_migration_next(flags, from, to, &at), 0);
        assert_int_equal(at, to);
        return;
    }
    if (!way || !has_state(flags, from) || !has_state(flags, to)) {
        assert_int_equal(sim_migration_next(flags, from, to, &at), -EINVAL);
        return;
    }
    skip_missing(flags, way, wanted);
    while (at != to && n < sizeof(got) - 1) {
        assert_int_equal(sim_migration_next(flags, at, to, &at), 0);
        got[n++] = (char)('0' + at);
    }
    got[n] = '\0';
    assert_string_equal(got, wanted);
}

/* Every pair of the real states is a way, blocked, or no change. */
static void test_ways_are_complete(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_SIZE(ways) + ARRAY_SIZE(blocked), 7 * 6);
    for (uint32_t from = 1; from < STATES; from++) {
        for (uint32_t to = 1; to < STATES; to++) {
            const char pair[] = {(char)('0' + from), (char)('0' + to), '\0'};
            bool is_blocked = !strcmp(pair, blocked[0]) || !strcmp(pair, blocked[1]);

            assert_int_equal(from != to && !is_blocked, find_way(from, to) != NULL);
        }
    }
}

static void test_next(void **state)
{
    static const uint64_t drivers[] = {BASE, BASE | P2P, BASE | PRE, BASE | P2P | PRE};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        for (uint32_t from = 0; from <= STATES; from++) {
            for (uint32_t to = 0; to <= STATES; to++)
                check_way(drivers[i], from, to);
        }
    }
}

/* Brings a running device into a state; its data descriptor, or -1. */
static int bring(struct fixture *fx, uint32_t to, const void *image, size_t len)
{
    int fd = -1;

    if (to != RUNNING)
        assert_int_equal(set_state(fx, to, &fd), 0);
    if (to == RESUMING)
        write_all(fx, fd, image, len);
    assert_int_equal(get_state(fx), to);
    return fd;
}

static size_t take_image(struct fixture *fx, void *image, size_t size)
{
    int fd = open_session(fx, STOP_COPY);
    ssize_t end;
    size_t len = read_all(fx, fd, image, size, &end);

    assert_int_equal(end, 0);
    go(fx, RUNNING);
    host_close(fx->host, &fd);
    return len;
}

static bool is_saving(uint32_t state)
{
    return state == PRE_COPY || state == PRE_COPY_P2P || state == STOP_COPY;
}

static void check_change(struct fixture *fx, uint64_t flags, uint32_t from, uint32_t to,
                         const void *image, size_t len)
{
    int before = bring(fx, from, image, len), fd;
    bool possible = from == to || (find_way(from, to) && has_state(flags, to));
    bool opens = possible && from != to && (to == RESUMING || (is_saving(to) && !is_saving(from)));

    assert_int_equal(set_state(fx, to, &fd), possible ? 0 : -EINVAL);
    assert_int_equal(fd >= 0, opens);
    /* What is refused changes nothing: the kernel finds no first hop. */
    assert_int_equal(get_state(fx), possible ? to : from);
    host_close(fx->host, &before);
    host_close(fx->host, &fd);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(get_state(fx), RUNNING);
}

static void test_all_changes(void **state)
{
    static const uint64_t drivers[] = {BASE, BASE | P2P, BASE | PRE, BASE | P2P | PRE};
    struct fixture *fx = *state;
    char image[16384];
    size_t len = take_image(fx, image, sizeof(image));

    for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
        set_up(fx, &(struct sim_migration_setup){.flags = drivers[i]});
        for (uint32_t from = 1; from < STATES; from++) {
            for (uint32_t to = 0; has_state(drivers[i], from) && to <= STATES; to++)
                check_change(fx, drivers[i], from, to, image, len);
        }
    }
}

static void test_no_migration(void **state)
{
    static const uint32_t features[] = {1, 2, 9};
    struct fixture *fx = *state;
    uint64_t data = 0;

    set_up(fx, &(struct sim_migration_setup){0});
    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        assert_int_equal(feature(fx, VFIO_DEVICE_FEATURE_PROBE | features[i], &data, 0), -ENOTTY);
        assert_int_equal(feature(fx, VFIO_DEVICE_FEATURE_GET | features[i], &data, 8), -ENOTTY);
    }
}

static void test_requests(void **state)
{
    const uint32_t probe = VFIO_DEVICE_FEATURE_PROBE, get = VFIO_DEVICE_FEATURE_GET,
                   set = VFIO_DEVICE_FEATURE_SET;
    struct fixture *fx = *state;
    uint64_t data = 0;

    assert_int_equal(feature(fx, probe | get | set | 2, &data, 0), 0);
    assert_int_equal(feature(fx, probe | get | 1, &data, 0), 0);
    assert_int_equal(feature(fx, probe | set | 1, &data, 0), -EINVAL);
    assert_int_equal(feature(fx, probe | set | 9, &data, 0), -EINVAL);
    assert_int_equal(feature(fx, set | 1, &data, 8), -EINVAL);
    assert_int_equal(feature(fx, get | 1, &data, 7), -EINVAL);
    assert_int_equal(feature(fx, set | 2, &data, 7), -EINVAL);
    assert_int_equal(feature(fx, get | 9, &data, 7), -EINVAL);
    assert_int_equal(feature(fx, get | 1, &data, 8), 0);
    assert_int_equal(data, BASE | P2P | PRE);
}

static void test_data_size(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    uint64_t size = 0;

    assert_int_equal(feature(fx, VFIO_DEVICE_FEATURE_GET | 9, &size, sizeof(size)), 0);
    assert_int_equal(size, take_image(fx, image, sizeof(image)));
}

static void start_dma(struct fixture *fx, uint64_t dst, uint64_t len)
{
    fx_set(fx, 0, DMA_SRC, BUFFER, 8);
    fx_set(fx, 0, DMA_DST, dst, 8);
    fx_set(fx, 0, DMA_CNT, len, 8);
    fx_set(fx, 0, DMA_CMD, RUN | TO_RAM, 8);
}

/* The state, in any pieces; the device it came from has other registers then. */
static void test_registers_travel(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    size_t len;
    int fd;

    set_up(fx, &(struct sim_migration_setup){
                   .flags = SIM_MIGRATION_ALL, .max_transfer = 7, .ballast = 5000});
    fx_bar_set(fx, LIVENESS, 0x1234);
    fx_set(fx, 0, DMA_CNT, 77, 8);
    fx_bar_set(fx, 0x60, 0x10);
    len = take_image(fx, image, sizeof(image));
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_bar_get(fx, LIVENESS), 0);

    fd = open_session(fx, RESUMING);
    write_all(fx, fd, image, len);
    go(fx, RUNNING);
    host_close(fx->host, &fd);
    assert_int_equal(fx_bar_get(fx, LIVENESS), ~0x1234u);
    assert_int_equal(fx_get(fx, 0, DMA_CNT, 8), 77);
    assert_int_equal(fx_bar_get(fx, 0x24), 0x10);
    assert_true(fx_config_get(fx, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
}

/* A stopped device writes nothing; the transfer that it was asked for is made when it runs. */
static void test_stop_holds_dma(void **state)
{
    const struct timespec while_ = {.tv_nsec = 20000000};
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);

    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    fx_set_bus_master(fx, true);
    memset(memory, 0x55, FX_PAGE);
    start_dma(fx, IOVA, FX_PAGE);
    go(fx, STOP);
    memset(memory, 0x55, FX_PAGE);
    nanosleep(&while_, NULL);
    for (size_t i = 0; i < FX_PAGE; i++)
        assert_int_equal(memory[i], 0x55);
    assert_true(fx_state(fx).dma_running);
    go(fx, RUNNING);
    while (fx_state(fx).dma_running)
        sched_yield();
    assert_int_equal(memory[0], 0);
    assert_int_equal(memory[FX_PAGE - 1], 0);
    munmap(memory, FX_PAGE);
}

/* In the states of pre-copy it runs on. */
static void test_pre_copy_runs(void **state)
{
    struct fixture *fx = *state;
    char *memory = fx_memory(FX_PAGE, NULL);
    int fd = open_session(fx, PRE_COPY);

    assert_int_equal(fx_map_rw(fx, IOVA, memory, FX_PAGE), 0);
    fx_set_bus_master(fx, true);
    memset(memory, 0x55, FX_PAGE);
    start_dma(fx, IOVA, FX_PAGE);
    while (fx_state(fx).dma_running)
        sched_yield();
    assert_int_equal(memory[0], 0);
    fx_bar_set(fx, FACTORIAL, 5);
    while (fx_bar_get(fx, STATUS) & 1)
        sched_yield();
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 120);
    host_close(fx->host, &fd);
    munmap(memory, FX_PAGE);
}

static void test_factorial_goes_on(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    size_t len;
    int fd;

    go(fx, STOP);
    fx_bar_set(fx, FACTORIAL, 5);
    len = read_all(fx, fd = open_session(fx, STOP_COPY), image, sizeof(image), &(ssize_t){0});
    host_close(fx->host, &fd);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 0);
    fd = open_session(fx, RESUMING);
    write_all(fx, fd, image, len);
    host_close(fx->host, &fd);
    go(fx, RUNNING);
    while (fx_bar_get(fx, STATUS) & 1)
        sched_yield();
    assert_int_equal(fx_bar_get(fx, FACTORIAL), 120);
}

static struct uapi_vfio_precopy_info info_of(struct fixture *fx, int fd)
{
    struct uapi_vfio_precopy_info info = {.argsz = sizeof(info)};

    assert_int_equal(fx_ioctl(fx, fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO, &info), 0);
    return info;
}

/* What is new is there when it was asked for, and not before. */
static void test_pre_copy_rounds(void **state)
{
    struct fixture *fx = *state;
    char image[65536];
    int fd = open_session(fx, PRE_COPY), none;
    size_t initial = (size_t)info_of(fx, fd).initial_bytes, dirty, len;
    ssize_t end;

    len = read_all(fx, fd, image, sizeof(image), &end);
    assert_int_equal(len, initial);
    assert_int_equal(end, -ENOMSG);
    assert_int_equal(info_of(fx, fd).dirty_bytes, 0);
    fx_bar_set(fx, LIVENESS, 1);
    assert_int_equal(host_read(fx->host, fd, image + len, 1), -ENOMSG);
    dirty = (size_t)info_of(fx, fd).dirty_bytes;
    assert_true(dirty > 0);
    assert_int_equal(info_of(fx, fd).initial_bytes, 0);
    len += read_all(fx, fd, image + len, sizeof(image) - len, &end);
    assert_int_equal(len, initial + dirty);

    fx_bar_set(fx, LIVENESS, 2);
    assert_int_equal(set_state(fx, STOP_COPY, &none), 0);
    assert_int_equal(none, -1); /* the same session */
    len += read_all(fx, fd, image + len, sizeof(image) - len, &end);
    assert_int_equal(end, 0);
    assert_int_equal(fx_ioctl(fx, fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO,
                              &(struct uapi_vfio_precopy_info){.argsz = 24}),
                     -EINVAL);
    go(fx, STOP);
    assert_int_equal(host_read(fx->host, fd, image, 1), -ENODEV);
    host_close(fx->host, &fd);

    fd = open_session(fx, RESUMING);
    write_all(fx, fd, image, len);
    host_close(fx->host, &fd);
    go(fx, RUNNING);
    assert_int_equal(fx_bar_get(fx, LIVENESS), ~2u);
}

static void test_dry_is_zero(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    ssize_t end;
    int fd;

    set_up(fx, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .dry_is_zero = true});
    fd = open_session(fx, PRE_COPY);
    read_all(fx, fd, image, sizeof(image), &end);
    assert_int_equal(end, 0);
    host_close(fx->host, &fd);
}

static void *reset_soon(void *arg)
{
    const struct timespec soon = {.tv_nsec = 20000000};
    struct fixture *fx = arg;

    nanosleep(&soon, NULL);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    return NULL;
}

static void test_not_ready(void **state)
{
    struct fixture *fx = *state;
    int fd, silent[2];
    struct pollfd fds[2];
    char byte;

    assert_int_equal(pipe2(silent, O_CLOEXEC), 0);
    set_up(fx, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 50});
    fd = open_session(fx, PRE_COPY);
    fds[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = silent[0], .events = POLLIN};
    assert_int_equal(host_set_nonblock(fx->host, fd), 0);
    assert_int_equal(host_read(fx->host, fd, &byte, 1), -EAGAIN);
    assert_int_equal(host_poll(fx->host, fds, 2, 0), 0);
    assert_int_equal(host_poll(fx->host, fds, 2, -1), 1);
    assert_int_equal(fds[0].revents, POLLIN);
    assert_int_equal(fds[1].revents, 0);
    assert_int_equal(host_read(fx->host, fd, &byte, 1), 1);
    host_close(fx->host, &fd);
    close(silent[1]);
    assert_int_equal(host_poll(fx->host, fds + 1, 1, -1), 1);
    assert_true(fds[1].revents & POLLHUP);
    close(silent[0]);
}

static void test_read_waits(void **state)
{
    struct fixture *fx = *state;
    pthread_t thread;
    char byte;
    int fd;

    set_up(fx, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 30});
    fd = open_session(fx, STOP_COPY);
    assert_int_equal(host_read(fx->host, fd, &byte, 1), 1);
    host_close(fx->host, &fd);
    go(fx, RUNNING);

    set_up(fx, &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .delay_ms = 1000000000});
    fd = open_session(fx, STOP_COPY);
    assert_int_equal(pthread_create(&thread, NULL, reset_soon, fx), 0);
    assert_int_equal(host_read(fx->host, fd, &byte, 1), -ENODEV);
    pthread_join(thread, NULL);
    host_close(fx->host, &fd);
}

/* Where the device is after a change that failed: where the last hop left it. */
static void test_bad_data(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    size_t len = take_image(fx, image, sizeof(image));
    int fd = open_session(fx, RESUMING), none;

    assert_int_equal(set_state(fx, RUNNING, &none), -EINVAL);
    assert_int_equal(none, -1);
    assert_int_equal(get_state(fx), RESUMING);
    write_all(fx, fd, image, len - 1);
    assert_int_equal(set_state(fx, RUNNING, &none), -EINVAL);
    assert_int_equal(get_state(fx), RESUMING);
    write_all(fx, fd, image + len - 1, 1);
    go(fx, STOP);
    assert_int_equal(host_write(fx->host, fd, image, 1), -ENODEV);
    host_close(fx->host, &fd);

    image[8]++; /* of the model's name */
    fd = open_session(fx, RESUMING);
    assert_int_equal(host_write(fx->host, fd, image, len), -EINVAL);
    host_close(fx->host, &fd);
}

/* A final image that the model does not take. */
static void test_bad_image(void **state)
{
    struct fixture *fx = *state;
    char image[16384];
    size_t len = take_image(fx, image, sizeof(image));
    int fd = open_session(fx, RESUMING), none;

    image[8 + 24 + 8 + 8] |= 2; /* STATUS */
    write_all(fx, fd, image, len);
    assert_int_equal(set_state(fx, STOP, &none), -EINVAL);
    assert_int_equal(get_state(fx), RESUMING);
    host_close(fx->host, &fd);
}

/* Once, on the way that leads there, and not after a reset. */
static void test_hop_fails(void **state)
{
    struct fixture *fx = *state;
    int none;

    assert_int_equal(sim_fail_hop(fx->sim, fx->bdf, STOP), 0);
    assert_int_equal(set_state(fx, STOP_COPY, &none), -EIO);
    assert_int_equal(none, -1);
    assert_int_equal(get_state(fx), RUNNING_P2P);
    go(fx, STOP);

    assert_int_equal(sim_fail_hop(fx->sim, fx->bdf, RUNNING), 0);
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    go(fx, STOP);
    go(fx, RUNNING);
    assert_int_equal(sim_fail_hop(fx->sim, "0000:00:1f.0", STOP), -ENODEV);
}

static void test_error_state(void **state)
{
    struct fixture *fx = *state;
    int fd, none;

    set_up(fx,
           &(struct sim_migration_setup){.flags = SIM_MIGRATION_ALL, .bad_data_is_error = true});
    fd = open_session(fx, RESUMING);
    assert_int_equal(set_state(fx, RUNNING, &none), -EINVAL);
    assert_int_equal(get_state(fx), ERROR);
    assert_int_equal(host_write(fx->host, fd, "x", 1), -ENODEV);
    for (uint32_t to = 1; to <= STATES; to++) {
        assert_int_equal(set_state(fx, to, &none), -EINVAL);
        assert_int_equal(get_state(fx), ERROR);
    }
    assert_int_equal(fx_ioctl(fx, fx->device, VFIO_DEVICE_RESET, NULL), 0);
    assert_int_equal(get_state(fx), RUNNING);
    host_close(fx->host, &fd);
}

/* The device is in the state that was asked for, and nobody has the data. */
static void test_no_descriptor(void **state)
{
    struct fixture *fx = *state;
    struct rlimit before, none = {0};
    int fd, ret;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    ret = set_state(fx, PRE_COPY, &fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(ret, -EMFILE);
    assert_int_equal(fd, -1);
    assert_int_equal(get_state(fx), PRE_COPY);
    go(fx, RUNNING);
}

static void test_wrong_calls(void **state)
{
    struct uapi_vfio_precopy_info info = {.argsz = 23};
    struct fixture *fx = *state;
    int fd = open_session(fx, PRE_COPY);
    char byte = 0;

    assert_int_equal(host_write(fx->host, fd, &byte, 1), -EBADF);
    assert_int_equal(host_pread(fx->host, fd, &byte, 1, 0), -ESPIPE);
    assert_int_equal(host_pwrite(fx->host, fd, &byte, 1, 0), -ESPIPE);
    assert_int_equal(fx_ioctl(fx, fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO, &info), -EINVAL);
    assert_int_equal(fx_ioctl(fx, fd, VFIO_DEVICE_RESET, NULL), -ENOTTY);
    go(fx, RUNNING);
    host_close(fx->host, &fd);
    fd = open_session(fx, RESUMING);
    assert_int_equal(host_read(fx->host, fd, &byte, 1), -EBADF);
    assert_int_equal(fx_ioctl(fx, fd, UAPI_VFIO_MIG_GET_PRECOPY_INFO, &info), -ENOTTY);
    host_close(fx->host, &fd);
    assert_int_equal(host_read(fx->host, fx->device, &byte, 1), -EINVAL);
    assert_int_equal(host_write(fx->host, fx->device, &byte, 1), -EINVAL);
}

/* Closing the device ends the session; the next one that opens it finds it running. */
static void test_close(void **state)
{
    struct fixture *fx = *state;
    int fd = open_session(fx, RESUMING);

    assert_int_equal(sim_set_migration(fx->sim, fx->bdf, &(struct sim_migration_setup){0}), -EBUSY);
    host_close(fx->host, &fx->device);
    assert_int_equal(host_write(fx->host, fd, "x", 1), -ENODEV);
    assert_int_equal(fx_stats(fx).streams, 1);
    host_close(fx->host, &fd);
    assert_int_equal(fx_stats(fx).streams, 0);
    fx->device = fx_get_device(fx, fx->bdf);
    assert_int_equal(get_state(fx), RUNNING);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ways_are_complete),
    cmocka_unit_test(test_next),
    cmocka_unit_test_setup_teardown(test_all_changes, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_no_migration, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_requests, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_data_size, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_registers_travel, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_stop_holds_dma, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_pre_copy_runs, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_factorial_goes_on, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_pre_copy_rounds, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_dry_is_zero, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_not_ready, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_read_waits, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_bad_data, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_bad_image, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_hop_fails, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_error_state, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_no_descriptor, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_wrong_calls, fx_setup_open, fx_teardown),
    cmocka_unit_test_setup_teardown(test_close, fx_setup_open, fx_teardown),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
