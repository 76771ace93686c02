#include "server/group.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/domain.h"
#include "bridge/hot_reset.h"
#include "bridge/irq_relay.h"
#include "bridge/reset.h"
#include "proto/base/log.h"
#include "server/tenant.h"

struct group {
    TAILQ_ENTRY(group) link;
    unsigned entered; /* devices, with the list's lock */
    struct groups *groups;
    struct host *host;
    int number;
    enum iommu_kind kind;

    pthread_mutex_t lock; /* for all below */
    TAILQ_HEAD(, group_device) devices;
    struct domain *domain; /* NULL: could not be made */
    bool broken;           /* the domain may have more than its devices' mappings */
    unsigned holds;        /* devices that are held, all of them by: */
    struct peer holder;
    struct tenant *tenant;
};

struct groups {
    pthread_mutex_t lock; /* for the list */
    TAILQ_HEAD(, group) list;
    _Atomic unsigned n_devices;
    _Atomic unsigned last_id;
    struct tenants *tenants;
};

int groups_create(struct groups **out)
{
    struct groups *groups = calloc(1, sizeof(*groups));

    if (!groups || tenants_create(&groups->tenants)) {
        free(groups);
        return -ENOMEM;
    }
    pthread_mutex_init(&groups->lock, NULL);
    TAILQ_INIT(&groups->list);
    *out = groups;
    return 0;
}

void groups_destroy(struct groups *groups)
{
    if (!groups)
        return;
    assert(TAILQ_EMPTY(&groups->list));
    tenants_destroy(groups->tenants);
    pthread_mutex_destroy(&groups->lock);
    free(groups);
}

static struct group *find_group(struct groups *groups, const struct host *host, int number)
{
    struct group *g;

    TAILQ_FOREACH(g, &groups->list, link)
    {
        if (g->host == host && g->number == number)
            return g;
    }
    return NULL;
}

static struct group *create_group(struct groups *groups, struct host *host, int number,
                                  enum iommu_kind kind)
{
    struct group *g = calloc(1, sizeof(*g));

    if (!g)
        return NULL;
    g->groups = groups;
    g->host = host;
    g->number = number;
    g->kind = kind;
    pthread_mutex_init(&g->lock, NULL);
    TAILQ_INIT(&g->devices);
    TAILQ_INSERT_TAIL(&groups->list, g, link);
    return g;
}

/*
 * With the group's lock.
 */

static void close_device(struct group_device *gd)
{
    device_close(gd->device);
    gd->device = NULL;
    address_space_destroy(gd->as);
    gd->as = NULL;
}

/* context: NULL for a new one. */
static int make_domain(struct group *g, struct iommu_context *context)
{
    int ret = 0;

    if (context)
        iommu_context_ref(context);
    else
        ret = iommu_context_create(g->host, g->kind, &context);
    if (ret)
        return ret;
    ret = domain_create(context, &g->domain);
    iommu_context_unref(context);
    return ret;
}

static int ensure_domain(struct group *g)
{
    return g->domain ? 0 : make_domain(g, NULL);
}

static int open_device(struct group_device *gd)
{
    struct group *g = gd->group;
    int ret;

    if (gd->device)
        return 0;
    ret = ensure_domain(g);
    if (!ret)
        ret = address_space_create(g->domain, &gd->as);
    if (!ret)
        ret = device_open(&gd->device, g->host, gd->as, &gd->where);
    if (!ret)
        ret = irq_relay_watch(gd->device, gd->err_event, gd->req_event);
    if (ret)
        close_device(gd);
    return ret;
}

/*
 * All devices of a group are in one domain, so all are closed; those of other exports have no
 * session and are opened for their next one.
 */
static int change_domain(struct group *g, struct iommu_context *context)
{
    struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        close_device(gd);
    }
    domain_unref(g->domain);
    g->domain = NULL;
    g->broken = false;
    return make_domain(g, context);
}

/*
 * The kernel forgets a group with its last device, and may wait for that until the group's file is
 * closed; a group of the same number that comes later is another one.
 */
static void drop_unused_domain(struct group *g)
{
    const struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->device)
            return;
    }
    domain_unref(g->domain);
    g->domain = NULL;
    g->broken = false;
}

