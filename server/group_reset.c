#include "server/group_reset.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/domain.h"
#include "bridge/hot_reset.h"
#include "bridge/reset.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"
#include "server/group_internal.h"
#include "server/tenant.h"

enum {
    MOST_GROUPS = HOT_RESET_MOST + 1, /* those of the set, and the asking device's */
};

/* A turn that was asked for. */
struct ticket {
    struct group_device *gd;
    uint64_t number;
};

struct bus {
    struct group_device *asking;
    enum group_reset_others others;
    struct hot_reset_set set;

    /* Locked: the asking device's, and each with a device of the set. */
    size_t n_groups;
    struct group *groups[MOST_GROUPS];

    /* Of all devices of these groups, as they were when they were asked for. */
    size_t n_tickets;
    struct ticket *tickets;
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
 * A device that is only not clean, or will be so once it is reset, may be reset by anybody. It
 * would otherwise wait for another such one on its bus, and that for it.
 */
static int check_use(const struct bus *bus, const struct group_device *gd)
{
    const struct group *own = bus->asking->group;
    const char *whose = "in use";

    if (gd == bus->asking || !gd->in_session || gd->awaits_reset)
        return 0;
    if (bus->others == GROUP_RESET_SAME_IDENTITY) {
        if (peer_same_identity(&own->holder, &gd->group->holder))
            return 0;
        whose = "another client's";
    }
    log_peer_warning("%s can't be reset: %s would be reset too, and it is %s",
                     bus->asking->where.name, gd->where.name, whose);
    return -EPERM;
}

/* members: the group's devices that are in the set. */
static int check_group(const struct bus *bus, const struct group *g, size_t *members)
{
    const struct group_device *gd;
    int ret = 0;

    *members = 0;
    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (ret || !is_in_set(&bus->set, gd))
            continue;
        ++*members;
        ret = check_use(bus, gd);
    }
    return ret;
}

static void unlock_groups(struct bus *bus)
{
    while (bus->n_groups)
        pthread_mutex_unlock(&bus->groups[--bus->n_groups]->lock);
}

/*
 * With the list's lock: two such can't wait for each other's groups. A function that nobody exports
 * is ours all the same if its group is. The asking device's group is among them.
 */
static int lock_groups(struct bus *bus)
{
    const struct group *own = bus->asking->group;
    struct group *g;
    int ret = 0;

    TAILQ_FOREACH(g, &own->groups->list, link)
    {
        size_t members;

        if (ret || g->host != own->host)
            continue;
        pthread_mutex_lock(&g->lock);
        ret = check_group(bus, g, &members);
        if (!ret && (members || g == own))
            bus->groups[bus->n_groups++] = g;
        else
            pthread_mutex_unlock(&g->lock);
    }
    if (ret)
        unlock_groups(bus);
    return ret;
}

/*
 * Turns.
 */

static size_t count_devices(const struct bus *bus)
{
    const struct group_device *gd;
    size_t n = 0;

    for (size_t i = 0; i < bus->n_groups; i++) {
        TAILQ_FOREACH(gd, &bus->groups[i]->devices, link)
        {
            n++;
        }
    }
    return n;
}

static int ask_for_turns(struct bus *bus)
{
    struct group_device *gd;

    bus->n_tickets = 0;
    bus->tickets = calloc(count_devices(bus), sizeof(*bus->tickets));
    if (!bus->tickets)
        return -ENOMEM;
    for (size_t i = 0; i < bus->n_groups; i++) {
        TAILQ_FOREACH(gd, &bus->groups[i]->devices, link)
        {
            bus->tickets[bus->n_tickets++] = (struct ticket){gd, turn_ask(&gd->turn)};
        }
    }
    return 0;
}

/* 0, and the turns of all devices of the groups are taken, in the place of the asking one's. */
static int take_turns(struct bus *bus)
{
    pthread_mutex_t *list = &bus->asking->group->groups->lock;
    int ret;

    pthread_mutex_lock(list);
    ret = lock_groups(bus);
    if (!ret)
        ret = ask_for_turns(bus);
    unlock_groups(bus);
    pthread_mutex_unlock(list);
    if (ret)
        return ret;
    turn_give_back(&bus->asking->turn);
    for (size_t i = 0; i < bus->n_tickets; i++)
        turn_await(&bus->tickets[i].gd->turn, bus->tickets[i].number);
    return 0;
}

