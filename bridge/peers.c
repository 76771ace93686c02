#include "bridge/peers.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/bar.h"
#include "bridge/device_internal.h"
#include "proto/base/log.h"

/* A BAR that others may reach. */
struct window {
    struct bar_window at;
    struct iommu_peer opened;
};

struct peer_device {
    TAILQ_ENTRY(peer_device) link;
    struct peers *peers;
    struct device *dev;
    const void *owner;
    unsigned n_windows; /* published; with the peers' lock */
    struct window windows[BAR_MOST];
};

struct peers {
    _Atomic unsigned refs;
    pthread_mutex_t lock; /* for the lists and all that is in them */
    TAILQ_HEAD(, peer_device) devices;
    TAILQ_HEAD(, peer_wish) wishes;
};

int peers_create(struct peers **out)
{
    struct peers *peers = calloc(1, sizeof(*peers));

    if (!peers)
        return -ENOMEM;
    peers->refs = 1;
    pthread_mutex_init(&peers->lock, NULL);
    TAILQ_INIT(&peers->devices);
    TAILQ_INIT(&peers->wishes);
    *out = peers;
    return 0;
}

struct peers *peers_ref(struct peers *peers)
{
    peers->refs++;
    return peers;
}

void peers_unref(struct peers *peers)
{
    if (!peers || --peers->refs)
        return;
    assert(TAILQ_EMPTY(&peers->devices) && TAILQ_EMPTY(&peers->wishes));
    pthread_mutex_destroy(&peers->lock);
    free(peers);
}

/*
 * With the lock.
 */

static void grant(struct peer_wish *wish, const struct peer_device *pd, const struct window *window)
{
    const struct bar_window *at = &window->at;
    uint64_t offset = wish->iova - at->address;
    int ret;

    if (wish->mapping || wish->owner == pd->owner || wish->iova < at->address ||
        offset >= at->size || wish->size > at->size - offset)
        return;
    ret = domain_map_peer(wish->domain, wish->iova, wish->size, wish->prot, &window->opened, offset,
                          &wish->mapping);
    if (ret) {
        log_peer_info("0x%" PRIx64 " bytes at 0x%" PRIx64 " lie in BAR %u of %s, but can't be "
                      "mapped for DMA: %s",
                      wish->size, wish->iova, at->index, device_name(pd->dev), strerror(-ret));
        return;
    }
    wish->window = window;
    ++*wish->granted;
    log_peer_info("0x%" PRIx64 " bytes at 0x%" PRIx64 " reach BAR %u of %s", wish->size, wish->iova,
                  at->index, device_name(pd->dev));
}

static void grant_all(struct peers *peers, const struct peer_device *pd,
                      const struct window *window)
{
    struct peer_wish *wish;

    TAILQ_FOREACH(wish, &peers->wishes, link)
    {
        grant(wish, pd, window);
    }
}

static void ungrant(struct peer_wish *wish)
{
    wish->mapping = NULL;
    wish->window = NULL;
    --*wish->granted;
}

static void revoke(struct peer_wish *wish)
{
    if (domain_unmap(wish->domain, wish->mapping))
        domain_abandon(wish->domain, wish->mapping);
    ungrant(wish);
}

static void revoke_all(struct peers *peers, const struct window *window)
{
    struct peer_wish *wish;

    TAILQ_FOREACH(wish, &peers->wishes, link)
    {
        if (wish->window == window)
            revoke(wish);
    }
}

/*
 * Without it.
 */

void peers_add_wish(struct peers *peers, struct peer_wish *wish)
{
    struct peer_device *pd;

    wish->mapping = NULL;
    wish->window = NULL;
    pthread_mutex_lock(&peers->lock);
    TAILQ_INSERT_TAIL(&peers->wishes, wish, link);
    TAILQ_FOREACH(pd, &peers->devices, link)
    {
        for (unsigned i = 0; i < pd->n_windows; i++)
            grant(wish, pd, &pd->windows[i]);
    }
    pthread_mutex_unlock(&peers->lock);
}

int peers_remove_wish(struct peers *peers, struct peer_wish *wish)
{
    int ret = 0;

    pthread_mutex_lock(&peers->lock);
    if (wish->mapping) {
        ret = domain_unmap(wish->domain, wish->mapping);
        if (!ret)
            ungrant(wish);
    }
    if (!ret)
        TAILQ_REMOVE(&peers->wishes, wish, link);
    pthread_mutex_unlock(&peers->lock);
    return ret;
}

void peers_abandon_wish(struct peers *peers, struct peer_wish *wish)
{
    pthread_mutex_lock(&peers->lock);
    if (wish->mapping) {
        domain_abandon(wish->domain, wish->mapping);
        ungrant(wish);
    }
    TAILQ_REMOVE(&peers->wishes, wish, link);
    pthread_mutex_unlock(&peers->lock);
}

int peers_join(struct peers *peers, struct device *dev, const void *owner, struct peer_device **out)
{
    struct peer_device *pd = calloc(1, sizeof(*pd));

    if (!pd)
        return -ENOMEM;
    pd->peers = peers_ref(peers);
    pd->dev = dev;
    pd->owner = owner;
    pthread_mutex_lock(&peers->lock);
    TAILQ_INSERT_TAIL(&peers->devices, pd, link);
    pthread_mutex_unlock(&peers->lock);
    *out = pd;
    return 0;
}

void peers_leave(struct peer_device *pd)
{
    struct peers *peers = pd->peers;

    peers_withdraw(pd);
    pthread_mutex_lock(&peers->lock);
    TAILQ_REMOVE(&peers->devices, pd, link);
    pthread_mutex_unlock(&peers->lock);
    peers_unref(peers);
    free(pd);
}

/* As the backend of the client's domains wants it. A BAR that can't be opened is no window. */
static int open_window(struct device *dev, struct window *window)
{
    const struct bar_window *at = &window->at;

    window->opened = (struct iommu_peer){.dmabuf = -1};
    if (address_space_kind(dev->as) == IOMMU_IOMMUFD)
        return bar_export_dmabuf(dev, at->index, 0, at->size, &window->opened.dmabuf);
    return bar_mmap(dev, at->index, 0, at->size, &window->opened.address);
}

static void close_window(struct device *dev, struct window *window)
{
    if (window->opened.address)
        bar_munmap(dev, window->opened.address, window->at.size);
    host_close(dev->host, &window->opened.dmabuf);
}

void peers_publish(struct peer_device *pd)
{
    struct bar_window found[BAR_MOST];
    int n = bar_find_windows(pd->dev, found);

    peers_withdraw(pd);
    pthread_mutex_lock(&pd->peers->lock);
    for (int i = 0; i < n; i++) {
        struct window *window = &pd->windows[pd->n_windows];

        window->at = found[i];
        if (open_window(pd->dev, window))
            continue;
        pd->n_windows++;
        grant_all(pd->peers, pd, window);
    }
    pthread_mutex_unlock(&pd->peers->lock);
}

void peers_withdraw(struct peer_device *pd)
{
    pthread_mutex_lock(&pd->peers->lock);
    while (pd->n_windows) {
        struct window *window = &pd->windows[--pd->n_windows];

        revoke_all(pd->peers, window);
        close_window(pd->dev, window);
    }
    pthread_mutex_unlock(&pd->peers->lock);
}