/* The group's domain becomes one of the client's, with its first session. */
static int take_group(struct group *g, const struct peer *who)
{
    int ret = ensure_domain(g);
    struct iommu_context *context;

    if (ret)
        return ret;
    context = domain_context(g->domain);
    g->tenant = tenant_join(g->groups->tenants, who, g->host, g->kind, context);
    if (!g->tenant)
        return -ENOMEM;
    g->holder = *who;
    if (iommu_context_shares_memory(context) && context != tenant_context(g->tenant))
        return change_domain(g, tenant_context(g->tenant));
    return 0;
}

/* The last session has ended: what the client's other devices share is theirs alone. */
static void give_up_group(struct group *g)
{
    int ret = 0;

    if (g->tenant)
        tenant_leave(g->tenant);
    g->tenant = NULL;
    if (g->broken || (g->domain && iommu_context_shares_memory(domain_context(g->domain)) &&
                      iommu_context_is_shared(domain_context(g->domain))))
        ret = change_domain(g, NULL);
    if (ret)
        log_peer_warning("no domain for IOMMU group %d: %s", g->number, strerror(-ret));
}

static void drop_hold(struct group_device *gd)
{
    if (gd->as)
        address_space_set_peers(gd->as, NULL);
    gd->held = gd->in_session = false;
    if (!--gd->group->holds)
        give_up_group(gd->group);
}

static bool belongs_to_another(const struct group *g, const struct peer *who)
{
    if (!g->holds || peer_same_identity(&g->holder, who))
        return false;
    log_peer_warning("pid %d, uid %u is refused: IOMMU group %d belongs to uid %u", who->pid,
                     who->uid, g->number, g->holder.uid);
    return true;
}

/*
 * With a single device there is nothing to reach; and a mediated one is in no place where others'
 * transfers could go.
 */
static int join_peers(struct group_device *gd)
{
    struct peers *peers = tenant_peers(gd->group->tenant);
    int ret;

    if (gd->group->groups->n_devices < 2 || gd->where.mediated)
        return 0;
    device_leave_peers(gd->device);
    ret = device_join_peers(gd->device, peers);
    if (!ret)
        address_space_set_peers(gd->as, peers);
    return ret;
}

static int hold(struct group_device *gd, const struct peer *who)
{
    struct group *g = gd->group;
    int ret = 0;

    if (belongs_to_another(g, who))
        return -EACCES;
    if (!g->holds)
        ret = take_group(g, who);
    if (!ret)
        ret = open_device(gd);
    if (!ret)
        ret = join_peers(gd);
    if (ret) {
        log_peer_warning("pid %d, uid %u is refused: the device can't be opened", who->pid,
                         who->uid);
        if (!g->holds)
            give_up_group(g);
        return -ENODEV;
    }
    g->holds += !gd->held;
    gd->held = gd->in_session = true;
    return 0;
}

/*
 * Without it.
 */

/* A device's group, which is there until it leaves it; NULL without memory. */
static struct group *join_group(struct groups *groups, struct host *host, int number,
                                enum iommu_kind kind)
{
    struct group *g;

    pthread_mutex_lock(&groups->lock);
    g = find_group(groups, host, number);
    if (!g)
        g = create_group(groups, host, number, kind);
    if (g)
        g->entered++;
    pthread_mutex_unlock(&groups->lock);
    return g;
}