/* The asking one's is kept. */
static void give_turns_back(struct bus *bus)
{
    for (size_t i = 0; i < bus->n_tickets; i++) {
        if (bus->tickets[i].gd != bus->asking)
            turn_give_back(&bus->tickets[i].gd->turn);
    }
    free(bus->tickets);
    bus->tickets = NULL;
}

static bool has_turn(const struct bus *bus, const struct group_device *gd)
{
    for (size_t i = 0; i < bus->n_tickets; i++) {
        if (bus->tickets[i].gd == gd)
            return true;
    }
    return false;
}

static bool has_all_turns(const struct bus *bus)
{
    const struct group_device *gd;

    for (size_t i = 0; i < bus->n_groups; i++) {
        TAILQ_FOREACH(gd, &bus->groups[i]->devices, link)
        {
            if (!has_turn(bus, gd))
                return false;
        }
    }
    return true;
}

/*
 * Locks the groups again. -ESTALE: a device has come to them since the turns were asked for. The
 * asking one was opened anew if another reset has moved its group, or could not be.
 */
static int enter_bus(struct bus *bus)
{
    pthread_mutex_t *list = &bus->asking->group->groups->lock;
    int ret;

    pthread_mutex_lock(list);
    ret = lock_groups(bus);
    pthread_mutex_unlock(list);
    if (ret)
        return ret;
    if (!has_all_turns(bus))
        ret = -ESTALE;
    else if (!bus->asking->device)
        ret = -ENODEV;
    if (ret)
        unlock_groups(bus);
    return ret;
}

/*
 * What proves to the kernel whose the devices are. In an iommufd, that all their groups are in the
 * asking one's: those of its client's sessions are, those that nobody uses are moved there for the
 * moment, but not what a client may still have open (lent). Elsewhere, the groups' files.
 */

static struct iommu_context *context_of(const struct bus *bus)
{
    return domain_context(bus->asking->group->domain);
}

static bool is_used(const struct group *g)
{
    const struct group_device *gd;

    if (g->lent_away)
        return true;
    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->in_session || group_is_lent(gd))
            return true;
    }
    return false;
}

static bool must_move(const struct bus *bus, const struct group *g)
{
    struct iommu_context *context = context_of(bus);

    return iommu_context_shares_memory(context) && g != bus->asking->group &&
           g->kind == bus->asking->group->kind && !is_used(g) &&
           (!g->domain || domain_context(g->domain) != context);
}

/* All of them, as a group is one's by any of its devices. */
static int open_all(struct group *g)
{
    struct group_device *gd;
    int ret = 0;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (!ret)
            ret = group_open_device(gd);
    }
    return ret;
}

static int move_group(struct group *g, struct iommu_context *context)
{
    int ret = group_change_domain(g, context);

    return ret ? ret : open_all(g);
}

static int move_groups(const struct bus *bus, bool *moved)
{
    int ret = 0;

    for (size_t i = 0; !ret && i < bus->n_groups; i++) {
        moved[i] = must_move(bus, bus->groups[i]);
        if (moved[i])
            ret = move_group(bus->groups[i], context_of(bus));
    }
    return ret;
}

static void move_back(const struct bus *bus, const bool *moved)
{
    for (size_t i = 0; i < bus->n_groups; i++) {
        struct group *g = bus->groups[i];
        int ret = moved[i] ? move_group(g, g->tenant ? tenant_context(g->tenant) : NULL) : 0;

        if (ret)
            log_peer_warning("devices of IOMMU group %d are closed until a client comes: %s",
                             g->number, strerror(-ret));
    }
}

/* The group's file is open if one of its devices is. */
static bool has_open_device(const struct group *g)
{
    const struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->device)
            return true;
    }
    return false;
}

static int collect_files(const struct bus *bus, int *files, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < bus->n_groups; i++) {
        struct group *g = bus->groups[i];
        int ret = has_open_device(g) ? 0 : open_all(g);
        int fd = ret ? -1 : domain_group_file(g->domain, g->number);

        if (ret)
            return ret;
        if (fd >= 0)
            files[(*n)++] = fd;
    }
    return 0;
}

/* The devices in sessions, the asking one first. */
static size_t collect_devices(const struct bus *bus, struct device **devices)
{
    size_t n = 0;

    devices[n++] = bus->asking->device;
    for (size_t i = 0; i < bus->n_tickets; i++) {
        const struct group_device *gd = bus->tickets[i].gd;

        if (gd != bus->asking && gd->group && gd->in_session && gd->device &&
            is_in_set(&bus->set, gd))
            devices[n++] = gd->device;
    }
    return n;
}

