#include "tests/fault/fault.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/base/fd.h"

enum {
    /* Far more calls than a scenario makes. */
    TOO_MANY = 5000,
};

/* The machine's host with a plan in front of it, for faults that last. */
struct dying_host {
    struct host host; /* first: the host is the machine */
    struct host *below;
    unsigned calls_left; /* until it dies; UINT_MAX: never */
    bool dead;
    int err;
};

static const char memory_name[] = "fault-client";

/* Where a failing test stands; err 0: nowhere. */
static struct {
    unsigned n;
    int err;
} standing;

static struct dying_host dying;
static enum sim_iommu_model model = SIM_IOMMU_TYPE1;

static int call_error(struct host *host)
{
    struct dying_host *d = (struct dying_host *)host;

    if (d->calls_left != UINT_MAX && !d->dead && --d->calls_left == 0)
        d->dead = true;
    return d->dead ? -d->err : 0;
}

static struct host *below(struct host *host)
{
    return ((struct dying_host *)host)->below;
}

static int dying_open(struct host *host, const char *path, int flags)
{
    int err = call_error(host);

    return err ? err : host_open(below(host), path, flags);
}

static int dying_close(struct host *host, int fd)
{
    return below(host)->ops->close(below(host), fd);
}

static int dying_ioctl(struct host *host, int fd, unsigned long request, void *arg)
{
    int err = call_error(host);

    return err ? err : host_ioctl(below(host), fd, request, arg);
}

static ssize_t dying_pread(struct host *host, int fd, void *buf, size_t len, off_t offset)
{
    int err = call_error(host);

    return err ? err : host_pread(below(host), fd, buf, len, offset);
}

static ssize_t dying_pwrite(struct host *host, int fd, const void *buf, size_t len, off_t offset)
{
    int err = call_error(host);

    return err ? err : host_pwrite(below(host), fd, buf, len, offset);
}

static ssize_t dying_read(struct host *host, int fd, void *buf, size_t len)
{
    int err = call_error(host);

    return err ? err : host_read(below(host), fd, buf, len);
}

static ssize_t dying_write(struct host *host, int fd, const void *buf, size_t len)
{
    int err = call_error(host);

    return err ? err : host_write(below(host), fd, buf, len);
}

static int dying_set_nonblock(struct host *host, int fd)
{
    int err = call_error(host);

    return err ? err : host_set_nonblock(below(host), fd);
}

static int dying_poll(struct host *host, struct pollfd *fds, nfds_t n, int timeout_ms)
{
    int err = call_error(host);

    return err ? err : host_poll(below(host), fds, n, timeout_ms);
}

static int dying_mmap(struct host *host, void **addr, size_t len, int prot, int flags, int fd,
                      off_t offset)
{
    int err = call_error(host);

    return err ? err : host_mmap(below(host), addr, len, prot, flags, fd, offset);
}

static int dying_munmap(struct host *host, void *addr, size_t len)
{
    return host_munmap(below(host), addr, len);
}

static int dying_share(struct host *host, int fd)
{
    int err = call_error(host);

    return err ? err : host_share(below(host), fd);
}

static ssize_t dying_readlink(struct host *host, const char *path, char *buf, size_t size)
{
    int err = call_error(host);

    return err ? err : host_readlink(below(host), path, buf, size);
}

static int dying_list(struct host *host, const char *path,
                      int (*entry)(const char *name, void *arg), void *arg)
{
    int err = call_error(host);

    return err ? err : host_list(below(host), path, entry, arg);
}

static const struct host_ops dying_ops = {
    .name = "dying",
    .open = dying_open,
    .close = dying_close,
    .ioctl = dying_ioctl,
    .pread = dying_pread,
    .pwrite = dying_pwrite,
    .read = dying_read,
    .write = dying_write,
    .set_nonblock = dying_set_nonblock,
    .poll = dying_poll,
    .mmap = dying_mmap,
    .munmap = dying_munmap,
    .share = dying_share,
    .readlink = dying_readlink,
    .list = dying_list,
};

static void assert_machine_unused(struct sim *sim)
{
    struct sim_stats stats;

    sim_get_stats(sim, &stats);
    assert_int_equal(stats.containers, 0);
    assert_int_equal(stats.groups, 0);
    assert_int_equal(stats.devices, 0);
    assert_int_equal(stats.contexts, 0);
    assert_int_equal(stats.mappings, 0);
    assert_int_equal(stats.pinned_bytes, 0);
    assert_int_equal(stats.locked_bytes, 0);
}

static void assert_memory_unmapped(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        if (strstr(line, memory_name))
            fail_msg("the client's memory is still mapped: %s", line);
    }
    fclose(maps);
}

/* One run. Returns true if a call has failed in it. */
static bool run(fault_scenario scenario, unsigned n, int err, bool lasting)
{
    struct fault_machine m = {.sim = NULL, .err = err};
    int before = fd_count_open();

    standing.n = n;
    standing.err = err;
    m.sim = sim_create();
    assert_non_null(m.sim);
    sim_set_iommu(m.sim, model);
    dying = (struct dying_host){
        .host.ops = &dying_ops,
        .below = sim_host(m.sim),
        .calls_left = lasting ? n : UINT_MAX,
        .err = err,
    };
    m.host = lasting ? &dying.host : sim_host(m.sim);
    sim_fail_nth(m.sim, SIM_CALL_ANY, 0, lasting ? 0 : n, err);
    scenario(&m);
    fault_heal(&m);

    assert_machine_unused(m.sim);
    assert_memory_unmapped();
    sim_destroy(m.sim);
    assert_int_equal(fd_count_open(), before);
    standing.err = 0;
    return m.happened;
}

static unsigned run_each(fault_scenario scenario, int err, bool lasting)
{
    unsigned n = 1;

    while (run(scenario, n, err, lasting)) {
        n++;
        assert_true(n < TOO_MANY);
    }
    return n - 1;
}

unsigned fault_each_call(fault_scenario scenario, int err)
{
    return run_each(scenario, err, false);
}

unsigned fault_each_end(fault_scenario scenario, int err)
{
    return run_each(scenario, err, true);
}

bool fault_select_machine(const char *interface)
{
    if (!strcmp(interface, "spapr"))
        model = SIM_IOMMU_SPAPR_V2;
    else if (!strcmp(interface, "spapr-v1"))
        model = SIM_IOMMU_SPAPR_V1;
    return model != SIM_IOMMU_TYPE1;
}

bool fault_happened(const struct fault_machine *m)
{
    return dying.dead || sim_fault_spent(m->sim);
}

void fault_heal(struct fault_machine *m)
{
    m->happened = m->happened || fault_happened(m);
    dying.dead = false;
    dying.calls_left = UINT_MAX;
    sim_fail_nth(m->sim, SIM_CALL_ANY, 0, 0, 0);
}

int fault_client_memory(size_t size)
{
    int fd = memfd_create(memory_name, MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

int fault_teardown(void **state)
{
    (void)state;
    if (standing.err)
        print_message("in the run whose call %u fails with %s\n", standing.n,
                      strerror(standing.err));
    standing.err = 0;
    return 0;
}
