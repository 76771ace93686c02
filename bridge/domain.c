#include "bridge/domain.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bridge/domain_internal.h"
#include "proto/base/cleanup.h"
#include "proto/base/log.h"

int domain_create(struct iommu_context *context, struct domain **out)
{
    struct domain *domain = calloc(1, sizeof(*domain));
    int ret;

    if (!domain)
        return -ENOMEM;
    ret = iommu_create(context, &domain->iommu);
    if (ret) {
        free(domain);
        return ret;
    }
    domain->context = iommu_context_ref(context);
    domain->refs = 1;
    pthread_mutex_init(&domain->lock, NULL);
    map_table_init(&domain->table);
    TAILQ_INIT(&domain->trackers);
    *out = domain;
    return 0;
}

struct domain *domain_ref(struct domain *domain)
{
    domain->refs++;
    return domain;
}

/* With the domain they are gone in the kernel. */
static void free_abandoned(struct domain *domain)
{
    struct iommu *iommu = domain->iommu;
    struct map_entry *entry;

    while ((entry = map_table_next(&domain->table, 0))) {
        struct domain_mapping *m = (struct domain_mapping *)entry;

        assert(!m->users);
        iommu->ops->abandon(iommu, m->at.size, m->cookie);
        map_table_remove(&domain->table, &m->at);
        free(m);
    }
}

void domain_unref(struct domain *domain)
{
    if (!domain || --domain->refs)
        return;
    free_abandoned(domain);
    domain->iommu->ops->destroy(domain->iommu);
    iommu_context_unref(domain->context);
    pthread_mutex_destroy(&domain->lock);
    free(domain);
}

struct iommu_context *domain_context(const struct domain *domain)
{
    return domain->context;
}

enum iommu_kind domain_kind(const struct domain *domain)
{
    return iommu_context_kind(domain->context);
}

const char *domain_backend(const struct domain *domain)
{
    return domain->iommu->ops->name;
}

int domain_open_device(struct domain *domain, const struct sysfs_device *dev, int *fd)
{
    int ret;

    pthread_mutex_lock(&domain->lock);
    ret = domain->iommu->ops->open_device(domain->iommu, dev, fd);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

int domain_group_file(struct domain *domain, int number)
{
    const struct iommu_ops *ops = domain->iommu->ops;
    int fd;

    pthread_mutex_lock(&domain->lock);
    fd = ops->group_file ? ops->group_file(domain->iommu, number) : -1;
    pthread_mutex_unlock(&domain->lock);
    return fd;
}

bool domain_has_one_file(const struct domain *domain)
{
    return domain->iommu->ops->has_one_file;
}

int domain_vacate(struct domain *domain, int number)
{
    const struct iommu_ops *ops = domain->iommu->ops;
    int ret = 0;

    pthread_mutex_lock(&domain->lock);
    if (ops->vacate)
        ret = ops->vacate(domain->iommu, number);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

void domain_get_info(struct domain *domain, struct iommu_info *info)
{
    pthread_mutex_lock(&domain->lock);
    *info = domain->iommu->info;
    pthread_mutex_unlock(&domain->lock);
}

/* Whether it may stay pinned is no part of what the device sees. */
static bool is_same(const struct domain_mapping *a, const struct domain_mapping *b)
{
    return a->at.iova == b->at.iova && a->at.size == b->at.size &&
           !((a->prot ^ b->prot) & ~(uint32_t)IOMMU_STABLE) && a->file.dev == b->file.dev &&
           a->file.ino == b->file.ino && a->file.offset == b->file.offset && a->peer == b->peer;
}

static int join_mapping(struct domain *domain, const struct domain_mapping *wanted,
                        struct domain_mapping **out)
{
    struct map_entry *entry = map_table_find(&domain->table, wanted->at.iova);
    struct domain_mapping *there = (struct domain_mapping *)entry;

    if (!there || !there->users || !is_same(there, wanted)) {
        log_peer_warning("DMA_MAP: another device of the IOMMU group has something else mapped "
                         "within 0x%" PRIx64 " bytes at 0x%" PRIx64,
                         wanted->at.size, wanted->at.iova);
        return -EEXIST;
    }
    there->users++;
    *out = there;
    return 0;
}

static int map_locked(struct domain *domain, struct domain_mapping **wanted,
                      struct domain_mapping **out)
{
    struct iommu *iommu = domain->iommu;
    struct domain_mapping *m = *wanted;
    int ret = map_table_insert(&domain->table, &m->at);

    if (ret)
        return join_mapping(domain, m, out);
    if (m->peer)
        ret = iommu->ops->map_peer(iommu, m->at.iova, m->at.size, m->prot, m->peer, m->file.offset,
                                   &m->cookie);
    else
        ret = iommu->ops->map(iommu, m->at.iova, m->at.size, m->prot, m->file.fd, m->file.offset,
                              &m->cookie);
    if (ret) {
        map_table_remove(&domain->table, &m->at);
        return ret;
    }
    m->file.fd = -1;
    *out = steal_ptr(*wanted);
    return 0;
}

static int map(struct domain *domain, const struct domain_mapping *wanted,
               struct domain_mapping **out)
{
    cleanup_free_ struct domain_mapping *m = malloc(sizeof(*m));
    int ret;

    if (!m)
        return -ENOMEM;
    *m = *wanted;
    m->users = 1;
    pthread_mutex_lock(&domain->lock);
    ret = map_locked(domain, &m, out);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

int domain_map(struct domain *domain, uint64_t iova, uint64_t size, uint32_t prot,
               const struct memory_file *file, struct domain_mapping **out)
{
    const struct domain_mapping wanted = {
        .at = {.iova = iova, .size = size},
        .prot = prot,
        .file = *file,
    };

    return map(domain, &wanted, out);
}

int domain_map_peer(struct domain *domain, uint64_t iova, uint64_t size, uint32_t prot,
                    const struct iommu_peer *peer, uint64_t offset, struct domain_mapping **out)
{
    const struct domain_mapping wanted = {
        .at = {.iova = iova, .size = size    },
        .prot = prot,
        .file = {.fd = -1,     .offset = offset},
        .peer = peer,
    };

    return map(domain, &wanted, out);
}

void domain_drop_mapping(struct domain *domain, struct domain_mapping *mapping)
{
    if (--mapping->users)
        return;
    map_table_remove(&domain->table, &mapping->at);
    free(mapping);
}

int domain_unmap(struct domain *domain, struct domain_mapping *mapping)
{
    struct iommu *iommu = domain->iommu;
    int ret = 0;

    pthread_mutex_lock(&domain->lock);
    if (mapping->users == 1)
        ret = iommu->ops->unmap(iommu, mapping->at.iova, mapping->at.size, mapping->cookie);
    if (!ret)
        domain_drop_mapping(domain, mapping);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

void domain_abandon(struct domain *domain, struct domain_mapping *mapping)
{
    pthread_mutex_lock(&domain->lock);
    domain->iommu->stray |= !--mapping->users;
    pthread_mutex_unlock(&domain->lock);
}

int domain_eeh(struct domain *domain, struct vfio_eeh_pe_op *op)
{
    struct iommu *iommu = domain->iommu;
    int ret;

    if (!iommu->ops->eeh)
        return -ENOTTY;
    pthread_mutex_lock(&domain->lock);
    ret = iommu->ops->eeh(iommu, op);
    pthread_mutex_unlock(&domain->lock);
    return ret;
}

bool domain_is_stray(struct domain *domain)
{
    bool stray;

    pthread_mutex_lock(&domain->lock);
    stray = domain->iommu->stray;
    pthread_mutex_unlock(&domain->lock);
    return stray;
}
