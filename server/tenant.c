#include "server/tenant.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

struct tenant {
    TAILQ_ENTRY(tenant) link;
    struct tenants *tenants;
    struct peer who;
    struct host *host;
    enum iommu_kind kind;
    struct iommu_context *context;
    struct peers *peers;
    unsigned sessions;
};

struct tenants {
    pthread_mutex_t lock; /* for the list, and who is in it how often */
    TAILQ_HEAD(, tenant) list;
};

int tenants_create(struct tenants **out)
{
    struct tenants *tenants = calloc(1, sizeof(*tenants));

    if (!tenants)
        return -ENOMEM;
    pthread_mutex_init(&tenants->lock, NULL);
    TAILQ_INIT(&tenants->list);
    *out = tenants;
    return 0;
}

void tenants_destroy(struct tenants *tenants)
{
    if (!tenants)
        return;
    assert(TAILQ_EMPTY(&tenants->list));
    pthread_mutex_destroy(&tenants->lock);
    free(tenants);
}

static struct tenant *find(struct tenants *tenants, const struct peer *who, const struct host *host,
                           enum iommu_kind kind)
{
    struct tenant *t;

    TAILQ_FOREACH(t, &tenants->list, link)
    {
        if (peer_same_identity(&t->who, who) && t->host == host && t->kind == kind)
            return t;
    }
    return NULL;
}

static struct tenant *enter(struct tenants *tenants, const struct peer *who, struct host *host,
                            enum iommu_kind kind, struct iommu_context *context)
{
    struct tenant *t = calloc(1, sizeof(*t));

    if (!t || peers_create(&t->peers)) {
        free(t);
        return NULL;
    }
    t->tenants = tenants;
    t->who = *who;
    t->host = host;
    t->kind = kind;
    t->context = iommu_context_ref(context);
    TAILQ_INSERT_TAIL(&tenants->list, t, link);
    return t;
}

struct tenant *tenant_join(struct tenants *tenants, const struct peer *who, struct host *host,
                           enum iommu_kind kind, struct iommu_context *context)
{
    struct tenant *t;

    pthread_mutex_lock(&tenants->lock);
    t = find(tenants, who, host, kind);
    if (!t)
        t = enter(tenants, who, host, kind, context);
    if (t)
        t->sessions++;
    pthread_mutex_unlock(&tenants->lock);
    return t;
}

void tenant_leave(struct tenant *tenant)
{
    struct tenants *tenants = tenant->tenants;

    pthread_mutex_lock(&tenants->lock);
    if (!--tenant->sessions) {
        TAILQ_REMOVE(&tenants->list, tenant, link);
        peers_unref(tenant->peers);
        iommu_context_unref(tenant->context);
        free(tenant);
    }
    pthread_mutex_unlock(&tenants->lock);
}

struct iommu_context *tenant_context(const struct tenant *tenant)
{
    return tenant->context;
}

struct peers *tenant_peers(const struct tenant *tenant)
{
    return tenant->peers;
}