/* Those that have waited for nothing else. */
static void release_clean(const struct bus *bus)
{
    for (size_t i = 0; i < bus->n_tickets; i++) {
        struct group_device *gd = bus->tickets[i].gd;

        if (!gd->group || !gd->held || gd->in_session || !gd->unreset || gd->awaits_reset ||
            !is_in_set(&bus->set, gd))
            continue;
        log_peer_info("%s was reset with its bus", gd->where.name);
        group_set_clean(gd);
    }
}

/* With all turns and the groups' locks. */
static int carry_out(const struct bus *bus)
{
    cleanup_free_ struct device **devices = calloc(bus->n_tickets, sizeof(struct device *));
    bool moved[MOST_GROUPS] = {0};
    int files[MOST_GROUPS];
    size_t n_files;
    int ret = devices ? move_groups(bus, moved) : -ENOMEM;

    if (!ret)
        ret = collect_files(bus, files, &n_files);
    if (!ret)
        ret = hot_reset(devices, collect_devices(bus, devices), files, n_files);
    move_back(bus, moved);
    if (!ret)
        release_clean(bus);
    return ret;
}

static int try_bus(struct bus *bus)
{
    int ret = take_turns(bus);

    if (ret)
        return ret;
    ret = enter_bus(bus);
    if (!ret) {
        ret = carry_out(bus);
        unlock_groups(bus);
    }
    give_turns_back(bus);
    return ret;
}

/* -ENOTTY: there is none. */
static int get_set(struct group_device *gd, struct hot_reset_set *set)
{
    int ret = gd->device ? hot_reset_get_set(gd->device, set) : -ENODEV;

    return ret == -ENODEV ? -ENOTTY : ret;
}

bool group_reset_is_possible(struct group_device *gd)
{
    struct hot_reset_set set;

    return reset_is_supported(gd->device) || !get_set(gd, &set);
}

static void set_awaits_reset(struct group_device *gd, bool awaits)
{
    pthread_mutex_lock(&gd->group->lock);
    gd->awaits_reset = awaits;
    pthread_mutex_unlock(&gd->group->lock);
}

int group_reset_bus(struct group_device *gd, enum group_reset_others others)
{
    cleanup_free_ struct bus *bus = calloc(1, sizeof(*bus));
    int ret;

    assert(gd->held);
    if (!bus)
        return -ENOMEM;
    bus->asking = gd;
    bus->others = others;
    ret = get_set(gd, &bus->set);
    if (ret == -ENOTTY)
        return log_peer_refusal(ENOTTY, "%s: neither its bus nor its slot can be reset",
                                gd->where.name);
    if (ret)
        return ret;
    set_awaits_reset(gd, others == GROUP_RESET_IDLE);
    do
        ret = try_bus(bus);
    while (ret == -ESTALE);
    set_awaits_reset(gd, false);
    return ret;
}

int group_reset_device(struct group_device *gd, enum group_reset_others others)
{
    return reset_is_supported(gd->device) ? reset_device(gd->device) : group_reset_bus(gd, others);
}

static void collect_own(const struct group *g, const struct group_device *asking,
                        const struct hot_reset_set *set, struct group_reset_set *out)
{
    const struct group_device *gd;

    TAILQ_FOREACH(gd, &g->devices, link)
    {
        if (gd->in_session && peer_same_identity(&g->holder, &asking->group->holder) &&
            is_in_set(set, gd))
            out->own[out->n_own++] = gd->id;
    }
}

int group_reset_get_set(struct group_device *gd, struct group_reset_set *out)
{
    struct groups *groups = gd->group->groups;
    struct hot_reset_set set;
    struct group *g;
    int ret = get_set(gd, &set);

    if (ret)
        return ret;
    out->n_own = 0;
    pthread_mutex_lock(&groups->lock);
    TAILQ_FOREACH(g, &groups->list, link)
    {
        if (g->host != gd->group->host)
            continue;
        pthread_mutex_lock(&g->lock);
        collect_own(g, gd, &set, out);
        pthread_mutex_unlock(&g->lock);
    }
    pthread_mutex_unlock(&groups->lock);
    out->n_others = set.count - out->n_own;
    return 0;
}
