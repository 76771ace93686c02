#include "server/group.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/domain.h"
#include "bridge/irq_relay.h"
#include "bridge/region_map.h"
#include "proto/base/log.h"
#include "server/group_internal.h"
#include "server/tenant.h"

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

bool group_is_lent(const struct group_device *gd)
{
    return gd->lent || (gd->device && device_is_lent(gd->device));
}

static void close_device(struct group_device *gd)
{
    gd->lent = group_is_lent(gd);
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

int group_open_device(struct group_device *gd)
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
    else if (domain_has_one_file(g->domain))
        gd->lent = false; /* it would not have opened */
    return ret;
}

int group_change_domain(struct group *g, struct iommu_context *context)
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
        return group_change_domain(g, tenant_context(g->tenant));
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
        ret = group_change_domain(g, NULL);
    if (ret)
        log_peer_warning("no domain for IOMMU group %d: %s", g->number, strerror(-ret));
}

void group_drop_hold(struct group_device *gd)
{
    if (gd->as)
        address_space_set_peers(gd->as, NULL);
    gd->held = gd->in_session = false;
    if (!--gd->group->holds)
        give_up_group(gd->group);
}

void group_set_clean(struct group_device *gd)
{
    gd->in_session = gd->unreset = false;
    gd->only_lent = group_is_lent(gd);
    if (!gd->only_lent)
        group_drop_hold(gd);
    group_open_device(gd);
}

/* Nothing keeps the group for its holder but devices that are lent. */
static bool may_reclaim(const struct group *g)
{
    const struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->held && !gd->only_lent)
            return false;
    }
    return retry_may(&g->reclaim);
}

static bool is_seen_held(const struct group *g)
{
    const struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->device && device_is_seen_held(gd->device))
            return true;
    }
    return false;
}

/* Whoever has one of their files keeps the group in its container, where its devices can be opened
 * still. */
static int vacate(struct group *g)
{
    struct group_device *gd;
    int ret;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        close_device(gd);
    }
    ret = g->domain ? domain_vacate(g->domain, g->number) : 0;
    return ret ? ret : group_change_domain(g, NULL);
}

/*
 * That a device opens says that nobody has its file, where vacate could not know; and that any of
 * the group opens, that nobody has the file of one that has left.
 */
static int open_lent(struct group *g)
{
    struct group_device *gd;
    bool opened = false;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        bool lent = gd->lent;
        int ret = lent || (g->lent_away && !opened) ? group_open_device(gd) : 0;

        if (ret && lent)
            return ret;
        opened = opened || gd->device;
    }
    return g->lent_away && !opened ? -EBUSY : 0;
}

static void take_back(struct group *g)
{
    struct group_device *gd;

    g->lent_away = false;
    TAILQ_FOREACH(gd, &g->devices, link)
    {
        gd->lent = gd->only_lent = false;
        if (gd->held)
            group_drop_hold(gd);
    }
}

/* Back to a domain that it had, whose reference it takes, after vacate or instead of it. */
static void return_to(struct group *g, struct domain *domain)
{
    struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (g->domain != domain)
            close_device(gd);
    }
    domain_unref(g->domain);
    g->domain = domain;
    TAILQ_FOREACH(gd, &g->devices, link)
    {
        group_open_device(gd);
    }
}

/*
 * Takes devices back that were lent, by closing all that this process has of the group: the kernel
 * knows whether that was all. What is seen to be held is not even tried, as what has one file could
 * not be opened any more, and so not be served to its holder. Its domain is kept until it is known:
 * the file of a device that has left may hold the group there.
 */
static int reclaim(struct group *g)
{
    struct domain *domain;
    bool broken = g->broken;
    int ret;

    if (!may_reclaim(g))
        return -EBUSY;
    domain = g->domain ? domain_ref(g->domain) : NULL;
    ret = is_seen_held(g) ? -EBUSY : vacate(g);
    if (!ret)
        ret = open_lent(g);
    if (!ret) {
        take_back(g);
        domain_unref(domain);
        return 0;
    }
    retry_failed(&g->reclaim);
    log_peer_warning("IOMMU group %d stays with uid %u: a client of his may still have the file of "
                     "a device, or a mapping of it",
                     g->number, g->holder.uid);
    return_to(g, domain);
    g->broken = broken;
    return ret;
}

static bool belongs_to_another(struct group *g, const struct peer *who)
{
    if ((!g->holds && !g->lent_away) || peer_same_identity(&g->holder, who) || !reclaim(g))
        return false;
    log_peer_warning("pid %d, uid %u is refused: IOMMU group %d belongs to uid %u", who->pid,
                     who->uid, g->number, g->holder.uid);
    return true;
}

/*
 * With a single device there is nothing to reach; and one that is on no PCI bus, as a mediated one,
 * is in no place where others' transfers could go.
 */
static int join_peers(struct group_device *gd)
{
    struct peers *peers = tenant_peers(gd->group->tenant);
    int ret;

    if (gd->group->groups->n_devices < 2 || gd->where.mediated || !device_is_pci(gd->device))
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
        ret = group_open_device(gd);
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
    gd->unreset = gd->only_lent = false;
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
    gd->held = gd->in_session = gd->awaits_reset = gd->unreset = gd->lent = gd->only_lent = false;
    pthread_mutex_lock(&g->lock);
    TAILQ_INSERT_TAIL(&g->devices, gd, link);
    groups->n_devices++;
    ret = group_open_device(gd);
    if (!ret)
        ret = probe_domain(gd);
    if (!ret)
        gd->maps_dmabuf = region_can_map_dmabuf(gd->device);
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
    g->lent_away |= gd->lent;
    if (gd->held)
        group_drop_hold(gd);
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
        ret = group_change_domain(g, NULL);
    if (!ret)
        ret = group_open_device(gd);
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

void group_keep(struct group_device *gd, bool unreset)
{
    pthread_mutex_lock(&gd->group->lock);
    gd->in_session = gd->only_lent = false;
    gd->unreset = unreset;
    pthread_mutex_unlock(&gd->group->lock);
}

void group_release(struct group_device *gd)
{
    pthread_mutex_lock(&gd->group->lock);
    group_set_clean(gd);
    pthread_mutex_unlock(&gd->group->lock);
}

bool group_device_is_lent(struct group_device *gd)
{
    bool lent;

    pthread_mutex_lock(&gd->group->lock);
    lent = group_is_lent(gd);
    pthread_mutex_unlock(&gd->group->lock);
    return lent;
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
