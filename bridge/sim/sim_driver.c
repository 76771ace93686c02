#include "bridge/sim/sim_driver.h"

void sim_driver_init(struct sim_driver *driver, const struct sim_driver_ops *ops, struct sim *sim)
{
    driver->ops = ops;
    driver->sim = sim;
    atomic_init(&driver->refs, 1);
    sim_domain_init(&driver->domain, sim);
}

struct sim_driver *sim_driver_get(struct sim_driver *driver)
{
    driver->refs++;
    return driver;
}

void sim_driver_put(struct sim_driver *driver)
{
    if (--driver->refs)
        return;
    sim_domain_destroy(&driver->domain);
    driver->ops->destroy(driver);
}
