/*
 * VFIO_DEVICE_IOEVENTFD: eventfds whose signals write a constant to a BAR.
 *
 * With the device's lock held, unless stated.
 */
#pragma once

struct sim_device;
struct sim_ioeventfd;

/* Those of a device. */
struct sim_ioeventfds {
    struct sim_ioeventfd *first;
    unsigned count;
};

int sim_ioeventfd_set(struct sim_device *dev, void *arg);

/* One of them may have been signalled. Without the lock. */
void sim_ioeventfd_event(struct sim_device *dev);

/* The last descriptor of the device was closed. */
void sim_ioeventfd_close(struct sim_device *dev);