static void leave_group(struct group *g)
{
    struct groups *groups = g->groups;
    bool empty;

    pthread_mutex_lock(&groups->lock);
    empty = !--g->entered;
    if (empty)
        TAILQ_REMOVE(&groups->list, g, link);
    pthread_mutex_unlock(&groups->lock);
    if (!empty)
        return;
    assert(!g->holds);
    domain_unref(g->domain);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* While it is in use it works, and its addresses are the client's. */
static int probe_domain(const struct group_device *gd)
{
    return gd->group->holds ? 0 : address_space_probe(gd->as);
}

int group_enter(struct group_device *gd, struct groups *groups, struct host *host,
                const struct sysfs_device *where, enum iommu_kind kind)
{
    struct group *g = join_group(groups, host, where->group, kind);
    int ret;

    if (!g)
        return -ENOMEM;
    gd->group = g;
    gd->where = *where;
    if (!gd->id)
        gd->id = ++groups->last_id;
    gd->held = gd->in_session = false;
    pthread_mutex_lock(&g->lock);
    TAILQ_INSERT_TAIL(&g->devices, gd, link);
    groups->n_devices++;
    ret = open_device(gd);
    if (!ret)
        ret = probe_domain(gd);
    pthread_mutex_unlock(&g->lock);
    if (ret)
        group_leave(gd);
    return ret;
}

void group_leave(struct group_device *gd)
{
    struct group *g = gd->group;

    if (!g)
        return;
    pthread_mutex_lock(&g->lock);
    if (gd->as && address_space_unmap_all(gd->as))
        g->broken = true;
    close_device(gd);
    if (gd->held)
        drop_hold(gd);
    TAILQ_REMOVE(&g->devices, gd, link);
    g->groups->n_devices--;
    drop_unused_domain(g);
    pthread_mutex_unlock(&g->lock);
    gd->group = NULL;
    leave_group(g);
}

int group_hold(struct group_device *gd, const struct peer *who, uint64_t keep)
{
    struct group *g = gd->group;
    int ret;

    pthread_mutex_lock(&g->lock);
    ret = hold(gd, who);
    if (!ret)
        iommu_context_keep(domain_context(g->domain), keep);
    pthread_mutex_unlock(&g->lock);
    return ret;
}

void group_rebuild(struct group_device *gd)
{
    struct group *g = gd->group;
    int ret = 0;

    log_peer_warning("closing the device and its address space, and opening them again");
    pthread_mutex_lock(&g->lock);
    close_device(gd);
    g->broken = true;
    if (g->holds == 1)
        ret = change_domain(g, NULL);
    if (!ret)
        ret = open_device(gd);
    if (ret)
        drop_unused_domain(g);
    pthread_mutex_unlock(&g->lock);
    if (ret)
        log_peer_warning("the device is closed until a client comes: %s", strerror(-ret));
}

/* After a rebuild the group's context may not be the tenant's any more. */
void group_forget(struct group_device *gd)
{
    struct group *g = gd->group;

    pthread_mutex_lock(&g->lock);
    if (g->domain)
        iommu_context_forget(domain_context(g->domain));
    iommu_context_forget(tenant_context(g->tenant));
    pthread_mutex_unlock(&g->lock);
}

void group_keep(struct group_device *gd)
{
    pthread_mutex_lock(&gd->group->lock);
    gd->in_session = false;
    pthread_mutex_unlock(&gd->group->lock);
}

void group_release(struct group_device *gd)
{
    struct group *g = gd->group;

    pthread_mutex_lock(&g->lock);
    drop_hold(gd);
    open_device(gd);
    pthread_mutex_unlock(&g->lock);
}

/*
 * A hot reset, with the list's lock and that of each group that it touches: whoever is not in a
 * session stays out of one until it is over. Nobody else takes two groups' locks.
 */
struct bus {
    struct hot_reset_set set;
    size_t n_groups;
    struct group *groups[HOT_RESET_MOST];
    int files[HOT_RESET_MOST];
};

static bool is_in_set(const struct hot_reset_set *set, const struct group_device *gd)
{
    for (size_t i = 0; i < set->count; i++) {
        if (!strcmp(set->functions[i].bdf, gd->where.name))
            return true;
    }
    return false;
}

/*
 * Those of the set that are in the group. -EPERM: one is used. One that is only not clean may be
 * reset by anybody, and would otherwise wait for another such one on its bus, and that for it.
 */
static int count_members(const struct group *g, const struct group_device *asking, struct bus *bus,
                         size_t *members)
{
    const struct group_device *gd;

    *members = 0;
    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (!is_in_set(&bus->set, gd))
            continue;
        if (gd != asking && gd->in_session) {
            log_peer_warning("%s can't be reset: %s would be reset too, and it is in use",
                             asking->where.name, gd->where.name);
            return -EPERM;
        }
        ++*members;
    }
    return 0;
}

/* Locks the groups; a function that nobody exports is ours all the same if its group is. */
static int lock_groups(struct group_device *asking, struct bus *bus)
{
    const struct group *own = asking->group;
    struct group *g;
    int ret = 0;

    TAILQ_FOREACH(g, &own->groups->list, link)
    {
        size_t members;

        if (ret || g->host != own->host)
            continue;
        pthread_mutex_lock(&g->lock);
        ret = count_members(g, asking, bus, &members);
        if (!ret && members)
            bus->groups[bus->n_groups++] = g;
        else
            pthread_mutex_unlock(&g->lock);
    }
    return ret;
}

