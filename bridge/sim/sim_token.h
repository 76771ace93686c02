/*
 * SR-IOV's VF tokens, as vfio-pci checks them when a device is opened.
 *
 * With sim->lock held.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    SIM_TOKEN_BYTES = 16,
};

struct sim_device;

struct sim_token {
    struct sim_device *pf; /* of a virtual function; NULL: the device is none */
    bool is_pf;
    uint8_t uuid[SIM_TOKEN_BYTES]; /* a PF's */
    unsigned users;                /* a PF's open VFs */
};

/*
 * uuid: NULL: none was given. -EACCES: it lacks, or is another one; -EINVAL: the device takes none.
 * A PF that is opened takes it over, if none of its VFs is open.
 */
int sim_token_match(struct sim_device *dev, const uint8_t *uuid);

/*
 * The same with what is behind a device's name for GET_DEVICE_FD: "" or options. -EINVAL: unknown,
 * double, or no UUID.
 */
int sim_token_match_options(struct sim_device *dev, const char *options);

/* The device is opened the first time, or closed the last. */
void sim_token_opened(struct sim_device *dev);
void sim_token_closed(struct sim_device *dev);
