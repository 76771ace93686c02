/* An address space in a domain and a context of its own, which go with it. */
#pragma once

#include "bridge/address_space.h"

static inline int own_address_space(struct host *host, enum iommu_kind kind,
                                    struct address_space **out)
{
    struct iommu_context *context;
    struct domain *domain = NULL;
    int ret = iommu_context_create(host, kind, &context);

    if (ret)
        return ret;
    ret = domain_create(context, &domain);
    if (!ret)
        ret = address_space_create(domain, out);
    domain_unref(domain);
    iommu_context_unref(context);
    return ret;
}
