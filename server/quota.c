#include "server/quota.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "proto/base/log.h"

/* An identity that holds something. There are as many as sessions at most: a list will do. */
struct account {
    TAILQ_ENTRY(account) link;
    struct peer who;
    struct quota_amount used;
};

struct quota {
    pthread_mutex_t lock;
    struct quota_amount limit;
    TAILQ_HEAD(, account) accounts;
};

int quota_create(struct quota **out, struct quota_amount limit)
{
    struct quota *q = calloc(1, sizeof(*q));

    if (!q)
        return -ENOMEM;
    pthread_mutex_init(&q->lock, NULL);
    q->limit = limit;
    TAILQ_INIT(&q->accounts);
    *out = q;
    return 0;
}

void quota_destroy(struct quota *q)
{
    if (!q)
        return;
    assert(TAILQ_EMPTY(&q->accounts));
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static struct account *find(struct quota *q, const struct peer *who)
{
    struct account *a;

    TAILQ_FOREACH(a, &q->accounts, link)
    {
        if (peer_same_identity(&a->who, who))
            return a;
    }
    return NULL;
}

static struct account *find_or_open(struct quota *q, const struct peer *who)
{
    struct account *a = find(q, who);

    if (a)
        return a;
    a = calloc(1, sizeof(*a));
    if (a) {
        a->who = *who;
        TAILQ_INSERT_HEAD(&q->accounts, a, link);
    }
    return a;
}

static void close_if_empty(struct quota *q, struct account *a)
{
    if (a->used.maps || a->used.bytes)
        return;
    TAILQ_REMOVE(&q->accounts, a, link);
    free(a);
}

static int check(const struct quota *q, const struct account *a, struct quota_amount amount)
{
    if (amount.maps > q->limit.maps - a->used.maps) {
        log_peer_warning("uid %u has %" PRIu64 " DMA mappings and may have no more than %" PRIu64
                         " (--max-maps)",
                         a->who.uid, a->used.maps, q->limit.maps);
        return -ENOSPC;
    }
    if (amount.bytes > q->limit.bytes - a->used.bytes) {
        log_peer_warning("uid %u has pinned %" PRIu64 " bytes, asks for %" PRIu64
                         " and may have no more than %" PRIu64 " (--max-pinned)",
                         a->who.uid, a->used.bytes, amount.bytes, q->limit.bytes);
        return -ENOMEM;
    }
    return 0;
}

int quota_charge(struct quota *q, const struct peer *who, struct quota_amount amount)
{
    struct account *a;
    int ret = -ENOMEM;

    pthread_mutex_lock(&q->lock);
    a = find_or_open(q, who);
    if (a) {
        ret = check(q, a, amount);
        if (!ret) {
            a->used.maps += amount.maps;
            a->used.bytes += amount.bytes;
        }
        close_if_empty(q, a);
    }
    pthread_mutex_unlock(&q->lock);
    return ret;
}

void quota_release(struct quota *q, const struct peer *who, struct quota_amount amount)
{
    struct account *a;

    if (!amount.maps && !amount.bytes)
        return;
    pthread_mutex_lock(&q->lock);
    a = find(q, who);
    assert(a && a->used.maps >= amount.maps && a->used.bytes >= amount.bytes);
    a->used.maps -= amount.maps;
    a->used.bytes -= amount.bytes;
    close_if_empty(q, a);
    pthread_mutex_unlock(&q->lock);
}