static void unlock_groups(struct bus *bus)
{
    while (bus->n_groups)
        pthread_mutex_unlock(&bus->groups[--bus->n_groups]->lock);
}

/* The group's file is open if one of its devices is. A device that is held is its worker's to open.
 */
static int open_group(struct group *g)
{
    struct group_device *gd, *idle = NULL;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->device)
            return 0;
        if (!gd->held)
            idle = gd;
    }
    return idle ? open_device(idle) : -EPERM;
}

/* The files that prove to the kernel whose the devices are. */
static int collect_files(struct bus *bus, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < bus->n_groups; i++) {
        struct group *g = bus->groups[i];
        int ret = open_group(g);
        int fd = ret ? -1 : domain_group_file(g->domain, g->number);

        if (ret)
            return ret;
        if (fd >= 0)
            bus->files[(*n)++] = fd;
    }
    return 0;
}

static int hot_reset_bus(struct group_device *gd, struct bus *bus)
{
    size_t n;
    int ret = lock_groups(gd, bus);

    if (!ret)
        ret = collect_files(bus, &n);
    if (!ret)
        ret = hot_reset(gd->device, bus->files, n);
    unlock_groups(bus);
    return ret;
}

bool group_can_reset(struct group_device *gd)
{
    struct hot_reset_set set;

    return reset_is_supported(gd->device) || !hot_reset_get_set(gd->device, &set);
}

static int reset_bus(struct group_device *gd, struct bus *bus)
{
    struct groups *groups = gd->group->groups;
    int ret;

    pthread_mutex_lock(&groups->lock);
    ret = hot_reset_bus(gd, bus);
    pthread_mutex_unlock(&groups->lock);
    return ret;
}

int group_reset(struct group_device *gd)
{
    struct bus bus = {0};

    if (reset_is_supported(gd->device) || hot_reset_get_set(gd->device, &bus.set))
        return reset_device(gd->device);
    return reset_bus(gd, &bus);
}

int group_hot_reset(struct group_device *gd)
{
    struct bus bus = {0};
    int ret = hot_reset_get_set(gd->device, &bus.set);

    if (ret)
        return ret == -ENODEV ? -ENOTTY : ret;
    return reset_bus(gd, &bus);
}

/* With the list's lock. */
static void collect_own(struct groups *groups, const struct group_device *asking,
                        const struct hot_reset_set *set, struct group_reset_set *out)
{
    const struct group_device *gd;
    struct group *g;

    TAILQ_FOREACH(g, &groups->list, link)
    {
        if (g->host != asking->group->host)
            continue;
        pthread_mutex_lock(&g->lock);
        TAILQ_FOREACH(gd, &g->devices, link)
        {
            if (gd->in_session && peer_same_identity(&g->holder, &asking->group->holder) &&
                is_in_set(set, gd))
                out->own[out->n_own++] = gd->id;
        }
        pthread_mutex_unlock(&g->lock);
    }
}

int group_get_reset_set(struct group_device *gd, struct group_reset_set *out)
{
    struct groups *groups = gd->group->groups;
    struct hot_reset_set set;
    int ret = hot_reset_get_set(gd->device, &set);

    if (ret)
        return ret == -ENODEV ? -ENOTTY : ret;
    out->n_own = 0;
    pthread_mutex_lock(&groups->lock);
    collect_own(groups, gd, &set, out);
    pthread_mutex_unlock(&groups->lock);
    out->n_others = set.count - out->n_own;
    return 0;
}

bool group_device_is_open(struct group_device *gd)
{
    bool is_open;

    pthread_mutex_lock(&gd->group->lock);
    is_open = gd->device;
    pthread_mutex_unlock(&gd->group->lock);
    return is_open;
}

const char *group_backend(struct group_device *gd)
{
    const char *name;

    pthread_mutex_lock(&gd->group->lock);
    name = gd->group->domain ? domain_backend(gd->group->domain) : "no IOMMU";
    pthread_mutex_unlock(&gd->group->lock);
    return name;
}
